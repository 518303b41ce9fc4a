"""Data that processes have in common without a copy: loaded in the template, inherited by its children.

What a fork inherits stays common until somebody writes to its pages, and Python writes wherever it looks:
reference counts, and the collector's marks. On 3.12 and 3.13 the template makes the objects immortal, which
ends the first, and freezes them (`gc.freeze`), which ends the second; in this order, as what is frozen cannot
be listed any more. On 3.10 and 3.11 there is no cure for the first: what is read is copied, page by page.

How it travels: the owner pickles an object into shared memory, and the template loads it. From then on the
object itself, given as an argument or used by a function as a global or a variable of its closure, is a
number: children that have inherited it look it up, all others load it from shared memory, once.
"""

import gc
import pickle
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from . import _forkless, _pickling, _programs

if TYPE_CHECKING:
    from ._forkless import Shared, SharedBuffer

__all__ = ["PreloadReport", "preload"]

_MARK = "object:"
# How long the template may take to load everything, in seconds, before something else must be wrong.
_PATIENCE = 600.0


@dataclass(frozen=True)
class PreloadReport:
    """What `preload` has done.

    Attributes:
        objects: how many objects were given, in all calls.
        modules: the modules that the template imports.
        immortal: how many objects in the template were made immortal; 0 where Python cannot do that.
        seconds: how long the template took to load all of it.
        pid: the template.
        note: what this does not save, on this version of Python; empty if there is nothing to say.
    """

    objects: int
    modules: tuple[str, ...]
    immortal: int
    seconds: float
    pid: int
    note: str


class Inherited:
    """Stands in pickles for an object that was preloaded."""

    __slots__ = ("_arguments",)

    def __init__(self, origin: str, number: int, payload: "SharedBuffer") -> None:
        self._arguments = origin, number, payload

    def __reduce__(self) -> tuple[Any, ...]:
        return find, self._arguments


# In the owner: what was preloaded, which keeps the ids its own.
_given: dict[int, tuple[Any, "SharedBuffer", "list[Shared]"]] = {}
# In every process: the objects by number.
_objects: dict[tuple[str, int], Any] = {}
_outcome: "dict[str, Any]" = {"immortal": 0, "seconds": 0.0, "errors": []}


def preload(*objects: Any, modules: Iterable[str | ModuleType] = ()) -> PreloadReport:
    """Puts data and modules into the template, so that all workers to come have them in common.

    Reading an array, a table or a string shares anyway. This is for what Python's own objects make up: lists,
    dicts, instances, a model, an index. On 3.12 and 3.13 their pages stay common however much workers read
    them; on 3.10 and 3.11 they do not, and the report says so.

    Afterwards, give the object to tasks as before: as an argument, or as a global variable that a function
    uses. It travels as a mere number. It has to be the same object: what is made from it is copied.

    Call it before the first worker starts: those that run already load the data by themselves when they first
    need it. The template's memory is that of the data once more; it is never given back. Do not change the
    data afterwards: workers have what was there when it was preloaded.

    Args:
        objects: lists, dicts, instances, whatever can be pickled. What belongs to the program and not to its
            data (types, functions, modules) is left as it is.
        modules: to be imported in the template, by name or as such.

    Returns:
        What was done.

    Raises:
        TypeError: an object contains something with a finaliser (a file, a generator, an object with
            `__del__`), which would never be called; or it is a function or a class, which travel by
            themselves.
        pickle.PicklingError: an object cannot be pickled.
        ProcessError: a module could not be imported, or has left threads; the message names it. Or this
            Python
            runs without the global lock.

    Example:
        >>> squares = {n: n * n for n in range(1000)}
        >>> report = preload(squares)
        >>> report.objects
        1
    """
    _check_interpreter()
    for given in objects:
        _check(given)
    # All of them first: what does not pickle changes nothing.
    packed = [(given, *_pickling.dumps(given)) for given in objects if id(given) not in _given]
    for each in packed:
        _give(*each)
    names = [module.__name__ if isinstance(module, ModuleType) else str(module) for module in modules]
    _programs.preload([*names, *map(_name_of, _given)])
    return _ask()


