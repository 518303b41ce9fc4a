"""Contexts: a way to start processes, and everything that can be made with it.

There are two ways, with the same semantics: `forkserver` (the default; a template forks the child, which
takes microseconds) and `spawn` (a fresh interpreter). Objects belong to no context: any of them works in any
child.

The contexts are subclasses of the standard library's `BaseContext`, for libraries that check for it.
"""

# What they make are objects of forkless: alike, but not of the types that the base class promises.
# mypy: disable-error-code="override"

import os
import warnings
from _thread import _local
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, overload

from . import _programs, exceptions, process
from ._cpus import cpu_count
from ._methods import (
    check,
    freeze_support,
    get_all_start_methods,
    get_start_method,
    set_start_method,
)
from ._programs import set_executable, set_forkserver_preload
from ._stdlib import context as _standard
from .exceptions import AuthenticationError, BufferTooShort, ProcessError, TimeoutError
from .process import (
    ForkServerProcess,
    Process,
    SpawnProcess,
    active_children,
    current_process,
    parent_process,
    set_terminate_grace,
)

if TYPE_CHECKING:
    import ctypes
    import logging
    from typing import Literal

    from . import reduction as reduction
    from ._forkless import Barrier, BoundedSemaphore, Condition, Event, Lock, RLock, Semaphore
    from .connection import Connection
    from .exceptions import OwnerDied
    from .executor import Executor
    from .managers import SyncManager
    from .pool import Pool
    from .queues import JoinableQueue, Queue, SimpleQueue
    from .sharedctypes import _C, LockLike, Synchronized, SynchronizedArray, SynchronizedString

    _Lock = Lock | RLock  # within the class these are methods
    _Guard = Literal[True] | LockLike | None

_T = TypeVar("_T")

__all__ = [
    "AuthenticationError",
    "BaseContext",
    "BufferTooShort",
    "DefaultContext",
    "ForkContext",
    "ForkProcess",
    "ForkServerContext",
    "ForkServerProcess",
    "Process",
    "ProcessError",
    "SpawnContext",
    "SpawnProcess",
    "TimeoutError",
    "active_children",
    "assert_spawning",
    "cpu_count",
    "current_process",
    "freeze_support",
    "get_all_start_methods",
    "get_context",
    "get_spawning_popen",
    "get_start_method",
    "parent_process",
    "set_executable",
    "set_forkserver_preload",
    "set_spawning_popen",
    "set_start_method",
]


