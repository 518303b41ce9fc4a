"""The workers of a pool: how many there are to be, their start, their end, and what they have done."""

import itertools
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import _evidence, _exit, _worker

if TYPE_CHECKING:
    from ._forkless import Dispatcher
    from .process import Process

# Deaths in a row, per worker, without any task done, after which the pool gives up.
_PATIENCE = 2
# A worker that lived this long, in seconds, did not fail at its start.
_LONG_LIFE = 60.0
# After which time, in seconds, to try again when no worker could be started.
_RETRY = 0.2

_numbers = itertools.count(1)


@dataclass
class Hiring:
    """What workers there are to be.

    Attributes:
        kind: the class of their processes.
        size: how many at most.
        label: the beginning of their names.
        eager: keep all of them running, rather than start them as tasks come.
        terms: what each is told.
        idle_timeout: after how many seconds without work a worker ends; None for never.
    """

    kind: "type[Process]"
    size: int
    label: str
    eager: bool
    terms: _worker.Terms
    idle_timeout: float | None = None


@dataclass
class Post:
    """A worker and where it is.

    Attributes:
        index: its place on the board.
        started: when, in seconds of the monotonic clock.
    """

    index: int
    started: float


class Staff:
    """The workers of a pool. Changed by its collector alone, once that runs.

    Args:
        dispatcher: whose workers they are.
        hiring: what they are to be.

    Attributes:
        workers: each worker and its post.
        ending: whether they have been told to end at once.
        failure: why no more of them are started, or None.
    """

    def __init__(self, dispatcher: "Dispatcher", hiring: Hiring) -> None:
        self._dispatcher, self._hiring = dispatcher, hiring
        self.size = hiring.size
        self.workers: dict[Process, Post] = {}
        self.ending = False
        self.failure: str | None = None
        self._sent_home = False
        self._stops = 0
        self._free = list(range(self.places(hiring.size)))
        self._ends = dispatcher._ends()
        self._deaths = 0
        self._done_before = 0
        self._retired = [0] * 9
        self._retry_at = 0.0
        self._idle_since = time.monotonic()

    @staticmethod
    def places(size: int) -> int:
        """How many workers can exist at once: some end while others start in their place."""
        return 2 * size + 64

    def is_short(self) -> bool:
        """Whether more workers are wanted."""
        return (
            len(self.workers) - self._stops < self.size and len(self.workers) - self._stops < self._wanted()
        )

    def _wanted(self) -> int:
        """How many workers there should be now; those that are more are left alone."""
        if self.ending or self._sent_home or self.failure is not None:
            return 0
        state: Any = self._dispatcher
        if self._hiring.eager and self._hiring.idle_timeout is None and not state.closed:
            return self.size
        live: int = state._counts()[0]
        return min(self.size, live)

    def fill(self, count: int) -> None:
        """Starts workers until there are so many."""
        while len(self.workers) - self._stops < count:
            self._start()

    def fill_wanted(self) -> Exception | None:
        """Starts those that are missing.

        Returns:
            What went wrong, if nobody is left.
        """
        if time.monotonic() < self._retry_at:
            return None
        try:
            self.fill(self._wanted())
        except Exception as error:
            # With some workers left the work goes on, and there will be another attempt.
            self._retry_at = time.monotonic() + _RETRY
            if not self.workers:
                return error
        return None

    def _start(self) -> None:
        hiring = self._hiring
        # It looks at the counts before somebody can be killed.
        _evidence.memory_killer()
        index = self._free.pop()
        try:
            self._dispatcher._open_entry(index)
            worker = hiring.kind(
                target=_worker.work,
                args=(self._ends, index, hiring.terms),
                name=f"{hiring.label}-{next(_numbers)}",
                daemon=True,
            )
            # Ctrl-C is for the owner, which then ends its workers; a death is told by the task that it hits.
            worker._ignore_interrupt = worker._dies_quietly = True
            worker.start()
        except BaseException:
            self._free.append(index)
            raise
        self.workers[worker] = Post(index, time.monotonic())

    def dead(self) -> "list[Process]":
        """The workers that have ended, and are not buried."""
        return [worker for worker in self.workers if not worker.is_alive()]

    def bury(self, worker: "Process") -> int | None:
        """Forgets a worker that has ended.

        Returns:
            The task that it had taken and not answered; None if there was none.
        """
        post = self.workers.pop(worker)
        child = worker._child
        assert child is not None
        claimed = child.claimed()
        self._retired = [old + new for old, new in zip(self._retired, self._entry(post), strict=True)]
        self._free.append(post.index)
        if self._stops:
            self._stops -= 1
        if claimed:
            self._deaths = 0
        else:
            self._count_death(worker, time.monotonic() - post.started)
        return claimed or None

    def _count_death(self, worker: "Process", age: float) -> None:
        if self.ending or self._sent_home:
            return
        done = self.totals()[2]
        if done > self._done_before or age >= _LONG_LIFE:
            self._done_before, self._deaths = done, 0
            return
        self._deaths += 1
        if self._deaths >= _PATIENCE * self.size:
            self.failure = self._complaint(worker)

    def _complaint(self, worker: "Process") -> str:
        from . import process
        from ._broken import describe_end

        child = worker._child
        assert child is not None
        hint = "the initializer does" if self._hiring.terms.setup[0] else "the workers import"
        return (
            f"{self._deaths} workers in a row ended without completing a task; the last one, {worker.name} "
            f"(pid {child.pid}), {describe_end(process.exit_code(child))}: look at what {hint}"
        )

    def _entry(self, post: Post) -> tuple[int, ...]:
        return self._dispatcher._entry(post.index)

    def totals(self) -> list[int]:
        """The sums of all entries of the board, those of former workers included."""
        totals = list(self._retired)
        for post in list(self.workers.values()):
            totals = [total + new for total, new in zip(totals, self._entry(post), strict=True)]
        return totals

    def running(self) -> "list[tuple[Process, Post, int, float]]":
        """(worker, its post, its task, since when in seconds of the monotonic clock), for those at work."""
        found = []
        for worker, post in list(self.workers.items()):
            task, since, *_ = self._entry(post)
            if task:
                found.append((worker, post, task, since / 1e9))
        return found

    def due_in(self) -> float:
        """In how many seconds to `shrink` again."""
        return float("inf") if self._hiring.idle_timeout is None else max(0.05, self._hiring.idle_timeout / 4)

    def shrink(self) -> None:
        """Has workers end that have had no work for long."""
        limit = self._hiring.idle_timeout
        if limit is None or self.ending or self._sent_home:
            return
        now, live = time.monotonic(), self._dispatcher._counts()[0]
        idle = 0
        for post in self.workers.values():
            task, since, *_, ready, _ = self._entry(post)
            if not task and ready and now - since / 1e9 >= limit:
                idle += 1
        for _ in range(min(idle - self._stops, len(self.workers) - self._stops - live)):
            self._stops += 1
            self._dispatcher._send_stop()

    def send_home(self) -> None:
        """Has all workers end, once they have done what was sent before."""
        if not self._sent_home:
            self._sent_home = True
            for _ in self.workers:
                self._dispatcher._send_stop()

    def end(self) -> None:
        """Has all workers end at once: SIGTERM first, SIGKILL for those still there after a while."""
        if not self.ending:
            self.ending = True
            for worker in self.workers:
                worker.terminate(_exit.grace())

    def dismiss(self) -> None:
        """Kills all workers, waits for their ends, and forgets them."""
        self.kill_all()
        while self.workers:
            worker, _ = self.workers.popitem()
            worker.join()

    def kill_all(self) -> None:
        """Has all workers end, whatever they do."""
        for worker in list(self.workers):
            worker._signal(signal.SIGKILL)
