"""Finds what does not pickle, and says how one gets there. Only runs when pickling has failed."""

import io
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from types import FunctionType, MethodType
from typing import Any

from . import _pickling
from ._forkless import Shared

_TRIES = 5000  # parts of the object that are tried one by one before the search gives up


def explain(
    obj: object,
    error: BaseException,
    names: Sequence[str],
    pickler: type[_pickling.Pickler] = _pickling.Pickler,
) -> str:
    """The path to what does not pickle, the reason, and what to do instead.

    Args:
        obj: What was to be pickled.
        error: What was raised.
        names: What to call the items of `obj`.
        pickler: What raised it.

    Returns:
        For example "args[0].config.lock: cannot pickle '_thread.lock' object; ...".
    """
    if isinstance(error, RecursionError):
        return "nested too deeply to be pickled; flatten it, or raise sys.setrecursionlimit()"
    start = obj.__qualname__ if isinstance(obj, (FunctionType, type)) else ""
    path, culprit, reason = _Search(pickler).descend(obj, error, start, names)
    standard: Any = sys.modules.get(f"{__package__}._standard")
    says_it = standard is not None and isinstance(error, standard.Refused)
    advice = "" if says_it else _advice(culprit)
    return f"{path}{': ' if path else ''}{reason}{'; ' if advice else ''}{advice}"


class _Search:
    def __init__(self, pickler: type[_pickling.Pickler]) -> None:
        self.pickler = pickler
        self.tries = _TRIES
        self.seen: set[int] = set()
        self.kept: list[object] = []  # what `seen` names by id must live as long

    def descend(
        self, obj: object, error: BaseException, path: str, names: Sequence[str] = ()
    ) -> tuple[str, object, BaseException]:
        """Follows the first part that fails by itself, as deep as it goes."""
        while True:
            self.seen.add(id(obj))
            self.kept.append(obj)
            for label, part in _parts(obj, names):
                failure = self.failure(part)
                if failure is not None:
                    path = path + label if path else label.removeprefix(".").removeprefix(" -> ")
                    obj, error, names = part, failure, ()
                    break
            else:
                return path, obj, error

    def failure(self, part: object) -> BaseException | None:
        if id(part) in self.seen or type(part) in (int, float, str, bytes, type(None)) or self.tries <= 0:
            return None
        self.tries -= 1
        try:
            self.pickler().dump(part)
        except Exception as error:
            return error.with_traceback(None)  # its frames would keep it, and the object with it
        return None


def _parts(obj: Any, names: Sequence[str]) -> Iterator[tuple[str, object]]:
    """What an object is made of, as far as pickling goes, with what to write behind its path."""
    if isinstance(obj, tuple) and len(obj) == len(names):
        yield from zip(names, obj, strict=True)
    elif type(obj) in (list, tuple, set, frozenset, deque):
        yield from ((f"[{index}]", item) for index, item in enumerate(obj))
    elif type(obj) is dict:
        for key, value in obj.items():
            yield f"[{_short(key)}]", value
            yield f" -> the key {_short(key)}", key
    elif isinstance(obj, FunctionType):
        yield from _parts_of_function(obj)
    elif isinstance(obj, type):
        if _pickling.find(obj) or not obj.__flags__ & _HEAP_TYPE:
            return
        yield from ((f".{name}", value) for name, value in vars(obj).items() if name not in _WITHOUT)
    elif isinstance(obj, MethodType):
        yield from ((".__self__", obj.__self__), (".__func__", obj.__func__))
    elif isinstance(obj, (staticmethod, classmethod)):
        yield "", obj.__func__
    elif type(obj).__module__.startswith(_WHOLE) or _pickling.is_of_multiprocessing(type(obj)):
        return  # Refused as a whole; what it is made of is nobody's business.
    elif isinstance(obj, property):
        yield from (("", each) for each in (obj.fget, obj.fset, obj.fdel))
    else:
        yield from _parts_of_instance(obj)


_WHOLE = ("multiprocessing.", "concurrent.futures.")
_HEAP_TYPE = 1 << 9  # made by a `class` statement, or could be
_WITHOUT = ("__dict__", "__weakref__", "__doc__")


def _parts_of_function(function: FunctionType) -> Iterator[tuple[str, object]]:
    from ._units import content, scan

    if _pickling.find(function):
        return
    module = function.__globals__.get("__name__")
    for name in () if _pickling.importable(module) else scan(function.__code__).names:
        if name in function.__globals__:
            yield f" -> the global {name!r}", function.__globals__[name]
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        yield f" -> the variable {name!r}", content(cell)
    for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
        yield " -> a default argument", value
    yield from ((f".{name}", value) for name, value in vars(function).items())


def _parts_of_instance(obj: Any) -> Iterator[tuple[str, object]]:
    try:
        reduced: Any = obj._reduce() if isinstance(obj, Shared) else obj.__reduce_ex__(5)
    except Exception:
        return
    if isinstance(reduced, str):
        return
    parts: list[Any] = [*reduced, None, None, None, None]
    arguments, state, items, pairs = parts[1:5]
    for each in state if isinstance(state, tuple) else (state,):
        if isinstance(each, dict):
            yield from ((f".{name}", value) for name, value in each.items())
        else:
            yield " -> its state", each
    yield from ((f"[{index}]", item) for index, item in enumerate(items or ()))
    yield from ((f"[{_short(key)}]", value) for key, value in pairs or ())
    for index, value in enumerate(arguments or ()):
        yield (" -> its class" if value is type(obj) else f" -> argument {index} of its class"), value


def _short(key: object) -> str:
    try:
        text = repr(key)
    except Exception:
        text = f"<{type(key).__name__}>"
    return text if len(text) <= 40 else f"{text[:37]}..."


_ADVICE = {
    ("_thread", "lock"): "forkless.Lock() can be sent to any process at any time",
    ("_thread", "RLock"): "forkless.Lock() can be sent to any process at any time",
    ("_thread", "_local"): "it belongs to one thread: make it in the function that runs there",
    ("builtins", "generator"): "send list(generator), or the function that makes it",
    ("builtins", "coroutine"): "send the function that makes it",
    ("builtins", "async_generator"): "send the function that makes it",
    ("builtins", "memoryview"): "send bytes(view), or share(view) to copy it only once",
    ("builtins", "frame"): "send what is needed of it as text",
    ("builtins", "traceback"): "send traceback.format_exception(error)",
    ("socket", "socket"): "open it in the process that uses it, in an initializer for instance",
    ("sqlite3", "Connection"): "open it in the process that uses it, in an initializer for instance",
}


def _advice(culprit: object) -> str:
    kind = type(culprit)
    if isinstance(culprit, io.IOBase):
        return "send the path, and open the file in the process that uses it"
    # Before the module: that of the class of an array is where it was made.
    if hasattr(culprit, "_wrapper") or kind.__module__ == "ctypes":
        return "use forkless.RawValue or forkless.RawArray for what processes share"
    if kind.__module__.startswith("multiprocessing."):
        return ""  # The reason says it.
    return _ADVICE.get(
        (kind.__module__, kind.__name__), "leave it out in __getstate__, or make it where it is used"
    )
