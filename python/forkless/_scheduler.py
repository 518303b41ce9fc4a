"""The engine of `Pool` and `Executor`: tasks out, answers in, dead workers replaced.

How it works: tasks go through one channel to whichever worker is free, answers come back through another. At
most twice as many tasks as there are workers are on their way; the rest waits here, where it can still be
cancelled. One thread, the *collector*, receives answers and learns of the ends of workers. When a worker ends
it first takes in all answers that are already there, so that what is then still claimed by the worker is what
was lost with it: that task fails with `WorkerDied`, and a new worker starts.

`submit` may be called from a signal handler, a `__del__` or a callback that interrupted another `submit` in
the same thread. So nothing here is guarded by a lock; what threads share are a deque, dictionaries and sets,
each changed by single atomic operations, in an order that makes every race end well:

- a task is *live* from before it is pending until exactly one thread takes it out of `_live` to settle it;
- who appends to `_pending` feeds afterwards, and who takes from `_sent` feeds afterwards, so no task is
  forgotten;
- who changes the state wakes the collector afterwards, and who submits looks at the state again afterwards.
"""

import functools
import itertools
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from . import _exit, _forkless, _pickling, _worker
from ._worker import SETUP_FAILED, STOP, WAKE

if TYPE_CHECKING:
    from ._forkless import Message, Parcel, Shared
    from .process import Process

# Tasks on their way per worker: one that runs and one that is at hand when it is done.
_AHEAD = 2
# Deaths in a row, per worker, without any task done, after which the pool gives up.
_PATIENCE = 2
# A worker that lived this long, in seconds, did not fail at its start.
_LONG_LIFE = 60.0
# How often to look again while something is missing that announces itself to nobody, in seconds; and
# otherwise, so that no wait rests on an announcement alone.
_TICK, _BOUND = 0.2, 1.0

_worker_numbers = itertools.count(1)


class Task:
    """One task, from its submission to its outcome. Pools and executors say what the outcome means.

    Args:
        func: what the task calls; for messages.
    """

    __slots__ = ("func", "handles", "id", "payload")

    id: int
    payload: "bytes | Parcel"
    handles: "Sequence[Shared]"

    def __init__(self, func: Callable[..., Any]) -> None:
        self.func = func

    def begin(self) -> bool:
        """About to be sent; False if it has been cancelled."""
        return True

    def settle(self, done: bool, value: Any) -> None:
        """The outcome: a value, or if not done, an exception. Called once at most."""
        raise NotImplementedError

    def cancel(self) -> None:
        """Given up before it was sent."""

    def describe(self) -> str:
        """What this task is, for messages."""
        return name_of(self.func)


class Feeder(Protocol):
    """Something that has more tasks to submit, also after `close`."""

    def feed_all(self) -> None:
        """Submits them now."""


