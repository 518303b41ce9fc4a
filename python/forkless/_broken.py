"""The exceptions of pools and executors: public in `forkless.exceptions`, which says why they live here."""

import contextlib
import signal
import sys
from typing import TYPE_CHECKING

from . import _exit
from .exceptions import ProcessError, RemoteError

if TYPE_CHECKING:
    from concurrent.futures.process import BrokenProcessPool

    from ._evidence import MemoryKiller
    from ._forkless import Child


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


class UnreadableResult(RemoteError, BrokenProcessPool):
    """A `RemoteError` for a result that cannot be loaded, which breaks a pool of the standard library."""

    __module__ = "forkless.exceptions"


class UnreadableTask(RemoteError, BrokenProcessPool):
    """A `RemoteError` for a task that a worker cannot load, which breaks a pool of the standard library."""

    __module__ = "forkless.exceptions"


class WorkerDied(ProcessError, BrokenProcessPool):
    """The worker that ran this task has died. Only this task is lost: the pool goes on with a new worker.

    Attributes:
        task: what the worker was running.
        arguments: what it was called with, shortened; "" if that is not known.
        worker: the worker's name.
        pid: its process id.
        exitcode: its exit code (negative: the signal that killed it), or None if the system no longer knows.
        stack: its Python stack when a fatal signal (SIGSEGV, SIGFPE, SIGABRT, SIGBUS, SIGILL) killed it, as
            `faulthandler` writes it, or None.
        peak_memory: the most memory that it has had, in bytes, or None; see `Process.peak_memory`.
        memory_killer: whether the kernel killed it for lack of memory; None if that cannot be known.
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
        arguments: str = "",
        peak_memory: int | None = None,
        memory_killer: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.task = task
        self.arguments = arguments
        self.worker = worker
        self.pid = pid
        self.exitcode = exitcode
        self.stack = stack
        self.peak_memory = peak_memory
        self.memory_killer = memory_killer

    @classmethod
    def of(
        cls,
        task: str,
        arguments: str,
        worker: str,
        child: "Child",
        killer: "MemoryKiller | None",
        left: bool = False,
    ) -> "WorkerDied":
        """The error of one task.

        Args:
            task: what the worker was running.
            arguments: what it was called with, or "".
            worker: the worker's name.
            child: the worker, which has ended.
            killer: has watched since before the worker started; asked once for each death.
            left: whether it had become another program, and was killed therefore.
        """
        from ._evidence import describe_task
        from .process import exit_code

        code, stack, peak = exit_code(child), child.last_words(), child.peak_memory()
        struck = _struck(code, killer)
        call = describe_task(task, arguments)
        end = "became another program (os.exec does that) and was killed" if left else describe_end(code)
        told = [f"worker {worker} (pid {child.pid}) {end} while it ran {call}"]
        if peak is not None and code is not None and code < 0:
            told.append(f"its peak memory was {_size(peak)}")
        if code == -signal.SIGKILL and not left:
            told.append(_who_killed(struck, killer))
        if code == -signal.SIGBUS:
            told.append("it used a mapped file where that had been cut off, as those of share_file can be")
        told.append("this task is lost, the others go on in a new worker")
        message = "; ".join(told)
        if stack is not None:
            message += f". Its Python stack when it died:\n{stack.rstrip()}"
        return cls(message, task, worker, child.pid, code, stack, arguments, peak, struck)


def _struck(exitcode: int | None, killer: "MemoryKiller | None") -> bool | None:
    if exitcode is None:
        return None
    if exitcode != -signal.SIGKILL:
        return False
    return None if killer is None else killer.struck()


def _who_killed(struck: bool | None, killer: "MemoryKiller | None") -> str:
    if struck is None:
        return "if nobody sent SIGKILL, it was the kernel's memory killer: see the kernel's log"
    if not struck:
        return "no memory killer struck: somebody sent SIGKILL"
    remedy = "give it more memory, or run fewer workers"
    limit = None if killer is None else killer.limit()
    if limit is None:
        return f"the kernel's memory killer struck: {remedy}"
    name, size = limit
    return f"the memory killer of its control group struck ({name} is {_size(size)}): {remedy}"


def _size(size: float) -> str:
    """Bytes, for people: "3.1 GiB"."""
    units = ["TiB", "GiB", "MiB", "KiB", "bytes"]
    # What would be rounded to 1024.
    while size >= 1023.95 and len(units) > 1:
        size /= 1024
        units.pop()
    return f"{size:.1f}".removesuffix(".0") + f" {units[-1]}"


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
