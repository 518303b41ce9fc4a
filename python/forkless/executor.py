"""`concurrent.futures` over processes: `ProcessPoolExecutor`, but a worker's death leaves the rest alone."""

import functools
import itertools
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor as _BaseExecutor
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from . import _exit, _pickling
from ._attributes import ExecutorAttributes
from ._futures import Future
from ._options import Options
from ._scheduler import Scheduler, cut
from ._staff import Hiring, as_count
from ._worker import run_star_chunk

if TYPE_CHECKING:
    from inspect import Signature
    from types import TracebackType

    from typing_extensions import Buffer, Unpack

    from ._forkless import SharedBuffer, SharedDict, SharedList
    from ._insights import Insights, PoolStatistics
    from ._options import Keywords
    from ._setup import Cpus, Threads, Variables
    from ._share import _Data, _Key, _Plain
    from ._staff import Output
    from ._stream import Stream
    from .context import BaseContext

__all__ = ["Calls", "Executor", "Future"]

P = ParamSpec("P")
R = TypeVar("R")


class _Signature:
    """The signature of a class whose `__new__` only chooses: that of `__init__`, which is asked last."""

    def __get__(self, instance: object, owner: type) -> "Signature":
        if instance is not None:
            raise AttributeError("__signature__")
        import inspect

        signature = inspect.signature(owner.__init__)  # type: ignore[misc]  # whichever the class has
        return signature.replace(parameters=list(signature.parameters.values())[1:])


