"""The interface of processes, with threads behind it: the counterpart of `multiprocessing.dummy`.

For work that waits rather than computes, and to debug a program in one process. Locks and queues are those of
the standard library for threads. What differs from there: the exit code of a thread whose target has raised
is 1, or what SystemExit says, not 0; any thread may start one, and ask for its children; see also
`forkless.pool.ThreadPool`.

Example:
    >>> from forkless.dummy import Pool
    >>> with Pool(2) as pool:
    ...     pool.map(abs, [-1, 2, -3])
    [1, 2, 3]
"""

import builtins
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from queue import Queue
from threading import Barrier, BoundedSemaphore, Condition, Event, Lock, RLock, Semaphore
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .._methods import freeze_support
from .._stdlib import dummy as _standard
from ..process import _exit_code_of
from .connection import Pipe

if TYPE_CHECKING:
    from ..pool import ThreadPool

__all__ = [
    "Array",
    "Barrier",
    "BoundedSemaphore",
    "Condition",
    "DummyProcess",
    "Event",
    "JoinableQueue",
    "Lock",
    "Manager",
    "Namespace",
    "Pipe",
    "Pool",
    "Process",
    "Queue",
    "RLock",
    "Semaphore",
    "Value",
    "active_children",
    "current_process",
    "freeze_support",
]

Array, Namespace, Value = _standard.Array, _standard.Namespace, _standard.Value
JoinableQueue = Queue
current_process = threading.current_thread
# Those that a manager makes.
dict, list = builtins.dict, builtins.list

# The threads that each thread has started.
_children: "weakref.WeakKeyDictionary[threading.Thread, weakref.WeakSet[DummyProcess]]"
_children = weakref.WeakKeyDictionary()


class DummyProcess(threading.Thread):
    """A thread with the interface of `forkless.Process`.

    Args:
        group: always None.
        target: what `run` calls, or None.
        name: a name for people.
        args: positional arguments of the target.
        kwargs: keyword arguments of the target.
        daemon: whether the program may end without waiting for it; that of the current thread if None.

    Example:
        >>> process = Process(target=print, args=("hello",))
        >>> process.start()
        hello
        >>> process.join()
        >>> process.exitcode
        0
    """

    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] = {},
        *,
        daemon: bool | None = None,
    ) -> None:
        super().__init__(group, target, name, args, kwargs, daemon=daemon)
        self._code: int | None = None

    def start(self) -> None:
        """Starts the thread."""
        _children.setdefault(threading.current_thread(), weakref.WeakSet()).add(self)
        self.run = self._run_and_note  # type: ignore[method-assign]
        super().start()

    def _run_and_note(self) -> None:
        del self.run
        code = 1
        try:
            self.run()
            code = 0
        except SystemExit as end:
            code = _exit_code_of(end)
        finally:
            self._code = code

    @property
    def exitcode(self) -> int | None:
        """0 if the target has returned, 1 if it raised, or what SystemExit said; None while it runs."""
        return None if self.is_alive() else self._code

    @property
    def pid(self) -> int | None:
        """The number of the thread, None before the start."""
        return self.ident


Process = DummyProcess


def active_children() -> Any:
    """The threads that this one has started here and that have not ended."""
    return [child for child in _children.get(threading.current_thread(), ()) if child.is_alive()]


def Manager() -> ModuleType:  # noqa: N802
    """This module: it has all that a manager makes."""
    return sys.modules[__name__]


def shutdown() -> None:
    """Does nothing; for a manager."""


def Pool(  # noqa: N802
    processes: int | None = None,
    initializer: Callable[..., object] | None = None,
    initargs: Iterable[Any] = (),
) -> "ThreadPool":
    """A `forkless.pool.ThreadPool`."""
    from ..pool import ThreadPool

    return ThreadPool(processes, initializer, initargs)
