"""What the workers of a pool have done with their time."""

import heapq
import math
from dataclasses import dataclass
from typing import Any

from ._evidence import describe_task

__all__ = ["Insights", "PoolStatistics", "SlowTask", "Slowest", "WorkerStatistics"]

_SLOWEST = 5


@dataclass(frozen=True)
class SlowTask:
    """A task that took long.

    Attributes:
        task: the name of its function.
        arguments: what it was called with, shortened.
        seconds: how long it ran.
    """

    task: str
    arguments: str
    seconds: float


@dataclass(frozen=True)
class WorkerStatistics:
    """What one worker has done, or several together.

    Attributes:
        name: of the process; "former workers" for all that have ended.
        pid: its process id, 0 for several.
        tasks: how many it has done.
        start_up: from when it was asked for until it was ready for tasks, in seconds; NaN if nobody knows, as
            of workers of a cluster.
        working: in tasks, in seconds.
        idle: ready and without a task, in seconds; NaN if nobody knows.
        bytes_received: in tasks and their arguments, as pickled.
        bytes_sent: in results.
        task: the id of the task that it runs now, None if it is idle.
    """

    name: str
    pid: int
    tasks: int
    start_up: float
    working: float
    idle: float
    bytes_received: int
    bytes_sent: int
    task: int | None


@dataclass(frozen=True)
class PoolStatistics:
    """What has become of the tasks of a pool, at one moment.

    Attributes:
        size: how many workers there are at most.
        waiting: tasks that wait to be sent to a worker.
        sent: tasks on their way, and running.
        done: tasks that workers have ended, with or without success.
        lost: tasks that were lost with their worker.
        retried: attempts beyond the first ones.
        workers: those there are now, and one entry for all before them.
        slowest: the five tasks that took longest, the longest first.
    """

    size: int
    waiting: int
    sent: int
    done: int
    lost: int
    retried: int
    workers: tuple[WorkerStatistics, ...]
    slowest: tuple[SlowTask, ...]


class Slowest:
    """The tasks that took longest. Workers tell of each that is one of their own five."""

    def __init__(self) -> None:
        self._tasks: list[tuple[float, int, SlowTask]] = []
        self._count = 0

    def add(self, seconds: float, task: str, arguments: str) -> None:
        """Another one."""
        self._count += 1
        entry = seconds, self._count, SlowTask(task, arguments, seconds)
        if len(self._tasks) < _SLOWEST:
            heapq.heappush(self._tasks, entry)
        else:
            heapq.heappushpop(self._tasks, entry)

    def ranking(self) -> tuple[SlowTask, ...]:
        """The longest first."""
        return tuple(task for _, _, task in sorted(self._tasks, reverse=True))


@dataclass(frozen=True)
class Insights:
    """The statistics of a pool, to be printed."""

    statistics: PoolStatistics

    def __str__(self) -> str:
        workers = [*self.statistics.workers, _sum_of(self.statistics.workers)]
        rows = [_HEAD, *map(_row, workers)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(width) if number == 0 else cell.rjust(width)
                for number, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        made = self.statistics
        lines.append(
            f"{made.done:,} tasks done, {made.sent:,} on their way, {made.waiting:,} waiting, "
            f"{made.lost:,} lost with their worker, {made.retried:,} retries"
        )
        if made.slowest:
            lines.append("slowest tasks:")
            lines += [
                f"  {_time(task.seconds):>9}  {describe_task(task.task, task.arguments)}"
                for task in made.slowest
            ]
        return "\n".join(lines)


_HEAD = ("worker", "tasks", "start-up", "working", "idle", "busy", "received", "sent")


def _row(worker: WorkerStatistics) -> tuple[str, ...]:
    present = worker.working + worker.idle  # not a number, where nobody knows
    return (
        f"{worker.name} ({worker.pid})" if worker.pid else worker.name,
        f"{worker.tasks:,}",
        _time(worker.start_up),
        _time(worker.working),
        _time(worker.idle),
        f"{worker.working / present:.0%}" if present > 0 else "-",
        _size(worker.bytes_received),
        _size(worker.bytes_sent),
    )


def _sum_of(workers: tuple[WorkerStatistics, ...]) -> WorkerStatistics:
    def total(field: str) -> Any:
        return sum(getattr(worker, field) for worker in workers)

    fields = ("tasks", "start_up", "working", "idle", "bytes_received", "bytes_sent")
    return WorkerStatistics("all", 0, **{field: total(field) for field in fields}, task=None)


def _time(seconds: float) -> str:
    if math.isnan(seconds):
        return "-"
    if seconds >= 60:
        return f"{seconds / 60:.1f} min"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.2f} ms"


def _size(count: int) -> str:
    amount = float(count)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"
