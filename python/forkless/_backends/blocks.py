"""Shared memory and the objects that engines make of it: sent once, however many tasks use it.

A *token* names a piece of shared memory (the block of an array, a list of columns) for as long as it lives.
A `Shelf` has the engine's reference for each token that its executor has used, and drops it with the memory.
"""

import contextlib
import mmap
import os
import pickle
import sys
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from .._forkless import Shared, SharedDict, SharedList

__all__ = ["Block", "Columns", "Shelf", "arrived", "portable", "token_of"]

# Columns that a process of a node keeps ready, for the next tasks that use them.
_MOST_COLUMNS = 4
# Copies from this size on are made in huge pages, in bytes: with less, there would be few or none.
_HUGE = 1 << 22


class Block:
    """Bytes, as they are given to an engine: it may have them travel beside its own pickles.

    Args:
        source: a buffer. It is not copied here.

    Attributes:
        view: the bytes.
    """

    def __init__(self, source: Any) -> None:
        self.view = memoryview(source).cast("B")

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        # Dask has old pickles for replies that it passes on.
        return Block, (pickle.PickleBuffer(self.view) if protocol >= 5 else bytes(self.view),)

    def __sizeof__(self) -> int:
        return self.view.nbytes

    def own(self) -> Any:
        """The bytes, to be written to: a copy, if they may not be where they are."""
        return _copy(self.view) if self.view.readonly else self.view


def _copy(view: memoryview) -> Any:
    """A buffer with the same bytes. Page faults are most of what that takes, so there are to be few."""
    if view.nbytes < _HUGE:
        return bytearray(view)
    copy = mmap.mmap(-1, view.nbytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # A kernel may have none.
        copy.madvise(mmap.MADV_HUGEPAGE)
    copy[:] = view
    return copy


class Columns:
    """A list or dict of columns, as it is given to an engine: as what it was made of.

    Args:
        plain: a list or a dict.
    """

    def __init__(self, plain: "list[Any] | dict[Any, Any]") -> None:
        self.plain = plain

    def __reduce__(self) -> tuple[Any, ...]:
        return Columns, (self.plain,)


def portable(memory: Any) -> "Block | Columns":
    """What an engine is given for a piece of shared memory."""
    if isinstance(memory, SharedList):
        return Columns(memory.tolist())
    if isinstance(memory, SharedDict):
        return Columns(memory.todict())
    return Block(memory)


def arrived(token: str, given: Any) -> Any:
    """What stands for the token on a node: a read-only view of bytes, or columns that are shared there."""
    if isinstance(given, Block):
        return given.view.toreadonly()
    made = _columns.get(token)
    if made is None:
        from .._share import share

        made = _columns[token] = share(given.plain)
        if len(_columns) > _MOST_COLUMNS:
            _columns.popitem(last=False)
    return made


_columns: "OrderedDict[str, Any]" = OrderedDict()

# Columns by their id, which is theirs while they live: their equality would not do, as it looks at items.
_tokens: dict[Any, str] = {}


def token_of(memory: Any) -> str:
    """The name of a piece of shared memory, of all processes and machines."""
    key = _key(memory)
    token = _tokens.get(key)
    if token is None:
        token = _tokens.setdefault(key, os.urandom(12).hex())
        weakref.finalize(memory, _tokens.pop, key, None).atexit = False
    return token


def _key(memory: Any) -> Any:
    return memory.handle if isinstance(memory, Shared) else id(memory)


class Shelf:
    """The engine's references for shared memory.

    Args:
        put: gives the engine a `Block` or `Columns`, and returns its reference.
        later: has something called by the thread that may talk to the engine.
    """

    def __init__(self, put: Callable[[Any], Any], later: Callable[[Callable[[], object]], None]) -> None:
        self._put, self._later = put, later
        self._references: dict[str, Any] = {}

    def reference(self, token: str, memory: Any) -> Any:
        """The engine's reference for a piece of shared memory, which is sent if it has not been."""
        if token not in self._references:
            self.adopt(memory, self._put(portable(memory)))
        return self._references[token]

    def adopt(self, memory: Any, reference: Any) -> None:
        """The engine has a piece of memory already."""
        token = token_of(memory)
        self._references[token] = reference
        weakref.finalize(memory, _forget, weakref.ref(self), token).atexit = False

    def forget(self, token: str) -> None:
        """The memory is gone. May be called in the middle of anything."""
        self._later(lambda: self._references.pop(token, None))

    def clear(self) -> None:
        """Drops all references."""
        self._references.clear()


def _forget(shelf: "weakref.ref[Shelf]", token: str) -> None:
    found = shelf()
    if found is not None:
        found.forget(token)


if sys.modules.get("distributed") is not None:
    # On a worker of Dask: this module is loaded when the first `Block` arrives, to know how to take it.
    from . import dask_frames  # noqa: F401
