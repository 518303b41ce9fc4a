"""`concurrent.futures` over processes: `ProcessPoolExecutor`, but a worker's death leaves the rest alone."""

import itertools
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor as _BaseExecutor
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from . import _pickling
from ._futures import Future
from ._scheduler import Scheduler, cut
from ._staff import Hiring
from ._worker import Terms, pack_setup

if TYPE_CHECKING:
    from types import TracebackType

    from .context import BaseContext
    from .process import Process

__all__ = ["Executor"]

P = ParamSpec("P")
R = TypeVar("R")


class Executor(_BaseExecutor):
    """A real `concurrent.futures.Executor`; the counterpart of `ProcessPoolExecutor`.

    Differs from it: a worker's death fails only the future that ran there, with `WorkerDied`; functions of
    `__main__`, lambdas and closures are welcome; `submit` may be called from `__del__` and signal handlers.
    Workers start as tasks come, up to `max_workers`.

    Args:
        max_workers: how many workers at most; what `cpu_count` says if None.
        mp_context: how workers start, a context of forkless; the default context if None.
        initializer: called first in every worker. If it raises, the executor is broken.
        initargs: its arguments.
        max_tasks_per_child: how many tasks a worker runs before it is replaced by a fresh one; None for no
            limit.

    Raises:
        ValueError: fewer than one worker or task.
        TypeError: the initializer is not callable.

    Example:
        >>> with Executor(2) as executor:
        ...     executor.submit(pow, 2, 10).result()
        1024
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: "BaseContext | None" = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        *,
        max_tasks_per_child: int | None = None,
    ) -> None:
        from ._cpus import cpu_count
        from ._methods import kind_of_process

        self._max_workers = cpu_count() if max_workers is None else max_workers
        if self._max_workers < 1:
            raise ValueError("max_workers must be greater than 0")
        if max_tasks_per_child is not None and max_tasks_per_child < 1:
            raise ValueError("max_tasks_per_child must be >= 1")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        terms = Terms(pack_setup(initializer, initargs), max_tasks_per_child, None)
        kind = kind_of_process() if mp_context is None else mp_context.Process
        self._scheduler = Scheduler(
            Hiring(kind, self._max_workers, "ExecutorWorker", False, terms),
            closed_error=RuntimeError("cannot schedule new futures after shutdown"),
            waits_at_exit=True,
        )
        # Who drops the executor still gets the results of what was submitted.
        weakref.finalize(self, self._scheduler.close).atexit = False

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> "Future[R]":
        """Schedules `fn(*args, **kwargs)`, pickled as it is now.

        Returns:
            The future. It can be cancelled until the call is on its way to a worker. What cannot be pickled
            is an exception of the future, as in the standard library.

        Raises:
            RuntimeError: the executor was shut down.
            BrokenPool: its workers cannot run.
        """
        future: Future[R] = Future()
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
        calls: Iterator[tuple[Any, ...]] = zip(*iterables)  # noqa: B905 - as short as the shortest, like `map`
        if chunksize == 1:
            return _results((self.submit(fn, *call) for call in calls), buffersize, timeout)
        chunks = _results(self._submit_chunks(fn, cut(calls, chunksize)), buffersize, timeout)
        return itertools.chain.from_iterable(chunks)

    def _submit_chunks(
        self, fn: Callable[..., R], chunks: Iterable[tuple[Any, ...]]
    ) -> "Iterator[Future[list[R]]]":
        function = _pickling.publish(fn)
        for chunk in chunks:
            future: Future[list[R]] = Future()
            self._scheduler.submit_chunk(future, function, chunk, True, None)
            yield future

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

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: "TracebackType | None"
    ) -> None:
        # After Ctrl-C nobody wants to wait for the tasks. Their workers leave Ctrl-C to this process.
        if isinstance(value, KeyboardInterrupt):
            self._scheduler.terminate()
        self.shutdown()

    def __repr__(self) -> str:
        return f"<forkless.Executor state={self._scheduler.state} max_workers={self._max_workers}>"

    @property
    def _processes(self) -> "dict[int | None, Process]":
        """The workers there are now; named as in the standard library, where many look for it."""
        return {worker.pid: worker for worker in self._scheduler.workers}


def _results(submitted: "Iterator[Future[R]]", ahead: int | None, timeout: float | None) -> Iterator[R]:
    """The results of futures, of which `ahead` are made before the first is asked for."""
    deadline = None if timeout is None else time.monotonic() + timeout
    futures = deque(itertools.islice(submitted, ahead))
    # What comes first is done now, as `map` is called; what follows as the results are taken.
    return _take(futures, submitted, deadline)


def _take(
    futures: "deque[Future[R]]", submitted: "Iterator[Future[R]]", deadline: float | None
) -> Iterator[R]:
    try:
        while futures:
            result = futures.popleft().result(None if deadline is None else deadline - time.monotonic())
            futures.extend(itertools.islice(submitted, 1))
            yield result
    finally:
        for future in futures:
            future.give_up()
