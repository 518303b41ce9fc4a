"""What the workers of a cluster have done for an executor, as far as their replies tell."""

from dataclasses import replace
from math import nan
from typing import TYPE_CHECKING

from .._insights import PoolStatistics, Slowest, WorkerStatistics
from .pickles import size_of
from .wire import Reply

if TYPE_CHECKING:
    from .task import Task


class Tally:
    """Counts. Changed by the collector only.

    Attributes:
        lost: tasks that were lost with their worker.
    """

    def __init__(self) -> None:
        self.lost = 0
        self._done = 0
        self._slowest = Slowest()
        self._workers: dict[tuple[str, int], WorkerStatistics] = {}

    def add(self, title: str, reply: Reply, task: "Task") -> None:
        """A task has run."""
        self._done += 1
        self._slowest.add(reply.seconds, *task.described)
        name = f"{title} worker on {reply.node}"
        before = self._workers.get((name, reply.pid)) or WorkerStatistics(
            name, reply.pid, 0, nan, 0.0, nan, 0, 0, None
        )
        self._workers[name, reply.pid] = replace(
            before,
            tasks=before.tasks + 1,
            working=before.working + reply.seconds,
            bytes_received=before.bytes_received + task.call.size_bytes,
            bytes_sent=before.bytes_sent + size_of(reply.value),
        )

    def statistics(self, size: int, waiting: int, sent: int, retried: int) -> PoolStatistics:
        """A frozen snapshot."""
        workers = (*self._workers.values(),)
        return PoolStatistics(
            size, waiting, sent, self._done, self.lost, retried, workers, self._slowest.ranking()
        )
