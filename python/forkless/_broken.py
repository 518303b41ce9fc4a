"""The exceptions of pools and executors: public in `forkless.exceptions`, which says why they live here."""

import contextlib
import signal
import sys
from typing import TYPE_CHECKING

from . import _exit
from .exceptions import ProcessError

if TYPE_CHECKING:
    from concurrent.futures.process import BrokenProcessPool


def _base() -> type[Exception]:
    # At the exit of the interpreter that module cannot register its exit handler any more, and to load it
    # makes Python forget that Ctrl-C ended the program. But then its class is nobody's, and its base will do.
    if not _exit.running or "concurrent.futures.process" in sys.modules:
        with contextlib.suppress(RuntimeError):
            from concurrent.futures.process import BrokenProcessPool

            return BrokenProcessPool
    return RuntimeError


if not TYPE_CHECKING:
    BrokenProcessPool = _base()


class BrokenPool(ProcessError, BrokenProcessPool):
    """The pool runs nothing more: its workers cannot start, or it was terminated before the task was done."""

    __module__ = "forkless.exceptions"


class WorkerDied(ProcessError, BrokenProcessPool):
    """The worker that ran this task has died. Only this task is lost: the pool goes on with a new worker.

    Attributes:
        task: what the worker was running.
        worker: the worker's name.
        pid: its process id.
        exitcode: its exit code (negative: the signal that killed it), or None if the system no longer knows.
        stack: its Python stack when a fatal signal (SIGSEGV, SIGFPE, SIGABRT, SIGBUS, SIGILL) killed it, as
            `faulthandler` writes it, or None.
    """

    __module__ = "forkless.exceptions"

    def __init__(
        self,
        message: str,
        task: str = "",
        worker: str = "",
        pid: int = 0,
        exitcode: int | None = None,
        stack: str | None = None,
    ) -> None:
        super().__init__(message)
        self.task = task
        self.worker = worker
        self.pid = pid
        self.exitcode = exitcode
        self.stack = stack

    @classmethod
    def of(cls, task: str, worker: str, pid: int, exitcode: int | None, stack: str | None) -> "WorkerDied":
        """The error of one task."""
        end = describe_end(exitcode)
        message = (
            f"worker {worker} (pid {pid}) {end} while it ran {task}; "
            "this task is lost, the others go on in a new worker"
        )
        if exitcode == -signal.SIGKILL:
            message += ". If nobody sent SIGKILL, it was the kernel's memory killer: see the kernel's log"
        if stack is not None:
            message += f". Its Python stack when it died:\n{stack.rstrip()}"
        return cls(message, task, worker, pid, exitcode, stack)


def describe_end(exitcode: int | None) -> str:
    """How a process ended, as the end of a sentence about it."""
    if exitcode is None:
        return "ended (exit status unknown)"
    if exitcode >= 0:
        return f"ended with exit code {exitcode}"
    try:
        return f"was killed by {signal.Signals(-exitcode).name}"
    except ValueError:
        return f"was killed by signal {-exitcode}"
