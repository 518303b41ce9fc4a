"""Queues between processes, over the core's channel.

All of them are in shared memory as soon as `put` returns: there is no feeder thread. Items that cannot be
pickled raise where they are put; an item that cannot be rebuilt raises where it is taken, and the queue
goes on. Any queue may itself be sent anywhere, and may be used from `__del__`, weakref callbacks and signal
handlers, also while the same thread is using it.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from . import _exit
from ._forkless import BaseQueue, Channel

if TYPE_CHECKING:
    from queue import Empty as Empty
    from queue import Full as Full

__all__ = ["JoinableQueue", "Loss", "Queue", "QueueStatistics", "SimpleQueue"]

T = TypeVar("T")

# What those of `multiprocessing` are made of, and programs look for.
_INSIDES = ("_reader", "_writer", "_rlock", "_wlock", "_poll", "_send_bytes", "_recv_bytes")


@dataclass(frozen=True)
class Loss:
    """A process that died with items it had taken.

    Attributes:
        name: its name, cut off after 39 bytes.
        pid: its process id.
        count: how many items it had.
    """

    name: str
    pid: int
    count: int


@dataclass(frozen=True)
class QueueStatistics:
    """What has passed through a queue, at one moment.

    Attributes:
        sent: items put, by all processes.
        received: items taken, by all processes, the lost included.
        waiting: items put and not taken.
        bytes_waiting: bytes of them, as pickled.
        lost: items that a process had taken and not yet returned from `get` when it died; of a
            `JoinableQueue`, had not yet reported with `task_done`.
        lost_by: the last eight of those processes, latest first.
    """

    sent: int
    received: int
    waiting: int
    bytes_waiting: int
    lost: int
    lost_by: tuple[Loss, ...]


class Queue(BaseQueue[T]):
    """A first-in first-out queue between processes; the counterpart of `multiprocessing.Queue`.

    When `put` returns, the item is in shared memory: it survives this process, can be seen by `get_nowait`,
    and no longer changes with the object. There is no feeder thread, so nothing needs to be drained before a
    `join`, and items that cannot be pickled raise where they are put. A queue may itself be sent anywhere: in
    arguments, through other queues, in tasks of a pool.

    A process that is killed at any moment leaves the queue working. What it had taken and not yet got is
    counted: see `statistics`.

    Args:
        maxsize: how many items fit; zero or less for no limit.
        max_bytes: how many bytes of pickled items fit; zero for no limit.
        ctx: ignored; a queue belongs to no context.

    Example:
        >>> queue = Queue()
        >>> queue.put("hello")
        >>> queue.get()
        'hello'
        >>> queue.put_many(range(3))
        >>> queue.get_many()
        [0, 1, 2]
    """

    _tasks = False

    def __init__(self, maxsize: int = 0, *, max_bytes: int = 0, ctx: object = None) -> None:
        if max_bytes < 0:
            raise ValueError(f"max_bytes is at least 0 (0: no limit), not {max_bytes}")
        self._use(Channel(max(0, maxsize), max_bytes), self._tasks)

    def empty(self) -> bool:
        """Whether there is no item now.

        Raises:
            QueueClosed: the queue was closed by this process, and has been used.
        """
        if self._closed and self._statistics()[0]:
            raise self._is_closed()
        return super().empty()

    def _is_closed(self) -> Exception:
        from .exceptions import QueueClosed

        return QueueClosed(f"{self!r} is closed in this process")

    def put_nowait(self, obj: T) -> None:
        """`put` without waiting."""
        self.put(obj, False)

    def get_nowait(self) -> T:
        """`get` without waiting."""
        return self.get(False)

    def get_many_nowait(self, max_items: int | None = None) -> list[T]:
        """`get_many` without waiting."""
        return self.get_many(max_items, False)

    async def aput(self, obj: T, timeout: float | None = None) -> None:
        """As `put`, in an event loop: of asyncio, or of trio. Others run while it waits; no thread does."""
        from ._aio import put

        await put(self, obj, timeout)

    async def aget(self, timeout: float | None = None) -> T:
        """As `get`, in an event loop: of asyncio, or of trio. Others run while it waits; no thread does.

        Cancelled, it has not taken an item.
        """
        from ._aio import get

        item: T = await get(self, timeout)
        return item

    def __iter__(self) -> Iterator[T]:
        """Takes items until the queue was shut down and none is left."""
        from .exceptions import ShutDown

        while True:
            try:
                item = self.get()
            except ShutDown:
                return
            yield item

    async def __aiter__(self) -> AsyncIterator[T]:
        """As `__iter__`, in an event loop."""
        from .exceptions import ShutDown

        while True:
            try:
                item = await self.aget()
            except ShutDown:
                return
            yield item

    def statistics(self) -> QueueStatistics:
        """What has passed through the queue so far, and what was lost with processes that died."""
        sent, received, size, lost, lost_by = self._statistics()
        return QueueStatistics(
            sent, received, sent - received, size, lost, tuple(Loss(*entry) for entry in lost_by)
        )

    def join_thread(self) -> None:
        """Does nothing, as there is no thread: everything put is already on its way."""

    def cancel_join_thread(self) -> None:
        """Does nothing, as there is no thread to wait for."""

    @property
    def handle(self) -> tuple[int, int, int]:
        """(arena id, offset in bytes, generation), to tell it by and to open it in a Rust program."""
        return self._channel.handle

    @property
    def _maxsize(self) -> int:
        """The limit as `multiprocessing` has it, where programs look for it."""
        from .synchronize import SEM_VALUE_MAX

        return self._channel.maxsize or SEM_VALUE_MAX

    # Subclasses add to the state what they have besides: in `multiprocessing` it is a tuple, too.

    def __getstate__(self) -> Any:
        return (self._channel,)

    def __setstate__(self, state: Any) -> None:
        (channel,) = state
        self._use(channel, self._tasks)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _attach, (type(self), self.__getstate__())

    if not TYPE_CHECKING:  # Or type checkers would take it to have every attribute.

        def __getattr__(self, name: str) -> Any:
            message = f"{type(self).__name__!r} object has no attribute {name!r}"
            if name in _INSIDES:
                message += (
                    ": a queue of forkless has no pipe in it. To wait for several things, use `get` with a "
                    "timeout, or `aget` in an event loop; if a pool of the standard library was made with a "
                    "context of forkless, use forkless.Pool or forkless.Executor instead"
                )
            raise AttributeError(message)

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__qualname__} maxsize={self._channel.maxsize}>"


class JoinableQueue(Queue[T]):
    """A queue that knows when everything put into it is done with; see `Queue`.

    Whoever takes an item says with `task_done` that it is done with it. If it dies before, or ends without
    having said so, the item is lost, and `join` says so instead of waiting for ever.

    Example:
        >>> queue = JoinableQueue()
        >>> queue.put("work")
        >>> queue.get()
        'work'
        >>> queue.task_done()
        >>> queue.join()
    """

    _tasks = True

    def task_done(self) -> None:
        """Says that an item which was taken is done with.

        Raises:
            ValueError: called more often than there were items.
        """
        if not self._task_done():
            raise ValueError("task_done() called too many times")

    def join(self, timeout: float | None = None) -> None:
        """Waits until all items put so far are done with.

        Args:
            timeout: how long to wait, in seconds; None waits for ever.

        Raises:
            WorkerDied: the items that are not done died with who had taken them. Raised once: they count as
                done from then on.
            TimeoutError: not all are done in time.
            QueueAbandoned: not all are done, and nobody else has the queue any more.
        """
        lost = self._join(timeout)
        if lost is None:
            from .exceptions import TimeoutError

            raise TimeoutError(f"{self._unfinished()} items of {self!r} are not done after {timeout} s")
        if lost:
            raise self._loss(lost)

    def _loss(self, lost: int) -> Exception:
        from .exceptions import WorkerDied

        dead = self.statistics().lost_by
        names = ", ".join(f"{entry.name} (pid {entry.pid}) with {entry.count}" for entry in dead)
        items = "1 item" if lost == 1 else f"{lost} items"
        return WorkerDied(
            f"{items} of {self!r} will never be done: who had taken them ended without task_done(): {names}. "
            "Their exit codes say how; join() goes on without these items from now on",
            task=items,
            worker=dead[0].name if dead else "",
            pid=dead[0].pid if dead else 0,
        )


class SimpleQueue(Queue[T]):
    """The counterpart of `multiprocessing.SimpleQueue`: a `Queue` without limits."""

    def __init__(self, *, ctx: object = None) -> None:
        super().__init__(ctx=ctx)

    def empty(self) -> bool:
        """Whether there is no item now.

        Raises:
            QueueClosed: the queue was closed by this process.
        """
        if self._closed:
            raise self._is_closed()
        return super().empty()


def _attach(kind: type[Queue[T]], state: Any) -> Queue[T]:
    queue = kind.__new__(kind)
    queue.__setstate__(state)
    return queue


def of_channel(channel: Channel) -> Queue[Any]:
    """The queue over a channel that another program made."""
    return _attach(Queue, (channel,))


# Where `multiprocessing` registers its handler: those that programs register from now on run before it.
_exit.register()


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        # What `get` and `put` raise. A program that does not ask for them need not load the module.
        if name not in ("Empty", "Full"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import queue

        return getattr(queue, name)
