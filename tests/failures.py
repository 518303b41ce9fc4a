"""Exceptions of every kind, and what raises them in workers; light, as those workers load this file."""

from __future__ import annotations

import os
import signal
import sys
import threading
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def throw(error: BaseException) -> NoReturn:
    raise error


def call(make: Callable[..., BaseException], *args: Any, **kwargs: Any) -> NoReturn:
    raise make(*args, **kwargs)


# Where they are raised: each with a place that is told apart from others.


def in_function(text: str) -> int:
    return 1 + int(text) + 2


def through_function(text: str) -> int:
    first = 1
    return first + in_function(text)


def over_lines(text: str) -> int:
    return sum(
        [
            1,
            in_function(
                text,
            ),
        ]
    )


def in_comprehension(text: str) -> list[int]:
    return [in_function(each) for each in [text]]


def in_generator(text: str) -> list[int]:
    def numbers() -> Iterator[int]:
        yield 1
        yield in_function(text)

    return list(numbers())


class Reader:
    def read(self, text: str) -> int:
        if text:
            #
            #
            return self._read(text)
        return 0

    @staticmethod
    def _read(text: str) -> int:
        return (lambda each: in_function(each))(text)


def in_method(text: str) -> int:
    return Reader().read(text)


def endlessly(depth: int) -> int:
    return endlessly(depth + 1) + 1


# Chains.


def with_cause(text: str) -> int:
    try:
        return in_function(text)
    except ValueError as error:
        raise LookupError("no such thing") from error


def with_context(text: str) -> int:
    try:
        return in_function(text)
    except ValueError:
        raise LookupError("no such thing")  # noqa: B904


def with_hidden_context(text: str) -> int:
    try:
        return in_function(text)
    except ValueError:
        raise LookupError("no such thing") from None


def in_a_circle() -> NoReturn:
    first, second = ValueError("first"), LookupError("second")
    second.__context__, first.__cause__ = first, second
    raise second


def with_notes() -> NoReturn:
    error = ValueError("noted")
    error.__notes__ = ["one", "two"]  # type: ignore[attr-defined,unused-ignore]
    raise error


def with_lost_cause() -> NoReturn:
    try:
        raise Locked
    except Locked as error:
        raise ValueError("after that") from error


def group(kind: Any) -> NoReturn:
    """Of one with a context, one that is lost, and another group."""
    found: list[Exception] = []
    for function, args in ((with_context, ("x",)), (call, (Locked,))):
        try:
            function(*args)
        except Exception as error:
            found.append(error)
    raise kind("outer", [*found, kind("inner", [NeedsTwo("a", "b")])])


# Classes that `pickle` rebuilds wrongly or not at all, and that arrive nevertheless.


class NeedsTwo(Exception):
    def __init__(self, left: object, right: object) -> None:
        super().__init__(f"{left} and {right}")


