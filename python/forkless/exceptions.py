"""What can go wrong. Every class here is also the one that the standard library raises in that place.

`WorkerDied` and `BrokenPool` derive from `concurrent.futures.process.BrokenProcessPool`, `ShutDown` from
the `queue` module's, and those modules are heavy: they live in `_broken` and `_shutdown` and are loaded
when first named.
"""

import builtins
import weakref
from typing import TYPE_CHECKING

from ._interrupted import TaskInterrupted
from ._stdlib import context as _standard

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._broken import BrokenPool, WorkerDied
    from ._shutdown import ShutDown

__all__ = [
    "AuthenticationError",
    "BrokenPool",
    "BufferTooShort",
    "ManagerDied",
    "OwnerDied",
    "ProcessError",
    "QueueAbandoned",
    "QueueClosed",
    "RemoteError",
    "RemoteTraceback",
    "SharedMemoryFull",
    "ShutDown",
    "StaleHandle",
    "TaskInterrupted",
    "TimeoutError",
    "WorkerDied",
]


class ProcessError(_standard.ProcessError):
    """The base of what forkless raises; by itself: the system or the template refused or lost a process."""


class OwnerDied(ProcessError):
    """The process that held a lock has died: what the lock protects may be half written.

    Raised once, to one waiter, without the lock being held. Repair or discard the data, then acquire again.
    (Only `Condition.wait` raises it while holding the lock.) Functions given as `recover=` get one as their
    argument.

    Attributes:
        pid: the process that died, None if nothing is known of it any more.
        name: its name.
        exitcode: its exit code, negative for the signal that killed it; None if that is not known (yet).
        held_since: when it took the lock, in seconds since the epoch, to a few hundredths.
        made_at: where the lock was made: "program.py:12".
    """

    def __init__(
        self,
        message: str = "",
        pid: int | None = None,
        name: str | None = None,
        exitcode: int | None = None,
        held_since: float | None = None,
        made_at: str | None = None,
    ) -> None:
        super().__init__(message)
        self.pid = pid
        self.name = name
        self.exitcode = exitcode
        self.held_since = held_since
        self.made_at = made_at


class ManagerDied(
    ProcessError,
    EOFError,
    BrokenPipeError,
    ConnectionResetError,
    ConnectionRefusedError,
    FileNotFoundError,
):
    """The server of a manager has died, was shut down, or cannot be reached: its objects are lost.

    Where `multiprocessing` raises an EOFError or one of several OSErrors, by the moment, it is all of these.

    Attributes:
        name: the name of the server's process, "" if it is not known.
        pid: its process id, None if it is not known.
        exitcode: its exit code, negative for the signal that killed it; None if it runs, or if this process
            did not start it.
    """

    def __init__(
        self, message: str = "", name: str = "", pid: int | None = None, exitcode: int | None = None
    ) -> None:
        super().__init__(message)
        self.name = name
        self.pid = pid
        self.exitcode = exitcode


class QueueClosed(ProcessError, ValueError, OSError):
    """This process has closed the queue; `multiprocessing` raises `ValueError` or `OSError`, by the kind."""


class QueueAbandoned(ProcessError, EOFError):
    """This process waits for a queue that nobody else has any more: it would wait for ever."""


class SharedMemoryFull(ProcessError, MemoryError):
    """Something is too large for shared memory; the message says how large, and how much there is.

    Either the machine or the control group has no more memory, or the arena has no more room, which a limit
    of address space (`RLIMIT_AS`) makes small. Nothing has been sent or made.
    """


class StaleHandle(ProcessError):
    """A pickled handle names a shared object that no longer exists, or one of another tree of processes."""


class TimeoutError(ProcessError, _standard.TimeoutError, builtins.TimeoutError):
    """The time given has passed and the result is not there; the work goes on."""


class AuthenticationError(ProcessError, _standard.AuthenticationError):
    """The other side of a connection is not who it should be."""


class BufferTooShort(ProcessError, _standard.BufferTooShort):
    """The buffer given is shorter than the message; `args[0]` holds the whole message."""


class RemoteError(ProcessError):
    """In place of an exception of a worker that cannot be rebuilt here; the message says why.

    Its traceback, cause, context and notes are those of that exception.

    Attributes:
        type_name: the qualified name of the exception's class.
        arguments: `repr` of its arguments, one string.
        traceback: the worker's traceback as text.
        ancestors: the qualified names of that class and its base classes.
    """

    def __init__(
        self,
        message: str,
        type_name: str = "",
        arguments: str = "",
        traceback: str = "",
        ancestors: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.ancestors = ancestors
        self.type_name = type_name
        self.arguments = arguments
        self.traceback = traceback


class RemoteTraceback(Exception):
    """The `__cause__` of an exception that came from another process and had none: says from which one.

    The frames of that process are the innermost ones of the exception's own traceback. So they are not shown
    here once more, unlike in `multiprocessing`; `tb` has them as text, as there. They are shown if somebody
    has taken that traceback away (`error.with_traceback(None)`, as `assertRaises` does).

    Attributes:
        worker: the name of that process.
        pid: its process id.
    """

    def __init__(
        self,
        tb: "str | Callable[[], str]",
        worker: str = "",
        pid: int | None = None,
        frames: int = 0,
        mark: object = None,
    ) -> None:
        super().__init__()
        self._tb = tb
        self.worker = worker
        self.pid = pid
        self._frames = frames
        # Gone when the traceback with these frames is.
        self._mark = None if mark is None else weakref.ref(mark)

    @property
    def tb(self) -> str:
        """That process's traceback, as text."""
        if not isinstance(self._tb, str):
            self._tb = self._tb()
        return self._tb

    def __str__(self) -> str:
        if not self.worker:
            return f'\n"""\n{self.tb}"""'
        text = f"raised in {self.worker} (pid {self.pid})"
        if self._mark is not None and self._mark() is None:
            return f'{text}\n"""\n{self.tb}"""'
        if self._frames == 1:
            text += ", where the last frame below is from"
        elif self._frames:
            text += f", where the last {self._frames} frames below are from"
        return text

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.tb, self.worker, self.pid, self._frames)


_HOMES = {
    **dict.fromkeys(("BrokenPool", "UnreadableResult", "UnreadableTask", "WorkerDied"), "_broken"),
    "ShutDown": "_shutdown",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f".{_HOMES[name]}", __package__), name)
    globals()[name] = value
    return value
