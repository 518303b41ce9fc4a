"""The futures of an executor whose workers are those of a cluster."""

from typing import TYPE_CHECKING, Any, TypeVar

from .._futures import Future

if TYPE_CHECKING:
    from .scheduler import ClusterScheduler
    from .task import Task

__all__ = ["ClusterFuture"]

T = TypeVar("T")


class ClusterFuture(Future[T]):
    """The outcome of a task that runs in a cluster; a real future of `concurrent.futures`.

    `cancel` breaks off a task that runs if the engine can do that (Ray), and says False if it cannot (Dask).
    """

    _work: "tuple[ClusterScheduler, Task] | None" = None

    def adopt(self, scheduler: "ClusterScheduler", task: "Task") -> None:
        """It is this task now."""
        self._work = scheduler, task

    def settle(self, done: bool, value: Any) -> None:
        """Gives it its outcome, an exception unless `done`. One that comes after `cancel` is dropped."""
        self._complete(done, value)
        self._work = None

    def cancel(self) -> bool:
        """Gives the task up.

        Returns:
            Whether the future is cancelled now; False if it was done before, or runs and cannot be ended.
        """
        work = self._work
        if work is None or self.done():
            return self.cancelled()
        scheduler, task = work
        return scheduler.withdraw(task) and self._mark_cancelled(self._drop_work)

    def give_up(self) -> bool:
        """Cancels the task only if it has not been handed to the engine.

        Returns:
            Whether the future is cancelled now.
        """
        work = self._work
        if work is None or self.done():
            return self.cancelled()
        scheduler, task = work
        return scheduler.lets_go(task) and scheduler.withdraw(task) and self._mark_cancelled(self._drop_work)

    def running(self) -> bool:
        """Whether it has been handed to the engine, and is not done."""
        work = self._work
        return work is not None and work[1].is_sent and not self.done()

    def _drop_work(self) -> None:
        self._work = None
