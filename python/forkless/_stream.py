"""Generator tasks: what a generator yields in a worker is taken here, one by one.

The items go through a queue of their own, straight from the worker to who takes them. A worker that is ahead
waits, so that however much the generator yields, only a few items are on their way.
"""

import os
import weakref
from _thread import get_ident
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ._futures import Future
from ._imap import not_the_end
from ._options import Options
from ._pickling import PicklingError
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
        self._scheduler = scheduler
        self._owner = os.getpid()
        # Who takes the items, as far as is known.
        self._cut_off, self._taker = False, get_ident()
        call = _Generation(self._queue, func, self._name), args, kwargs
        scheduler.submit(self._future, call, Options.of(options, name=self._name))
        scheduler.streams.add(weakref.ref(self, scheduler.streams.discard))

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

        self._taker = get_ident()
        try:
            return self._queue.get(timeout=timeout)
        except Empty:
            raise TimeoutError(self._progress(timeout)) from None
        except ShutDown:
            self._raise_end()
            raise StopIteration from None

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        from .exceptions import ShutDown

        try:
            self._taker = get_ident()
            return await self._queue.aget()
        except ShutDown:
            self._raise_end()
            raise StopAsyncIteration from None

    def _progress(self, waited: float | None) -> str:
        running = (task for _, _, task, _ in self._scheduler.staff.running())
        if self._future._task in running:
            return f"{self._name} has not yielded anything for {waited} s; it goes on"
        return f"{self._name} has not begun within {waited} s, as no worker is free"

    def end_if_stuck(self) -> None:
        """Ends the generator if it waits for this thread, which is about to wait for it."""
        if self._taker == get_ident() and self._queue.full() and not self._future.done():
            self._cut_off = True
            self._future.cancel()

    def _raise_end(self) -> None:
        self._pool = None
        if self._cut_off:
            from .exceptions import BrokenPool

            raise BrokenPool(
                f"{self._name} was ended early: the thread that takes its items waited for the end of the "
                "pool. Take all items before, or close the stream"
            )
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
        # A copy of this object made by `os.fork` in user code has no say.
        if self._owner != os.getpid():
            return
        self._closed = True
        self._future.cancel()
        self._queue.shutdown(immediate=True)
        self._pool = None

    async def aclose(self) -> None:
        """As `close`."""
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_taker") and not self._future.done():
            self.close()

    def __repr__(self) -> str:
        state = "done" if self._future.done() else "running"
        return f"<forkless stream of {self._name} {state}>"


class _Generation:
    """The task in the worker: sends what a generator yields. Called with the arguments of its function."""

    def __init__(self, queue: Queue[Any], func: Callable[..., Iterable[Any]], name: str) -> None:
        self.queue, self.function, self.name = queue, func, name
        # For messages, in which that one stands for this one.
        self.__qualname__, self.__module__ = name, "__main__"

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        made = self.function(*args, **kwargs)
        try:
            iterator = iter(made)
        except TypeError:
            if hasattr(type(made), "__iter__"):
                raise
            text = f"{self.name} has returned an object that is not iterable: {type(made).__name__!r}"
            raise TypeError(text) from None
        from . import _worker

        try:
            _worker.is_closing = self._send(iterator)
        finally:
            try:
                close = getattr(iterator, "close", None)
                if close is not None:
                    close()
            finally:
                _worker.is_closing = False

    def _send(self, iterator: Iterator[Any]) -> bool:
        """Sends all items; True if it is told before the last one that nobody wants more."""
        from .exceptions import ShutDown

        for number, item in enumerate(iterator):
            try:
                self.queue.put(item)
            except ShutDown:
                return True
            except PicklingError as error:
                raise PicklingError(f"item {number} of {self.name}: {error}") from None
        return False
