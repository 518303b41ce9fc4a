"""The life of a worker: set up, then task after task (see `worker.rs` in the core) until told to end."""

import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _errors, _forkless, _pickling, process
from ._forkless import Worker

if TYPE_CHECKING:
    from ._forkless import Channel, Shared, SharedBytes

# Kinds of answers, as in the tag of their message; those for results are the core's.
REVOKED, FAILED, SETUP_FAILED = 16, 17, 18

# Asks a worker to look whether its task is to be broken off. Real-time signals are hardly used by
# anybody; the first few of them by some runtimes.
INTERRUPT = signal.SIGRTMIN + 11

# The worker that this process is.
current: "Worker | None" = None


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
    worker.run(terms.max_tasks, _errors.pack, process.flush_streams, retire)


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
        worker.notify(SETUP_FAILED, _pickling.dumps(_errors.describe(error), home=True)[0])
        return False
    return True