class Executor(ExecutorAttributes, _BaseExecutor):
    """A real `concurrent.futures.Executor`; the counterpart of `ProcessPoolExecutor`.

    Differs from it: a worker's death fails only the future that ran there, with `WorkerDied`; functions of
    `__main__`, lambdas and closures are welcome; `submit` may be called from `__del__` and signal handlers.
    Workers start as tasks come, up to `max_workers`. Tasks may submit to their own executor and wait, however
    deep: it can be sent to any process of the tree, and whoever waits in a task is replaced meanwhile.

    With an address in place of a number of workers, the same calls run on a cluster: "ray",
    "ray://HOST:PORT", "dask" or "dask://HOST:PORT". Of the other arguments only `connect_timeout` is for
    clusters then: how long connecting may take, in seconds; None for 60, or for 15 with a Dask scheduler.

    Args:
        max_workers: how many workers at most; what `cpu_count` says if None.
        mp_context: how workers start, a context of forkless; the default context if None.
        initializer: called first in every worker. If it raises, the executor is broken.
        initargs: its arguments.
        max_tasks_per_child: how many tasks a worker runs before it is replaced by a fresh one; None for no
            limit.
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
        ConnectionError: no cluster answers at the address.
        ModuleNotFoundError: the package of the cluster is not installed.
        NotImplementedError: the cluster has nothing like an argument or option.

    Example:
        >>> with Executor(2) as executor:
        ...     executor.submit(pow, 2, 10).result()
        1024
    """

    # What futures and published functions are made by, for `Calls` too.
    _future: type[Future[Any]] = Future
    _publish = staticmethod(_pickling.publish)

    __signature__ = _Signature()

    def __new__(cls, max_workers: "int | str | None" = None, *arguments: Any, **options: Any) -> "Executor":
        """An executor of processes, or for an address of a cluster one of that; see `_backends`."""
        if cls is Executor and isinstance(max_workers, str):
            from ._backends import ClusterExecutor

            return super().__new__(ClusterExecutor)
        return super().__new__(cls)

    @overload
    def __init__(self, max_workers: str, *, connect_timeout: float | None = None) -> None: ...

    @overload
    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: "BaseContext | None" = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        *,
        max_tasks_per_child: int | None = None,
        exit: Callable[..., object] | None = None,
        worker_state: bool | Callable[[], object] = False,
        env: "Variables | Callable[[int], Variables] | None" = None,
        cpus: "Cpus | None" = None,
        threads: "Threads | None" = None,
        max_memory_per_child: int | None = None,
        idle_timeout: float | None = None,
        output: "Output" = "forward",
    ) -> None: ...

    def __init__(
        self,
        max_workers: Any = None,
        mp_context: "BaseContext | None" = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        *,
        max_tasks_per_child: int | None = None,
        exit: Callable[..., object] | None = None,
        worker_state: bool | Callable[[], object] = False,
        env: "Variables | Callable[[int], Variables] | None" = None,
        cpus: "Cpus | None" = None,
        threads: "Threads | None" = None,
        max_memory_per_child: int | None = None,
        idle_timeout: float | None = None,
        output: "Output" = "forward",
        connect_timeout: float | None = None,
    ) -> None:
        from ._cpus import cpu_count
        from ._methods import kind_of_process

        if connect_timeout is not None:
            raise TypeError('connect_timeout is for clusters, as in Executor("ray://host:10001")')
        self._max_workers = cpu_count() if max_workers is None else as_count(max_workers, "max_workers")
        if self._max_workers < 1:
            raise ValueError("max_workers must be greater than 0")
        if max_tasks_per_child is not None:
            if not isinstance(max_tasks_per_child, int):
                raise TypeError("max_tasks_per_child must be an integer")
            if max_tasks_per_child < 1:
                raise ValueError("max_tasks_per_child must be >= 1")
        self._context = mp_context
        hiring = Hiring.of(
            kind_of_process(mp_context, "mp_context"),
            self._max_workers,
            "ExecutorWorker",
            False,
            max_tasks_per_child,
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
        self._scheduler = Scheduler(
            hiring,
            closed_error=RuntimeError("cannot schedule new futures after shutdown"),
            waits_at_exit=True,
        )
        # Who drops the executor still gets the results of what was submitted.
        weakref.finalize(self, self._scheduler.close).atexit = False

    def options(self, **options: "Unpack[Keywords]") -> "Calls":
        """The same calls with other options, for the tasks submitted through what is returned.

        Args:
            options: how the tasks are to be treated:
                `timeout`, how long one may run, in seconds from when a worker begins; after that it is broken
                off, and its worker killed if it does not end.
                `retries`, how often it is run again if it fails: a number, or a `Retry`.
                `priority`, an int: tasks with a higher one are sent to workers first.
                `name`, what messages call it.
                `resources`, what it needs, by name; for clusters only.

        Raises:
            ValueError: an option is out of range.
            TypeError: an option of a wrong type, or one that there is not.
            NotImplementedError: the cluster has no such option.

        Example:
            >>> with Executor(1) as executor:
            ...     executor.options(timeout=60, retries=2).submit(pow, 2, 10).result()
            1024
        """
        return Calls(self, self._scheduler, Options.of(None, **options))

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> "Future[R]":
        """Schedules `fn(*args, **kwargs)`, pickled as it is now.

        Returns:
            The future. To cancel it frees its worker, also when it runs. What cannot be pickled is an
            exception of the future, as in the standard library.

        Raises:
            RuntimeError: the executor was shut down.
            BrokenPool: its workers cannot run.
        """
        future: Future[R] = self._future()
        self._scheduler.submit(future, (fn, args, kwargs))
        return future

    def map(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[R]:
        """The results of `fn` for the items of the iterables, in order; see `Calls.map`.

        Each task goes by `submit`, also by one that a subclass has, or that somebody has set.
        """
        own = getattr(self.submit, "__func__", None) is Executor.submit
        calls = self._calls() if own else _CallsBySubmit(self, self._scheduler, None)
        return calls.map(fn, *iterables, timeout=timeout, chunksize=chunksize, buffersize=buffersize)

    def _calls(self) -> "Calls":
        """The calls without options."""
        return Calls(self, self._scheduler, None)

    def stream(self, fn: Callable[P, Iterable[R]], /, *args: P.args, **kwargs: P.kwargs) -> "Stream[R]":
        """What a generator function yields, as it does; see `Calls.stream`."""
        return Calls(self, self._scheduler, None).stream(fn, *args, **kwargs)

    # With the types of `forkless.share`.
    @overload
    def share(self, obj: "_Data") -> "_Data": ...
    @overload
    def share(self, obj: "list[_Data] | tuple[_Data, ...]") -> "tuple[_Data, ...]": ...
    @overload
    def share(self, obj: "dict[_Key, _Data]") -> "Mapping[_Key, _Data]": ...
    @overload
    def share(  # type: ignore[overload-overlap]
        self, obj: "list[_Plain] | tuple[_Plain, ...] | SharedList[_Plain]"
    ) -> "SharedList[_Plain]": ...
    @overload
    def share(  # type: ignore[overload-overlap]
        self, obj: "list[Any] | tuple[Any, ...] | SharedList[Any]"
    ) -> "SharedList[Any]": ...
    @overload
    def share(self, obj: "dict[_Key, Any] | SharedDict[_Key, Any]") -> "SharedDict[_Key, Any]": ...
    @overload
    def share(self, obj: "Buffer") -> "SharedBuffer": ...

    def share(self, obj: Any) -> Any:
        """The same as `forkless.share`, and on a cluster what is shared is sent there now.

        Args:
            obj: see `forkless.share`.

        Example:
            >>> with Executor(1) as executor:
            ...     shared = executor.share(numpy.arange(1e6))
            ...     int(executor.submit(numpy.argmax, shared).result())
            999999
        """
        from ._share import share

        return share(obj)

    def statistics(self) -> "PoolStatistics":
        """What has become of the tasks, and what the workers have done: a frozen snapshot."""
        return self._scheduler.statistics()

    def insights(self) -> "Insights":
        """The same, to be printed."""
        from ._insights import Insights

        return Insights(self._scheduler.statistics())

    def terminate_workers(self) -> None:
        """Ends the workers with SIGTERM, and SIGKILL if need be. What is not done fails with `BrokenPool`."""
        self._scheduler.terminate()

    def kill_workers(self) -> None:
        """Ends the workers with SIGKILL. What is not done fails with `BrokenPool`."""
        self._scheduler.terminate()
        self._scheduler.staff.kill_all()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accepts no more tasks; the workers end when all are done.

        Args:
            wait: wait until then.
            cancel_futures: cancel what is not on its way to a worker.
        """
        self._scheduler.close()
        if cancel_futures:
            self._scheduler.cancel_pending()
        if wait:
            self._scheduler.join()

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        _pickling.handlers[cls] = _reduce

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(
            "executors cannot be pickled by others than forkless: as arguments, in queues and in functions "
            "that it sends, they can"
        )

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: "TracebackType | None"
    ) -> None:
        # After Ctrl-C nobody wants to wait for the tasks. Their workers leave Ctrl-C to this process.
        if isinstance(value, KeyboardInterrupt):
            self._scheduler.terminate()
        self.shutdown()

    def __repr__(self) -> str:
        return f"<forkless.Executor state={self._scheduler.state} max_workers={self._max_workers}>"


def _reduce(pickler: "_pickling.Pickler", executor: Executor) -> tuple[Any, ...]:
    """In another process it is a client of this one."""
    from ._nested import reduce

    return reduce(pickler, executor)


_pickling.handlers[Executor] = _reduce


class Calls:
    """The calls of an executor with options; what `Executor.options` returns.

    Example:
        >>> with Executor(1) as executor:
        ...     urgent = executor.options(priority=1, timeout=60)
        ...     urgent.submit(pow, 2, 10).result(), list(urgent.map(abs, [-1, 2]))
        (1024, [1, 2])
    """

    def __init__(self, executor: Executor, scheduler: Scheduler, options: Options | None) -> None:
        self._executor = executor  # Keeps it alive.
        self._scheduler, self._options = scheduler, options

    def __reduce__(self) -> tuple[Any, ...]:
        return _calls_of, (self._executor, self._options)

    def options(self, **options: "Unpack[Keywords]") -> "Calls":
        """As `Executor.options`; what is not given stays as it is here."""
        return Calls(self._executor, self._scheduler, Options.of(self._options, **options))

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> "Future[R]":
        """As `Executor.submit`."""
        future: Future[R] = self._executor._future()
        self._scheduler.submit(future, (fn, args, kwargs), self._options)
        return future

    def map(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[R]:
        """The results of `fn` for the items of the iterables, in order.

        Args:
            fn: takes one item of each iterable.
            iterables: read at once, all of them, unless there is a `buffersize`.
            timeout: how long to wait for results, in seconds from now; None waits for ever.
            chunksize: how many calls make a task.
            buffersize: how many tasks are submitted ahead of the results that were taken; None for all.

        Raises:
            TimeoutError: a result is not there in time.
            Exception: what `fn` raised.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        self._scheduler.check()
        # As short as the shortest of them, like `map`.
        calls: Iterator[tuple[Any, ...]] = zip(*iterables)  # noqa: B905
        if chunksize == 1:
            return _results(self._submit_each(fn, calls), buffersize, timeout)
        return _flat(_results(self._submit_chunks(fn, cut(calls, chunksize)), buffersize, timeout))

    def _submit_each(self, fn: Callable[..., R], calls: Iterable[tuple[Any, ...]]) -> "Iterator[Future[R]]":
        return (self.submit(fn, *call) for call in calls)

    def _submit_chunks(
        self, fn: Callable[..., R], chunks: Iterable[tuple[Any, ...]]
    ) -> "Iterator[Future[list[R]]]":
        function = self._executor._publish(fn)
        for chunk in chunks:
            future: Future[list[R]] = self._executor._future()
            self._scheduler.submit_chunk(future, function, chunk, True, self._options)
            yield future

    def stream(self, fn: Callable[P, Iterable[R]], /, *args: P.args, **kwargs: P.kwargs) -> "Stream[R]":
        """What a generator function yields in a worker, as it does.

        The worker waits when it is 16 items ahead. Whoever leaves the loop early ends the generator, by
        closing or dropping the stream.

        Args:
            fn: a generator function, or one that returns an iterable.
            args: its positional arguments.
            kwargs: its keyword arguments.

        Raises:
            ValueError: there are to be retries; what was yielded would come twice.

        Example:
            >>> with Executor(1) as executor:
            ...     list(executor.stream(range, 3))
            [0, 1, 2]
        """
        from ._stream import AHEAD, Stream

        return Stream(self._executor, self._scheduler, fn, args, kwargs, AHEAD, self._options)


def _calls_of(executor: Executor, options: Options | None) -> Calls:
    return Calls(executor, executor._scheduler, options)


class _CallsBySubmit(Calls):
    """Those of an executor whose `submit` is not ours: tqdm sets one that moves its bar."""

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> "Future[R]":
        return self._executor.submit(fn, *args, **kwargs)

    def _submit_chunks(
        self, fn: Callable[..., R], chunks: Iterable[tuple[Any, ...]]
    ) -> "Iterator[Future[list[R]]]":
        for chunk in chunks:
            yield self._executor.submit(functools.partial(run_star_chunk, fn), chunk)


def _results(submitted: "Iterator[Future[R]]", ahead: int | None, timeout: float | None) -> Iterator[R]:
    """The results of futures, of which `ahead` are made before the first is asked for."""
    deadline = None if timeout is None else time.monotonic() + timeout
    futures = deque(itertools.islice(submitted, ahead))
    # What comes first is done now, as `map` is called; what follows as the results are taken.
    return _take(futures, submitted, deadline)


def _take(
    futures: "deque[Future[R]]", submitted: "Iterator[Future[R]]", deadline: float | None
) -> Iterator[R]:
    result: list[R] = []
    try:
        while futures:
            left = None if deadline is None else deadline - time.monotonic()
            result.append(futures[0].result(left))
            futures.popleft()
            futures.extend(itertools.islice(submitted, 1))
            # Not kept here while the caller works with it.
            yield result.pop()
    finally:
        for future in futures:
            future.give_up()


def _flat(chunks: Iterator[list[R]]) -> Iterator[R]:
    """The items of lists, which are taken apart so that nothing is kept that was taken."""
    for chunk in chunks:
        chunk.reverse()
        while chunk:
            yield chunk.pop()


# Where `multiprocessing` registers its handler: those that programs register from now on run before it.
_exit.register()
