"""Whether somebody has used the standard `multiprocessing` in this process, as far as that leaves traces.

Its objects and those of forkless do not work together: a lock of its own is unknown to children of forkless.
"""

import sys
from collections.abc import Callable
from typing import Any

from . import _stdlib


def check() -> None:
    """Raises RuntimeError if `multiprocessing` was used; the message says how, and what to do."""
    traces = [found for look in (_child, *_TRACES) if (found := look())]
    if traces:
        raise RuntimeError(
            f"forkless.install() comes too late, because multiprocessing was used before: {'; '.join(traces)}"
            ". Call it first thing in the program, before other imports, or run the program by "
            "`python -m forkless script.py`"
        )


def _attribute(module: str, *path: str) -> Any:
    """What is in a module of the standard library; None if nobody has loaded that."""
    value: Any = _stdlib.loaded(module)
    for name in path:
        value = getattr(value, name, None)
    return value


def _child() -> str | None:
    parent = _attribute("process", "_parent_process")
    return parent and f"this process is a child of it, started by {parent.name} (pid {parent.pid})"


def _processes() -> str | None:
    running = sorted(child.name for child in _attribute("process", "_children") or ())
    if running:
        return f"it runs {', '.join(running)}"
    # A process that was made takes a number; to ask for the next one would take that.
    return "processes were made" if repr(_attribute("process", "_process_counter")) not in _UNUSED else None


_UNUSED = "count(1)", "None"


def _start_method() -> str | None:
    context = _attribute("context", "_default_context", "_actual_context")
    return context and f"its start method has been fixed ({context._name!r})"


def _forkserver() -> str | None:
    pid = _attribute("forkserver", "_forkserver", "_forkserver_pid")
    return pid and f"its fork server runs (pid {pid})"


def _tracker() -> str | None:
    pid = _attribute("resource_tracker", "_resource_tracker", "_pid")
    return pid and f"its resource tracker runs (pid {pid}), as it does for locks, queues and shared memory"


def _locks() -> str | None:
    # The names of semaphores are drawn from there, and it is made ready for the first one.
    names = _attribute("synchronize", "SemLock", "_rand")
    return "locks or queues were made" if hasattr(names, "_rng") else None


def _shared_memory() -> str | None:
    return "values or arrays were made" if _attribute("heap", "BufferWrapper", "_heap", "_arenas") else None


def _executors() -> str | None:
    executors = getattr(sys.modules.get("concurrent.futures.process"), "_threads_wakeups", None)
    return "a ProcessPoolExecutor runs" if executors else None


_TRACES: tuple[Callable[[], str | None], ...] = (
    _processes,
    _start_method,
    _forkserver,
    _tracker,
    _locks,
    _shared_memory,
    _executors,
)
