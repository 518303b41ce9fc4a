"""`Future`: what `Executor.submit` returns, a real one of `concurrent.futures`."""

import concurrent.futures
import sys
from collections.abc import Callable
from concurrent.futures import CancelledError, InvalidStateError
from typing import Any, NoReturn, TypeVar

from ._forkless import BaseFuture

__all__ = ["Future", "report_callback"]

T = TypeVar("T")


class Future(BaseFuture, concurrent.futures.Future[T]):
    """The outcome of a task. Everything that works with the standard library's futures works with it.

    Differs from them: `cancel` also ends a task that runs. Its worker is asked to break it off, and is
    replaced if it does not; other tasks are not affected.

    Example:
        >>> with Executor(1) as executor:
        ...     future = executor.submit(time.sleep, 3600)
        ...     future.cancel(), executor.submit(pow, 2, 10).result()
        (True, 1024)
    """

    def __init__(self) -> None:
        # The fields are in the base, made when somebody asks for them.
        pass

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Future stays in the process that has submitted the task: send what its result() returns"
        )

    def result(self, timeout: float | None = None) -> T:
        """What the task returned; waits for it.

        Args:
            timeout: how long to wait, in seconds; None waits for ever. The task goes on meanwhile.

        Raises:
            TimeoutError: it is not there in time.
            CancelledError: the task was cancelled.
            WorkerDied: the worker that ran it has died.
            Exception: what the task raised.
        """
        error = self.exception(timeout)
        if error is None:
            value: T = self._result
            return value
        try:
            raise error
        finally:
            # A reference cycle through the traceback would keep all of it.
            self = None  # type: ignore[assignment]
            error = None

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the task raised, None if it returned; waits for it as `result` does."""
        if not self._wait(timeout):
            raise concurrent.futures.TimeoutError
        if self.cancelled():
            raise CancelledError
        raised: BaseException | None = self._exception
        return raised

    def cancel(self) -> bool:
        """Gives the task up, and frees its worker if it runs.

        Returns:
            Whether the future is cancelled now; False if it was done before.
        """
        owner = self._owner
        if owner is None:
            return super().cancel()
        return self._mark_cancelled(owner.withdraw(self._task))

    def _mark_cancelled(self, then: Callable[[], object] | None) -> bool:
        """Makes this cancelled, unless it is done; `then` is called if so, before the callbacks.

        Returns:
            Whether it is cancelled now.
        """
        # Whoever else comes first, the state is changed by one of them, under the future's condition.
        with self._condition:
            if self.done():
                return self.cancelled()
            self._state = "CANCELLED_AND_NOTIFIED"
            for waiter in self._waiters:
                waiter.add_cancelled(self)
            self._condition.notify_all()
        if then is not None:
            then()
        self._invoke_callbacks()  # type: ignore[attr-defined]
        return True

    def give_up(self) -> bool:
        """Cancels the task as the standard library does: only if it is not on its way to a worker.

        Returns:
            Whether the future is cancelled now.
        """
        owner = self._owner
        return (owner is None or owner.lets_go(self._task)) and self.cancel()

    def running(self) -> bool:
        """Whether it is on its way to a worker, or runs there."""
        return bool(self._state == "RUNNING")

    def set_result(self, result: Any) -> None:
        """For the pool alone. An outcome that comes after the future was cancelled is dropped."""
        try:
            super().set_result(result)
        except InvalidStateError:
            if not self.cancelled():
                raise

    def set_exception(self, exception: BaseException | None) -> None:
        """For the pool alone."""
        try:
            super().set_exception(exception)
        except InvalidStateError:
            if not self.cancelled():
                raise


def report_callback(error: BaseException) -> None:
    """A callback of the user has raised; that is nobody's outcome."""
    sys.excepthook(type(error), error, error.__traceback__)