class Scheduler:
    """Workers, and the tasks they run.

    Args:
        context: how workers start.
        size: how many workers there are at most.
        initializer: called first in every worker, or None.
        initargs: its arguments.
        limit: how many tasks a worker runs before it is replaced, or None.
        label: the beginning of the workers' names.
        closed_error: what `submit` raises when no more tasks are accepted.
        eager: keep all workers running, rather than start them as tasks come.
        waits_at_exit: whether the interpreter's exit waits for the tasks, rather than terminating the
            workers.
    """

    def __init__(
        self,
        kind: "type[Process]",
        size: int,
        initializer: Callable[..., object] | None,
        initargs: Iterable[Any],
        limit: int | None,
        *,
        label: str,
        closed_error: Exception,
        eager: bool,
        waits_at_exit: bool,
    ) -> None:
        self.size = size
        # These two only ever become true, so that no two threads can undo each other's change.
        self.closed = self.terminated = False
        # Each worker, and when it was started.
        self.workers: dict[Process, float] = {}
        self.feeders: set[Feeder] = set()
        self._kind, self._limit, self._label = kind, limit, label
        self._eager, self._waits_at_exit, self._closed_error = eager, waits_at_exit, closed_error
        self._setup: bytes = b""
        self._setup_handles: Sequence[Shared] = ()
        if initializer is not None:
            self._setup, self._setup_handles = _pickling.dumps(
                (initializer, tuple(initargs)), names=("initializer", "initargs")
            )
        self._tasks, self._results = _forkless.Channel(), _forkless.Channel()
        self._owner = os.getpid()
        self._ids = itertools.count(1)
        self._live: dict[int, Task] = {}
        self._pending: deque[Task] = deque()
        self._sent: set[int] = set()
        self._once = [None]
        self._thread: threading.Thread | None = None
        self._woken = False
        self._stopping = False
        self._deaths = 0
        self._events = _forkless.child_events()
        self._failure: tuple[str, BaseException | None] | None = None
        self._ending = False
        self._retry_at = 0.0

    # What pools and executors call, from any thread.

    @property
    def state(self) -> str:
        """One of "RUN", "CLOSE" and "TERMINATE", as in `multiprocessing.pool`."""
        return "TERMINATE" if self.terminated else "CLOSE" if self.closed else "RUN"

    def start_workers(self) -> None:
        """Starts all workers now, in this thread, so that what goes wrong is raised here."""
        try:
            while len(self.workers) < self.size:
                self._start_worker()
            self.start_collector()
        except BaseException:
            self._kill_all()
            for worker in self.workers:
                worker.join()
            raise

    def start_collector(self) -> None:
        """Starts the collector, once; it starts workers as they are needed."""
        try:
            self._once.pop()
        except IndexError:
            return
        _exit.register()
        _exit.schedulers.add(self)
        thread = threading.Thread(target=self._collect, name=f"forkless {self._label} collector", daemon=True)
        try:
            thread.start()
        except BaseException:
            # The system has no more threads, or the interpreter is about to exit: the next one may try again.
            _exit.schedulers.discard(self)
            self._once.append(None)
            raise
        self._thread = thread

    def submit(
        self,
        task: Task,
        call: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]],
        feeder: Feeder | None = None,
    ) -> None:
        """Accepts a task, pickled as it is now. What does not pickle is an outcome of the task.

        Args:
            task: receives the outcome.
            call: function, positional and keyword arguments.
            feeder: one of `feeders`; it may submit after `close` as well.

        Raises:
            BrokenPool: the workers cannot run.
            Exception: the `closed_error`; no more tasks are accepted.
        """
        task.id = next(self._ids)
        try:
            payload, handles, buffers = _pickling.pack(call, names=("function", "args", "kwargs"))
            if isinstance(payload, bytes) and not buffers:
                task.payload, task.handles = payload, handles
            else:
                # Copied now: what is large is referred to, and may change before a worker is free.
                task.payload, task.handles = _forkless.Parcel(payload, handles, buffers=buffers), ()
        except Exception as error:
            task.settle(False, error)
            return
        self._live[task.id] = task
        self._pending.append(task)
        if not self._accepts(feeder) and self._withdraw(task):
            self.check()
        self._feed()
        if not self._woken and len(self.workers) < self._wanted():
            self._woken = True
            self._wake()

    def check(self) -> None:
        """Raises what `submit` would raise now."""
        if self._owner != os.getpid():
            raise self._broken(
                f"the workers belong to process {self._owner}, which this one was forked from: make a pool "
                "or an executor here"
            )
        if self._failure is not None:
            text, cause = self._failure
            raise self._broken(text) from cause
        if self.closed or self.terminated:
            raise type(self._closed_error)(*self._closed_error.args)

    def close(self) -> None:
        """Accepts no more tasks; the workers end when all accepted ones are done. Does not wait."""
        if self._owner == os.getpid():
            self.closed = True
            self._wake()

    def terminate(self) -> None:
        """Ends the workers, and fails what is not done. Does not wait."""
        # A copy of this object made by `os.fork` in user code has no say: the workers are not its own.
        if self._owner == os.getpid():
            self.terminated = True
            self._wake()

    def join(self, timeout: float | None = None) -> None:
        """Waits until the workers have ended and everything is settled."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread() and self._owner == os.getpid():
            thread.join(timeout)

    def cancel_pending(self) -> None:
        """Gives up the tasks that have not been sent to a worker."""
        while True:
            try:
                task = self._pending.popleft()
            except IndexError:
                break
            if self._live.pop(task.id, None) is not None:
                task.cancel()
        self._wake()

    def at_exit(self, wait: bool) -> None:
        """The interpreter exits, for `wait` in peace: what an executor has accepted is done first."""
        if wait and self._waits_at_exit:
            self.close()
            self.join()
        self.terminate()
        self.join(_exit.grace() + 1)

    def poke(self) -> None:
        """Makes the collector look at the feeders again."""
        if self.closed:
            self._wake()

    # What happens in the thread of whoever submits, and in the collector.

    def _accepts(self, feeder: Feeder | None) -> bool:
        if self.terminated or self._owner != os.getpid():
            return False
        return not self.closed or (feeder is not None and feeder in self.feeders)

    def _withdraw(self, task: Task) -> bool:
        """Takes back a task; False if it is too late, because it has been sent or settled."""
        try:
            self._pending.remove(task)
        except ValueError:
            return False
        return self._live.pop(task.id, None) is not None

    def _feed(self) -> None:
        """Sends pending tasks as long as few are on their way."""
        while len(self._sent) < self.size * _AHEAD and not self.terminated:
            try:
                task = self._pending.popleft()
            except IndexError:
                return
            if task.begin():
                self._send(task)
            else:
                self._live.pop(task.id, None)

    def _send(self, task: Task) -> None:
        self._sent.add(task.id)
        try:
            self._tasks.send(task.payload, task.handles, tag=task.id)
        except Exception as error:
            if self._take(task.id):
                self._settle(task, False, error)
        else:
            # The channel has it now.
            task.payload, task.handles = b"", ()

    def _take(self, id: int) -> Task | None:
        self._sent.discard(id)
        return self._live.pop(id, None)

    @staticmethod
    def _settle(task: Task, done: bool, value: Any) -> None:
        """Tells a task its outcome; that may run callbacks of the user."""
        try:
            task.settle(done, value)
        except BaseException:
            sys.excepthook(*sys.exc_info())

    def _wake(self) -> None:
        self._results.send(b"", tag=WAKE)

    def _wanted(self) -> int:
        """How many workers there should be now; those that are more are left alone."""
        if self.terminated or self._stopping:
            return 0
        if self._eager and not self.closed:
            return self.size
        return min(self.size, len(self._live))

    @staticmethod
    def _broken(text: str) -> BaseException:
        from .exceptions import BrokenPool

        return BrokenPool(text)

    # The collector's own.

    def _collect(self) -> None:
        try:
            while not self._finished():
                self._start_missing()
                message = self._results.receive(timeout=self._patience(), child_events=self._events)
                if message is not None:
                    self._receive(message)
                self._bury_dead(force=message is None)
                del message
        except BaseException as error:
            self._break(f"the collector failed: {error!r}", error)
            self._kill_all()
        finally:
            self._fail_all()
            _exit.schedulers.discard(self)

    def _finished(self) -> bool:
        if self.terminated:
            self._end_workers()
            return not self.workers
        if not self.closed or self._live or self.feeders:
            return False
        if not self._stopping:
            self._stopping = True
            for _ in self.workers:
                self._tasks.send(b"", tag=STOP)
        return not self.workers

    def _patience(self) -> float:
        return _TICK if self._ending or len(self.workers) < self._wanted() else _BOUND

    def _receive(self, message: "Message") -> None:
        tag = message.tag
        if tag == WAKE:
            self._woken = False
            return
        if tag == SETUP_FAILED:
            error = _worker.rebuild(_pickling.loads(message)[1])
            self._break(f"the initializer raised {error!r} in a worker", error)
            return
        task = self._take(tag)
        if task is None:
            return  # Failed before, with the pool.
        self._deaths = 0
        self._feed()
        self._deliver(task, message)

    def _deliver(self, task: Task, message: "Message") -> None:
        try:
            done, value = _pickling.loads(message)
        except BaseException as error:
            done, value = False, self._unreadable(task, error)
        else:
            if not done:
                value = _worker.rebuild(value)
        self._settle(task, done, value)

    @staticmethod
    def _unreadable(task: Task, cause: BaseException) -> BaseException:
        from .exceptions import RemoteError

        error = RemoteError(f"the result of {task.describe()} has arrived, but cannot be loaded: {cause!r}")
        error.__cause__ = cause
        return error

    def _bury_dead(self, force: bool) -> None:
        events = _forkless.child_events()
        if events == self._events and not force:
            return
        self._events = events
        dead = [worker for worker in self.workers if not worker.is_alive()]
        if not dead:
            return
        # What is there now was sent before; what comes meanwhile can wait.
        for _ in range(self._results.qsize()):
            message = self._results.receive(block=False)
            if message is not None:
                self._receive(message)
        for worker in dead:
            self._bury(worker, time.monotonic() - self.workers.pop(worker))
        self._feed()

    def _bury(self, worker: "Process", age: float) -> None:
        from . import _evidence, process

        child = worker._child
        assert child is not None
        tag, code = child.claimed(), process.exit_code(child)
        task = self._take(tag) if tag else None
        if task is not None:
            from .exceptions import WorkerDied

            self._deaths = 0
            died = WorkerDied.of(task.describe(), "", worker.name, child, _evidence.memory_killer())
            self._settle(task, False, died)
        elif not self.terminated and not self._stopping:
            self._deaths = self._deaths + 1 if age < _LONG_LIFE else 0
            if self._deaths >= _PATIENCE * self.size:
                self._give_up(worker.name, child.pid, code)

    def _give_up(self, name: str, pid: int, code: int | None) -> None:
        from ._broken import describe_end

        hint = "look at what the initializer does" if self._setup else "look at what the workers import"
        self._break(
            f"{self._deaths} workers in a row ended without completing a task; "
            f"the last one, {name} (pid {pid}), {describe_end(code)}: {hint}",
            None,
        )

    def _start_missing(self) -> None:
        if time.monotonic() < self._retry_at:
            return
        try:
            while len(self.workers) < self._wanted():
                self._start_worker()
        except Exception as error:
            # With some workers left the work goes on, and there will be another attempt.
            self._retry_at = time.monotonic() + _TICK
            if not self.workers:
                self._break(f"no worker can be started: {error}", error)

    def _start_worker(self) -> None:
        from . import _evidence

        # It looks now, and again after a death.
        _evidence.memory_killer()
        worker = self._kind(
            target=_worker.work,
            args=(self._tasks, self._results, self._setup, self._limit),
            name=f"{self._label}-{next(_worker_numbers)}",
            daemon=True,
        )
        # Ctrl-C is for the owner, which then ends its workers; a death is told by the task that it hits.
        worker._ignore_interrupt = worker._dies_quietly = True
        worker.start()
        self.workers[worker] = time.monotonic()

    def _end_workers(self) -> None:
        """SIGTERM first, SIGKILL for those that are still there after a while."""
        self._fail_all()
        if not self._ending:
            self._ending = True
            for worker in self.workers:
                worker.terminate(_exit.grace())

    def _kill_all(self) -> None:
        for worker in self.workers:
            worker._signal(signal.SIGKILL)

    def _break(self, text: str, cause: BaseException | None) -> None:
        if self._failure is None and not self.terminated:
            self._failure = text, cause
        self.terminated = True

    def _fail_all(self) -> None:
        text, cause = self._failure or ("the pool was terminated before this task was done", None)
        self._pending.clear()
        self.feeders.clear()
        while True:
            try:
                _, task = self._live.popitem()
            except KeyError:
                return
            error = self._broken(text)
            error.__cause__ = cause
            self._settle(task, False, error)


def name_of(func: object) -> str:
    """The name of a function, for messages."""
    if isinstance(func, functools.partial):
        return name_of(func.args[0] if func.func is _worker.run_star_chunk else func.func)
    module, name = getattr(func, "__module__", None), getattr(func, "__qualname__", None)
    if name is None:
        return f"{name_of(type(func))} object"
    return name if module in (None, "builtins", "__main__") else f"{module}.{name}"


def cut(items: Iterable[Any], size: int) -> Iterator[tuple[Any, ...]]:
    """The items in tuples of `size`; the last one may be shorter."""
    iterator = iter(items)
    while chunk := tuple(itertools.islice(iterator, size)):
        yield chunk