class BaseContext(_standard.BaseContext):
    """One start method, and the interface of `forkless` under it.

    Attributes:
        Process: the class of processes that start this way.
    """

    Process: type[process.Process]
    _method: ClassVar[str]

    ProcessError = exceptions.ProcessError
    BufferTooShort = exceptions.BufferTooShort
    TimeoutError = exceptions.TimeoutError
    AuthenticationError = exceptions.AuthenticationError

    current_process = staticmethod(current_process)  # type: ignore[assignment]
    parent_process = staticmethod(parent_process)  # type: ignore[assignment]
    active_children = staticmethod(active_children)  # type: ignore[assignment]

    def Manager(self) -> "SyncManager":  # noqa: N802
        """A `forkless.managers.SyncManager` whose server has been started this way."""
        from .managers import SyncManager

        manager = SyncManager(ctx=self)
        manager.start()
        return manager

    def Pool(  # noqa: N802
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        **options: Any,
    ) -> "Pool":
        """A `forkless.Pool` whose workers start this way; it has further options."""
        from .pool import Pool

        return Pool(processes, initializer, initargs, maxtasksperchild, self, **options)

    def Executor(  # noqa: N802
        self,
        max_workers: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        **options: Any,
    ) -> "Executor":
        """A `forkless.Executor` whose workers start this way; it has further options."""
        from .executor import Executor

        return Executor(max_workers, self, initializer, initargs, **options)

    def Pipe(self, duplex: bool = True) -> "tuple[Connection, Connection]":  # noqa: N802
        """See `forkless.Pipe`; the connections belong to no context."""
        from .connection import Pipe

        return Pipe(duplex)

    def Queue(self, maxsize: int = 0, *, max_bytes: int = 0) -> "Queue[Any]":  # noqa: N802
        """A `forkless.Queue`; it belongs to no context."""
        from .queues import Queue

        return Queue(maxsize, max_bytes=max_bytes)

    def JoinableQueue(self, maxsize: int = 0, *, max_bytes: int = 0) -> "JoinableQueue[Any]":  # noqa: N802
        """A `forkless.JoinableQueue`; it belongs to no context."""
        from .queues import JoinableQueue

        return JoinableQueue(maxsize, max_bytes=max_bytes)

    def SimpleQueue(self) -> "SimpleQueue[Any]":  # noqa: N802
        """A `forkless.SimpleQueue`; it belongs to no context."""
        from .queues import SimpleQueue

        return SimpleQueue()

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

    @overload
    def RawValue(self, typecode_or_type: "type[_C]", *args: Any) -> "_C": ...
    @overload
    def RawValue(self, typecode_or_type: str, *args: Any) -> Any: ...
    def RawValue(self, typecode_or_type: str | type[Any], *args: Any) -> Any:  # noqa: N802
        """See `forkless.RawValue`."""
        from .sharedctypes import RawValue

        return RawValue(typecode_or_type, *args)

    @overload
    def RawArray(
        self, typecode_or_type: "type[_C]", size_or_initializer: int | Iterable[Any]
    ) -> "ctypes.Array[_C]": ...
    @overload
    def RawArray(self, typecode_or_type: str, size_or_initializer: int | Iterable[Any]) -> Any: ...
    def RawArray(  # noqa: N802
        self, typecode_or_type: str | type[Any], size_or_initializer: int | Iterable[Any]
    ) -> Any:
        """See `forkless.RawArray`."""
        from .sharedctypes import RawArray

        return RawArray(typecode_or_type, size_or_initializer)

    @overload
    def Value(
        self,
        typecode_or_type: "type[ctypes._SimpleCData[_T]]",
        *args: Any,
        lock: "_Guard" = True,
    ) -> "Synchronized[_T]": ...
    @overload
    def Value(self, typecode_or_type: str, *args: Any, lock: "_Guard" = True) -> "Synchronized[Any]": ...
    @overload
    def Value(self, typecode_or_type: str | type[Any], *args: Any, lock: Any = True) -> Any: ...
    def Value(self, typecode_or_type: str | type[Any], *args: Any, lock: Any = True) -> Any:  # noqa: N802
        """See `forkless.Value`."""
        from .sharedctypes import Value

        return Value(typecode_or_type, *args, lock=lock)

    @overload
    def Array(
        self,
        typecode_or_type: "Literal['c'] | type[ctypes.c_char]",
        size_or_initializer: int | Iterable[Any],
        *,
        lock: "_Guard" = True,
    ) -> "SynchronizedString": ...
    @overload
    def Array(
        self,
        typecode_or_type: "type[ctypes._SimpleCData[_T]]",
        size_or_initializer: int | Iterable[Any],
        *,
        lock: "_Guard" = True,
    ) -> "SynchronizedArray[_T]": ...
    @overload
    def Array(
        self,
        typecode_or_type: str,
        size_or_initializer: int | Iterable[Any],
        *,
        lock: "_Guard" = True,
    ) -> "SynchronizedArray[Any]": ...
    @overload
    def Array(
        self, typecode_or_type: str | type[Any], size_or_initializer: int | Iterable[Any], *, lock: Any = True
    ) -> Any: ...
    def Array(  # noqa: N802
        self,
        typecode_or_type: str | type[Any],
        size_or_initializer: int | Iterable[Any],
        *,
        lock: Any = True,
    ) -> Any:
        """See `forkless.Array`."""
        from .sharedctypes import Array

        return Array(typecode_or_type, size_or_initializer, lock=lock)

    def Event(self) -> "Event":  # noqa: N802
        """A `forkless.Event`; it belongs to no context."""
        from ._forkless import Event

        return Event()

    def get_context(self, method: str | None = None) -> "BaseContext":
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

    def get_logger(self) -> "logging.Logger":
        """See `forkless.get_logger`."""
        from .util import get_logger

        return get_logger()

    def log_to_stderr(self, level: int | str | None = None) -> "logging.Logger":
        """See `forkless.log_to_stderr`."""
        from .util import log_to_stderr

        return log_to_stderr(level)

    @property
    def reducer(self) -> Any:
        """The module `forkless.reduction`. Another one can be set, and is not used: that is a warning."""
        from . import reduction

        return reduction

    @reducer.setter
    def reducer(self, reduction: object) -> None:
        warnings.warn(
            "a context of forkless has no other reducer: register how types are pickled with "
            "forkless.reduction.register",
            RuntimeWarning,
            stacklevel=2,
        )

    def cpu_count(self) -> int:
        """See `forkless.cpu_count`."""
        return cpu_count()

    def freeze_support(self) -> None:
        """See `forkless.freeze_support`."""

    def set_executable(self, executable: str | bytes | os.PathLike[str]) -> None:
        """See `forkless.set_executable`."""
        _programs.set_executable(executable)

    def set_forkserver_preload(self, module_names: Iterable[str]) -> None:
        """See `forkless.set_forkserver_preload`."""
        _programs.set_forkserver_preload(module_names)

    def allow_connection_pickling(self) -> None:
        """Does nothing: connections and sockets can always be sent."""

    def set_terminate_grace(self, seconds: float | None) -> None:
        """See `forkless.set_terminate_grace`."""
        set_terminate_grace(seconds)

    def __reduce__(self) -> tuple[Any, ...]:
        return get_context, (self._method,)

    def __repr__(self) -> str:
        return f"<forkless context {self._method!r}>"


