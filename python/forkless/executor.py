"""`concurrent.futures` over processes: `ProcessPoolExecutor`, but a worker's death leaves the rest alone."""

import functools
import itertools
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor as _BaseExecutor
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from ._scheduler import Scheduler, Task, cut
from ._worker import run_star_chunk

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
        self._scheduler = Scheduler(
            kind_of_process() if mp_context is None else mp_context.Process,
            self._max_workers,
            initializer,
            initargs,
            max_tasks_per_child,
            label="ExecutorWorker",
            closed_error=RuntimeError("cannot schedule new futures after shutdown"),
            eager=False,
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
        self._scheduler.check()
        self._scheduler.start_collector()
        future: Future[R] = Future()
        self._scheduler.submit(_Call(future, fn), (fn, args, kwargs))
        return future

    def map(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
    ) -> Iterator[R]:
        """The results of `fn` for the items of the iterables, in order.

        Args:
            fn: takes one item of each iterable.
            iterables: read at once, all of them.
            timeout: how long to wait for results, in seconds from now; None waits for ever.
            chunksize: how many calls make a task.

        Raises:
            TimeoutError: a result is not there in time.
            Exception: what `fn` raised.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if chunksize == 1:
            return super().map(fn, *iterables, timeout=timeout)
        chunks = cut(zip(*iterables), chunksize)  # noqa: B905 - as short as the shortest, like `map`
        results = super().map(functools.partial(run_star_chunk, fn), chunks, timeout=timeout)
        return itertools.chain.from_iterable(results)

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
        return {worker.pid: worker for worker in list(self._scheduler.workers)}


class _Call(Task):
    """A future, as the scheduler sees it."""

    __slots__ = ("future",)

    def __init__(self, future: "Future[Any]", fn: Callable[..., Any]) -> None:
        super().__init__(fn)
        self.future = future

    # The user may cancel a future, or even set its result, at any moment: then ours comes too late.

    def begin(self) -> bool:
        try:
            return self.future.set_running_or_notify_cancel()
        except (InvalidStateError, RuntimeError):
            return False

    def settle(self, done: bool, value: Any) -> None:
        with suppress(InvalidStateError):
            if done:
                self.future.set_result(value)
            else:
                self.future.set_exception(value)

    def cancel(self) -> None:
        # `begin` tells those who wait for several futures; `cancel` alone does not.
        if self.future.cancel():
            self.begin()
