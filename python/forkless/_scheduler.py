"""The engine of `Pool` and `Executor`: tasks out, outcomes in, dead workers replaced.

How it works: tasks go through one channel to whichever worker is free, answers come back through another.
What happens for every task is in the core (`pool/dispatch.rs` and its neighbours). One thread, the
*collector*, takes in answers and does what is to be done now and then: it starts workers, learns of their
ends, sees to deadlines and retries. When a worker ends it first takes in all answers that are already
there, so that what is then still claimed by the worker is what was lost with it: that task fails with
`WorkerDied`, and a new worker starts.

`submit` may be called from a signal handler, a `__del__` or a callback that interrupted another `submit` in
the same thread. So nothing here is guarded by a lock of Python's; what threads share is changed by single
atomic operations, in an order that makes every race end well:

- who changes the state wakes the collector afterwards, and who submits looks at the state again afterwards;
- a task's outcome is whoever takes the task out of the core's table, which one thread does.
"""

import functools
import itertools
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from . import _errors, _exit, _forkless, _pickling, _worker
from ._deadlines import Deadlines
from ._forkless import Dispatcher
from ._insights import PoolStatistics, Slowest
from ._retries import Retries
from ._staff import Staff
from ._state import SchedulerState
from .exceptions import TaskInterrupted

if TYPE_CHECKING:
    from ._forkless import Arrivals, Function, Gather, Message
    from ._nested import Link
    from ._options import Options
    from ._requests import Requests
    from ._results import MapResult
    from ._staff import Hiring
    from ._stream import Stream
    from .process import Process

# How often to look again while something is missing that announces itself to nobody, in seconds; and
# otherwise, so that no wait rests on an announcement alone.
_TICK, _BOUND = 0.2, 1.0
# When so many tasks were there and are done, their memory is given back to the system.
_MANY = 20_000


class Feeder(Protocol):
    """Something that has more tasks to submit, also after `close`."""

    def feed_all(self) -> None:
        """Submits them now."""


