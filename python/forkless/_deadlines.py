"""Ending a task that runs, because it takes too long or is not wanted any more, whatever it does.

The worker is asked first: a signal makes it look at the board, and if the task that it runs is the one
that is to end, its handler raises `TaskInterrupted` there. That frees what `with` and `finally` hold, and
the worker goes on. A task that does not end by that (because it catches everything, is busy in C, or has
other handlers) gets SIGTERM, and at last SIGKILL, and its worker is replaced. All of this happens outside
of the worker, so nothing that a task does can keep it from being ended; and before it happens the worker is
doomed on the board, so that it does not go on to another task if it ends this one at the last moment.

Time in which the pool's own process stood still does not count, nor for a task whose worker a debugger has
stopped: a machine that was suspended, or a container that was frozen, would else have made every task late.
"""

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import _worker

if TYPE_CHECKING:
    from ._scheduler import Scheduler
    from ._staff import Post
    from .process import Process

# How long a task may take to end by itself, and then its worker after SIGTERM, in seconds.
_SOFT, _HARD = 0.5, 0.5
# How often to look whether a worker is still in a debugger, in seconds.
_LOOK = 0.2
# What takes less does not count as a pause, in seconds.
_PAUSE = 0.5


@dataclass
class _Victim:
    """A task that is being ended.

    Attributes:
        worker: where it runs.
        post: the worker's place.
        next_at: when to do more, in seconds of the monotonic clock.
    """

    worker: "Process"
    post: "Post"
    next_at: float


