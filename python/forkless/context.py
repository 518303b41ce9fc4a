"""Contexts: a way to start processes, and everything that can be made with it.

There are two ways, with the same semantics: `forkserver` (the default; a template forks the child, which
takes microseconds) and `spawn` (a fresh interpreter). Objects belong to no context: any of them works in any
child.
"""

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, overload

from . import process
from ._programs import set_executable, set_forkserver_preload
from .process import (
    active_children,
    current_process,
    parent_process,
    set_terminate_grace,
)

if TYPE_CHECKING:
    from ._forkless import Barrier, BoundedSemaphore, Condition, Event, Lock, RLock, Semaphore
    from .exceptions import OwnerDied
    from .executor import Executor
    from .pool import Pool
    from .queues import Queue

    _Lock = Lock | RLock  # within the class these are methods

__all__ = [
    "Context",
    "active_children",
    "cpu_count",
    "current_process",
    "freeze_support",
    "get_all_start_methods",
    "get_context",
    "get_start_method",
    "parent_process",
    "set_executable",
    "set_forkserver_preload",
    "set_start_method",
]

_NO_FORK = (
    "forkless never forks your process: a fork copies every lock as it is at that moment, also those held by "
    "threads that do not exist in the child, which then waits for ever. Use {call}({replacement!r}) instead: "
    "it starts as fast, and needs no __main__ guard"
)


class Context:
    """One start method, and the interface of `forkless` under it.

    Attributes:
        Process: the class of processes that start this way.
    """

    def __init__(self, method: str, kind: type[process.Process]) -> None:
        self._method = method
        self.Process = kind

    def Pool(  # noqa: N802
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
    ) -> "Pool":
        """A `forkless.Pool` whose workers start this way."""
        from .pool import Pool

        return Pool(processes, initializer, initargs, maxtasksperchild, context=self)

    def Executor(  # noqa: N802
        self,
        max_workers: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        *,
        max_tasks_per_child: int | None = None,
    ) -> "Executor":
        """A `forkless.Executor` whose workers start this way."""
        from .executor import Executor

        return Executor(max_workers, self, initializer, initargs, max_tasks_per_child=max_tasks_per_child)

    def Queue(self, maxsize: int = 0) -> "Queue[Any]":  # noqa: N802
        """A `forkless.Queue`; it belongs to no context."""
        from .queues import Queue

        return Queue(maxsize)

    def Lock(  # noqa: N802
        self, *, recover: "Callable[[OwnerDied], object] | None" = None
    ) -> "Lock":
        """A `forkless.Lock`; it belongs to no context."""
        from ._forkless import Lock

        return Lock(recover=recover)

    def RLock(  # noqa: N802
        self, *, recover: "Callable[[OwnerDied], object] | None" = None
    ) -> "RLock":
        """A `forkless.RLock`; it belongs to no context."""
        from ._forkless import RLock

        return RLock(recover=recover)

    def Semaphore(self, value: int = 1) -> "Semaphore":  # noqa: N802
        """A `forkless.Semaphore`; it belongs to no context."""
        from ._forkless import Semaphore

        return Semaphore(value)

    def BoundedSemaphore(self, value: int = 1) -> "BoundedSemaphore":  # noqa: N802
        """A `forkless.BoundedSemaphore`; it belongs to no context."""
        from ._forkless import BoundedSemaphore

        return BoundedSemaphore(value)

    def Condition(self, lock: "_Lock | None" = None) -> "Condition":  # noqa: N802
        """A `forkless.Condition`; it belongs to no context."""
        from ._forkless import Condition

        return Condition(lock)

    def Barrier(  # noqa: N802
        self, parties: int, action: Callable[[], object] | None = None, timeout: float | None = None
    ) -> "Barrier":
        """A `forkless.Barrier`; it belongs to no context."""
        from ._forkless import Barrier

        return Barrier(parties, action, timeout)

    def RawValue(self, typecode_or_type: str | type[Any], *args: Any) -> Any:  # noqa: N802
        """See `forkless.RawValue`."""
        from .sharedctypes import RawValue

        return RawValue(typecode_or_type, *args)

    def RawArray(  # noqa: N802
        self, typecode_or_type: str | type[Any], size_or_initializer: int | Iterable[Any]
    ) -> Any:
        """See `forkless.RawArray`."""
        from .sharedctypes import RawArray

        return RawArray(typecode_or_type, size_or_initializer)

    def Value(self, typecode_or_type: str | type[Any], *args: Any, lock: Any = True) -> Any:  # noqa: N802
        """See `forkless.Value`."""
        from .sharedctypes import Value

        return Value(typecode_or_type, *args, lock=lock)

    def Array(  # noqa: N802
        self, typecode_or_type: str | type[Any], size_or_initializer: int | Iterable[Any], *, lock: Any = True
    ) -> Any:
        """See `forkless.Array`."""
        from .sharedctypes import Array

        return Array(typecode_or_type, size_or_initializer, lock=lock)

    def Event(self) -> "Event":  # noqa: N802
        """A `forkless.Event`; it belongs to no context."""
        from ._forkless import Event

        return Event()

    def get_context(self, method: str | None = None) -> "Context":
        """This context, or another one by name."""
        return self if method is None else get_context(method)

    def get_start_method(self, allow_none: bool = False) -> str:
        """The name of this context's start method."""
        return self._method

    def set_start_method(self, method: str | None, force: bool = False) -> None:
        """Raises ValueError: the start method of a context does not change."""
        raise ValueError("cannot set start method of concrete context")

    def get_all_start_methods(self) -> list[str]:
        """The names of all start methods, the default first."""
        return get_all_start_methods()

    def cpu_count(self) -> int:
        """See `forkless.cpu_count`."""
        return cpu_count()

    def freeze_support(self) -> None:
        """See `forkless.freeze_support`."""

    def current_process(self) -> process.Process:
        """See `forkless.current_process`."""
        return current_process()

    def parent_process(self) -> process.Process | None:
        """See `forkless.parent_process`."""
        return parent_process()

    def active_children(self) -> list[process.Process]:
        """See `forkless.active_children`."""
        return active_children()

    def set_executable(self, path: str | bytes | os.PathLike[str]) -> None:
        """See `forkless.set_executable`."""
        set_executable(path)

    def set_forkserver_preload(self, module_names: Iterable[str]) -> None:
        """See `forkless.set_forkserver_preload`."""
        set_forkserver_preload(module_names)

    def set_terminate_grace(self, seconds: float | None) -> None:
        """See `forkless.set_terminate_grace`."""
        set_terminate_grace(seconds)

    def __reduce__(self) -> tuple[Any, ...]:
        return get_context, (self._method,)

    def __repr__(self) -> str:
        return f"<forkless context {self._method!r}>"