class Scheduler(SchedulerState, Dispatcher):
    """Workers, and the tasks they run.

    Args:
        hiring: what workers there are to be.
        closed_error: what `submit` raises when no more tasks are accepted.
        waits_at_exit: whether the interpreter's exit waits for the tasks, rather than terminating the
            workers.
    """

    def __new__(cls, hiring: "Hiring", *, closed_error: Exception, waits_at_exit: bool) -> "Scheduler":
        return super().__new__(cls, hiring.size, Staff.places(hiring.size))

    def __init__(self, hiring: "Hiring", *, closed_error: Exception, waits_at_exit: bool) -> None:
        _get_ready()
        super().__init__(
            "the workers belong", closed_error, "the pool was terminated before this task was done"
        )
        self.feeders: set[Feeder] = set()
        # Those that somebody may still take items from.
        self.streams: set[weakref.ref[Stream[Any]]] = set()
        self.staff = Staff(self, hiring)
        self._deadlines, self._retries = Deadlines(self), Retries(self)
        self.slowest = Slowest()
        # What other processes have submitted, once this pool was sent to one.
        self._requests: Requests | None = None
        self._link: Link | None = None
        self._lost = 0
        self._label = hiring.label
        self._waits_at_exit = waits_at_exit
        # Taken out by the thread that is the collector.
        self._once = [None]
        self._thread: threading.Thread | None = None
        self._woken = False
        self._most = 0
        self._events = _forkless.child_events()

    # What pools and executors call, from any thread.

    # Whether the pool is one of this process.
    is_own = True

    @property
    def size(self) -> int:
        """How many workers there are at most."""
        return self.staff.size

    @property
    def workers(self) -> "list[Process]":
        """The workers there are now."""
        return list(self.staff.workers)

    def start_workers(self) -> None:
        """Starts all workers now, in this thread, so that what goes wrong is raised here."""
        try:
            self.staff.fill(self.size)
            self.start_collector()
        except BaseException:
            self.staff.dismiss()
            raise

    def start_collector(self) -> None:
        """Starts the collector, unless there is one; it starts workers as they are needed.

        Ctrl-C may come at any moment here, so what is started says itself whether it is the collector.
        """
        if self._thread is not None:
            return
        _exit.register()
        name = f"forkless {self._label} collector"
        # If the system has no more threads, or the interpreter is about to exit, the next one may try again.
        threading.Thread(target=self._begin, name=name, daemon=True).start()
        while self._thread is None:
            time.sleep(1e-4)  # It is about to.

    def publish(self, function: "Callable[..., Any]") -> "Function":
        """The function as tasks have it: pickled once."""
        return _pickling.publish(function)

    def submit(
        self,
        sink: Any,
        call: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]],
        options: "Options | None" = None,
    ) -> None:
        """Accepts a task, pickled as it is now. What does not pickle is an outcome of the task.

        Args:
            sink: receives the outcome: a `BaseFuture`, or something with `settle(done, value)`.
            call: function, positional and keyword arguments.
            options: how to treat it.

        Raises:
            BrokenPool: the workers cannot run.
            Exception: the `closed_error`; no more tasks are accepted.
        """
        self._expect(options)
        self._accepted(self._submit(sink, *call, options))

    def submit_chunk(
        self,
        sink: Any,
        function: "Function",
        items: tuple[Any, ...],
        star: bool,
        options: "Options | None" = None,
    ) -> None:
        """Accepts one task for several calls; see `submit`.

        Args:
            sink: receives the list of their results.
            function: published.
            items: the argument of each call.
            star: they are several arguments each.
            options: how to treat it.
        """
        self._expect(options)
        self._accepted(self._submit_chunk(sink, function, items, star, options))

    def submit_items(
        self, gather: "Gather", function: "Function", items: Iterable[Any], options: "Options | None" = None
    ) -> None:
        """Accepts a task for each item, whose results go to `gather`; see `submit`."""
        self._expect(options)
        self._submit_items(gather, function, items, options)
        self._most = max(self._most, self._counts()[0])
        if not self._accepts(None):
            self._fail_all()
        self._call_workers()

    def submit_parts(
        self,
        arrivals: "Arrivals",
        function: "Function",
        parts: "list[Any]",
        start: int,
        chunks: bool,
        options: "Options | None",
        feeder: Feeder,
    ) -> None:
        """Accepts a task for each part of an input, whose results go to `arrivals`; see `submit`.

        Args:
            arrivals: receives the results.
            function: published.
            parts: items, or with `chunks` tuples of items.
            start: the place of the first item in the input.
            chunks: whether the parts are tuples.
            options: how to treat the tasks.
            feeder: one of `feeders`; it may submit after `close` as well.
        """
        self._expect(options, feeder)
        self._submit_parts(arrivals, function, parts, start, chunks, options)
        if self.terminated:
            self._fail_all()
        self._call_workers()

    def adopt(self, result: "MapResult[Any]") -> None:
        """The outcomes of several tasks will be one."""

    def take(self, arrivals: "Arrivals", timeout: float | None) -> tuple[bool, Any] | None:
        """As `Arrivals.next`."""
        return arrivals.next(timeout)

    def link(self) -> "Link":
        """What other processes are given, to submit tasks as well; see `_nested`.

        From now on tasks may wait for others of this pool.
        """
        if self._link is None:
            from ._nested import Link
            from ._requests import Requests

            _, requests, board = self._ends()
            self._requests = self._requests or Requests(self)
            token = os.urandom(8).hex()
            self._link = Link(token, self._owner, requests, board, self.size, self._closed_error)
            self._expect_nested()
        if self._owner == os.getpid():
            self.start_collector()
        return self._link._replace(size=self.size)

    def lets_go(self, id: int) -> bool:
        """Whether a task is not on its way to a worker."""
        return self._stage(id) != "sent"

    def withdraw(self, id: int) -> Callable[[], None] | None:
        """Begins to take a task back, whose future is about to be cancelled.

        Returns:
            What is to be called once it is; None if nothing is left to do.
        """
        if self._withdraw(id) == "sent":
            return functools.partial(self._end_task, id)
        return None

    def close(self) -> None:
        """Accepts no more tasks; the workers end when all accepted ones are done. Does not wait."""
        if self._owner == os.getpid():
            self.closed = True
            self._accept_only(1)
            self._drain()
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
            self._join(thread, None if timeout is None else time.monotonic() + timeout)

    def _join(self, thread: threading.Thread, deadline: float | None) -> None:
        while thread.is_alive():
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not self.streams or left == 0:
                thread.join(left)
                return
            thread.join(_TICK if left is None else min(_TICK, left))
            # Their workers may wait for this very thread.
            for reference in list(self.streams):
                stream = reference()
                if stream is not None:
                    stream.end_if_stuck()
                del stream

    def cancel_pending(self) -> None:
        """Gives up the tasks that have not been sent to a worker."""
        for id in self._ids(True):
            sink = self._sink_of(id)
            if sink is not None:
                sink.give_up()
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

    def describe(self, id: int) -> tuple[str, str]:
        """What a task is, for messages: the name of its function, and its arguments, shortened."""
        options, call = self._options_of(id), self._call_of(id)
        func, args, kwargs = call or (None, None, None)
        name = None if options is None else options.name
        name = name or ("a task" if func is None else name_of(func))
        items = self._items_of(id) or getattr(self._sink_of(id), "items", None)
        if items is not None:
            start, count, several = items
            name = f"{name} ({place_of(start, count)})"
            if several:
                return name, ""  # The arguments are those of several calls.
        if args is None or kwargs is None:
            return name, ""  # They are not kept.
        from . import _evidence

        return name, _evidence.describe_arguments(args, kwargs)

    def resize(self, size: int) -> None:
        """Changes how many workers there are at most."""
        self.staff.resize(size)
        self._set_workers(size)
        self._wake()

    def statistics(self) -> PoolStatistics:
        """What has become of the tasks, and what the workers have done."""
        _, waiting, sent = self._counts()
        workers = self.staff.statistics()
        done = sum(worker.tasks for worker in workers)
        slowest = self.slowest.ranking()
        return PoolStatistics(
            self.size, waiting, sent, done, self._lost, self._retries.count, workers, slowest
        )

    # What happens in the thread of whoever submits.

    def _expect(self, options: "Options | None", feeder: Feeder | None = None) -> None:
        if self._thread is None:
            self.start_collector()
        if not self._accepts(feeder):
            self.check()
        if options is not None and options.timeout is not None:
            self.expect_deadline(options.timeout)

    def _accepted(self, id: int) -> None:
        # The state may have changed since it was looked at: then nobody may be there to give it an outcome.
        if not self._accepts(None) and id and self._forget(id):
            self._wake()  # Who waits for the last task may have counted this one.
            self.check()
        self._call_workers()

    def _accepts(self, feeder: Feeder | None) -> bool:
        if self.terminated or self._owner != os.getpid():
            return False
        return not self.closed or (feeder is not None and feeder in self.feeders)

    def _call_workers(self) -> None:
        if not self._woken and self.staff.is_short():
            self._woken = True
            self._wake()

    def _end_task(self, id: int) -> None:
        """A task that was sent is not wanted any more."""
        self._deadlines.cancel(id)
        self._forget(id)
        if self._requests is not None:
            self._requests.break_off(id)
        self._wake()

    # The collector's own.

    def _begin(self) -> None:
        try:
            self._once.pop()
        except IndexError:
            return  # Another one was started at the same time.
        _exit.schedulers.add(self)
        self._thread = threading.current_thread()
        self._collect()

    def _collect(self) -> None:
        try:
            while not self._finished():
                begun = time.monotonic()
                self._start_missing()
                self._deadlines.note_pause(time.monotonic() - begun)
                events = self._step(self._patience(), self._events)
                for kind, id, message in events:
                    self._react(kind, id, message)
                self._bury_dead(force=not events)
                self._deadlines.look()
                self._retries.look()
                self.staff.shrink()
                self._give_back()
                if self._requests is not None:
                    self._requests.look()
                # Workers may have taken tasks without an answer since: they died, or the task was cancelled.
                self._feed()
        except BaseException as error:
            self._break(f"the collector failed: {error!r}", error)
            self.staff.kill_all()
        finally:
            self._fail_all()
            # Whoever sees this has all outcomes.
            self._accept_only(2)
            _exit.schedulers.discard(self)

    def _give_back(self) -> None:
        live = self._counts()[0]
        if live:
            self._most = max(self._most, live)
        elif self._most >= _MANY:
            self._most = 0
            _forkless.trim_heap()

    def _finished(self) -> bool:
        if self.terminated:
            self._fail_all()
            self.staff.end()
            return not self.staff.workers
        if not self.closed or self._counts()[0] or self.feeders:
            return False
        self.staff.send_home()
        return not self.staff.workers

    def _patience(self) -> float:
        bound = _TICK if self.staff.is_short() or self.staff.ending else _BOUND
        return max(0.0, min(bound, self._deadlines.due_in(), self._retries.due_in(), self.staff.due_in()))

    def _react(self, kind: int, id: int, message: "Message") -> None:
        if kind == _worker.FAILED:
            passed_on = self._requests is not None and self._requests.fail(id, message)
            if not passed_on and self._stage(id) is not None:
                self.fail(id, _errors.rebuild(_pickling.loads(message)))
        elif kind == _worker.SETUP_FAILED:
            step, report = _pickling.loads(message)
            error = _errors.rebuild(report)
            self._break(f"{step} raised {error!r} in a worker", error)
        elif kind == _worker.REVOKED:
            self._deadlines.forget(id)
        elif kind == _worker.RETIRED:
            self.staff.retire(id)
        else:
            self._woken = False

    def fail(self, id: int, error: BaseException) -> None:
        """A task has failed, and is held: it is tried again, or that is its outcome."""
        found, error = error, self._deadlines.explain(id, error)
        if self._requests is not None and (found is not error or isinstance(found, TaskInterrupted)):
            self._requests.break_off(id)
        if not self._retries.accept(id, error):
            self._settle(id, False, error)

    def _requested(self, kind: int, key: int, message: "Message") -> None:
        """Another process submits a task, or has something to say about one."""
        if self._requests is not None:
            self._requests.react(kind, key, message)

    def refusal(self) -> BaseException:
        """What `submit` would raise now."""
        try:
            self.check()
        except BaseException as error:
            return error.with_traceback(None)
        from .exceptions import BrokenPool

        return BrokenPool("the pool does not accept this task")

    def expect_deadline(self, timeout: float) -> None:
        """Tasks will come that may take so many seconds."""
        self._deadlines.expect(timeout)

    def looks_into_errors(self, id: int) -> bool:
        """Whether the failure of a task may not be its outcome."""
        options = self._options_of(id)
        return (options is not None and options.retries is not None) or self._deadlines.concerns(id)

    def _deliver_output(self, message: "Message") -> None:
        """Something that a worker has printed, logged or warned of."""
        from . import _output

        _output.deliver(message.payload)

    def _note_slow(self, id: int, message: "Message") -> None:
        """A task, whose answer comes next, is one of the slowest of its worker."""
        if self._stage(id) is not None:
            self.slowest.add(int.from_bytes(message.payload, "little") / 1e9, *self.describe(id))

    def _unreadable(self, function: Any, cause: BaseException) -> BaseException:
        """The error that stands for a result which came, and cannot be loaded."""
        from ._broken import UnreadableResult

        what = "a task" if function is None else name_of(function)
        error = UnreadableResult(f"the result of {what} has arrived, but cannot be loaded: {cause!r}")
        error.__cause__ = cause
        return error

    def _bury_dead(self, force: bool) -> None:
        events = _forkless.child_events()
        if events == self._events and not force:
            return
        self._events = events
        dead = self.staff.dead()
        if not dead:
            return
        # What is there now was sent before; what comes meanwhile can wait.
        sent = self._answered()
        while not self._has_taken_in(sent):
            for kind, id, message in self._step(0.0, events):
                self._react(kind, id, message)
        for worker in dead:
            lost = self.staff.bury(worker)
            if lost is not None:
                self._lose(lost, worker)
            self.staff.strangers.discard(worker)
            self._deadlines.release(worker)
        if self.staff.failure is not None:
            self._break(self.staff.failure, None)

    def _lose(self, tag: int, worker: "Process") -> None:
        """What a worker had claimed has died with it, unless it was answered."""
        id = self._hold_lost(tag)
        if id is None:
            return
        self._lost += 1
        from . import _evidence
        from .exceptions import WorkerDied

        child = worker._child
        assert child is not None
        task, arguments = self.describe(id)
        if self._requests is not None:
            self._requests.break_off(id)
        left = worker in self.staff.strangers
        self.fail(id, WorkerDied.of(task, arguments, worker.name, child, _evidence.memory_killer(), left))

    def _start_missing(self) -> None:
        failure = self.staff.fill_wanted()
        if failure is not None:
            self._break(f"no worker can be started: {failure}", failure)

    def _fail_all(self) -> None:
        self.feeders.clear()
        while ids := self._ids(False):
            for id in ids:
                self._settle(id, False, self._not_done())


def _get_ready() -> None:
    """Loads what `submit` and the collector otherwise load when they first need it.

    A signal handler that submits, in the middle of the loading of a module, would find half of it, and cannot
    wait for the rest. And a copy that user code forks while the collector loads something could never load
    that, nor anything that needs it.
    """
    import subprocess  # noqa: F401

    from . import _blame, _byvalue, _output, _programs, _surroundings  # noqa: F401


def name_of(func: object) -> str:
    """The name of a function, for messages."""
    if isinstance(func, functools.partial):
        return name_of(func.args[0] if func.func is _worker.run_star_chunk else func.func)
    module, name = getattr(func, "__module__", None), getattr(func, "__qualname__", None)
    if name is None:
        return f"{name_of(type(func))} object"
    return name if module in (None, "builtins", "__main__") else f"{module}.{name}"


def place_of(start: int, count: int) -> str:
    """Some items of an input, for messages."""
    return f"item {start}" if count == 1 else f"items {start} to {start + count - 1}"


def cut(items: Iterable[Any], size: int) -> Iterator[tuple[Any, ...]]:
    """The items in tuples of `size`; the last one may be shorter."""
    iterator = iter(items)
    while chunk := tuple(itertools.islice(iterator, size)):
        yield chunk
