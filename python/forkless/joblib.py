"""forkless as a backend of joblib, and so of scikit-learn and whatever else runs `joblib.Parallel`.

`register` makes the backend known; `parallel_config("forkless")` selects it. A batch of joblib is a task of
an `Executor` that is kept for the next call with the same options, as joblib keeps its own workers. Calls
within tasks run in threads, at most as many as the worker's share of the CPUs.

Example:
    >>> import joblib, forkless.joblib
    >>> forkless.joblib.register()
    >>> with joblib.parallel_config("forkless"):
    ...     joblib.Parallel(n_jobs=2)(joblib.delayed(abs)(n) for n in (-1, 2, -3))
    [1, 2, 3]
"""

import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import joblib
from joblib._parallel_backends import FallbackToBackend, SequentialBackend, ThreadingBackend
from joblib.parallel import AutoBatchingMixin, BatchedCalls, ParallelBackendBase

from . import _forks, _stdlib
from ._cpus import cpu_count
from ._joblib_round import Round
from ._recipes import set_attributes
from ._scheduler import name_of
from .exceptions import RemoteTraceback
from .executor import Executor, Future

if TYPE_CHECKING:
    from .executor import Calls

__all__ = ["ForklessBackend", "register", "shutdown"]

# After how many seconds without work a worker ends, as with joblib's own backend.
_IDLE_TIMEOUT = 300.0
# What joblib passes to every backend: for its own way of sending arrays, and what has been decided already.
_OF_JOBLIB = frozenset({"context", "max_nbytes", "mmap_mode", "prefer", "require", "temp_folder", "verbose"})


def register(name: str = "forkless", *, default: bool = False) -> None:
    """Makes the backend known to joblib.

    Args:
        name: what `parallel_config` and `Parallel(backend=...)` are to call it.
        default: also use it where no backend is named, in the whole program.

    Example:
        >>> register(default=True)
        >>> joblib.Parallel(n_jobs=2)(joblib.delayed(pow)(n, 2) for n in range(3))
        [0, 1, 4]
    """
    _names.add(name)
    joblib.register_parallel_backend(name, ForklessBackend, make_default=default)


def take_over() -> None:
    """For `forkless.install`: makes this the default backend, unless the program has chosen another one."""
    global _default_before
    if joblib.parallel.DEFAULT_BACKEND == joblib.parallel.DEFAULT_PROCESS_BACKEND:
        _default_before = joblib.parallel.DEFAULT_BACKEND
        register(default=True)


def give_back() -> None:
    """For `forkless.uninstall`: undoes `take_over`."""
    global _default_before
    if _default_before is not None and joblib.parallel.DEFAULT_BACKEND in _names:
        joblib.parallel.DEFAULT_BACKEND = _default_before
    _default_before = None


def shutdown(wait: bool = True) -> None:
    """Ends the workers that are kept for the next call. A call that runs goes on; the next one starts others.

    Args:
        wait: wait until they have ended.
    """
    kept = list(_kept.values())
    _kept.clear()
    for executor in kept:
        executor.shutdown(wait)


class ForklessBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]  # joblib has no types
    """What `joblib.Parallel` runs on; made by joblib, by the name that was registered.

    What a task raises is raised by `Parallel`, with the traceback that it had in the worker as its cause. A
    worker that was killed is a `WorkerDied`, for the batch that it had. After either, and after a timeout or
    Ctrl-C, what is left of that call is cancelled; the workers are kept.

    Arrays are sent by shared memory and are the receiver's own, writable. One of `max_nbytes` or more that
    many batches of a call have is there once, unless it changes in between; what a task writes to it is the
    task's own, page by page. A `numpy.memmap` is sent as the place in its file, so that tasks can write to
    that. joblib's `mmap_mode` and `temp_folder` have no meaning here.

    Args:
        nesting_level: how many calls of `Parallel` this one is within.
        inner_max_num_threads: how many threads BLAS, OpenMP and the like may use in a worker; its share of
            the CPUs if None.
        options: `retries`, as of `Executor.options`, and what `Executor` takes: `initializer`, `initargs`,
            `env`, `cpus`, `max_tasks_per_child`, `idle_timeout` (300 s unless given) and so on. They may be
            given to `parallel_config` and to `Parallel`.

    Example:
        >>> with joblib.parallel_config("forkless", n_jobs=2, retries=1):
        ...     joblib.Parallel()(joblib.delayed(abs)(n) for n in (-1, 2))
        [1, 2]
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True
    uses_threads: ClassVar[bool] = False
    supports_sharedmem: ClassVar[bool] = False

    def __init__(
        self, nesting_level: int | None = None, inner_max_num_threads: int | None = None, **options: Any
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads, **options)
        self._workers: Executor | None = None  # The name that joblib's own backends have for it.
        self._calls: Calls | None = None
        self._least: int | None = None
        self._round = Round(None)
        # What calls within tasks are told: their nesting level, and how many jobs they may have.
        self._nested = 1, 1
        # Those for the last batch: its first function, how many calls it was.
        self._named: tuple[Any, int, Calls | None] = None, 0, None

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many workers there will be: -1 means all CPUs that may be used, -2 all but one.

        In a task there are no more than the worker's share of the CPUs.

        Raises:
            ValueError: 0 workers.
        """
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        count = n_jobs if n_jobs > 0 else max(cpu_count() + 1 + n_jobs, 1)
        return min(count, _Inner.share) if self.nesting_level else count

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        prefer: str | None = None,
        require: str | None = None,
        **options: Any,
    ) -> int:
        """Prepares for a call, or for all in a `with Parallel(...)` block; the number of workers."""
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self.parallel = parallel
        options = {**self.backend_kwargs, **options}
        self._least = options.get("max_nbytes")
        options = {name: value for name, value in options.items() if name not in _OF_JOBLIB}
        retries = options.pop("retries", None)
        options.setdefault("idle_timeout", _IDLE_TIMEOUT)
        options.setdefault("threads", self.inner_max_num_threads or "auto")
        self._nested = (self.nesting_level or 0) + 1, max(cpu_count() // n_jobs, 1)
        self._workers = _executor_of(n_jobs, options)
        self._calls = self._workers.options(retries=retries)
        self._named = None, 0, None
        return n_jobs

    def submit(self, func: Any, callback: Callable[[Any], object] | None = None) -> "Future[Any]":
        """Schedules a batch."""
        batch = _Batch(func.items, self._nested, tuple(_names))
        calls = self._calls_named(func.items[0][0], len(func))
        with self._round.repeated.in_use():
            future = calls.submit(batch)
        self._round.add(future, callback)
        return future

    def _calls_named(self, func: Any, count: int) -> "Calls":
        """For a batch of so many calls. Most are like the one before, and asking is cheaper than making."""
        last, last_count, calls = self._named
        if calls is None or last is not func or last_count != count:
            assert self._calls is not None
            name = name_of(func) if count == 1 else f"{name_of(func)} (the first of a batch of {count})"
            calls = self._calls.options(name=name)
            self._named = func, count, calls
        return calls

    def retrieve_result_callback(self, out: "Future[Any]") -> Any:
        """What a batch returned; raises what it raised."""
        error = out.exception()
        if error is not None:
            raise _with_text(error)
        return out.result()

    def get_nested_backend(self) -> tuple[Any, int | None]:
        """What calls of `Parallel` within tasks run on: threads, and no more of them than there are CPUs."""
        return _inner_backend(*self._nested), None

    def start_call(self) -> None:
        """A call begins."""
        self._round = Round(self._least)
        # joblib leaves batches of a call that failed to the next one in the same `with Parallel(...)` block.
        leftovers = getattr(self.parallel, "_ready_batches", None)
        while leftovers is not None and not leftovers.empty():
            leftovers.get_nowait()

    def stop_call(self) -> None:
        """A call is over."""
        self._round.repeated.clear()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancels what is left of the call, also what runs; the workers stay."""
        self._round.abort()
        if ensure_ready:
            self.configure(self.parallel.n_jobs, self.parallel, **self.parallel._backend_kwargs)

    def terminate(self) -> None:
        """A call is over. The workers are kept for the next one."""
        self._workers = self._calls = None
        self._named = None, 0, None
        self.reset_batch_stats()


class _Inner(ThreadingBackend):  # type: ignore[misc]  # joblib has no types
    """Threads in a worker.

    Attributes:
        share: how many jobs may run at once in a worker of this process's pool.
    """

    share: ClassVar[int] = 1

    def __init__(self, nesting_level: int, share: int) -> None:
        super().__init__(nesting_level=nesting_level)
        self._share = share

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        count: int = super().effective_n_jobs(n_jobs)
        return min(count, self._share)


def _inner_backend(nesting_level: int, share: int) -> Any:
    if nesting_level > 1:
        return SequentialBackend(nesting_level=nesting_level)
    return _Inner(nesting_level, share)


class _Batch:
    """A batch on its way to a worker, where the backend is to be known by the same names.

    joblib's own object is made there: what it refers to takes longer to pickle than a few calls.

    Args:
        items: the calls, as joblib has them.
        nested: what `_inner_backend` takes.
        names: those of the backend.
    """

    def __init__(self, items: list[Any], nested: tuple[int, int], names: tuple[str, ...]) -> None:
        self._terms = items, nested, names

    def __reduce__(self) -> tuple[Any, ...]:
        return _Batch, self._terms

    def __call__(self) -> Any:
        items, nested, names = self._terms
        if not _names.issuperset(names):
            for name in names:
                register(name)
        _, _Inner.share = nested
        return BatchedCalls(items, (_inner_backend(*nested), None))()


def _with_text(error: BaseException) -> BaseException:
    """The same exception, with its traceback as text: joblib drops the real one."""
    lines = traceback.format_tb(error.__traceback__)
    if not lines:
        return error
    cause, where = error.__cause__, ""
    if isinstance(cause, RemoteTraceback):
        where, cause = f"raised in {cause.worker} (pid {cause.pid})\n", None
    text = RemoteTraceback("".join([where, "Traceback (most recent call last):\n", *lines]))
    # What it had been raised from stays in the chain.
    set_attributes(text, __cause__=cause, __context__=error.__context__)
    set_attributes(text, __suppress_context__=error.__suppress_context__)
    set_attributes(error, __cause__=text)
    return error


# What `take_over` has replaced.
_default_before: str | None = None
# The names that were registered, and the executor that is kept, by what it was made with.
_names: set[str] = set()
_kept: dict[Any, Executor] = {}
_forks.in_copy(_kept.clear)


def _executor_of(n_jobs: int, options: dict[str, Any]) -> Executor:
    """The executor that is kept, or a new one, which is kept in its place."""
    key = n_jobs, frozenset((name, _hashable(value)) for name, value in options.items())
    executor = _kept.get(key)
    if executor is not None and executor._scheduler.state == "RUN" and executor._scheduler.complaint is None:
        return executor
    executor = Executor(n_jobs, **options)
    # The one before ends when the calls that use it are over.
    _kept.clear()
    _kept[key] = executor
    return executor


def _hashable(value: Any) -> Any:
    """What tells a value of an option from others; what cannot be compared is only itself."""
    try:
        if isinstance(value, dict):
            return frozenset(value.items())
        value = tuple(value) if isinstance(value, list) else value
        hash(value)
    except TypeError:
        return id(value)
    return value


if _stdlib.aside:
    take_over()