def _check_interpreter() -> None:
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        from .exceptions import ProcessError

        raise ProcessError(
            "preload() needs Python's global lock, and this is a free-threaded build: reference counts are "
            "another matter there. Use share() for arrays and tables"
        )


def _check(given: Any) -> None:
    if isinstance(given, ModuleType):
        raise TypeError(f"{given.__name__} is a module: preload(modules=[{given.__name__}])")
    if isinstance(given, (type, FunctionType, BuiltinFunctionType, MethodType)):
        raise TypeError(f"{given!r} is no data: functions and classes travel by themselves, at little cost")
    _, offender = _forkless.survey(given)
    if offender is not None:
        kind = type(offender)
        raise TypeError(
            f"the object contains a {kind.__module__}.{kind.__qualname__}, which has a finaliser: in the "
            "template it would never be called. Leave it out, and make it where it is used"
        )


def _give(given: Any, pickled: bytes, handles: "list[Shared]") -> None:
    payload = _forkless.SharedBuffer(pickled)
    _given[id(given)] = given, payload, handles
    number = len(_given)
    _objects[_pickling.identity, number] = given
    _pickling.inherited[id(given)] = Inherited(_pickling.identity, number, payload)


def _name_of(key: int) -> str:
    _, payload, _ = _given[key]
    origin, number, _ = _pickling.inherited[key]._arguments
    return f"{_MARK}{origin}:{number}:{':'.join(map(str, payload.handle))}"


def _ask() -> PreloadReport:
    """Has the template load everything now, and asks a child of it how that went."""
    from .exceptions import ProcessError
    from .process import ForkServerProcess
    from .queues import SimpleQueue

    answer: SimpleQueue[dict[str, Any]] = SimpleQueue()
    child = ForkServerProcess(target=_tell, args=(answer,), name="forkless preload")
    child.start()
    outcome = answer.get(timeout=_PATIENCE)
    child.join()
    if outcome["errors"]:
        raise ProcessError("\n".join(outcome["errors"]))
    modules = tuple(name for name in _programs.preloaded if not name.startswith(_MARK))
    note = "" if _can_immortalise() else _NOTE
    return PreloadReport(
        len(_given), modules, outcome["immortal"], outcome["seconds"], outcome["template"], note
    )


_NOTE = (
    "Before Python 3.12, reading an object writes its reference count: the pages of preloaded objects become "
    "each worker's own as it reads them. What is saved is the time to load them. Arrays, tables and text do "
    "not have that trouble: use share()"
)


def _tell(answer: Any) -> None:
    import os

    answer.put({**_outcome, "template": os.getppid()})


def find(origin: str, number: int, payload: "SharedBuffer") -> Any:
    """The object with this number: the one that was inherited, or loaded before."""
    key = origin, number
    if key not in _objects:
        # Of two threads that get here, both use the one that comes first.
        return _objects.setdefault(key, pickle.loads(payload))
    return _objects[key]


# In the template.


def is_object(name: str) -> bool:
    """Whether something that is to be preloaded is an object, rather than a module."""
    return name.startswith(_MARK)


def load(names: Iterable[str]) -> None:
    """In a template: loads objects, and has them shared as far as this Python can."""
    begun = time.monotonic()
    for name in names:
        origin, number, *handle = name.removeprefix(_MARK).split(":")
        try:
            arena, offset, generation = map(int, handle)
            payload: Any = _forkless.open_shared(_forkless.BUFFER_KIND, arena, offset, generation)
            loaded = _objects[origin, int(number)] = pickle.loads(payload)
        except BaseException as error:
            _outcome["errors"].append(f"an object cannot be preloaded: {error!r}")
            continue
        if _can_immortalise():
            _outcome["immortal"] += _forkless.immortalise(loaded)
    gc.collect()
    gc.freeze()
    _outcome["seconds"] += time.monotonic() - begun


def note_error(text: str) -> None:
    """In a template: a module could not be imported."""
    _outcome["errors"].append(text)


def _can_immortalise() -> bool:
    return (
        sys.implementation.name == "cpython"
        and sys.version_info[:2] in ((3, 12), (3, 13))
        and sys.maxsize > 2**32
        and getattr(sys, "_is_gil_enabled", lambda: True)()
    )
