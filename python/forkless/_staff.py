"""The workers of a pool: how many there are to be, their start, their end, and what they have done."""

import heapq
import itertools
import operator
import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import _evidence, _exit, _worker
from ._insights import WorkerStatistics
from ._setup import Setup

if TYPE_CHECKING:
    from typing import Literal

    Output = Literal["forward", "tagged", "inherit"]

    from ._forkless import Coming, Dispatcher
    from .process import Process

# Deaths in a row at their start, per worker, without any task done, after which the pool gives up.
_PATIENCE = 2
# A worker that lived this long, in seconds, did not fail at its start.
_LONG_LIFE = 60.0
# After which time, in seconds, to try again when no worker could be started; and how many tries there are
# before it is no use. They are counted, since on a machine that stands still time passes without any.
_RETRY, _PERSISTENT = 0.2, 15
# How long, in seconds, workers that were needed while others waited are left.
_LINGER, _TICK = 1.0, 0.2

# More workers than this are a mistake.
_MOST = 1_000_000

# What becomes of what workers write: whether each line says who wrote it, None if they write it themselves.
_OUTPUTS = {"forward": False, "tagged": True, "inherit": None}

_NOBODY = WorkerStatistics("former workers", 0, 0, 0.0, 0.0, 0.0, 0, 0, None)

_numbers = itertools.count(1)


def as_count(value: Any, what: str) -> int:
    """A number of workers that a user gave.

    Raises:
        TypeError: it is no whole number.
    """
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{what} must be an int, not {value!r}") from None


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

    @classmethod
    def of(
        cls,
        kind: "type[Process]",
        size: int,
        label: str,
        eager: bool,
        max_tasks: int | None,
        *,
        max_memory_per_child: int | None = None,
        idle_timeout: float | None = None,
        output: "Output" = "forward",
        **setup: Any,
    ) -> "Hiring":
        """Checks what a user gave; see `Pool`, whose keywords these are.

        Args:
            kind: see `Hiring`.
            size: see `Hiring`.
            label: see `Hiring`.
            eager: see `Hiring`.
            max_tasks: after how many tasks a worker ends.
            max_memory_per_child: with how many bytes a worker ends.
            idle_timeout: see `Hiring`.
            output: what becomes of what workers write.
            setup: see `Setup.of`.

        Raises:
            TypeError, ValueError: an argument is none of these.
            PicklingError: a function of the setup cannot be sent.
        """
        if size > _MOST:
            raise ValueError(f"{size} workers are more than any machine can run")
        _check_number("max_memory_per_child", max_memory_per_child, "bytes", 1)
        _check_number("idle_timeout", idle_timeout, "seconds", 0)
        if output not in _OUTPUTS:
            raise ValueError(f'output must be "forward", "tagged" or "inherit", not {output!r}')
        terms = _worker.Terms(Setup.of(size=size, **setup), max_tasks, max_memory_per_child, _OUTPUTS[output])
        return cls(kind, size, label, eager, terms, idle_timeout)


