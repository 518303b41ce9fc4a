"""Pools of workers: `multiprocessing.Pool`, without its hangs."""

import itertools
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from ._scheduler import Scheduler, Task, cut, name_of
from ._waiters import Waiters
from ._worker import run_chunk, run_star_chunk
from .exceptions import ProcessError

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from ._progress import Progress
    from .context import Context
    from .process import Process

__all__ = ["AsyncResult", "IMapIterator", "IMapUnorderedIterator", "MapResult", "Pool"]

R = TypeVar("R")
I = TypeVar("I", bound="IMapIterator[Any]")  # noqa: E741 - as in iterator

# Chunks of an `imap` per worker that may be submitted ahead of what has been taken out.
_WINDOW = 4


class Pool:
    """A fixed number of worker processes that run tasks; the counterpart of `multiprocessing.Pool`.

    Differs from it: a worker's death fails only the task that ran there, with `WorkerDied`; functions of
    `__main__`, lambdas and closures are welcome; `imap` and `imap_unordered` read their input as results are
    taken, not all at once; what is not done when the pool is terminated fails with `BrokenPool`, so nobody
    waits for ever.

    Args:
        processes: how many workers; what `cpu_count` says if None.
        initializer: called first in every worker. If it raises, the pool is broken.
        initargs: its arguments.
        maxtasksperchild: how many tasks a worker runs before it is replaced by a fresh one; None for no
            limit.
        context: how workers start; the default context if None.

    Raises:
        ValueError: fewer than one process or task.
        TypeError: the initializer is not callable.
        ProcessError: the system refuses to start the workers.

    Example:
        >>> with Pool(2) as pool:
        ...     pool.map(abs, [-1, 2, -3])
        [1, 2, 3]
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: "Context | None" = None,
    ) -> None:
        from .context import cpu_count, get_context

        size = cpu_count() if processes is None else processes
        if size < 1:
            raise ValueError("Number of processes must be at least 1")
        if maxtasksperchild is not None and not _is_count(maxtasksperchild):
            raise ValueError("maxtasksperchild must be a positive int or None")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._ctx = get_context() if context is None else context
        self._scheduler = Scheduler(
            self._ctx,
            size,
            initializer,
            initargs,
            maxtasksperchild,
            label="PoolWorker",
            eager=True,
            waits_at_exit=False,
        )
        self._scheduler.start_workers()
        # At exit `_exit` does it, and waits.
        weakref.finalize(self, self._scheduler.terminate).atexit = False

    def apply(self, func: Callable[..., R], args: Iterable[Any] = (), kwds: Mapping[str, Any] = {}) -> R:
        """Calls `func(*args, **kwds)` in a worker and returns its result."""
        return self.apply_async(func, args, kwds).get()

    def apply_async(
        self,
        func: Callable[..., R],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        callback: Callable[[R], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> "AsyncResult[R]":
        """Like `apply`, but returns at once.

        Args:
            func: the function.
            args: its positional arguments; pickled now.
            kwds: its keyword arguments; pickled now.
            callback: called with the result, in a thread of the pool, which waits for it.
            error_callback: called with the exception instead, if there is one.

        Raises:
            ValueError: the pool does not accept tasks any more.
            BrokenPool: its workers cannot run.
        """
        result: AsyncResult[R] = AsyncResult(self, callback, error_callback)
        self._submit(_Single(result, func), (func, tuple(args), dict(kwds)))
        return result

    def map(
        self,
        func: Callable[[Any], R],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        *,
        progress: bool = False,
    ) -> list[R]:
        """The results of `func` for every item, in order. Waits for all of them.

        Args:
            func: called in the workers, with one item.
            iterable: the items.
            chunksize: how many items make a task; if None, so many that each worker gets about four tasks.
            progress: show a progress bar on standard error.

        Raises:
            Exception: what `func` raised first, after all tasks are done.
        """
        return self._wait_for(self.map_async(func, iterable, chunksize), func, progress)

    def map_async(
        self,
        func: Callable[[Any], R],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[list[R]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> "MapResult[R]":
        """Like `map`, but returns at once; the callbacks are as in `apply_async`."""
        return self._map_async(run_chunk, func, iterable, chunksize, callback, error_callback)

    def starmap(
        self,
        func: Callable[..., R],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        *,
        progress: bool = False,
    ) -> list[R]:
        """Like `map`, but each item is the arguments of one call."""
        return self._wait_for(self.starmap_async(func, iterable, chunksize), func, progress)

    def starmap_async(
        self,
        func: Callable[..., R],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[R]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> "MapResult[R]":
        """Like `starmap`, but returns at once; the callbacks are as in `apply_async`."""
        return self._map_async(run_star_chunk, func, iterable, chunksize, callback, error_callback)

    def imap(
        self, func: Callable[[Any], R], iterable: Iterable[Any], chunksize: int = 1, *, progress: bool = False
    ) -> "IMapIterator[R]":
        """The results of `func` for every item, in order, each as soon as it is there.

        The input is read in the thread that takes the results, a few items ahead; `join` reads the rest of
        it.

        Args:
            func: called in the workers, with one item.
            iterable: the items. What it raises is raised after the results of the items before.
            chunksize: how many items make a task.
            progress: show a progress bar on standard error.
        """
        return self._imap(IMapIterator, func, iterable, chunksize, progress)

    def imap_unordered(
        self, func: Callable[[Any], R], iterable: Iterable[Any], chunksize: int = 1, *, progress: bool = False
    ) -> "IMapUnorderedIterator[R]":
        """Like `imap`, but in the order in which the results arrive."""
        return self._imap(IMapUnorderedIterator, func, iterable, chunksize, progress)

    def close(self) -> None:
        """Accepts no more tasks. The workers end when all are done."""
        self._scheduler.close()

    def terminate(self) -> None:
        """Ends the workers at once. Tasks that are not done fail with `BrokenPool`."""
        self._scheduler.terminate()
        # The workers get a second to end by themselves before they are killed; a callback of the user that
        # runs in the collector may take longer, and must not hold up this thread for ever.
        self._scheduler.join(timeout=5.0)

    def join(self) -> None:
        """Waits until the workers have ended; call `close` or `terminate` before.

        Raises:
            ValueError: the pool is still running.
        """
        if self._scheduler.state == "RUN":
            raise ValueError("Pool is still running")
        for feeder in list(self._scheduler.feeders):
            feeder.feed_all()
        self._scheduler.join()

    def __enter__(self) -> "Self":
        self._check_running()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: "TracebackType | None"
    ) -> None:
        self.terminate()

    def __reduce__(self) -> tuple[Any, ...]:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def __repr__(self) -> str:
        kind = type(self)
        size = self._scheduler.size
        return f"<{kind.__module__}.{kind.__qualname__} state={self._scheduler.state} pool_size={size}>"

    @property
    def _pool(self) -> "list[Process]":
        """The workers there are now; named as in the standard library, where many look for it."""
        return list(self._scheduler.workers)

    def _check_running(self) -> None:
        self._scheduler.check()
        if self._scheduler.state != "RUN":
            raise ValueError("Pool not running")

    def _submit(self, task: Task, call: "_Call", feeder: "IMapIterator[Any] | None" = None) -> None:
        if not self._scheduler.submit(task, call, feeder):
            self._scheduler.check()
            raise ValueError("Pool not running")

    def _map_async(
        self,
        runner: Callable[..., list[Any]],
        func: Callable[..., R],
        iterable: Iterable[Any],
        chunksize: int | None,
        callback: Callable[[list[R]], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> "MapResult[R]":
        self._check_running()
        items: Any = iterable if hasattr(iterable, "__len__") else list(iterable)
        if chunksize is None:
            chunksize = max(1, -(-len(items) // (self._scheduler.size * 4)))
        chunks = list(_chunks(items, chunksize))
        result: MapResult[R] = MapResult(self, len(items), len(chunks), callback, error_callback)
        for index, chunk in enumerate(chunks):
            task = _Part(result, func, index * chunksize, len(chunk))
            self._submit(task, (runner, (func, chunk), {}))
        return result

    def _wait_for(self, result: "MapResult[R]", func: Callable[..., R], progress: bool) -> list[R]:
        if progress:
            result.show(_progress(result.total, func))
        return result.get()

    def _imap(
        self,
        kind: type[I],
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int,
        progress: bool,
    ) -> I:
        self._check_running()
        chunks = _chunks(iterable, chunksize)
        total = len(iterable) if isinstance(iterable, Sized) else None
        iterator = kind(self, func, chunks, _progress(total, func) if progress else None)
        iterator.feed()
        return iterator


_Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class AsyncResult(Generic[R]):
    """The result of `apply_async`: there now or later."""

    def __init__(
        self,
        pool: Pool,
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        # Keeps the pool alive until the result is there.
        self._pool: Pool | None = pool
        self._callback, self._error_callback = callback, error_callback
        self._waiters = Waiters()
        self._outcome: tuple[bool, Any] | None = None

    def ready(self) -> bool:
        """Whether the call is done, with or without success."""
        return self._outcome is not None

    def successful(self) -> bool:
        """Whether the call is done without an exception.

        Raises:
            ValueError: it is not done.
        """
        if self._outcome is None:
            raise ValueError(f"{self!r} not ready")
        return self._outcome[0]

    def wait(self, timeout: float | None = None) -> None:
        """Waits until the call is done, or `timeout` seconds have passed."""
        self._waiters.wait(self.ready, timeout)

    def get(self, timeout: float | None = None) -> R:
        """The result; waits for it.

        Args:
            timeout: how long to wait, in seconds; None waits for ever.

        Raises:
            TimeoutError: it is not there in time.
            WorkerDied: the worker that ran the call has died.
            BrokenPool: the pool was terminated, or its workers cannot run.
            Exception: what the call raised, with the worker's traceback as its cause.
        """
        self.wait(timeout)
        if self._outcome is None:
            from .exceptions import TimeoutError

            raise TimeoutError(f"no result within {timeout} s; the call goes on in its worker")
        done, value = self._outcome
        if done:
            result: R = value
            return result
        raise value

    def _set(self, done: bool, value: Any) -> None:
        self._outcome = done, value
        self._pool = None
        self._waiters.wake()
        callback = self._callback if done else self._error_callback
        self._callback = self._error_callback = None
        if callback is not None:
            callback(value)


class MapResult(AsyncResult[list[R]]):
    """The result of `map_async` and `starmap_async`."""

    def __init__(
        self,
        pool: Pool,
        total: int,
        parts: int,
        callback: Callable[[list[R]], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        super().__init__(pool, callback, error_callback)
        self.total = total
        self._values: list[Any] = [None] * total
        self._error: BaseException | None = None
        self._parts = parts
        # How many items each finished part had. Parts may finish in several threads, so the last one is told
        # by counting, which is atomic.
        self._finished: list[int] = []
        self._numbers = itertools.count(1)
        if not parts:
            self._outcome, self._pool = (True, self._values), None

    def show(self, progress: "Progress") -> None:
        """Waits until everything is done, and shows how far it is."""
        shown: list[int] = []
        try:
            while len(shown) < self._parts:
                self._waiters.wait(partial(self._has_more_than, len(shown)))
                news = self._finished[len(shown) :]
                shown += news
                progress.update(sum(news))
        finally:
            progress.close()

    def _has_more_than(self, parts: int) -> bool:
        return len(self._finished) > parts

    def _set_part(self, start: int, count: int, done: bool, value: Any) -> None:
        if done:
            self._values[start : start + count] = value
        elif self._error is None:
            self._error = value
        self._finished.append(count)
        self._waiters.wake()
        if next(self._numbers) == self._parts:
            self._set(self._error is None, self._values if self._error is None else self._error)


class IMapIterator(Generic[R]):
    """The results of `imap`, in order."""

    def __init__(
        self,
        pool: Pool,
        func: Callable[..., R],
        chunks: Iterator[tuple[Any, ...]],
        progress: "Progress | None",
    ) -> None:
        self._pool: Pool = pool
        self._func = func
        self._chunks = chunks
        self._progress = progress
        self._waiters = Waiters()
        # Taken out by the thread that reads the input; another one, or a callback in the same thread, goes
        # without.
        self._turn = [None]
        # One entry for each part that was submitted and not taken out.
        self._outstanding: list[None] = []
        self._submitted = self._items_submitted = self._taken = 0
        self._exhausted = False
        self._input_error: Exception | None = None
        self._arrived: dict[int, _Arrival] = {}
        self._items: deque[R] = deque()
        pool._scheduler.feeders.add(self)

    def __iter__(self) -> "IMapIterator[R]":
        return self

    def __next__(self) -> R:
        return self.next()

    def next(self, timeout: float | None = None) -> R:
        """The next result.

        Args:
            timeout: how long to wait, in seconds; None waits for ever.

        Raises:
            StopIteration: there are no more.
            TimeoutError: it is not there in time.
            Exception: what the call raised, as in `AsyncResult.get`. The next call goes on with the next
                result.
        """
        while True:
            try:
                item = self._items.popleft()
            except IndexError:
                self._take_part(timeout)
            else:
                self._show(1)
                return item

    def feed(self) -> None:
        """Submits input, up to a few tasks ahead of what has been taken out."""
        self._feed(_WINDOW * self._pool._scheduler.size)

    def feed_all(self) -> None:
        """Submits the rest of the input."""
        self._feed(None)

    def _feed(self, window: int | None) -> None:
        try:
            turn = self._turn.pop()
        except IndexError:
            return
        try:
            while not self._exhausted and (window is None or len(self._outstanding) < window):
                self._feed_one()
        finally:
            self._turn.append(turn)

    def _feed_one(self) -> None:
        try:
            chunk = next(self._chunks)
        except StopIteration:
            self._end_input(None)
        except Exception as error:
            self._end_input(error)
        else:
            self._submit(chunk)

    def _submit(self, chunk: tuple[Any, ...]) -> None:
        task = _Piece(self, self._func, self._submitted, self._items_submitted, len(chunk))
        self._submitted += 1
        self._items_submitted += len(chunk)
        self._outstanding.append(None)
        try:
            self._pool._submit(task, (run_chunk, (self._func, chunk), {}), self)
        except (ValueError, ProcessError) as error:
            # The pool was terminated. What has arrived before can still be taken.
            self._outstanding.pop()
            self._end_input(error)

    def _end_input(self, error: Exception | None) -> None:
        self._input_error = error
        self._exhausted = True
        scheduler = self._pool._scheduler
        scheduler.feeders.discard(self)
        scheduler.poke()
        self._waiters.wake()

    def _take_part(self, timeout: float | None) -> None:
        """Waits for the next part and puts its items where they can be taken."""
        if not self._waiters.wait(self._ready, timeout):
            from .exceptions import TimeoutError

            raise TimeoutError(f"no result within {timeout} s; the calls go on in their workers")
        arrival = self._pop()
        if arrival is not None:
            self._outstanding.pop()
            self._waiters.wake()
            self.feed()
            self._unpack(arrival)
        elif self._at_end():
            self._finish()
        # Otherwise another thread was faster.

    def _unpack(self, arrival: "_Arrival") -> None:
        if arrival.done:
            self._items.extend(arrival.value)
        else:
            self._show(arrival.size)
            raise arrival.value

    def _ready(self) -> bool:
        return bool(self._items) or self._next_is_there() or self._at_end()

    def _at_end(self) -> bool:
        return self._exhausted and not self._outstanding and not self._items

    def _next_is_there(self) -> bool:
        return self._taken in self._arrived

    def _pop(self) -> "_Arrival | None":
        arrival = self._arrived.pop(self._taken, None)
        if arrival is not None:
            # Only the thread that got this one comes here, and nobody gets the next one before.
            self._taken += 1
        return arrival

    def _finish(self) -> None:
        if self._progress is not None:
            self._progress.close()
            self._progress = None
        error, self._input_error = self._input_error, None
        if error is not None:
            raise error
        raise StopIteration

    def _show(self, count: int) -> None:
        if self._progress is not None:
            self._progress.update(count)

    def _arrive(self, index: int, arrival: "_Arrival") -> None:
        self._arrived[index] = arrival
        self._waiters.wake()


class IMapUnorderedIterator(IMapIterator[R]):
    """The results of `imap_unordered`, as they arrive."""

    def _next_is_there(self) -> bool:
        return bool(self._arrived)

    def _pop(self) -> "_Arrival | None":
        # A dictionary keeps the order in which its keys came.
        for index in list(self._arrived):
            arrival = self._arrived.pop(index, None)
            if arrival is not None:
                return arrival
        return None


class _Arrival(NamedTuple):
    """What became of one part of an `imap`."""

    size: int
    done: bool
    value: Any


class _Single(Task):
    __slots__ = ("result",)

    def __init__(self, result: AsyncResult[Any], func: Callable[..., Any]) -> None:
        super().__init__(func)
        self.result = result

    def settle(self, done: bool, value: Any) -> None:
        self.result._set(done, value)


class _Part(Task):
    """The items of a `map` from `start` on."""

    __slots__ = ("count", "result", "start")

    def __init__(self, result: MapResult[Any], func: Callable[..., Any], start: int, count: int) -> None:
        super().__init__(func)
        self.result, self.start, self.count = result, start, count

    def settle(self, done: bool, value: Any) -> None:
        self.result._set_part(self.start, self.count, done, value)

    def describe(self) -> str:
        return _describe_items(self.func, self.start, self.count)


class _Piece(Task):
    """The items of an `imap` from `start` on."""

    __slots__ = ("count", "index", "iterator", "start")

    def __init__(
        self, iterator: IMapIterator[Any], func: Callable[..., Any], index: int, start: int, count: int
    ) -> None:
        super().__init__(func)
        self.iterator, self.index, self.start, self.count = iterator, index, start, count

    def settle(self, done: bool, value: Any) -> None:
        self.iterator._arrive(self.index, _Arrival(self.count, done, value))

    def describe(self) -> str:
        return _describe_items(self.func, self.start, self.count)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value >= 1


def _describe_items(func: object, start: int, count: int) -> str:
    items = f"item {start}" if count == 1 else f"items {start} to {start + count - 1}"
    return f"{name_of(func)} ({items})"


def _chunks(iterable: Iterable[Any], size: int) -> Iterator[tuple[Any, ...]]:
    if size < 1:
        raise ValueError(f"Chunksize must be 1+, not {size}")
    return cut(iterable, size)


def _progress(total: int | None, func: object) -> "Progress":
    from ._progress import Progress

    return Progress(total, name_of(func))
