"""The scheduler of an executor whose workers are those of a cluster; the counterpart of `_scheduler`.

One thread, the *collector*, does everything that has to do with the engine. Others put what is to be done
into its *inbox*, which may be done in the middle of anything: in a `__del__`, in a signal handler. So no lock
of ours is there to be held, and the user's threads wait for none of the engine's.

Only a *window* of tasks is handed to the engine, a few for each of its places. The others wait here, where
they can be overtaken and taken back. Outcomes, callbacks and retries happen in the collector, too.
"""

import atexit
import heapq
import itertools
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import _errors, _evidence, _exit
from .._insights import PoolStatistics
from .._retries import Retries
from .._scheduler import name_of
from .._state import SchedulerState
from ..exceptions import BrokenPool, TaskInterrupted, WorkerDied
from . import outcomes, pickles, wire
from .blocks import Shelf
from .engine import Address, Demand, Engine, Lost
from .future import ClusterFuture
from .sharing import Sharing
from .tally import Tally
from .task import Published, Task

if TYPE_CHECKING:
    from .options import ClusterOptions

# How often to look after the connection, and to count the places of the cluster, in seconds.
_TICK, _RECOUNT = 0.5, 2.0
# How much is done at a time, so that outcomes and new tasks take turns.
_BATCH = 256


