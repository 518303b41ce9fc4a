"""Generator tasks: what a generator yields in a worker is taken here, one by one.

The items go through a queue of their own, straight from the worker to who takes them. A worker that is ahead
waits, so that however much the generator yields, only a few items are on their way.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ._futures import Future
from ._imap import not_the_end
from ._options import Options
from ._scheduler import name_of
from .queues import Queue

if TYPE_CHECKING:
    from ._scheduler import Scheduler

T = TypeVar("T")

AHEAD = 16


class Stream(Generic[T]):
    """What a generator yields in a worker; an iterator, for `for` and `async for`.

    Args:
        pool: what has to live as long as this.
        scheduler: what runs it.
        func: a generator function, or one that returns an iterable.
        args: its positional arguments.
        kwargs: its keyword arguments.
        buffersize: how many items may be ahead of those that were taken.
        options: how to treat the task.

    Raises:
        ValueError: the size is less than one, or there are to be retries: items would come twice.
    """

    def __init__(
        self,
        pool: object,
        scheduler: "Scheduler",
        func: Callable[..., Iterable[T]],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        buffersize: int,
        options: Options | None,
    ) -> None:
        if buffersize < 1:
            raise ValueError(f"buffersize must be at least 1, not {buffersize!r}")
        if options is not None and options.retries is not None:
            raise ValueError("a stream cannot be retried: what it has yielded would come twice")
        self._pool: object = pool
        self._closed = False
        self._name = name_of(func) if options is None or options.name is None else options.name
        self._queue: Queue[T] = Queue(buffersize)
        self._future: Future[None] = Future()
        self._future.add_done_callback(lambda _, queue=self._queue: queue.shutdown())  # type: ignore[misc]
        scheduler.submit(
            self._future, (_run, (self._queue, func, args, kwargs), {}), Options.of(options, name=self._name)
        )

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        return self.next()

    def next(self, timeout: float | None = None) -> T:
        """The next item.

        Args:
            timeout: how long to wait, in seconds; None waits for ever.

        Raises:
            StopIteration: the generator has ended.
            TimeoutError: there is none in time.
            WorkerDied: the worker has died. The items that it had yielded before came first.
            CancelledError: the executor was shut down with `cancel_futures` before it began.
            Exception: what the generator raised, after all it had yielded.
        """
        from queue import Empty

        from .exceptions import ShutDown, TimeoutError

        try:
            return self._queue.get(timeout=timeout)
        except Empty:
            raise TimeoutError(f"{self._name} has not yielded anything for {timeout} s; it goes on") from None
        except ShutDown:
            self._raise_end()
            raise StopIteration from None

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        from .exceptions import ShutDown

        try:
            return await self._queue.aget()
        except ShutDown:
            self._raise_end()
            raise StopAsyncIteration from None

    def _raise_end(self) -> None:
        self._pool = None
        if self._closed:
            return
        # If somebody else has cancelled it, that is no end of what it yields: this says so.
        error = self._future.exception()
        try:
            if error is not None:
                raise not_the_end(error)
        finally:
            del error  # or else the error and this frame would keep each other, and all that they hold

    def close(self) -> None:
        """Ends the generator, if it still runs, and frees its worker. What was not taken is dropped."""
        self._closed = True
        self._future.cancel()
        self._queue.shutdown(immediate=True)
        self._pool = None

    async def aclose(self) -> None:
        """As `close`."""
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_future") and not self._future.done():
            self.close()

    def __repr__(self) -> str:
        state = "done" if self._future.done() else "running"
        return f"<forkless stream of {self._name} {state}>"


def _run(
    queue: Queue[Any], func: Callable[..., Iterable[Any]], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """In the worker: sends what a generator yields."""
    from .exceptions import ShutDown

    iterator = iter(func(*args, **kwargs))
    try:
        for item in iterator:
            queue.put(item)
    except ShutDown:
        pass  # Nobody wants more.
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()
