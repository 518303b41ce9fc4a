"""What programs look for in the standard library's pools and executors by private names.

They count workers and what is not done yet, and send signals to workers. So these names are there, with
what such programs expect of them; all are to be read only.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from ._scheduler import Scheduler
    from .context import BaseContext
    from .process import Process


class PoolAttributes:
    """Those of `multiprocessing.pool.Pool`."""

    _scheduler: "Scheduler"
    _context: "BaseContext | None"

    @property
    def _processes(self) -> int:
        """How many workers there are to be."""
        return self._scheduler.size

    @property
    def _pool(self) -> "list[Process]":
        """The workers there are now."""
        return self._scheduler.workers

    @property
    def _state(self) -> str:
        """One of `RUN`, `CLOSE` and `TERMINATE` in `forkless.pool`."""
        return self._scheduler.state

    @property
    def _cache(self) -> dict[int, Any]:
        """What takes the outcome of each task that has none yet, by the number of the task."""
        return _sinks(self._scheduler)

    @property
    def _ctx(self) -> Any:
        """The context of the workers."""
        return _context(self._context)


class WorkItem(NamedTuple):
    """A task that is not done."""

    future: Any


class ExecutorAttributes:
    """Those of `concurrent.futures.ProcessPoolExecutor`."""

    _scheduler: "Scheduler"
    _context: "BaseContext | None"

    @property
    def _processes(self) -> "dict[int | None, Process]":
        """The workers there are now, by their process id."""
        return {worker.pid: worker for worker in self._scheduler.workers}

    @property
    def _pending_work_items(self) -> dict[int, WorkItem]:
        """The tasks that are not done, by number."""
        return {id: WorkItem(sink) for id, sink in _sinks(self._scheduler).items()}

    @property
    def _broken(self) -> str | bool:
        """Why nothing runs any more (True: it was terminated), False if it does."""
        return self._scheduler.complaint or self._scheduler.terminated

    @property
    def _shutdown_thread(self) -> bool:
        """Whether no more tasks are accepted."""
        return self._scheduler.closed or self._scheduler.terminated

    @property
    def _mp_context(self) -> Any:
        """The context of the workers."""
        return _context(self._context)


def _sinks(scheduler: "Scheduler") -> dict[int, Any]:
    found = ((id, scheduler._sink_of(id)) for id in scheduler._ids(False))
    return {id: sink for id, sink in found if sink is not None}


def _context(given: "BaseContext | None") -> Any:
    if given is not None:
        return given
    from .context import get_context

    return get_context()