class ClusterScheduler(SchedulerState):
    """Has a cluster run tasks.

    Args:
        address: of the cluster.
        engine: what talks to it.
        timeout: how long connecting may take, in seconds.

    Raises:
        ConnectionError: it cannot be reached in that time.
    """

    # As in `_scheduler.Scheduler`, with the same meaning.
    is_own = True
    workers: tuple[Any, ...] = ()
    future = ClusterFuture
    publish = Published

    def __init__(self, address: Address, engine: Engine, timeout: float) -> None:
        super().__init__(
            f"the connection to {address} belongs",
            RuntimeError("cannot schedule new futures after shutdown"),
            "the executor was terminated before this task was done",
        )
        self.address, self.engine = address, engine
        engine.arrived = self.arrived
        self.over = False
        self._inbox: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._numbers = itertools.count(1)
        self._tasks: dict[int, Task] = {}
        self._pending: list[Task] = []
        self._sent = 0
        self._arrived: deque[int] = deque()
        self._retries = Retries(self)
        self._tally = Tally()
        self._shelf = Shelf(engine.put, self.later)
        self._sharing = Sharing(engine, self._shelf, self.later)
        self._exits = self._is_open = False
        self._slots, self._next_look, self._next_count = 1, 0.0, 0.0
        self._connect(timeout)

    # What the executor calls, from any thread.

    @property
    def size(self) -> int:
        """How many tasks run at the same time at most, as of now."""
        return self._slots

    def later(self, action: Callable[[], object]) -> None:
        """Has the collector call this. May be called in the middle of anything."""
        self._inbox.put(action)

    def submit(
        self,
        sink: "ClusterFuture[Any]",
        call: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]],
        options: "ClusterOptions | None" = None,
        published: Published | None = None,
    ) -> None:
        """Accepts a task, pickled as it is now, or but for its function; as `_scheduler.Scheduler.submit`."""
        self.check()
        function, args, kwargs = call
        try:
            if published is None:
                packed = pickles.pack(call, ("function", "args", "kwargs"))
            else:
                packed = pickles.pack((args, kwargs), ("args", "kwargs"))
        except Exception as error:
            from .._pickling import of_call

            sink.settle(False, of_call(error, function))
            return
        name = name_of(function) if options is None or options.name is None else options.name
        described = name, _evidence.describe_arguments(args, kwargs)
        self._accept(sink, packed, published, False, options, described)

    def submit_chunk(
        self,
        sink: "ClusterFuture[Any]",
        function: Published,
        items: tuple[Any, ...],
        star: bool,
        options: "ClusterOptions | None" = None,
    ) -> None:
        """Accepts one task for several calls; as `_scheduler.Scheduler.submit_chunk`."""
        self.check()
        try:
            packed = pickles.pack(items, [f"item {index}" for index in range(len(items))])
        except Exception as error:
            sink.settle(False, error)
            return
        name = name_of(function.function) if options is None or options.name is None else options.name
        self._accept(sink, packed, function, True, options, (f"{name} ({len(items)} items)", ""))

    def share(self, obj: Any) -> Any:
        """As `forkless.share`, and sends it, before a task uses it.

        Raises:
            BrokenPool: the cluster cannot be used any more.
            RuntimeError: the executor was shut down.
        """
        self.check()
        return self._sharing.share(obj)

    def _accept(
        self,
        sink: "ClusterFuture[Any]",
        call: pickles.Packed,
        function: Published | None,
        is_chunk: bool,
        options: "ClusterOptions | None",
        described: tuple[str, str],
    ) -> None:
        task = Task(next(self._numbers), sink, call, function, is_chunk, options, described)
        sink.adopt(self, task)
        self._tasks[task.number] = task
        self.later(lambda: self._take_in(task))
        if self.over:  # It came to its end meanwhile, and may not have seen this one.
            self._settle(task, False, self._not_done())

    def close(self) -> None:
        """Accepts no more tasks; the connection ends when all accepted ones are done. Does not wait."""
        if self._owner == os.getpid():
            self.closed = True
            self.later(_nothing)

    def terminate(self) -> None:
        """Gives up what is not done, and ends the connection. Does not wait."""
        if self._owner == os.getpid():
            self.terminated = True
            self.later(_nothing)

    def join(self, timeout: float | None = None) -> None:
        """Waits until everything is settled and the connection has ended."""
        if self._owner == os.getpid() and threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def cancel_pending(self) -> None:
        """Gives up what has not been handed to the engine."""
        for task in list(self._tasks.values()):
            task.future.give_up()

    def lets_go(self, task: Task) -> bool:
        """Whether a task has not been handed to the engine."""
        return not task.is_sent

    def withdraw(self, task: Task) -> bool:
        """Takes a task back, whose future is about to be cancelled; False if it runs and cannot be ended."""
        handle = task.handle
        if handle is not None and not self.over and self.engine.is_running(handle):
            return False
        self.later(lambda: self._drop(task))
        return True

    def link(self) -> Any:
        """What other processes would be given."""
        raise TypeError(
            f"an executor of {self.address} stays where it was made: make another one in that process, with "
            "the same address"
        )

    def statistics(self) -> PoolStatistics:
        """What has become of the tasks, and where they ran."""
        waiting = len(self._tasks) - self._sent
        return self._tally.statistics(self._slots, max(0, waiting), self._sent, self._retries.count)

    # What `_attributes` looks for.

    def _ids(self, pending: bool) -> list[int]:
        return [task.number for task in list(self._tasks.values()) if not (pending and task.is_sent)]

    def _sink_of(self, number: int) -> "ClusterFuture[Any] | None":
        task = self._tasks.get(number)
        return None if task is None else task.future

    # Beginning and end.

    def _connect(self, timeout: float) -> None:
        connected: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        name = f"forkless {self.address} collector"
        self._thread = threading.Thread(target=self._begin, args=(connected, timeout), name=name, daemon=True)
        self._thread.start()
        try:
            error = connected.get(timeout=timeout + 1)
        except queue.Empty:
            self.terminate()  # When the engine comes back, the connection is closed.
            raise self.engine.unreachable(timeout) from None
        except BaseException:
            self.terminate()
            raise
        if error is not None:
            raise error
        # The engines have exit handlers of their own. The one that is registered last is called first, and so
        # the tasks are done before.
        atexit.register(self.at_exit)

    def at_exit(self) -> None:
        """The interpreter exits: in peace, what was accepted is done first."""
        self._exits = True
        if not _exit._was_interrupted():
            self.close()
            self.join()
        self.terminate()
        self.join(_exit.grace() + 5)
        if self._is_open:
            self._is_open = False
            self.engine.close()

    def _begin(self, connected: "queue.SimpleQueue[BaseException | None]", timeout: float) -> None:
        try:
            self.engine.connect(timeout)
            self._look()
        except BaseException as error:
            self.over = True
            connected.put(error)
            return
        connected.put(None)
        try:
            self._collect()
        except BaseException as error:
            self._break(f"the collector failed: {error!r}", error)
        finally:
            self._finish()

    def _finish(self) -> None:
        for task in list(self._tasks.values()):
            if task.handle is not None and self.engine.complaint() is None:
                self.engine.cancel(task.handle)
        self.over = True
        for task in list(self._tasks.values()):
            self._settle(task, False, self._not_done())
        self._shelf.clear()
        if self._sharing.is_read and not self._exits:
            self._is_open = True  # Until the exit: what is shared is read where the engine has it.
            return
        try:
            self.engine.close()
        finally:
            atexit.unregister(self.at_exit)

    # The collector's own.

    def _collect(self) -> None:
        while not self.terminated:
            self._look()
            self._act()
            self._take_replies()
            self._retries.look()
            self._hand_over()
            if self.closed and not self._tasks and self._inbox.empty():
                return

    def _look(self) -> None:
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _TICK
        cause: BaseException | None = None
        try:
            if now >= self._next_count:
                self._next_count = now + _RECOUNT
                self._slots = max(1, self.engine.slots())
        except Exception as error:
            cause = error
        self.engine.tend()
        complaint = self.engine.complaint()
        if complaint is not None:
            self._break(complaint, cause)

    def _act(self) -> None:
        # In a frame of its own: the last action is not to keep its task, and the memory of that.
        for action in self._actions():
            action()

    def _actions(self) -> list[Callable[[], object]]:
        """What there is to do; waits for something."""
        patience = min(self._next_look - time.monotonic(), self._retries.due_in())
        actions = []
        try:
            actions.append(self._inbox.get(timeout=max(0.0, patience)))
            while len(actions) < _BATCH:
                actions.append(self._inbox.get_nowait())
        except queue.Empty:
            pass
        return actions

    def _take_in(self, task: Task) -> None:
        if task.number in self._tasks:
            heapq.heappush(self._pending, task)

    def _drop(self, task: Task) -> None:
        """Its future was cancelled."""
        if self._tasks.pop(task.number, None) is None:
            return
        if task.handle is not None:
            self._sent -= 1
            self.engine.cancel(task.handle)
            task.handle = None

    def _hand_over(self) -> None:
        for_each, besides = self.engine.ahead
        while self._pending and not self.terminated:
            # What needs something special may wait for long, and is not to hold up the others.
            task = self._pending[0]
            is_special = task.options is not None and bool(task.options.resources)
            if not is_special and self._sent >= self._slots * for_each + besides:
                return
            heapq.heappop(self._pending)
            if task.number in self._tasks and not task.future.done():
                self._send(task)

    def _send(self, task: Task) -> None:
        function, options = task.function, task.options
        memory = task.call.memory if function is None else task.call.memory | function.packed.memory
        task.is_sent = True
        try:
            references = [self._shelf.reference(token, each) for token, each in memory.items()]
            job = wire.Job(
                wire.FORMAT,
                None if function is None else function.packed.parts,
                task.call.parts,
                task.is_chunk,
                task.limit,
                tuple(memory),
                f"{self.engine.title} worker",
            )
            demand = Demand(task.described[0], task.priority, {} if options is None else options.resources)
            task.handle = self.engine.start(task.number, wire.encode(job), references, demand)
            self._sent += 1
        except Exception as error:
            self._settle(task, False, self._refusal(task, error))

    def _refusal(self, task: Task, error: Exception) -> BaseException:
        complaint = self.engine.complaint()
        if complaint is not None:
            self._break(complaint, error)
        broken = BrokenPool(
            complaint
            or f"{self.engine.title} has refused {_evidence.describe_task(*task.described)}: {error}"
        )
        broken.__cause__ = error
        return broken

    def arrived(self, number: int) -> None:
        """A task has its reply; called by the engine, from whatever thread."""
        self._arrived.append(number)
        self.later(_nothing)

    def _take_replies(self) -> None:
        tasks: list[Task] = []
        while self._arrived and len(tasks) < _BATCH:
            task = self._tasks.get(self._arrived.popleft())
            if task is not None and task.handle is not None:
                tasks.append(task)
        if not tasks:
            return
        replies = self.engine.fetch([task.handle for task in tasks])
        for task, reply in zip(tasks, replies, strict=True):
            handle, task.handle = task.handle, None
            self._sent -= 1
            if isinstance(reply, Lost):
                self._lose(task, reply, handle)
            else:
                self._receive(task, reply)

    def _receive(self, task: Task, message: wire.Message) -> None:
        try:
            reply = wire.Reply(*wire.decode(message))
            self._tally.add(self.engine.title, reply, task)
            (value,) = pickles.loads(reply.value)
        except Exception as problem:
            self._settle(task, False, outcomes.unreadable(task, problem))
            return
        if reply.done:
            self._settle(task, True, value)
            return
        error = _errors.rebuild(value, load=pickles.load_report)
        if task.limit is not None and isinstance(error, TaskInterrupted):
            error = outcomes.late(task, task.limit, error)
        self._failed(task, error)

    def _lose(self, task: Task, lost: Lost, handle: Any) -> None:
        if lost.kind == "gone":
            self._break(lost.text, lost.cause)
            self._settle(task, False, self._not_done())
            return
        error = outcomes.of_lost(task, lost)
        if isinstance(error, WorkerDied):
            self._tally.lost += 1
            limit = task.limit
            if limit is not None and self.engine.was_late(handle):
                error = outcomes.late(task, limit, error)
        self._failed(task, error)

    def _failed(self, task: Task, error: BaseException) -> None:
        if not self._retries.accept(task.number, error):
            self._settle(task, False, error)

    # What `_retries` calls.

    def _options_of(self, number: int) -> "ClusterOptions | None":
        task = self._tasks.get(number)
        return None if task is None else task.options

    def _stage(self, number: int) -> object:
        return self._tasks.get(number)

    def _again(self, number: int) -> None:
        task = self._tasks.get(number)
        if task is not None:
            task.is_sent = False
            heapq.heappush(self._pending, task)

    # Outcomes.

    def _settle(self, task: Task, done: bool, value: Any) -> None:
        self._tasks.pop(task.number, None)
        task.future.settle(done, value)


def _nothing() -> None:
    """For who only wants the collector to look."""