class ForkServerContext(BaseContext):
    """Children are forked from a template."""

    Process = ForkServerProcess
    _method = "forkserver"


class SpawnContext(BaseContext):
    """Children are fresh interpreters."""

    Process = SpawnProcess
    _method = "spawn"


class ForkProcess(ForkServerProcess):
    """A process of a program that asks for "fork", which only goes under `forkless.install`.

    Raises:
        ValueError: there is no installation.
    """

    _start_method = "fork"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        check("fork", "get_context")
        super().__init__(*args, **kwargs)


class ForkContext(ForkServerContext):
    """What a program gets that asks for "fork", which only goes under `forkless.install`."""

    Process = ForkProcess
    _method = "fork"


_contexts: dict[str, BaseContext] = {
    "forkserver": ForkServerContext(),
    "spawn": SpawnContext(),
    "fork": ForkContext(),
}


def get_context(method: str | None = None) -> BaseContext:
    """A context by the name of its start method.

    Args:
        method: "forkserver", "spawn", or None for the current default.

    Raises:
        ValueError: there is no such method; "fork" is refused, and the message says why, except under
            `forkless.install`: then it is another name for "forkserver", with a warning.
    """
    if method is None:
        return _contexts[get_start_method()]
    check(method, "get_context")
    return _contexts[method]


class DefaultContext(BaseContext):
    """Whatever the start method is that `set_start_method` has chosen last."""

    Process = process.Process

    def get_context(self, method: str | None = None) -> BaseContext:
        """See `forkless.get_context`."""
        return get_context(method)

    def get_start_method(self, allow_none: bool = False) -> Any:
        """See `forkless.get_start_method`."""
        return get_start_method(allow_none)

    def set_start_method(self, method: str | None, force: bool = False) -> None:
        """See `forkless.set_start_method`."""
        set_start_method(method, force)

    def __reduce__(self) -> tuple[Any, ...]:
        return DefaultContext, ()

    def __repr__(self) -> str:
        return "<forkless context, the default>"


# --- what picklers of others ask -------------------------------------------------------------------------


def assert_spawning(obj: object) -> None:
    """Does nothing: what forkless has can be pickled at any time, not only for a process that starts.

    Classes of others call it where they are pickled, to refuse any other way.
    """


def get_spawning_popen() -> Any:
    """What was set with `set_spawning_popen`; while a process is pickled, something true; or else None."""
    popen = getattr(_spawning, "popen", None)
    if popen is None and process.is_packing():
        from .popen_forkserver import Popen

        return Popen.spawning
    return popen


def set_spawning_popen(popen: Any) -> None:
    """Says, for this thread, that a process is being started by something that is none of forkless."""
    _spawning.popen = popen


_spawning = _local()


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name != "reduction":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from . import reduction

        return reduction
