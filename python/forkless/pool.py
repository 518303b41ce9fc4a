"""Pools of workers: `multiprocessing.Pool`, without its hangs."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import TYPE_CHECKING, Any, TypeVar

from . import _exit, _internals, _pickling, process
from ._attributes import PoolAttributes
from ._imap import IMapIterator, IMapUnorderedIterator
from ._options import Options
from ._results import AsyncResult, MapResult, Part
from ._scheduler import Scheduler, cut, name_of
from ._staff import Hiring, as_count

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self, Unpack

    from ._insights import Insights, PoolStatistics
    from ._options import Keywords
    from ._progress import How, Progress
    from ._setup import Cpus, Threads, Variables
    from ._staff import Output
    from ._stream import Stream
    from ._threads import ThreadPool as ThreadPool
    from .context import BaseContext

__all__ = [
    "ApplyResult",
    "AsyncResult",
    "IMapIterator",
    "IMapUnorderedIterator",
    "MapResult",
    "Pool",
    "ThreadPool",
]

ApplyResult = AsyncResult

# The states of a pool.
INIT, RUN, CLOSE, TERMINATE = "INIT", "RUN", "CLOSE", "TERMINATE"

R = TypeVar("R")
I = TypeVar("I", bound="IMapIterator[Any]")  # noqa: E741 - as in iterator


class Pool(PoolAttributes):
    """A fixed number of worker processes that run tasks; the counterpart of `multiprocessing.Pool`.

    Differs from it: a worker's death fails only the task that ran there, with `WorkerDied`; functions of
    `__main__`, lambdas and closures are welcome; `imap` and `imap_unordered` read their input as results are
    taken, not all at once; what is not done when the pool is terminated fails with `BrokenPool`, so nobody
    waits for ever; tasks may use their own pool and wait, however deep, as it can be sent to any process of
    the tree, though only its owner can close or end it.

    Args:
        processes: how many workers; what `cpu_count` says if None.
        initializer: called first in every worker. If it raises, the pool is broken.
        initargs: its arguments.
        maxtasksperchild: how many tasks a worker runs before it is replaced by a fresh one; None for no
            limit.
        context: how workers start; the default context if None.
        exit: called in every worker that ends in peace, after its last task, with the worker's state if it
            has one. Not called in a worker that is killed or terminated. What it raises is reported on
            standard error.
        worker_state: makes the state of a worker, before the initializer is called: a connection, a model, a
            cache. Tasks find it as `current_worker().state`. True for an empty namespace.
        env: variables of the environment, None as value to remove one; or a function that returns them for
            the index of a worker, called here, for each. They are set before modules of the user are
            loaded, but not before the interpreter starts.
        cpus: which CPUs the workers may run on: numbers, or a sequence of collections of numbers, for the
            workers in turn; "spread" for one CPU each, in turn. None for those of this process.
        threads: how many threads BLAS, OpenMP and other libraries may use in a worker; "auto" for the
            worker's share of the CPUs, where the environment does not say otherwise; None for what the
            libraries choose, which is often all CPUs.
        max_memory_per_child: a worker that has more bytes than this for itself after a task, not counting
            what it shares, is replaced by a fresh one; None for no limit.
        idle_timeout: after how many seconds without work a worker ends; a new one starts when there is work
            again. None for never.
        output: what becomes of what workers print, log and warn of: "forward" has it done here, by this
            process's streams, handlers and filters, in order; "tagged" also begins each line with the
            worker's name; "inherit" leaves it to the workers.

    Raises:
        ValueError: a number that is too small, a CPU that this process may not use, a variable that cannot be
            set.
        TypeError: something to be called that is not callable, an option of a wrong type, a context that is
            not one of forkless.
        PicklingError: the initializer, its arguments, `exit` or `worker_state` cannot be sent.
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
        context: "BaseContext | None" = None,
        *,
        exit: Callable[..., object] | None = None,
        worker_state: bool | Callable[[], object] = False,
        env: "Variables | Callable[[int], Variables] | None" = None,
        cpus: "Cpus | None" = None,
        threads: "Threads | None" = None,
        max_memory_per_child: int | None = None,
        idle_timeout: float | None = None,
        output: "Output" = "forward",
    ) -> None:
        from ._cpus import cpu_count
        from ._methods import kind_of_process

        size = cpu_count() if processes is None else as_count(processes, "processes")
        if size < 1:
            raise ValueError("Number of processes must be at least 1")
        if maxtasksperchild is not None and not _is_count(maxtasksperchild):
            raise ValueError("maxtasksperchild must be a positive int or None")
        hiring = Hiring.of(
            kind_of_process(context),
            size,
            "PoolWorker",
            True,
            maxtasksperchild,
            initializer=initializer,
            initargs=initargs,
            exit=exit,
            worker_state=worker_state,
            env=env,
            cpus=cpus,
            threads=threads,
            max_memory_per_child=max_memory_per_child,
            idle_timeout=idle_timeout,
            output=output,
        )
        self._scheduler = Scheduler(hiring, closed_error=ValueError("Pool not running"), waits_at_exit=False)
        self._context = context
        self._scheduler.start_workers()

    @staticmethod
    def Process(ctx: "BaseContext", *args: Any, **kwds: Any) -> "process.Process":  # noqa: N802
        """A process of a context. Subclasses in the standard library override it; nothing here calls it."""
        return ctx.Process(*args, **kwds)

    def apply(
        self,
        func: Callable[..., R],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        **options: "Unpack[Keywords]",
    ) -> R:
        """Calls `func(*args, **kwds)` in a worker and returns its result; options are as in `apply_async`."""
        return self.apply_async(func, args, kwds, **options).get()

    def apply_async(
        self,
        func: Callable[..., R],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        callback: Callable[[R], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        **options: "Unpack[Keywords]",
    ) -> "AsyncResult[R]":
        """Like `apply`, but returns at once.

        Args:
            func: the function.
            args: its positional arguments; pickled now.
            kwds: its keyword arguments; pickled now.
            callback: called with the result, in a thread of the pool, which waits for it.
            error_callback: called with the exception instead, if there is one.
            options: how the task is to be treated:
                `timeout`, how long it may run, in seconds from when a worker begins; after that it is broken
                off, and the worker killed if it does not end.
                `retries`, how often it is run again if it fails: a number, or a `Retry`.
                `priority`, an int: tasks with a higher one are sent to workers first.
                `name`, what messages call it.

        Raises:
            ValueError: the pool does not accept tasks any more, or an option is out of range.
            TypeError: an option of a wrong type, or one that there is not.
            BrokenPool: its workers cannot run.

        Example:
            >>> with Pool(2) as pool:
            ...     result = pool.apply_async(pow, (2, 10), timeout=60, retries=2)
            ...     result.get()
            1024
        """
        result: AsyncResult[R] = AsyncResult(self, callback, error_callback)
        self._scheduler.submit(result, (func, tuple(args), dict(kwds)), Options.of(None, **options))
        return result

    def map(
        self,
        func: Callable[[Any], R],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        *,
        progress: "How" = False,
        **options: "Unpack[Keywords]",
    ) -> list[R]:
        """The results of `func` for every item, in order. Waits for all of them.

        Args:
            func: called in the workers, with one item.
            iterable: the items.
            chunksize: how many items make a task; if None, so many that each worker gets about four tasks.
            progress: True shows a progress bar, that of tqdm or rich if there is one, in terminals and
                notebooks, and elsewhere one line at the end, on standard error. "tqdm", "rich" and "plain"
                choose; a mapping has options (`desc`, `total`, `unit`, `leave`, `file`, `disable`,
                `renderer`); a function is called with `(done, total)`.
            options: as in `apply_async`; a time limit is that of a task, which is `chunksize` items.

        Raises:
            Exception: what `func` raised first, after all tasks are done.

        Example:
            >>> with Pool(2) as pool:
            ...     pool.map(str.upper, ["a", "b", "c"], chunksize=1, timeout=60)
            ['A', 'B', 'C']
        """
        return self._wait_for(self.map_async(func, iterable, chunksize, **options), func, progress)

    def map_async(
        self,
        func: Callable[[Any], R],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[list[R]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        **options: "Unpack[Keywords]",
    ) -> "MapResult[R]":
        """Like `map`, but returns at once; the callbacks are as in `apply_async`."""
        given = Options.of(None, **options)
        return self._map_async(False, func, iterable, chunksize, callback, error_callback, given)

    def starmap(
        self,
        func: Callable[..., R],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        *,
        progress: "How" = False,
        **options: "Unpack[Keywords]",
    ) -> list[R]:
        """Like `map`, but each item is the arguments of one call.

        Example:
            >>> with Pool(2) as pool:
            ...     pool.starmap(pow, [(2, 3), (3, 2)])
            [8, 9]
        """
        return self._wait_for(self.starmap_async(func, iterable, chunksize, **options), func, progress)

    def starmap_async(
        self,
        func: Callable[..., R],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[R]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        **options: "Unpack[Keywords]",
    ) -> "MapResult[R]":
        """Like `starmap`, but returns at once; the callbacks are as in `apply_async`."""
        given = Options.of(None, **options)
        return self._map_async(True, func, iterable, chunksize, callback, error_callback, given)

    def imap(
        self,
        func: Callable[[Any], R],
        iterable: Iterable[Any],
        chunksize: int = 1,
        *,
        progress: "How" = False,
        buffersize: int | None = None,
        **options: "Unpack[Keywords]",
    ) -> "IMapIterator[R]":
        """The results of `func` for every item, in order, each as soon as it is there.

        The input is read in the thread that takes the results, a few items ahead; `join` reads the rest of
        it.

        Args:
            func: called in the workers, with one item.
            iterable: the items. What it raises is raised after the results of the items before.
            chunksize: how many items make a task.
            progress: show a progress bar; as in `map`.
            buffersize: how many tasks may be submitted ahead of the results that were taken; None for as many
                as keep the workers busy: four for each worker, more (up to 1,024) if they take no time.
            options: as in `map`.

        Example:
            >>> with Pool(2) as pool:
            ...     for root in pool.imap(math.sqrt, itertools.count()):  # it is not read to its end
            ...         if root == 2:
            ...             break
            >>> root
            2.0
        """
        given = Options.of(None, **options)
        return self._imap(IMapIterator, func, iterable, chunksize, progress, buffersize, given)

    def imap_unordered(
        self,
        func: Callable[[Any], R],
        iterable: Iterable[Any],
        chunksize: int = 1,
        *,
        progress: "How" = False,
        buffersize: int | None = None,
        **options: "Unpack[Keywords]",
    ) -> "IMapUnorderedIterator[R]":
        """Like `imap`, but in the order in which the results arrive."""
        given = Options.of(None, **options)
        return self._imap(IMapUnorderedIterator, func, iterable, chunksize, progress, buffersize, given)

    def stream(
        self,
        func: Callable[..., Iterable[R]],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        *,
        buffersize: int = 16,
        **options: "Unpack[Keywords]",
    ) -> "Stream[R]":
        """What a generator function yields in a worker, as it does: an iterator.

        Whoever leaves the loop early ends the generator, by closing or dropping the iterator.

        Args:
            func: a generator function, or one that returns an iterable.
            args: its positional arguments.
            kwds: its keyword arguments.
            buffersize: how many items the worker may be ahead; then it waits.
            options: as in `apply_async`, without `retries`: items would come twice.

        Example:
            >>> def squares():
            ...     for number in itertools.count():
            ...         yield number * number
            >>> with Pool(1) as pool:
            ...     stream = pool.stream(squares)
            ...     [next(stream) for _ in range(4)]
            [0, 1, 4, 9]
        """
        from ._stream import Stream

        given = Options.of(None, **options)
        return Stream(self, self._scheduler, func, tuple(args), dict(kwds), buffersize, given)

    def statistics(self) -> "PoolStatistics":
        """What has become of the tasks, and what the workers have done: a frozen snapshot.

        A worker counts a task after it has sent the result, so the last one may be missing for a moment.
        """
        return self._scheduler.statistics()

    def insights(self) -> "Insights":
        """The same, to be printed: start-up, work and idle time of each worker, bytes, the slowest tasks.

        Example:
            >>> with Pool(1) as pool:
            ...     _ = pool.map(time.sleep, [0.01, 0.05], chunksize=1)
            ...     print(pool.insights())
            worker           tasks  start-up  working  idle  busy  received  sent
            ...
            slowest tasks:
            ...
        """
        from ._insights import Insights

        return Insights(self._scheduler.statistics())

    def resize(self, processes: int) -> None:
        """Changes how many workers there are. Those that are too many end when they have no task.

        Raises:
            ValueError: fewer than one, or over 32 more than at first.
            TypeError: no number.
        """
        self._scheduler.resize(processes)

    def close(self) -> None:
        """Accepts no more tasks. The workers end when all are done."""
        _note("closing pool")
        self._scheduler.close()

    def terminate(self) -> None:
        """Ends the workers at once. Tasks that are not done fail with `BrokenPool`."""
        _note("terminating pool")
        self._scheduler.terminate()
        # The workers get a second to end by themselves before they are killed; a callback of the user that
        # runs in the collector may take longer, and must not hold up this thread for ever.
        self._scheduler.join(timeout=5.0)

    def join(self) -> None:
        """Waits until the workers have ended; call `close` or `terminate` before.

        Raises:
            ValueError: the pool is still running.
        """
        _note("joining pool")
        if self._scheduler.state == RUN:
            raise ValueError("Pool is still running")
        for feeder in list(self._scheduler.feeders):
            feeder.feed_all()
        self._scheduler.join()

    def __enter__(self) -> "Self":
        self._scheduler.check()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: "TracebackType | None"
    ) -> None:
        self.terminate()

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        _pickling.handlers[cls] = _reduce

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        scheduler = getattr(self, "_scheduler", None)
        if scheduler is None or not scheduler.is_own or scheduler.state != RUN:
            return
        # As in the standard library, where it is less harmless.
        text = f"unclosed running multiprocessing pool {self!r}: use `with`, or call `close` and `join`"
        scheduler.terminate()
        _warn(text, ResourceWarning, source=self)

    def __reduce__(self) -> tuple[Any, ...]:
        raise NotImplementedError(
            "pool objects cannot be passed between processes or pickled by others than forkless: as "
            "arguments, in queues and in functions that it sends, they can"
        )

    def __repr__(self) -> str:
        kind = type(self)
        size = self._scheduler.size
        return f"<{kind.__module__}.{kind.__qualname__} state={self._scheduler.state} pool_size={size}>"

    def _map_async(
        self,
        star: bool,
        func: Callable[..., R],
        iterable: Iterable[Any],
        chunksize: int | None,
        callback: Callable[[list[R]], object] | None,
        error_callback: Callable[[BaseException], object] | None,
        options: Options | None = None,
    ) -> "MapResult[R]":
        self._scheduler.check()
        items: Any = iterable if hasattr(iterable, "__len__") else list(iterable)
        if chunksize is None:
            chunksize = max(1, -(-len(items) // (self._scheduler.size * 4)))
        chunks = _chunks(items, chunksize)
        result: MapResult[R] = MapResult(self, len(items), chunksize, callback, error_callback)
        if not len(items):
            result.set_result([])
            return result
        try:
            function = self._scheduler.publish(func)
        except Exception as error:
            result.set_exception(error)
            return result
        self._scheduler.adopt(result)
        if chunksize == 1 and not star:
            self._scheduler.submit_items(result.gather, function, items, options)
            return result
        for index, chunk in enumerate(chunks):
            part = Part(result.gather, index * chunksize, len(chunk))
            self._scheduler.submit_chunk(part, function, chunk, star, options)
        return result

    def _wait_for(self, result: "MapResult[R]", func: Callable[..., R], progress: "How") -> list[R]:
        if progress is not False:
            result.show(_progress(result.total, func, progress))
        try:
            return result.get()
        finally:
            del result  # as in `AsyncResult.get`

    def _imap(
        self,
        kind: type[I],
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int,
        progress: "How",
        buffersize: int | None,
        options: Options | None,
    ) -> I:
        self._scheduler.check()
        if buffersize is not None and (not _is_count(buffersize)):
            raise ValueError(f"buffersize must be None or a positive int, not {buffersize!r}")
        parts = iter(iterable) if chunksize == 1 else _chunks(iterable, chunksize)
        total = len(iterable) if isinstance(iterable, Sized) else None
        function = self._scheduler.publish(func)
        bar = None if progress is False else _progress(total, func, progress)
        return kind(self, function, parts, chunksize != 1, bar, options, buffersize)


def _reduce(pickler: "_pickling.Pickler", pool: Pool) -> tuple[Any, ...]:
    """In another process it is a client of this one."""
    from ._nested import reduce

    return reduce(pickler, pool)


_pickling.handlers[Pool] = _reduce


def _note(text: str) -> None:
    if process.journal is not None:
        process.journal.debug(text)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value >= 1


def _chunks(iterable: Iterable[Any], size: int) -> Iterator[tuple[Any, ...]]:
    if size < 1:
        raise ValueError(f"Chunksize must be 1+, not {size}")
    return cut(iterable, size)


def _progress(total: int | None, func: object, how: "How") -> "Progress":
    from . import _progress

    return _progress.open(total, name_of(func), how)


# Where `multiprocessing` registers its handler: those that programs register from now on run before it.
_exit.register()


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name == "ThreadPool":
            from ._threads import ThreadPool

            return ThreadPool
        if name in ("RemoteTraceback", "TimeoutError"):
            from . import exceptions

            return getattr(exceptions, name)
        return _internals.find(__name__, name)
