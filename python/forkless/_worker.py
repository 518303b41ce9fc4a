"""The life of a worker: set up, then task after task (see `worker.rs` in the core) until told to end."""

import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _forkless, _pickling, process
from ._forkless import Worker

if TYPE_CHECKING:
    from types import TracebackType

    from ._forkless import Channel, Shared, SharedBytes
    from ._pickling import Packed

# Kinds of answers, as in the tag of their message; those for results are the core's.
REVOKED, FAILED, SETUP_FAILED = 16, 17, 18

# Asks a worker to look whether its task is to be broken off. Real-time signals are hardly used by
# anybody; the first few of them by some runtimes.
INTERRUPT = signal.SIGRTMIN + 11

# The worker that this process is.
current: "Worker | None" = None


class Report(NamedTuple):
    """An exception on its way home.

    `pickled` is None if the exception cannot be rebuilt from a pickle; then the other fields must do.
    """

    type_name: str
    arguments: str
    traceback: str
    pickled: bytes | None


class Terms(NamedTuple):
    """What a worker is told when it starts.

    Attributes:
        setup: what `pack_setup` made.
        max_tasks: after how many tasks it ends, None for never.
        max_memory: it ends after a task when it has more bytes than this for itself, None for never.
    """

    setup: "tuple[bytes, Sequence[Shared]]"
    max_tasks: int | None
    max_memory: int | None


def pack_setup(
    initializer: Callable[..., object] | None, initargs: Iterable[Any]
) -> "tuple[bytes, Sequence[Shared]]":
    """Pickles what is called first in a worker, once for all workers.

    Returns:
        The pickle, empty if there is nothing, and the shared objects that it refers to: they travel along, so
        that they live.
    """
    if initializer is None:
        return b"", ()
    return _pickling.dumps((initializer, tuple(initargs)), names=("initializer", "initargs"))


def work(ends: "tuple[Channel, Channel, SharedBytes]", index: int, terms: Terms) -> None:
    """Runs tasks until told to stop.

    Args:
        ends: where tasks come from, where answers go, and the board.
        index: its place on the board.
        terms: what else it has to know.
    """
    global current
    worker = current = Worker(*ends, index)
    signal.signal(INTERRUPT, _break_off)
    if terms.setup[0] and not _set_up(worker, terms.setup[0]):
        return
    worker.ready()
    retire = None if terms.max_memory is None else _MemoryLimit(terms.max_memory)
    worker.run(terms.max_tasks, _failure, process.flush_streams, retire)


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


class _MemoryLimit:
    """Whether this process has grown too large to go on: in memory that is its own, not what it shares.

    To tell what is shared takes milliseconds in a large process. So it is asked only of one whose pages
    are more than the limit, shared ones included, and then for a twentieth of the time at most.
    """

    def __init__(self, limit: int) -> None:
        import resource

        self._limit = limit
        self._page = resource.getpagesize()
        self._next_look = 0.0

    def __call__(self) -> bool:
        with open("/proc/self/statm", "rb") as file:
            resident = int(file.read().split()[1]) * self._page
        began = time.monotonic()
        if resident <= self._limit or began < self._next_look:
            return False
        _, _, own, _ = _forkless.memory(os.getpid())
        now = time.monotonic()
        self._next_look = now + 20 * (now - began)
        return own > self._limit


def _break_off(number: int, frame: FrameType | None) -> None:
    """Signal handler: ends the task that runs, if that is the one which is to end."""
    if current is not None and current.is_interrupted():
        from .exceptions import TaskInterrupted

        raise TaskInterrupted("the owner of the pool asks for the end of this task")


def _set_up(worker: Worker, setup: bytes) -> bool:
    try:
        initializer, arguments = _pickling.loads(setup)
        initializer(*arguments)
    except BaseException as error:
        worker.notify(SETUP_FAILED, _pickling.dumps(_describe(error, skip=1), home=True)[0])
        return False
    return True


def _failure(error: BaseException) -> "Packed":
    return _pickling.pack(_describe(error, skip=0), home=True)


def _describe(error: BaseException, skip: int) -> Report:
    """`skip`: frames of this module at the beginning of the traceback, which are no news to anybody."""
    traceback = error.__traceback__
    for _ in range(skip):
        traceback = traceback and traceback.tb_next
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return Report(name, _arguments(error), _format(error, traceback), _pickle(error))


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
        error: Any = _pickling.loads(pickled)
    except BaseException:
        return None
    return error if isinstance(error, BaseException) else None
