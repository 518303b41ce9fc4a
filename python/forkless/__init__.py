"""Process parallelism that cannot bite: the interface of `multiprocessing`, on a core in Rust.

Importing this package brings in names only. What stands behind a name is loaded when the name is first used,
and neither a thread, nor a descriptor, nor a process exists before the first object that needs one.

Example:
    >>> import forkless as mp
    >>> with mp.Pool(2) as pool:
    ...     pool.map(abs, [-1, 2, -3])
    [1, 2, 3]
"""

# Not from `typing`, which would be most of the cost of importing this package; type checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import aio as aio
    from . import connection as connection
    from . import context as context
    from . import doctor as doctor
    from . import dummy as dummy
    from . import exceptions as exceptions
    from . import executor as executor
    from . import forkserver as forkserver
    from . import heap as heap
    from . import joblib as joblib
    from . import managers as managers
    from . import pool as pool
    from . import popen_fork as popen_fork
    from . import popen_forkserver as popen_forkserver
    from . import popen_spawn_posix as popen_spawn_posix
    from . import process as process
    from . import queues as queues
    from . import reduction as reducer
    from . import reduction as reduction
    from . import resource_sharer as resource_sharer
    from . import resource_tracker as resource_tracker
    from . import shared_memory as shared_memory
    from . import sharedctypes as sharedctypes
    from . import spawn as spawn
    from . import synchronize as synchronize
    from . import util as util
    from ._arrays import empty, empty_like, full, full_like, seal, zeros, zeros_like
    from ._cpus import cpu_count
    from ._files import share_file
    from ._forkless import (
        Barrier,
        BoundedSemaphore,
        Condition,
        Event,
        Lock,
        RLock,
        Semaphore,
        SharedBuffer,
        SharedDict,
        SharedList,
        inherited,
    )
    from ._installation import install, installed, uninstall
    from ._memory import memory_report, set_warm_memory, trim_memory
    from ._methods import (
        allow_connection_pickling,
        freeze_support,
        get_all_start_methods,
        get_start_method,
        set_start_method,
    )
    from ._options import Retry
    from ._preload import preload
    from ._programs import set_executable, set_forkserver_preload
    from ._setup import current_worker
    from ._share import share
    from ._watchdog import watchdog
    from .connection import Pipe
    from .context import get_context
    from .exceptions import (
        AuthenticationError,
        BrokenPool,
        BufferTooShort,
        ManagerDied,
        OwnerDied,
        ProcessError,
        QueueAbandoned,
        QueueClosed,
        RemoteError,
        SharedMemoryFull,
        ShutDown,
        StaleHandle,
        TaskInterrupted,
        TimeoutError,
        WorkerDied,
    )
    from .executor import Executor
    from .managers import Manager
    from .pool import Pool
    from .process import (
        Process,
        active_children,
        current_process,
        parent_process,
        set_terminate_grace,
    )
    from .queues import JoinableQueue, Queue, SimpleQueue
    from .sharedctypes import Array, RawArray, RawValue, Value
    from .util import SUBDEBUG as SUBDEBUG
    from .util import SUBWARNING as SUBWARNING
    from .util import get_logger, log_to_stderr

    __version__: str

__all__ = [
    "Array",
    "AuthenticationError",
    "Barrier",
    "BoundedSemaphore",
    "BrokenPool",
    "BufferTooShort",
    "Condition",
    "Event",
    "Executor",
    "JoinableQueue",
    "Lock",
    "Manager",
    "ManagerDied",
    "OwnerDied",
    "Pipe",
    "Pool",
    "Process",
    "ProcessError",
    "Queue",
    "QueueAbandoned",
    "QueueClosed",
    "RLock",
    "RawArray",
    "RawValue",
    "RemoteError",
    "Retry",
    "Semaphore",
    "SharedBuffer",
    "SharedDict",
    "SharedList",
    "SharedMemoryFull",
    "ShutDown",
    "SimpleQueue",
    "StaleHandle",
    "TaskInterrupted",
    "TimeoutError",
    "Value",
    "WorkerDied",
    "__version__",
    "active_children",
    "allow_connection_pickling",
    "cpu_count",
    "current_process",
    "current_worker",
    "empty",
    "empty_like",
    "freeze_support",
    "full",
    "full_like",
    "get_all_start_methods",
    "get_context",
    "get_logger",
    "get_start_method",
    "inherited",
    "install",
    "installed",
    "log_to_stderr",
    "memory_report",
    "parent_process",
    "preload",
    "reducer",
    "seal",
    "set_executable",
    "set_forkserver_preload",
    "set_start_method",
    "set_terminate_grace",
    "set_warm_memory",
    "share",
    "share_file",
    "trim_memory",
    "uninstall",
    "watchdog",
    "zeros",
    "zeros_like",
]