class OnlyKeywords(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__()
        self.code = code

    def __str__(self) -> str:
        return f"code {self.code}"


class Wraps(Exception):
    """Rebuilt by a call, the message would be wrapped twice."""

    def __init__(self, text: str) -> None:
        super().__init__(f"<{text}>")


class Counts(Exception):
    made = 0

    def __init__(self) -> None:
        Counts.made += 1
        super().__init__(Counts.made)


class Slotted(Exception):
    __slots__ = ("__hidden", "left")

    def __init__(self, left: object, hidden: object) -> None:
        self.left, self.__hidden = left, hidden

    def __str__(self) -> str:
        return f"{self.left} {self.__hidden}"


@dataclass(frozen=True)
class Frozen(Exception):
    code: int
    reason: str


class Missing(OSError):
    def __init__(self, name: str, retry: bool) -> None:
        super().__init__(2, "there is none", name)
        self.retry = retry


class Undecodable(UnicodeDecodeError):
    def __init__(self, data: bytes) -> None:
        super().__init__("utf-8", data, 0, 1, "for a reason")


class New(Exception):
    def __new__(cls, *, code: int) -> New:
        made = super().__new__(cls, code)
        made.code = code
        return made

    code: int

    def __init__(self, *, code: int) -> None:
        pass


class RefusesToPickle(Exception):
    def __reduce__(self) -> NoReturn:
        raise TypeError("I do not pickle")


class SaysHow(Exception):
    """Its author has thought of it."""

    def __init__(self, left: object, right: object) -> None:
        super().__init__(f"{left} and {right}")
        self.left, self.right, self.lock = left, right, threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return SaysHow, (self.left, self.right)


class ExitsWhenLoaded(Exception):
    """The state is loaded some other way."""

    def __setstate__(self, state: Any) -> NoReturn:
        sys.exit(3)


# Classes of which nothing can be rebuilt.


class Locked(Exception):
    def __init__(self) -> None:
        super().__init__("it holds a lock", threading.Lock())


class LockedAttribute(Exception):
    def __init__(self) -> None:
        super().__init__("look")
        self.lock = threading.Lock()


class AtHome:
    """Does something when it is loaded by the process that made it: not where an error with it was raised."""

    def __init__(self, what: str, owner: int) -> None:
        self.what, self.owner = what, owner

    def __reduce__(self) -> tuple[Any, ...]:
        return _load_at_home, (self.what, self.owner)


def _load_at_home(what: str, owner: int) -> AtHome:
    if os.getpid() == owner:
        actions[what]()
    return AtHome(what, owner)


def _become_none() -> None:
    return None


def _recurse() -> None:
    _recurse()


def _refuse() -> None:
    raise Refusal("not here")


def _exit() -> None:
    sys.exit(3)


def _interrupt() -> None:
    raise KeyboardInterrupt


class Refusal(BaseException):
    pass


actions: dict[str, Callable[[], object]] = {
    "exit": _exit,
    "interrupt": _interrupt,
    "recurse": _recurse,
    "refuse": _refuse,
}


class BecomesAnother(Exception):
    def __init__(self, lock: object = None) -> None:
        super().__init__("another")
        self.lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return ValueError, ("another",)


class BecomesNone(Exception):
    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return _become_none, ()


class Hostile(Exception):
    """Nothing that it is asked for is there."""

    @property
    def args(self) -> NoReturn:  # type: ignore[override]
        raise Refusal("args")

    @property
    def __notes__(self) -> NoReturn:
        raise Refusal("notes")

    @property
    def __cause__(self) -> NoReturn:  # type: ignore[override]
        raise Refusal("cause")

    def __str__(self) -> NoReturn:
        raise Refusal("str")

    def __repr__(self) -> NoReturn:
        raise Refusal("repr")


def throw_at_home(action: str, owner: int | None = None) -> NoReturn:
    raise ValueError(AtHome(action, owner or os.getpid()))


def throw_and_hang() -> NoReturn:
    actions["hang"] = signal.pause  # here only
    throw_at_home("hang")


def throw_needs_two(value: object) -> NoReturn:
    raise NeedsTwo(value, value)


def throw_local() -> NoReturn:
    class Local(Exception):
        def __init__(self, left: object, right: object) -> None:
            super().__init__(left, right)
            self.both = left, right

    raise Local(1, 2)


def throw_of_a_module_that_is_only_there(folder: str) -> NoReturn:
    sys.path.insert(0, folder)
    import only_there  # type: ignore[import-not-found]

    raise only_there.Error("from afar")


# What is left in a worker.

_watched: list[weakref.ref[Watched]] = []


class Watched:
    def __setstate__(self, state: Any) -> None:
        _watched.append(weakref.ref(self))

    def __getstate__(self) -> tuple[()]:
        return ()

    def __reduce__(self) -> tuple[Any, ...]:
        return _watch, ()


def _watch() -> Watched:
    made = Watched()
    _watched.append(weakref.ref(made))
    return made


def how_many_are_alive() -> tuple[int, int]:
    """Those alive, and all that have been loaded in this worker."""
    return sum(each() is not None for each in _watched), len(_watched)


kept: list[BaseException] = []


def refer_to_each_other(watched: Watched) -> NoReturn:
    error = ValueError("a circle")
    raise error


def refer_to_each_other_by_a_chain(watched: Watched) -> NoReturn:
    try:
        refer_to_each_other(watched)
    except ValueError as error:
        saved = error
        raise LookupError("on top") from saved


def keep_the_error(watched: Watched) -> NoReturn:
    kept.append(ValueError("kept"))
    raise kept[-1]


def lost_with(watched: Watched) -> NoReturn:
    error = Locked()
    raise error


_generator: Any = None


def leave_a_generator() -> NoReturn:
    """Raises what a generator that goes on has caught."""
    global _generator

    def numbers() -> Iterator[Any]:
        try:
            in_function("x")
        except ValueError as error:
            yield error
        yield "went on"

    _generator = numbers()
    raise next(_generator)


def go_on_with_the_generator() -> Any:
    return next(_generator)