class Deadlines:
    """The time limits of the tasks of a pool, and how they are enforced.

    Args:
        scheduler: whose tasks they are.
    """

    def __init__(self, scheduler: "Scheduler") -> None:
        self._scheduler = scheduler
        # The shortest time limit that any task has had: what begins now ends no sooner than that.
        self._shortest = float("inf")
        self._next_look = float("inf")
        # With how many messages had been sent to workers by then.
        self._cancelled: dict[int, int] = {}
        self._late: dict[int, float] = {}
        self._victims: dict[int, _Victim] = {}
        # How long this process has stood still, in all; and how much of that each task was given, in seconds.
        self._stalled = self._paused = 0.0
        self._excused: dict[int, float] = {}

    # From any thread.

    def expect(self, timeout: float) -> None:
        """Tasks will be submitted that may take so many seconds."""
        if timeout < self._shortest:
            self._shortest = timeout
            self._next_look = 0.0
            self._scheduler._wake()

    def cancel(self, id: int) -> None:
        """Ends a task that was sent, as soon as the collector looks."""
        # In this order: when it is dropped, it is revoked no more.
        self._scheduler._revoke(id)
        self._cancelled[id], _ = self._scheduler._passed()
        self._next_look = 0.0

    # The collector's own.

    def due_in(self) -> float:
        """In how many seconds to `look` again."""
        return self._next_look - time.monotonic()

    def note_pause(self, seconds: float) -> None:
        """The collector was busy for so long with what takes no time, or has waited for the template."""
        if seconds > _PAUSE:
            self._paused += seconds

    def look(self) -> None:
        """Ends what is due."""
        now = time.monotonic()
        if now < self._next_look:
            return
        running = {
            task: (worker, post, since) for worker, post, task, since in self._scheduler.staff.running()
        }
        self._next_look = now + self._shortest
        self._excuse({task: since for task, (_, _, since) in running.items()}, now)
        for task, (worker, post, since) in running.items():
            self._consider(task, worker, post, since, now)
        for task in [task for task in self._victims if task not in running]:
            self._victims.pop(task)
        self._press(now)
        self._drop_done()

    def _excuse(self, running: dict[int, float], now: float) -> None:
        """Gives tasks the time in which this process stood still since the last look."""
        stalled = self._scheduler._stalled() + self._paused
        pause, self._stalled = stalled - self._stalled, stalled
        self._excused = {task: excuse for task, excuse in self._excused.items() if task in running}
        if not pause:
            return
        for task, since in running.items():
            self._excused[task] = self._excused.get(task, 0.0) + min(pause, now - since)
        for victim in self._victims.values():
            victim.next_at += pause

    def _consider(self, task: int, worker: "Process", post: "Post", since: float, now: float) -> None:
        if task in self._victims:
            return
        due = float("inf")
        if task in self._cancelled:
            due = now
        else:
            options = self._scheduler._options_of(task)
            if options is not None and options.timeout is not None:
                due = since + options.timeout + self._excused.get(task, 0.0)
                if due <= now and _is_in_debugger(worker):
                    # It has all of its time once it goes on.
                    self._excused[task] = now - since
                    due = now + _LOOK
                elif due <= now:
                    self._late[task] = options.timeout
        if due > now:
            self._next_look = min(self._next_look, due)
            return
        if not self._scheduler._ask_to_stop(post.index, task):
            return
        with contextlib.suppress(ValueError):
            worker._signal(_worker.INTERRUPT)
        self._victims[task] = _Victim(worker, post, now + _SOFT)

    def _press(self, now: float) -> None:
        for task, victim in self._victims.items():
            if victim.next_at <= now and _is_in_debugger(victim.worker):
                victim.next_at = now + _SOFT
            elif victim.next_at <= now:
                self._terminate(task, victim, now)
            self._next_look = min(self._next_look, victim.next_at)

    def _terminate(self, task: int, victim: _Victim, now: float) -> None:
        if self._scheduler._doom(victim.post.index, task):
            victim.worker.terminate(_HARD)
        victim.next_at = now + 2 * _HARD

    def _drop_done(self) -> None:
        """What was cancelled and is in nobody's hands was done before, or died with its worker."""
        if self._late:
            self._late = {id: limit for id, limit in self._late.items() if self._scheduler._stage(id)}
        if not self._cancelled:
            return
        # In this order: what has been taken by now is claimed by its worker until it is answered.
        _, taken = self._scheduler._passed()
        claimed = self._scheduler.staff.claimed()
        for id, sent in list(self._cancelled.items()):
            if taken >= sent and id not in claimed:
                self.forget(id)
                self._scheduler._unrevoke(id)
        if self._cancelled:
            self._next_look = min(self._next_look, time.monotonic() + 0.02)

    def release(self, worker: "Process") -> None:
        """A worker has ended: there is nothing more to do about it."""
        for task in [task for task, victim in self._victims.items() if victim.worker is worker]:
            del self._victims[task]

    def forget(self, id: int) -> None:
        """A task that was cancelled is over, or was not begun."""
        self._cancelled.pop(id, None)

    def concerns(self, id: int) -> bool:
        """Whether the failure of a task may be our doing."""
        return id in self._late or id in self._victims

    def explain(self, id: int, error: BaseException) -> BaseException:
        """The error of a task that failed: another one, if it is our doing."""
        limit = self._late.pop(id, None)
        self._victims.pop(id, None)
        if limit is None:
            return error
        from . import _evidence
        from .exceptions import TaskInterrupted, TimeoutError, WorkerDied

        if not isinstance(error, (TaskInterrupted, WorkerDied)):
            return error  # It has failed by itself at the last moment.
        name, arguments = self._scheduler.describe(id)
        call = _evidence.describe_task(name, arguments)
        how = "its worker was killed" if isinstance(error, WorkerDied) else "it was broken off where it was"
        late = TimeoutError(f"{call} took longer than its time limit of {limit:g} s; {how}")
        if isinstance(error, WorkerDied):
            late.__cause__ = error
            return late
        # With the frames that were broken off, and what says whose they are.
        late.__cause__ = error.__cause__
        return late.with_traceback(error.__traceback__)


def _is_in_debugger(worker: "Process") -> bool:
    """Whether a debugger has stopped a worker. What a signal has stopped may never go on, and so counts."""
    try:
        with open(f"/proc/{worker.pid}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()[0] == b"t"
    except (OSError, IndexError):
        return False
