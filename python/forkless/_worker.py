"""The life of a worker: set up, then task after task (see `worker.rs` in the core) until told to end."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _errors, _forkless, _pickling, _setup, process
from ._forkless import Worker
from ._interrupted import TaskInterrupted

if TYPE_CHECKING:
    from ._forkless import Channel, SharedBytes
    from ._records import Levels

# Kinds of answers, as in the tag of their message; those for results are the core's.
REVOKED, FAILED, SETUP_FAILED, OUTPUT, RETIRED = 16, 17, 18, 19, 21
# Those of processes that submit tasks to the pool of another, and what only they are answered; see `_nested`.
CONNECT, REQUEST, CANCEL, GIVE_UP, DISOWN, CANCELLED = 22, 23, 24, 25, 26, 27

# What a worker has claimed that has taken the order to end.
STOP = 0

# Asks a worker to look whether its task is to be broken off. Real-time signals are hardly used by
# anybody; the first few of them by some runtimes.
INTERRUPT = signal.SIGRTMIN + 11

# The worker that this process is.
current: "Worker | None" = None
# Whether the task ends already because nobody wants more of it: it is not interrupted while it does.
is_closing = False
# Whether a task was broken off in the middle of an import. Python then forgets a package but not what was
# loaded of it, and often cannot import it again: such a worker ends after its task, so no other meets it.
is_spoilt = False


class Terms(NamedTuple):
    """What every worker of a pool is told when it starts.

    Attributes:
        setup: what it is set up with.
        max_tasks: after how many tasks it ends, None for never.
        max_memory: it ends after a task when it has more bytes than this for itself, None for never.
        tag: whether lines that it writes say who wrote them; None: it writes them itself.
    """

    setup: "_setup.Setup"
    max_tasks: int | None
    max_memory: int | None
    tag: bool | None


def work(
    ends: "tuple[Channel, Channel, SharedBytes]", index: int, seat: int, terms: Terms, levels: "Levels | None"
) -> None:
    """Runs tasks until told to stop.

    Args:
        ends: where tasks come from, where answers go, and the board.
        index: its place on the board.
        seat: which of the workers it is, from 0.
        terms: what else it has to know.
        levels: of the owner's loggers.
    """
    global current
    worker = current = Worker(*ends, index)
    signal.signal(INTERRUPT, _break_off)
    flush = process.flush_streams
    if terms.tag is not None:
        from . import _output

        _output.install(partial(worker.notify, OUTPUT), tag=terms.tag, settings=levels)
        flush = _output.flush
    try:
        if _set_up(worker, terms.setup, seat, flush):
            worker.ready()
            retire = _is_spoilt if terms.max_memory is None else _MemoryLimit(terms.max_memory)
            worker.run(terms.max_tasks, _errors.pack, flush, retire)
            terms.setup.leave()
            if "threading" in sys.modules:
                _leave_threads(worker, flush)
    finally:
        flush()


def tag_of(kind: int, number: int) -> int:
    """The tag of an answer."""
    return kind << 48 | number


def _leave_threads(worker: Worker, flush: "Callable[[], object]") -> None:
    from . import _stragglers

    if _stragglers.left():
        worker.notify(RETIRED, b"")
        _stragglers.wait_bounded(process.current_process().name, flush)


def _set_up(worker: Worker, setup: "_setup.Setup", seat: int, flush: Any) -> bool:
    try:
        setup.enter(seat, process.current_process().name)
    except BaseException as error:
        flush()
        report = _setup.step, _errors.describe(error)
        worker.notify(SETUP_FAILED, _pickling.dumps(report, home=True)[0])
        return False
    return True


def run_star_chunk(function: "Callable[..., Any]", items: "Iterable[Iterable[Any]]") -> list[Any]:
    """One task for several calls with several arguments each."""
    return [function(*item) for item in items]


def _is_spoilt() -> bool:
    return is_spoilt


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
        if is_spoilt:
            return True
        with open("/proc/self/statm", "rb") as file:
            resident = int(file.read().split()[1]) * self._page
        began = time.monotonic()
        if resident <= self._limit or began < self._next_look:
            return False
        _, _, own, *_ = _forkless.memory(os.getpid())
        now = time.monotonic()
        self._next_look = now + 20 * (now - began)
        return own > self._limit


def _break_off(number: int, frame: FrameType | None) -> None:
    """Signal handler: ends the task that runs, if that is the one which is to end."""
    global is_spoilt
    if current is not None and not is_closing and current.is_interrupted():
        is_spoilt = is_spoilt or _is_in_import(frame)
        raise TaskInterrupted("the owner of the pool asks for the end of this task")


def _is_in_import(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False
