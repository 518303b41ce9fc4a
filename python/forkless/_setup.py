"""What a worker is set up with before its first task, and how it finds out who it is.

The owner of the workers checks everything when it makes a `Setup`, which travels to each worker. The
functions of the user are a pickle inside of it, loaded last: to load them is to import modules, some of which
read the environment and count the CPUs at that moment, never again. They must find what the worker was given.

The worker's share of the CPUs is passed on in an environment variable, `FORKLESS_CPU_COUNT`, and not in one
of this module, because it holds for all that descends from a worker: for its pools, and also for the
processes and programs that it starts, which may have pools of their own.
"""

import os
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from . import _cpus, _pickling

if TYPE_CHECKING:
    from ._forkless import Shared

    Variables = Mapping[str, str | None]
    Cpus = Collection[int] | Sequence[Collection[int]] | Literal["spread"]
    Threads = int | Literal["auto"]

# What the functions of a setup are called in messages about their pickling.
_HOOKS = ("initializer", "initargs", "exit", "worker_state")


class Worker(NamedTuple):
    """A worker, as the code that runs in it sees it; what `current_worker` returns.

    Attributes:
        index: which of the workers this is, from 0. A worker that replaces another one takes its index over.
        name: the name of the process.
        state: what `worker_state` has made in this worker; None if its pool or executor has no such thing.
    """

    index: int  # type: ignore[assignment]  # there is also a method of tuples, which nobody will miss
    name: str
    state: Any


