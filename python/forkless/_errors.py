"""Exceptions on their way from a worker to the process that waits for its answer."""

from typing import TYPE_CHECKING, NamedTuple

from . import _pickling

if TYPE_CHECKING:
    from types import TracebackType

    from ._pickling import Packed


class Report(NamedTuple):
    """An exception on its way home.

    `pickled` is None if the exception cannot be rebuilt from a pickle; then the other fields must do.
    """

    type_name: str
    arguments: str
    traceback: str
    pickled: bytes | None


def pack(error: BaseException) -> "Packed":
    """The answer of a task that raised this exception."""
    return _pickling.pack((False, describe(error)), home=True)


def describe(error: BaseException) -> Report:
    """The report of an exception that this process has caught."""
    # Without this module's own frame, which is no news to anybody.
    traceback = error.__traceback__ and error.__traceback__.tb_next
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return Report(name, _arguments(error), _format(error, traceback), _pickle(error))


def rebuild(report: Report) -> BaseException:
    """The exception that a report tells of, with the worker's traceback as its cause."""
    from .exceptions import RemoteError, RemoteTraceback

    error = None if report.pickled is None else _loads_error(report.pickled)
    if error is None:
        call = f"{report.type_name}({report.arguments})"
        error = RemoteError(
            f"{call} was raised in a worker and cannot be rebuilt here; its traceback is below", *report[:3]
        )
    error.__cause__ = RemoteTraceback(report.traceback)
    return error


def _format(error: BaseException, traceback: "TracebackType | None") -> str:
    from traceback import format_exception

    try:
        return "".join(format_exception(type(error), error, traceback))
    except BaseException as second:
        return f"(the traceback cannot be shown: {type(second).__name__})\n"


def _arguments(error: BaseException) -> str:
    try:
        return ", ".join(map(repr, error.args))
    except BaseException as second:
        return f"<arguments without a repr: {type(second).__name__}>"


def _pickle(error: BaseException) -> bytes | None:
    """The pickled exception, or None if what comes out at the other end would not be that exception."""
    try:
        pickled, handles = _pickling.dumps(error, home=True)
    except BaseException:
        return None
    # A handle would have to be kept alive beyond this message, so such an exception travels as text.
    if handles:
        return None
    rebuilt = _loads_error(pickled)
    return pickled if type(rebuilt) is type(error) else None


def _loads_error(pickled: bytes) -> BaseException | None:
    try:
        error = _pickling.loads(pickled)
    except BaseException:
        return None
    return error if isinstance(error, BaseException) else None
