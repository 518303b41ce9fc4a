"""Whether a scheduler accepts tasks, and why not: for workers of this machine and of a cluster alike."""

import os

__all__ = ["SchedulerState"]


class SchedulerState:
    """What a scheduler is still there for. Nothing of it ever goes back, so no two threads undo each other's.

    Args:
        belongs: what a copy of this process does not have: "the workers belong".
        closed_error: what `check` raises when no more tasks are accepted.
        end: what becomes of tasks that are not done when it is terminated, for messages.

    Attributes:
        closed: whether no more tasks are accepted.
        terminated: whether what is not done will not be done.
    """

    def __init__(self, belongs: str, closed_error: Exception, end: str) -> None:
        self.closed = self.terminated = False
        self._belongs, self._closed_error, self._end_text = belongs, closed_error, end
        self._owner = os.getpid()
        self._failure: tuple[str, BaseException | None] | None = None

    @property
    def state(self) -> str:
        """One of "RUN", "CLOSE" and "TERMINATE", as in `multiprocessing.pool`."""
        return "TERMINATE" if self.terminated else "CLOSE" if self.closed else "RUN"

    @property
    def complaint(self) -> str | None:
        """Why nothing can run any more, or None."""
        return None if self._failure is None else self._failure[0]

    def check(self) -> None:
        """Raises what `submit` would raise now.

        Raises:
            BrokenPool: nothing can run any more, or this is a copy of the process that owns it.
            Exception: the `closed_error`; no more tasks are accepted.
        """
        if self._owner != os.getpid():
            raise _broken(
                f"{self._belongs} to process {self._owner}, which this one was forked from: make a pool "
                "or an executor here"
            )
        if self._failure is not None:
            text, cause = self._failure
            raise _broken(text) from cause
        if self.closed or self.terminated:
            raise type(self._closed_error)(*self._closed_error.args)

    def _break(self, text: str, cause: BaseException | None) -> None:
        """Nothing can run any more."""
        if self._failure is None and not self.terminated:
            self._failure = text, cause
        self.terminated = True

    def _not_done(self) -> BaseException:
        """The error of a task that was not done before the end."""
        text, cause = self._failure or (self._end_text, None)
        error = _broken(text)
        error.__cause__ = cause
        return error


def _broken(text: str) -> BaseException:
    from .exceptions import BrokenPool

    return BrokenPool(text)