class Setup(NamedTuple):
    """What every worker of one owner is set up with. Made by `of`, entered and left in each worker.

    Attributes:
        budget: how many CPUs a worker may use at the same time.
        threads: how many threads libraries may use in a worker: a number, "auto" for as many as it has CPUs,
            None for what they choose.
        variables: of the environment, for the workers in turn; None removes one.
        cpus: that may be run on, for the workers in turn; empty: wherever the owner may.
        hooks: the pickled functions of the user, empty if there are none.
        handles: the shared objects that the pickle refers to; the owner keeps them alive by keeping this.
    """

    budget: int
    threads: "Threads | None"
    variables: "tuple[Variables, ...]"
    cpus: tuple[tuple[int, ...], ...]
    hooks: bytes
    handles: "tuple[Shared, ...]"

    @classmethod
    def of(
        cls,
        *,
        size: int,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        exit: Callable[..., object] | None = None,
        worker_state: bool | Callable[[], object] = False,
        env: "Variables | Callable[[int], Variables] | None" = None,
        cpus: "Cpus | None" = None,
        threads: "Threads | None" = None,
    ) -> "Setup":
        """Checks what workers are to be set up with. See `Pool`, whose keywords these are.

        Args:
            size: how many workers there are at most.
            initializer: called in every worker, last.
            initargs: its arguments.
            exit: called in every worker that ends in peace.
            worker_state: makes the worker's state; True for an empty namespace, False for none.
            env: variables of the environment; or a function that is called now, once for each index.
            cpus: what all workers, or the workers in turn, are bound to; "spread" for one CPU each.
            threads: how many threads libraries may use.

        Raises:
            TypeError, ValueError: an argument is none of these.
            PicklingError: a function or an argument cannot be sent.
        """
        _check_hooks(initializer, exit, worker_state)
        hooks, handles = b"", list[Any]()
        if initializer is not None or exit is not None or worker_state:
            parts = (initializer, tuple(initargs), exit, worker_state)
            hooks, handles = _pickling.dumps(parts, names=_HOOKS)
        return cls(
            max(1, _cpus.cpu_count() // size),
            _checked_threads(threads),
            _checked_variables(env, size),
            _checked_cpus(cpus),
            hooks,
            tuple(handles),
        )

    def enter(self, index: int, name: str) -> None:
        """In the worker, before anything else: sets it up.

        Args:
            index: which of the workers this is, from 0.
            name: of the process.

        Raises:
            BaseException: what the functions of the user raise; `step` then says which of them.
        """
        global step, _worker
        _worker = Worker(index, name, None)
        step = "the setting of variables and CPUs"
        self._adopt(
            self.variables[index % len(self.variables)] if self.variables else {},
            self.cpus[index % len(self.cpus)] if self.cpus else (),
        )
        if self.hooks:
            step = "the loading of the initializer"
            _run(_worker, *_pickling.loads(self.hooks))

    def leave(self) -> None:
        """In the worker, after its last task: calls the exit function, if the setup had been completed.

        What that raises is reported on standard error, and changes nothing.
        """
        global _exit
        if _exit is None:
            return
        (exit, arguments), _exit = _exit, None
        try:
            exit(*arguments)
        except BaseException as error:
            from . import process

            process.report(error)

    def _adopt(self, variables: "Variables", cpus: tuple[int, ...]) -> None:
        for name, value in variables.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if cpus:
            _bind(cpus)
        budget = min(self.budget, len(cpus)) if cpus else self.budget
        if _cpus.VARIABLE not in variables:
            os.environ[_cpus.VARIABLE] = str(budget)
        if self.threads is not None:
            from . import _inner_threads

            _inner_threads.limit(self.threads, budget, variables)

    def __reduce__(self) -> tuple[Any, ...]:
        # The handles stay with the owner, who outlives its workers.
        return Setup, (*self[:-1], ())


# In a worker: what its setup does, or did last, for messages about what went wrong there.
step = ""
_worker: Worker | None = None
_exit: tuple[Callable[..., object], tuple[Any, ...]] | None = None


def current_worker() -> Worker:
    """The worker that this code runs in, with its state.

    For functions that run as tasks, wherever they need it: their signatures stay as they are.
    `multiprocessing` has no such thing, and leaves it to global variables that an initializer sets.

    Raises:
        RuntimeError: this process is no worker of a pool or an executor.

    Example:
        >>> def query(text):
        ...     return current_worker().state.execute(text).fetchone()
        >>> with Pool(2, worker_state=lambda: sqlite3.connect("data.db")) as pool:
        ...     pool.map(query, ["select 1", "select 2"])
        [(1,), (2,)]
    """
    if _worker is None:
        from . import process

        raise RuntimeError(
            f"{process.current_process().name} (pid {os.getpid()}) is no worker of a pool or an executor: "
            "call current_worker() in a function that runs there"
        )
    return _worker


# In a worker.


def _run(
    worker: Worker,
    initializer: Callable[..., object] | None,
    initargs: tuple[Any, ...],
    exit: Callable[..., object] | None,
    worker_state: bool | Callable[[], object],
) -> None:
    global step, _worker, _exit
    arguments: tuple[Any, ...] = ()
    if worker_state:
        step = "worker_state"
        state = SimpleNamespace() if worker_state is True else worker_state()
        _worker, arguments = worker._replace(state=state), (state,)
    if initializer is not None:
        step = "the initializer"
        try:
            initializer(*initargs)
        except BaseException:
            _log_failure()
            raise
    if exit is not None:
        _exit = exit, arguments


def _log_failure() -> None:
    """Says what `ProcessPoolExecutor` says of an initializer, if somebody listens to its logger."""
    logging = sys.modules.get("logging")
    if logging is not None and (logger := logging.getLogger("concurrent.futures")).handlers:
        logger.critical("Exception in initializer:", exc_info=True)


def _bind(cpus: tuple[int, ...]) -> None:
    try:
        os.sched_setaffinity(0, cpus)
    except OSError as error:
        text = f"the CPUs of this worker, {_listed(cpus)}, are not available any more: {error.strerror}"
        raise OSError(error.errno, text) from None


# In the owner of the workers.


def _check_hooks(initializer: object, exit: object, worker_state: object) -> None:
    for name, hook in (("initializer", initializer), ("exit", exit)):
        if hook is not None and not callable(hook):
            raise TypeError(f"{name} must be a callable, not {hook!r}")
    if not (isinstance(worker_state, bool) or callable(worker_state)):
        raise TypeError(
            "worker_state must be a callable that makes the state of a worker, True for an empty namespace, "
            f"or False for none, not {worker_state!r}"
        )


def _checked_threads(threads: Any) -> Any:
    if threads is None or threads == "auto":
        return threads
    if isinstance(threads, bool) or not isinstance(threads, int):
        raise TypeError(f"threads must be an int, 'auto' or None, not {threads!r}")
    if threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    return threads


def _checked_variables(env: Any, size: int) -> "tuple[Variables, ...]":
    if env is None:
        return ()
    if not callable(env):
        return (_checked_mapping(env, "env"),)
    return tuple(_checked_mapping(env(index), f"env({index})") for index in range(size))


def _checked_mapping(mapping: Any, what: str) -> "Variables":
    if not isinstance(mapping, Mapping):
        raise TypeError(f"{what} must be a mapping of names to strings, or None, not {mapping!r}")
    for name, value in mapping.items():
        if not isinstance(name, str) or not isinstance(value, str | None):
            raise TypeError(f"{what} must map names to strings, or to None, not {name!r}: {value!r}")
        if not name or "=" in name or b"\0" in os.fsencode(name + (value or "")):
            raise ValueError(f"{what}: the system takes no variable {name!r} with the value {value!r}")
    return dict(mapping)


def _checked_cpus(cpus: Any) -> tuple[tuple[int, ...], ...]:
    if cpus is None:
        return ()
    allowed = os.sched_getaffinity(0)
    if isinstance(cpus, str):
        if cpus != "spread":
            raise ValueError(f"cpus must be numbers of CPUs, 'spread' or None, not {cpus!r}")
        return tuple((cpu,) for cpu in sorted(allowed))
    sets = _checked_sets(cpus)
    forbidden = sorted(set().union(*sets) - allowed)
    if forbidden:
        raise ValueError(f"cpus: this process may use {_listed(allowed)}, and not {_listed(forbidden)}")
    return sets


def _checked_sets(cpus: Any) -> tuple[tuple[int, ...], ...]:
    try:
        items = list(cpus)
        sets = [items] if all(isinstance(item, int) for item in items) else [list(item) for item in items]
    except TypeError:
        sets = [[None]]
    if not all(isinstance(cpu, int) for cpus in sets for cpu in cpus):
        raise TypeError(
            "cpus must be numbers of CPUs, for all workers, or a sequence of collections of such numbers, "
            f"for the workers in turn, not {cpus!r}"
        )
    if not all(sets):
        raise ValueError(f"cpus must leave every worker a CPU, not {cpus!r}")
    return tuple(map(tuple, sets))


def _listed(cpus: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(cpus)))