_HOMES = {
    "_arrays": ("empty", "empty_like", "full", "full_like", "seal", "zeros", "zeros_like"),
    "_files": ("share_file",),
    "_cpus": ("cpu_count",),
    "_forkless": (
        "Barrier",
        "BoundedSemaphore",
        "Condition",
        "Event",
        "Lock",
        "RLock",
        "Semaphore",
        "SharedBuffer",
        "SharedDict",
        "SharedList",
        "inherited",
    ),
    "_installation": ("install", "installed", "uninstall"),
    "_options": ("Retry",),
    "_memory": ("memory_report", "set_warm_memory", "trim_memory"),
    "_setup": ("current_worker",),
    "_preload": ("preload",),
    "_share": ("share",),
    "_watchdog": ("watchdog",),
    "_methods": (
        "allow_connection_pickling",
        "freeze_support",
        "get_all_start_methods",
        "get_start_method",
        "set_start_method",
    ),
    "_programs": ("set_executable", "set_forkserver_preload"),
    "connection": ("Pipe",),
    "context": ("get_context",),
    "exceptions": (
        "AuthenticationError",
        "BrokenPool",
        "BufferTooShort",
        "ManagerDied",
        "OwnerDied",
        "ProcessError",
        "QueueAbandoned",
        "QueueClosed",
        "RemoteError",
        "SharedMemoryFull",
        "ShutDown",
        "StaleHandle",
        "TaskInterrupted",
        "TimeoutError",
        "WorkerDied",
    ),
    "executor": ("Executor",),
    "managers": ("Manager",),
    "pool": ("Pool",),
    "process": (
        "Process",
        "active_children",
        "current_process",
        "parent_process",
        "set_terminate_grace",
    ),
    "queues": ("JoinableQueue", "Queue", "SimpleQueue"),
    "sharedctypes": ("Array", "RawArray", "RawValue", "Value"),
    "util": ("SUBDEBUG", "SUBWARNING", "get_logger", "log_to_stderr"),
}

# Modules that need no `import` of their own; not in `__all__`, as nobody wants all of asyncio by a star.
_MODULES = (
    "aio",
    "connection",
    "context",
    "doctor",
    "dummy",
    "exceptions",
    "executor",
    "forkserver",
    "heap",
    "joblib",
    "managers",
    "pool",
    "popen_fork",
    "popen_forkserver",
    "popen_spawn_posix",
    "process",
    "queues",
    "reduction",
    "resource_sharer",
    "resource_tracker",
    "shared_memory",
    "sharedctypes",
    "spawn",
    "synchronize",
    "util",
)
# Not in `__all__` either: `multiprocessing` has them without listing them.
_CONSTANTS = ("SUBDEBUG", "SUBWARNING")


if not TYPE_CHECKING:  # Or type checkers would take every name for one of this package.

    def __getattr__(name: str) -> object:
        value = globals()[name] = _load(name)
        return value


def _load(name: str) -> object:
    from importlib import import_module

    if name == "__version__":
        from importlib.metadata import version

        return version("forkless")
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name == "reducer":
        return import_module(f"{__name__}.reduction")
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    # Not what needs a library that may not be there: whoever looks through a module looks at all of it.
    return sorted({*globals(), *__all__, *_MODULES, *_CONSTANTS} - {"TYPE_CHECKING", "joblib"})


def _watch() -> None:
    import os

    if "FORKLESS_WATCHDOG" in os.environ:
        from ._watchdog import start_from_environment

        start_from_environment()


_watch()