def _check_number(name: str, value: Any, unit: str, least: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number of {unit}, not {value!r}")
    if not value >= least:
        raise ValueError(f"{name} must be at least {least} {unit}, not {value!r}")


@dataclass
class Post:
    """A worker and where it is.

    Attributes:
        index: its place on the board.
        seat: which of the workers it is: who replaces it takes it over.
        started: when, in seconds of the monotonic clock.
    """

    index: int
    seat: int
    started: float


class Staff:
    """The workers of a pool. Changed by its collector alone, once that runs.

    Args:
        dispatcher: whose workers they are.
        hiring: what they are to be.

    Attributes:
        workers: each worker and its post.
        ending: whether they have been told to end at once.
        strangers: workers that had become another program, by `exec`, and were killed.
        failure: why no more of them are started, or None.
    """

    def __init__(self, dispatcher: "Dispatcher", hiring: Hiring) -> None:
        self._dispatcher, self._hiring = dispatcher, hiring
        self.size = hiring.size
        self.workers: dict[Process, Post] = {}
        self.ending = False
        self.failure: str | None = None
        self.strangers: set[Process] = set()
        self._leaving: set[Process] = set()
        self._retired: set[Process] = set()
        self._sent_home = False
        self._stops = 0
        places = self.places(hiring.size)
        self._free, self._seats = list(range(places)), list(range(places))
        self._ends = dispatcher._ends()
        # In a row, without any task done: of workers that were starting, and of idle ones.
        self._deaths = self._shots = 0
        self._done_before = 0
        self._former: WorkerStatistics | None = None
        self._retry_at = 0.0
        # How many more workers there are to be in place of those that wait for other tasks; and until when
        # those that are too many are left, in case that they are needed again.
        self._extra, self._calm_at = 0, 0.0
        self._places = places
        # How many tries to start a worker have failed in a row, and why the last one did.
        self._trouble: tuple[int, Exception] | None = None

    @staticmethod
    def places(size: int) -> int:
        """How many workers can exist at once: some end while others start in their place."""
        return 2 * size + 64

    def resize(self, size: int) -> None:
        """Changes how many workers there are to be.

        Raises:
            ValueError: fewer than one, or more than there are places for.
            TypeError: no number.
        """
        given: Any = size
        if isinstance(given, bool) or not isinstance(given, int):
            raise TypeError(f"the number of workers must be an int, not {size!r}")
        most = self.places(self._hiring.size) // 2
        if not 1 <= size <= most:
            raise ValueError(f"this pool can have 1 to {most} workers, not {size!r}")
        self.size = size

    def is_short(self) -> bool:
        """Whether more workers are wanted."""
        return self._active() < self._wanted()

    def _wanted(self) -> int:
        """How many workers there should be now; those that are more are left alone."""
        if self.ending or self._sent_home or self.failure is not None:
            return 0
        state: Any = self._dispatcher
        if self._hiring.eager and self._hiring.idle_timeout is None and not state.closed:
            return max(self.size, self._useful()) if self._extra else self.size
        return self._useful()

    def _useful(self) -> int:
        live: int = self._dispatcher._counts()[0]
        return min(self.size + self._extra, live)

    def fill(self, count: int) -> None:
        """Starts workers until there are so many, or no places: asks for all of them, then waits for each."""
        asked: list[tuple[Process, Coming, Post]] = []
        failure: BaseException | None = None
        try:
            for _ in range(min(count - self._active(), len(self._free))):
                asked.append(self._ask())
        except BaseException as error:
            failure = error
        # Also after a failure: who was asked for comes.
        for worker, coming, post in asked:
            try:
                worker._arrive(coming)
                self.workers[worker] = post
            except BaseException as error:
                self._leave(post)
                failure = failure or error
        try:
            if failure is not None:
                raise failure
        finally:
            del failure  # or else the error and this frame would keep each other

    def fill_wanted(self) -> Exception | None:
        """Starts those that are missing.

        Returns:
            What went wrong, if nobody is left.
        """
        now = time.monotonic()
        _, self._extra = self._dispatcher._blocked()
        if self._extra:
            self._calm_at = now + _LINGER
        if now < self._retry_at:
            return None
        try:
            self.fill(self._wanted())
        except Exception as error:
            # With some workers left the work goes on, and there will be another attempt.
            self._retry_at = time.monotonic() + _RETRY
            self._trouble = (1 if self._trouble is None else self._trouble[0] + 1), error
            if not self.workers:
                return error
        else:
            self._trouble = None
        return None

    def trouble(self) -> str | None:
        """Why nobody can do what waits here, if that is so: all workers wait for others."""
        # Counted now: one of those that waited may have gone on since.
        waiting, _ = self._dispatcher._blocked()
        if waiting < len(self.workers) or not self.workers:
            return None
        if not self._free:
            return f"a pool of {self.size} has places for {self._places}"
        if self._trouble is not None and self._trouble[0] >= _PERSISTENT:
            return f"the system starts none, {self._trouble[1]!r}"
        return None

    def _ask(self) -> "tuple[Process, Coming, Post]":
        hiring = self._hiring
        # It looks at the counts before somebody can be killed.
        _evidence.memory_killer()
        post = Post(self._free.pop(), heapq.heappop(self._seats), time.monotonic())
        try:
            self._dispatcher._open_entry(post.index)
            levels = None if hiring.terms.tag is None else _output_settings()
            worker = hiring.kind(
                target=_worker.work,
                args=(self._ends, post.index, post.seat, hiring.terms, levels),
                name=f"{hiring.label}-{next(_numbers)}",
                daemon=True,
            )
            # Ctrl-C is for the owner, which then ends its workers; a death is told by the task that it hits.
            worker._ignore_interrupt = worker._dies_quietly = True
            return worker, worker._ask(), post
        except BaseException:
            self._leave(post)
            raise

    def _leave(self, post: Post) -> None:
        self._free.append(post.index)
        heapq.heappush(self._seats, post.seat)

    def dead(self) -> "list[Process]":
        """The workers that have ended, and are not buried."""
        dead = [worker for worker in self.workers if not worker.is_alive()]
        if len(dead) < len(self.workers):
            self._end_strangers()
        return dead

    def _end_strangers(self) -> None:
        """Has workers end that a task has made another program, which will never answer."""
        left = {worker for worker in self.workers if worker._child is not None and worker._child.has_left()}
        # One that is about to end looks like that for a moment, and is not there any more at the next look.
        for worker in filter(_has_program, left & self._leaving):
            self.strangers.add(worker)
            worker._signal(signal.SIGKILL)
        self._leaving = left

    def bury(self, worker: "Process") -> int | None:
        """Forgets a worker that has ended.

        Returns:
            The tag of the task that it had claimed, answered or not; None if there was none.
        """
        post = self.workers.pop(worker)
        self._leaving.discard(worker)
        child = worker._child
        assert child is not None
        claimed = child.claimed()
        entry = self._entry(post)
        self._former = _add(self._former or _NOBODY, _account("", 0, entry, time.monotonic()))
        self._dispatcher._vacate_entry(post.index)
        self._leave(post)
        self._retired.discard(worker)
        if claimed:
            self._deaths = self._shots = 0
        elif claimed == _worker.STOP:
            self._stops = max(0, self._stops - 1)
        else:
            self._count_death(worker, time.monotonic() - post.started, was_ready=bool(entry[7]))
        return claimed or None

    def retire(self, index: int) -> None:
        """The worker in this place takes no more tasks, but has threads to wait for."""
        for worker, post in self.workers.items():
            child = worker._child
            # One that was told to end is not counted any more.
            if post.index == index and child is not None and child.claiming() != _worker.STOP:
                self._retired.add(worker)

    def _active(self) -> int:
        """How many workers there are that will not end of their own accord."""
        # There may be more orders to end than workers are left: nobody is needed to take them.
        return max(0, len(self.workers) - self._stops - len(self._retired))

    def _count_death(self, worker: "Process", age: float, was_ready: bool) -> None:
        if self.ending or self._sent_home or self.failure is not None:
            return
        done = sum(worker.tasks for worker in self.statistics())
        if done > self._done_before or age >= _LONG_LIFE:
            self._done_before, self._deaths, self._shots = done, 0, 0
        elif was_ready:
            # It can start, so this is no reason to give up; only to take one's time.
            self._shots += 1
            if self._shots >= _PATIENCE * self.size:
                self._retry_at = time.monotonic() + _RETRY
        else:
            self._deaths += 1
            if self._deaths >= _PATIENCE * self.size:
                self.failure = self._complaint(worker)

    def _complaint(self, worker: "Process") -> str:
        from . import process
        from ._broken import describe_end

        child = worker._child
        assert child is not None
        hint = "the initializer does" if self._hiring.terms.setup.hooks else "the workers import"
        return (
            f"{self._deaths} workers in a row ended without completing a task; the last one, {worker.name} "
            f"(pid {child.pid}), {describe_end(process.exit_code(child))}: look at what {hint}"
        )

    def _entry(self, post: Post) -> tuple[int, ...]:
        return self._dispatcher._entry(post.index)

    def statistics(self) -> tuple[WorkerStatistics, ...]:
        """What each worker has done, and all former ones together."""
        now = time.monotonic()
        present = []
        for worker, post in list(self.workers.items()):
            pid = worker._child.pid if worker._child is not None else 0
            present.append(_account(worker.name, pid, self._entry(post), now))
        if self._former is not None:
            present.append(self._former)
        return tuple(present)

    def running(self) -> "list[tuple[Process, Post, int, float]]":
        """(worker, its post, its task, since when in seconds of the monotonic clock), for those at work."""
        found = []
        for worker, post in list(self.workers.items()):
            task, since, *_ = self._entry(post)
            if task:
                found.append((worker, post, task, since / 1e9))
        return found

    def claimed(self) -> set[int]:
        """The tasks that workers have taken, begun or not."""
        children = [worker._child for worker in self.workers]
        return {child.claiming() or 0 for child in children if child is not None}

    def due_in(self) -> float:
        """In how many seconds to look at them again."""
        limit = self._hiring.idle_timeout
        due = _RETRY if self._leaving else float("inf")
        if limit is not None:
            due = min(due, max(0.05, limit / 4))
        if self._active() > self.size:
            due = min(due, max(0.0, self._calm_at - time.monotonic()) or _TICK)
        return due

    def shrink(self) -> None:
        """Has workers end that are too many, or have had no work for long."""
        limit = self._hiring.idle_timeout
        if self.ending or self._sent_home:
            return
        if time.monotonic() >= self._calm_at:
            for _ in range(self._active() - self.size):
                self._stops += 1
                self._dispatcher._send_stop()
        if limit is None:
            return
        now, live = time.monotonic(), self._dispatcher._counts()[0]
        idle = 0
        for post in self.workers.values():
            task, since, *_, ready, _ = self._entry(post)
            if not task and ready and now - since / 1e9 >= limit:
                idle += 1
        for _ in range(min(idle - self._stops, self._active() - live)):
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


def _has_program(worker: "Process") -> bool:
    """Whether a process runs any program, rather than giving back its memory, which may take long."""
    try:
        os.readlink(f"/proc/{worker.pid}/exe")
    except FileNotFoundError:
        return False
    except OSError:
        pass  # It is another user's by now.
    return True


def _output_settings() -> Any:
    from . import _output

    return _output.settings()


def _account(name: str, pid: int, entry: tuple[int, ...], now: float) -> WorkerStatistics:
    """An entry of the board, as people want to see it."""
    task, since, tasks, busy, received, sent, born, ready, _ = entry
    working = busy / 1e9 + (now - since / 1e9 if task else 0.0)
    present = max(0.0, now - ready / 1e9) if ready else 0.0
    start_up = (ready - born) / 1e9 if ready else 0.0
    idle = max(0.0, present - working)
    # Of those that have ended, nobody runs anything, though the last entry says what it was.
    now_running = task or None if pid else None
    return WorkerStatistics(name, pid, tasks, start_up, working, idle, received, sent, now_running)


def _add(one: WorkerStatistics, other: WorkerStatistics) -> WorkerStatistics:
    return WorkerStatistics(
        one.name,
        one.pid,
        one.tasks + other.tasks,
        one.start_up + other.start_up,
        one.working + other.working,
        one.idle + other.idle,
        one.bytes_received + other.bytes_received,
        one.bytes_sent + other.bytes_sent,
        None,
    )
