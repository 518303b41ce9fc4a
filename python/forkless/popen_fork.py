"""Names of `multiprocessing.popen_fork`. Nothing forks this process, so there is nothing behind them."""

from typing import Any

from . import _methods

__all__ = ["Popen"]


class Popen:
    """What a started process has as `_popen`; it is not made by anybody else.

    Attributes:
        returncode: the exit code as far as it was asked for.
    """

    method = "fork"

    def __init__(self, process_obj: Any) -> None:
        if self.method == "fork":
            _methods.check("fork", "get_context")
        if process_obj._child is None:
            raise ValueError("start a process with its method start(): no Popen of forkless does that")
        self._process = process_obj
        self.returncode: int | None = None

    @property
    def pid(self) -> int:
        """The process id."""
        pid: int = self._process.pid
        return pid

    @property
    def sentinel(self) -> int:
        """A descriptor that becomes readable when the child has ended."""
        sentinel: int = self._process.sentinel
        return sentinel

    def duplicate_for_child(self, fd: int) -> int:
        """The descriptor itself: what is pickled for a child makes its own copy, see `reduction.DupFd`."""
        return fd

    def poll(self, flag: int = 0) -> int | None:
        """The exit code, None while the child runs.

        Args:
            flag: accepted for compatibility.
        """
        if self.returncode is None:
            self.returncode = self._process.exitcode
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        """Waits for the end of the child.

        Args:
            timeout: how long, in seconds; None waits for ever.

        Returns:
            The exit code, None if it still runs.
        """
        self._process.join(timeout)
        return self.poll()

    def terminate(self) -> None:
        """See `forkless.Process.terminate`."""
        self._process.terminate()

    def kill(self) -> None:
        """See `forkless.Process.kill`."""
        self._process.kill()

    def close(self) -> None:
        """Does nothing: `Process.close` does."""