_contexts = {
    "forkserver": Context("forkserver", process.ForkserverProcess),
    "spawn": Context("spawn", process.SpawnProcess),
}


def get_context(method: str | None = None) -> Context:
    """A context by the name of its start method.

    Args:
        method: "forkserver", "spawn", or None for the current default.

    Raises:
        ValueError: there is no such method; "fork" is refused, and the message says why.
    """
    if method is None:
        return _contexts[get_start_method()]
    _check(method, "get_context")
    return _contexts[method]


def set_start_method(method: str | None, force: bool = False) -> None:
    """Chooses the default start method of this process and of the children it starts from now on.

    Unlike in `multiprocessing` it may be called at any time and any number of times; `force` changes nothing.

    Args:
        method: "forkserver", "spawn", or None to go back to the built-in default.
        force: accepted for compatibility.

    Raises:
        ValueError: there is no such method; "fork" is refused, and the message says why.
    """
    if method is not None:
        _check(method, "set_start_method")
    process.default_method = method


@overload
def get_start_method(allow_none: Literal[False] = False) -> str: ...
@overload
def get_start_method(allow_none: bool) -> str | None: ...
def get_start_method(allow_none: bool = False) -> str | None:
    """The default start method.

    Args:
        allow_none: return None, rather than the built-in default, if nobody has chosen one.
    """
    return process.default_method or (None if allow_none else "forkserver")


def get_all_start_methods() -> list[str]:
    """The names of all start methods, the default first."""
    return list(_contexts)


def freeze_support() -> None:
    """Does nothing: no program of ours runs `__main__` in a child, frozen or not."""


def cpu_count() -> int:
    """How many CPUs this process may use at the same time; never less than 1.

    The least of what the affinity mask and the CPU quota of every enclosing control group (version 2) allow,
    the quota rounded up. `multiprocessing.cpu_count` returns what the machine has. The environment variable
    `FORKLESS_CPU_COUNT` overrides it.

    Raises:
        ValueError: `FORKLESS_CPU_COUNT` is not a positive integer.
    """
    text = os.environ.get("FORKLESS_CPU_COUNT")
    if text:
        if not text.isdecimal() or int(text) < 1:
            raise ValueError(f"FORKLESS_CPU_COUNT must be a positive integer, not {text!r}")
        return int(text)
    return max(1, min([len(os.sched_getaffinity(0)), *_quotas()]))


def _quotas(root: str = "/sys/fs/cgroup", table: str = "/proc/self/cgroup") -> list[int]:
    """The CPU quotas, in whole CPUs, of this process's control group and of those around it."""
    quotas = []
    for directory in _groups(root, table):
        try:
            with open(f"{directory}/cpu.max", encoding="ascii") as file:
                quota, period = file.read().split()
        except (OSError, ValueError):
            continue  # The root has no such file, and a group may lack the controller.
        if quota != "max":
            quotas.append(-(-int(quota) // int(period)))
    return quotas


def _groups(root: str, table: str) -> list[str]:
    try:
        with open(table, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except OSError:
        return []
    path = next((line[3:] for line in lines if line.startswith("0::")), "/")
    # In a container the path may name a group outside of what is mounted ("/../..").
    parts = [part for part in path.split("/") if part not in ("", "..")]
    return ["/".join([root, *parts[:depth]]) for depth in range(len(parts), -1, -1)]


def _check(method: str, call: str) -> None:
    if method == "fork":
        raise ValueError(_NO_FORK.format(call=call, replacement="forkserver"))
    if method not in _contexts:
        raise ValueError(f"cannot find context for {method!r}; there are 'forkserver' and 'spawn'")
