"""Shared objects in the pickles of others: `pickle.dumps`, queues and pools of `multiprocessing`, and so on.

Whoever loads such a pickle may belong to no tree, and to none that its environment names: a worker of
`multiprocessing.Pool` that was started before this program used forkless. So the pickle says how the tree is
joined. And nothing keeps the object alive while it is on its way, as our own messages do: the process that
has made the pickle does, until another process has the object.
"""

import itertools
import os
import sys
from typing import TYPE_CHECKING, Any

from . import _exit, _forks, _stdlib

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._forkless import Shared

_MOST = 1000  # objects that are held: nobody may ever load a pickle, as one in a cache on disk

# By which name this process has joined the trees of others, by arena.
_names: dict[int, str] = {}
# What is on its way, by identity; first what was longest not looked at.
_held: "dict[int, Shared]" = {}


def reduce(obj: "Shared", reduced: "tuple[Callable[..., Any], tuple[Any, ...]]") -> tuple[Any, ...]:
    """How a shared object is pickled by others.

    Args:
        obj: the object.
        reduced: how forkless would pickle it.
    """
    from ._forkless import Segment

    arena = obj.handle[0]
    name = _name_of(arena)
    if not isinstance(obj, Segment):  # It is closed by those who have it, and gone then.
        hold(obj)
    return load, (name, arena, *reduced)


def load(name: str, arena: int, open_it: "Callable[..., Any]", arguments: tuple[Any, ...]) -> Any:
    """What such a pickle calls: joins the tree, if need be, and opens the object.

    Raises:
        StaleHandle: the tree has ended, or nobody has kept the object.
    """
    from . import _forkless

    if name and _forkless.join_tree(name, arena):
        _names[arena] = name
    return open_it(*arguments)


def hold(obj: "Shared") -> None:
    """Holds an object until another process has it; of those that nobody takes, a thousand."""
    # Others may do the same at any moment, in signal handlers too: each step leaves alone what they add. Two
    # are looked at for one that is added, so that many cost no more each than few.
    for key, other in list(itertools.islice(_held.items(), 2)):
        is_full = len(_held) >= _MOST
        _held.pop(key, None)
        if not is_full and not _is_taken(other):
            _held[key] = other
    _held[id(obj)] = obj


def teach_arrays() -> None:
    """Has `multiprocessing`, if this program uses it, send arrays in shared memory as what they are.

    Its copy of an array that a child is to write to would be the child's alone, and nobody would say so.
    """
    reduction: Any = _stdlib.loaded("reduction")
    # Another thread may be importing it.
    if hasattr(reduction, "register"):
        numpy = sys.modules["numpy"]
        reduction.ForkingPickler._extra_reducers.setdefault(numpy.ndarray, _reduce_array)


def _reduce_array(array: Any) -> Any:
    from ._forkless import SharedBuffer, SharedBytes
    from ._pickling import buffer_of, reduce_view

    memory = buffer_of(array)
    if isinstance(memory, (SharedBytes, SharedBuffer)):
        make, arguments = reduce_view(array, memory)
        return _load_array, (make, *arguments)
    return array.__reduce__()


def _load_array(make: "Callable[..., Any]", *arguments: Any) -> Any:
    array = make(*arguments)
    # It may be sent on from here, or back.
    teach_arrays()
    return array


def _is_taken(obj: "Shared") -> bool:
    mine, all_of_them = obj._leases()
    return all_of_them > mine


def _name_of(arena: int) -> str:
    if arena in _names:
        return _names[arena]
    from . import _forkless, _programs

    _exit.register()
    name = _forkless.tree_name(_programs.default(), arena)
    return name or os.environ.get("FORKLESS_TREE", "")


_forks.in_copy(_held.clear)
