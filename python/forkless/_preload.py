"""Data that processes have in common without a copy: loaded in the template, inherited by its children.

What a fork inherits stays common until somebody writes to its pages, and Python writes wherever it looks:
reference counts, and the collector's marks. On 3.12 and 3.13 the template makes the objects immortal, which
ends the first, and freezes them (`gc.freeze`), which ends the second; in this order, as what is frozen cannot
be listed any more. On 3.10 and 3.11 there is no cure for the first: what is read is copied, page by page.

How it travels: the owner pickles an object into shared memory, and the template loads it. From then on the
object itself, given as an argument or used by a function as a global or a variable of its closure, is a
number: children that have inherited it look it up, all others load it from shared memory, once.

This is the owner's side; `_inherited` is that of the template and its children.
"""

import itertools
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from . import _forkless, _inherited, _pickling, _programs

if TYPE_CHECKING:
    from ._forkless import Shared, SharedBuffer

__all__ = ["PreloadReport", "preload"]

# How long a template may take to load everything, in seconds, before something else must be wrong.
_PATIENCE = 600.0


@dataclass(frozen=True)
class PreloadReport:
    """What `preload` has done.

    Attributes:
        objects: how many objects were given, in all calls.
        modules: the modules that the template imports.
        immortal: how many objects in the template were made immortal, those of modules among them; 0 where
            Python cannot do that.
        seconds: how long the template took to load the objects.
        pid: the template.
        note: what this does not save, on this version of Python; empty if there is nothing to say.
    """

    objects: int
    modules: tuple[str, ...]
    immortal: int
    seconds: float
    pid: int
    note: str


# What was preloaded, by id: the object, which keeps the id its own, its pickle, and what that refers to.
_given: dict[int, "tuple[Any, SharedBuffer, list[Shared]]"] = {}
_numbers = itertools.count(1)


def preload(*objects: Any, modules: Iterable[str | ModuleType] = ()) -> PreloadReport:
    """Puts data and modules into the template, so that all workers to come have them in common.

    Reading an array, a table or a string shares anyway. This is for what Python's own objects make up: lists,
    dicts, instances, a model, an index. On 3.12 and 3.13 their pages stay common however much workers read
    them; on 3.10 and 3.11 they do not, and the report says so.

    Afterwards, give the object to tasks as before: as an argument, or as a global variable that a function
    uses. It travels as a mere number. It has to be the same object: what is made from it is copied.

    Call it before the first worker starts: those that run already load the data by themselves when they first
    need it. The template's memory is that of the data once more; it is never given back. Do not change the
    data afterwards: workers have what was there when it was preloaded. A call that fails changes nothing.

    Args:
        objects: lists, dicts, instances, whatever can be pickled. What belongs to the program and not to its
            data (types, functions, modules) is left as it is. What was preloaded before is passed over.
        modules: to be imported in the template, by name or as such. What their global variables refer to is
            shared as the objects are, and that of the modules below them. Data that a module loads when it is
            imported is so only in the template, if the program itself does not import it.

    Returns:
        What was done.

    Raises:
        TypeError: an object contains something with a finaliser (a file, a generator, an object with
            `__del__`), which would never be called; or it is a function or a class, which travel by
            themselves. The message says how one gets to it.
        pickle.PicklingError: an object cannot be pickled.
        ProcessError: a module or an object could not be loaded in the template, or has left threads there,
            or has opened a GPU; the message names it. Or this Python runs without the global lock.

    Example:
        >>> squares = {n: n * n for n in range(1000)}
        >>> report = preload(squares)
        >>> report.objects
        1
    """
    _check_interpreter()
    fresh = {id(each): each for each in objects if id(each) not in _given}
    for given in fresh.values():
        _check(given)
    # All of them first: what does not pickle changes nothing.
    packed = [(given, *_pack(given)) for given in fresh.values()]
    before = _programs.preloaded
    try:
        names = [module.__name__ if isinstance(module, ModuleType) else str(module) for module in modules]
        _programs.preload([*names, *(_give(*each) for each in packed)])
        return _ask()
    except BaseException:
        for key in fresh:
            _take_back(key)
        _programs.set_preloaded(before)
        raise


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


class _Pickler(_pickling.Pickler):
    """Refuses what has a finaliser. Plain values and containers, which it is not asked about, have none."""

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind not in self._plain and hasattr(kind, "__del__"):
            raise TypeError(
                f"{kind.__module__}.{kind.__qualname__} has a finaliser, which would never be called in the "
                "template"
            )
        return super().reducer_override(obj)


def _pack(given: Any) -> "tuple[SharedBuffer, list[Shared]]":
    pickler = _Pickler()
    _pickling.dump(pickler, given)
    return _forkless.SharedBuffer(pickler.take()), pickler.handles


def _give(given: Any, payload: "SharedBuffer", handles: "list[Shared]") -> str:
    """From now on an object travels as a number; the name by which a template is to load it."""
    number = next(_numbers)
    _given[id(given)] = given, payload, handles
    _inherited.objects[_pickling.identity, number] = given
    _pickling.inherited[id(given)] = _inherited.Inherited(_pickling.identity, number, payload)
    return _inherited.name_of(_pickling.identity, number, payload)


def _take_back(key: int) -> None:
    given, *_ = _given.pop(key, (None,))
    _pickling.inherited.pop(key, None)
    for place, each in list(_inherited.objects.items()):
        if each is given:
            del _inherited.objects[place]


def _ask() -> PreloadReport:
    """Has the template load everything now, and asks a child of it how that went."""
    from .exceptions import ProcessError
    from .process import ForkServerProcess
    from .queues import SimpleQueue

    answer: SimpleQueue[dict[str, Any]] = SimpleQueue()
    child = ForkServerProcess(target=_tell, args=(answer,), name="forkless preload")
    modules = tuple(name for name in _programs.preloaded if not _inherited.is_object(name))
    try:
        child.start()
    except ProcessError as error:
        raise ProcessError(
            f"{error}. To be preloaded: {len(_given)} objects, {', '.join(modules) or 'no modules'}"
        ) from error
    child.join(_PATIENCE)
    if child.exitcode != 0:
        child.kill()
        raise ProcessError(
            f"a child of the template could not tell how preloading went: it ended with {child.exitcode}. Is "
            "there memory for the objects, twice?"
        )
    outcome = answer.get()
    if outcome["errors"]:
        raise ProcessError("\n".join(outcome["errors"].values()))
    note = "" if _inherited.can_immortalise() else _NOTE
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

    answer.put({**_inherited.outcome, "template": os.getppid()})
