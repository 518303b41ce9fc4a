"""Queues between processes, over the core's channel."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from . import _pickling
from ._forkless import Channel

__all__ = ["Queue"]

T = TypeVar("T")


class Queue(Generic[T]):
    """A first-in first-out queue between processes; the counterpart of `multiprocessing.Queue`.

    When `put` returns, the item is in shared memory: it survives this process, can be seen by `get_nowait`,
    and no longer changes with the object. There is no feeder thread, so nothing needs to be drained before a
    `join`, and items that cannot be pickled raise where they are put. A queue may itself be sent anywhere: in
    arguments, through other queues, in tasks of a pool.

    Args:
        maxsize: how many items fit; zero or less for no limit.

    Example:
        >>> queue = Queue()
        >>> queue.put("hello")
        >>> queue.get()
        'hello'
    """

    def __init__(self, maxsize: int = 0) -> None:
        self._channel = Channel(max(0, maxsize))
        self._closed = False

    def put(self, obj: T, block: bool = True, timeout: float | None = None) -> None:
        """Puts an item.

        Args:
            obj: the item; pickled now.
            block: wait while the queue is full.
            timeout: how long to wait, in seconds; None waits for ever, and less than zero counts as zero.

        Raises:
            queue.Full: there was no room in time.
            pickle.PicklingError: the item cannot be sent; the message names what is wrong.
            ValueError: the queue was closed by this process.
        """
        self._check_closed()
        payload, handles, buffers = _pickling.pack(obj)
        if not self._channel.send(payload, handles, buffers=buffers, block=block, timeout=_clamp(timeout)):
            from queue import Full

            raise Full

    def get(self, block: bool = True, timeout: float | None = None, *, writable: bool = True) -> T:
        """Takes the oldest item.

        Large arrays, tables and tensors in it are not copied: they are where the sender has put them, in
        shared memory that nobody else has any more, and that is given back when they are dropped.

        Args:
            block: wait while the queue is empty.
            timeout: how long to wait, in seconds; None waits for ever, and less than zero counts as zero.
            writable: whether such arrays can be written to, as all others can.

        Raises:
            queue.Empty: there was nothing in time.
            ValueError: the queue was closed by this process.
        """
        self._check_closed()
        message = self._channel.receive(block=block, timeout=_clamp(timeout))
        if message is None:
            from queue import Empty

            raise Empty
        obj: T = _pickling.loads(message, writable)
        return obj

    def put_nowait(self, obj: T) -> None:
        """`put` without waiting."""
        self.put(obj, block=False)

    def get_nowait(self) -> T:
        """`get` without waiting."""
        return self.get(block=False)

    def qsize(self) -> int:
        """How many items there are now; another process may change it at any time."""
        return self._channel.qsize()

    def empty(self) -> bool:
        """Whether there is no item now."""
        return self.qsize() == 0

    def full(self) -> bool:
        """Whether there is no room now."""
        return 0 < self._channel.maxsize <= self.qsize()

    def close(self) -> None:
        """This process will use the queue no more; others are not affected."""
        self._closed = True

    def join_thread(self) -> None:
        """Does nothing, as there is no thread: everything put is already on its way."""

    def cancel_join_thread(self) -> None:
        """Does nothing, as there is no thread to wait for."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _attach, (type(self), self._channel)

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__qualname__} maxsize={self._channel.maxsize}>"

    def _check_closed(self) -> None:
        if self._closed:
            raise ValueError(f"Queue {self!r} is closed")


def _attach(kind: type[Queue[T]], channel: Channel) -> Queue[T]:
    queue = kind.__new__(kind)
    queue._channel, queue._closed = channel, False
    return queue


def _clamp(timeout: float | None) -> float | None:
    return None if timeout is None else max(0.0, timeout)
