"""Executors whose workers are those of a cluster: `forkless.Executor("ray://host:10001")` and its like.

How it works: `ClusterExecutor` has the calls of `Executor`, over a `ClusterScheduler` in place of the one
that starts processes. That one pickles tasks (`pickles`), holds them back or hands them over, and settles
futures. All that differs between clusters is in their *engine* (`ray`, `dask`; `engine` says what one has to
provide). Memory that was shared becomes an object of the engine, once (`blocks`), and an array that is shared
for the engine only may be read where that has it (`kept`). Nothing here is loaded, and no engine imported,
before an executor with an address is made.
"""

import contextlib
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from .._pickling import PicklingError
from ..executor import Calls, Executor
from .engine import Address, Engine, missing, parse
from .future import ClusterFuture
from .options import options_for
from .scheduler import ClusterScheduler
from .task import Published

if TYPE_CHECKING:
    from .._futures import Future
    from .._stream import Stream

__all__ = ["ClusterExecutor"]

P = ParamSpec("P")
R = TypeVar("R")

# How long connecting to a Dask scheduler may take, in seconds; and to Ray, which starts a server for each
# connection, or to a cluster that has to be started.
_CONNECT, _START = 15.0, 60.0


class ClusterExecutor(Executor):
    """What `Executor` makes for an address.

    Args:
        address: see `engine.parse`.
        connect_timeout: how long connecting may take, in seconds; None for 60, or 15 for a Dask scheduler.
        options: none of those that `Executor` has for processes.
    """

    _future = ClusterFuture
    _publish = Published  # type: ignore[assignment]  # in the place of the core's `Function`

    def __init__(self, address: str, *, connect_timeout: float | None = None, **options: Any) -> None:
        where = parse(address)
        for name in options:
            raise _unsupported(where, name)
        timeout = _timeout(where, connect_timeout)
        try:
            engine = _engine_of(where)
        except ImportError as error:
            raise missing(where.engine, error) from error
        self._context = None
        self._scheduler: Any = ClusterScheduler(where, engine, timeout)
        weakref.finalize(self, self._scheduler.close).atexit = False

    @property
    def _max_workers(self) -> int:  # type: ignore[override]  # clusters grow and shrink
        """How many tasks run at the same time at most, as of now."""
        size: int = self._scheduler.size
        return size

    def options(self, **options: Any) -> Calls:
        """The same calls with other options, for the tasks submitted through what is returned.

        Args:
            options: those of `Executor.options` as far as the cluster has them, and `resources`: what each
                task needs, by name: "CPU", "GPU" and "memory" (bytes) of Ray, and what nodes say they have.

        Raises:
            NotImplementedError: the cluster has no such option; the message says what to do instead.
        """
        return ClusterCalls(self, self._scheduler, options_for(self._scheduler.engine, None, **options))

    def share(self, obj: Any) -> Any:
        """As `forkless.share`, and sends it to the cluster now rather than with the first task that uses it.

        An array goes straight into the memory of a Ray that the executor has connected to by itself, and is
        read there: there is no other copy. That connection then ends with the program if the array is still
        alive when the executor ends. Elsewhere there is a copy in the shared memory of this machine.

        Args:
            obj: see `forkless.share`.

        Raises:
            BrokenPool: the cluster cannot be used any more.
            RuntimeError: the executor was shut down.
        """
        return self._scheduler.share(obj)

    def stream(self, fn: Callable[P, Iterable[R]], /, *args: P.args, **kwargs: P.kwargs) -> "Stream[R]":
        """Not for clusters.

        Raises:
            NotImplementedError: always.
        """
        raise _no_stream(self._scheduler)

    def _calls(self) -> Calls:
        return ClusterCalls(self, self._scheduler, None)

    def terminate_workers(self) -> None:
        """Not for clusters, whose workers are not this program's.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            f"the workers of {self._scheduler.address} belong to the cluster, and may run tasks of others: "
            "shutdown(cancel_futures=True), or cancel the futures"
        )

    kill_workers = terminate_workers

    def __repr__(self) -> str:
        scheduler = self._scheduler
        return f"<forkless.Executor {scheduler.address} state={scheduler.state} max_workers={scheduler.size}>"


class ClusterCalls(Calls):
    """The calls of a `ClusterExecutor` with options."""

    _options: Any

    def options(self, **options: Any) -> Calls:
        """As `ClusterExecutor.options`; what is not given stays as it is here."""
        engine: Engine = self._scheduler.engine  # type: ignore[attr-defined]  # it is a `ClusterScheduler`
        return ClusterCalls(self._executor, self._scheduler, options_for(engine, self._options, **options))

    def _submit_each(self, fn: Callable[..., R], calls: Iterable[tuple[Any, ...]]) -> "Iterator[Future[R]]":
        """As `submit` for each, with one pickle of the function for all of them."""
        function: Published | None = None
        for call in calls:
            future: ClusterFuture[R] = ClusterFuture()
            with contextlib.suppress(PicklingError):  # It is the outcome of each task.
                function = function or Published(fn)
            self._scheduler.submit(future, (fn, call, {}), self._options, function)  # type: ignore[call-arg]
            yield future

    def stream(self, fn: Callable[P, Iterable[R]], /, *args: P.args, **kwargs: P.kwargs) -> "Stream[R]":
        """As `ClusterExecutor.stream`."""
        raise _no_stream(self._scheduler)


def _engine_of(address: Address) -> Engine:
    if address.engine == "ray":
        from .ray import Ray

        return Ray(address)
    from .dask import Dask

    return Dask(address)


def _timeout(address: Address, given: Any) -> float:
    if given is None:
        return _CONNECT if address.host and address.engine == "dask" else _START
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        raise TypeError(f"connect_timeout must be a number of seconds, not {given!r}")
    if not 0 < given < float("inf"):
        raise ValueError(f"connect_timeout must be more than 0 seconds, and finite, not {given!r}")
    return float(given)


_INSTEAD: Mapping[str, str] = {
    "mp_context": "its nodes start workers in their own way",
    "initializer": "let the function prepare what it needs (functools.cache keeps it), or use {setup}",
    "initargs": "see initializer",
    "max_tasks_per_child": "the cluster decides when workers are replaced",
    "exit": "the cluster's workers outlive this program",
    "worker_state": "keep state in a module on the nodes (functools.cache), or use {setup}",
    "env": "use {env}",
    "cpus": 'ask for resources: executor.options(resources={{"CPU": 2}})',
    "threads": "set OMP_NUM_THREADS where nodes are started, or use {env}",
    "max_memory_per_child": "{memory}",
    "idle_timeout": "the cluster decides how long workers live",
    "output": "{output}",
}
_MEANS: Mapping[str, Mapping[str, str]] = {
    "ray": {
        "setup": 'ray.init(runtime_env={"worker_process_setup_hook": ...}) before Executor("ray")',
        "env": 'ray.init(runtime_env={"env_vars": ...}) before Executor("ray")',
        "memory": 'ask for it: executor.options(resources={"memory": 10**9})',
        "output": "Ray prints what its workers print, see log_to_driver of ray.init",
    },
    "dask": {
        "setup": 'Client.register_plugin() before Executor("dask")',
        "env": 'the Environ plugin of a nanny (distributed.diagnostics.plugin) before Executor("dask")',
        "memory": "start the workers with --memory-limit",
        "output": "what is printed is in the logs of the workers; distributed.print() prints here",
    },
}


def _unsupported(address: Address, name: str) -> Exception:
    advice = _INSTEAD.get(name)
    if advice is None:
        return TypeError(
            f"Executor({str(address)!r}) got an unexpected keyword argument {name!r}; for clusters there is "
            "connect_timeout"
        )
    return NotImplementedError(
        f"{name!r} is for processes of this machine, and Executor({str(address)!r}) has its workers from a "
        f"cluster: {advice.format_map(_MEANS[address.engine])}"
    )


def _no_stream(scheduler: Any) -> NotImplementedError:
    return NotImplementedError(
        f"streams are for processes of this machine, and {scheduler.address} has its workers from a cluster: "
        "return a list, or submit the parts as tasks of their own"
    )
