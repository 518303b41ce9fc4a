"""`ThreadPool`, and what runs its tasks: threads of this process, in place of workers and their scheduler.

`Threads` has the part of the scheduler's interface that `Pool` uses. A task is a function without arguments
and a *settle*, which takes its outcome. Who takes a task's entry out of `_open` settles it: the thread that
ran it, or `terminate`, which waits for no thread and fails what is not done.

There are no locks: what several threads change, they change by single steps of the interpreter. As in other
pools, callbacks are called one after the other. So once a task has one, outcomes go through a thread that
does nothing else, the *caller*.
"""

import itertools
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from . import _pickling
from ._staff import as_count
from .pool import Pool

if TYPE_CHECKING:
    from ._forkless import Arrivals, Gather
    from ._options import Options
    from ._results import AsyncResult, Part

Settle = Callable[[bool, Any], object]


class Task(NamedTuple):
    """A call that is to be done, and its number."""

    number: int
    call: Callable[[], Any]


class Threads:
    """The threads of a pool and the tasks they run.

    Args:
        size: how many.
        initializer: called first in every thread; what it raises breaks the pool.
        initargs: its arguments.
    """

    is_own = True

    def __init__(self, size: int, initializer: Callable[..., object] | None, initargs: Sequence[Any]) -> None:
        self.size = size
        self.closed = self.terminated = False
        self.feeders: set[Any] = set()
        self._initializer, self._initargs = initializer, initargs
        self._failure: BaseException | None = None
        self._owner, self._numbers = os.getpid(), itertools.count()
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        self._open: dict[int, Settle] = {}
        self._outcomes: SimpleQueue[tuple[Settle, bool, Any] | None] = SimpleQueue()
        # Taken out by who makes the caller, by who tells the threads to end, and one by each that ends.
        self._no_caller, self._not_ended, self._alive = [None], [None], [None] * size
        self._caller: threading.Thread | None = None
        self._caller_ended = False
        self._threads = [_thread(self._work, f"ThreadPool-{index + 1}") for index in range(size)]
        try:
            for thread in self._threads:
                thread.start()
        except BaseException:  # The system has no more of them.
            self.terminate()
            raise

    @property
    def state(self) -> str:
        """One of "RUN", "CLOSE" and "TERMINATE", as in `multiprocessing.pool`."""
        return "TERMINATE" if self.terminated else "CLOSE" if self.closed else "RUN"

    @property
    def workers(self) -> list[threading.Thread]:
        """The threads that have not ended."""
        return [thread for thread in self._threads if thread.is_alive()]

    def check(self, feeder: object = None) -> None:
        """Raises what submitting would raise now; a feeder may submit after `close` too."""
        if self._owner != os.getpid():
            raise _broken(f"the threads are those of process {self._owner}, which this one was forked from")
        if self._failure is not None:
            raise self._no_use() from self._failure
        if self.terminated or (self.closed and feeder not in self.feeders):
            raise ValueError("Pool not running")

    def publish(self, function: Callable[..., Any]) -> Any:
        """The function as tasks have it: itself."""
        return function

    def adopt(self, result: "AsyncResult[Any]") -> None:
        """The outcomes of several tasks will be one."""
        if result._has_callbacks and _take(self._no_caller):
            self._caller = _thread(self._call_callbacks, "ThreadPool callbacks")
            self._caller.start()

    def submit(self, result: "AsyncResult[Any]", call: Any, options: "Options | None" = None) -> None:
        """Accepts a call; see `Scheduler.submit`."""
        self._expect(options)
        self.adopt(result)
        function, args, kwds = call
        self._add(
            lambda: function(*args, **kwds),
            lambda done, value: result.set_result(value) if done else result.set_exception(value),
        )

    def submit_items(
        self, gather: "Gather", function: Any, items: Iterable[Any], options: "Options | None" = None
    ) -> None:
        """Accepts a task for each item; see `Scheduler.submit_items`."""
        from ._results import Part

        for index, item in enumerate(items):
            self.submit_chunk(Part(gather, index, 1), function, (item,), False, options)

    def submit_chunk(
        self, part: "Part", function: Any, items: Iterable[Any], star: bool, options: "Options | None" = None
    ) -> None:
        """Accepts one task for several calls; see `Scheduler.submit_chunk`."""
        self._expect(options)
        self._add(lambda: _run(function, items, star), part.settle)

    def submit_parts(
        self,
        arrivals: "Arrivals",
        function: Any,
        parts: Iterable[Any],
        start: int,
        chunks: bool,
        options: "Options | None",
        feeder: object,
    ) -> None:
        """Accepts a task for each part of an input; see `Scheduler.submit_parts`."""
        self._expect(options, feeder)
        for part in parts:
            self._add(*_arriving(arrivals, arrivals.expect(), function, part, chunks))

    def take(self, arrivals: "Arrivals", timeout: float | None) -> tuple[bool, Any] | None:
        """As `Arrivals.next`."""
        return arrivals.next(timeout)

    def poke(self) -> None:
        """A feeder has ended."""
        self._end_if_done()

    def close(self) -> None:
        """Accepts no more tasks; the threads end when all are done."""
        if self._owner == os.getpid():
            self.closed = True
            self._end_if_done()

    def terminate(self) -> None:
        """Fails what is not done. A thread that runs a task ends after it: nothing can break it off."""
        if self._owner == os.getpid():
            self.closed = self.terminated = True
            self._fail_all()
            self._outcomes.put(None)
            self._end_if_done()

    def join(self, timeout: float | None = None) -> None:
        """Waits until the threads have ended; with a timeout, in seconds, only for callbacks."""
        if self._owner != os.getpid():
            return
        threads = self._threads if timeout is None else []
        for thread in (*threads, self._caller):
            if thread is not None and thread is not threading.current_thread():
                thread.join(timeout)

    def _ahead(self) -> int:
        return self.size

    def _ids(self, pending: bool) -> list[int]:
        return list(self._open)

    def _sink_of(self, number: int) -> Settle | None:
        return self._open.get(number)

    # What the threads do.

    def _work(self) -> None:
        try:
            if self._initializer is not None:
                self._initializer(*self._initargs)
        except BaseException as error:
            self._failure = error
            self._fail_all()
        while (task := self._tasks.get()) is not None:
            self._do(task)
            del task
        # What ends one thread ends all, and the last one ends the caller.
        self._tasks.put(None)
        _take(self._alive)
        if not self._alive:
            self._outcomes.put(None)

    def _do(self, task: Task) -> None:
        if task.number not in self._open:
            return
        try:
            done, value = True, task.call()
        except BaseException as error:
            # SystemExit too: it is the outcome of the task. In `multiprocessing` it ends the thread, and who
            # waits for the result waits for ever.
            done, value = False, error
        self._settle(task.number, done, value)

    def _add(self, call: Callable[[], Any], settle: Settle) -> None:
        task = Task(next(self._numbers), call)
        self._open[task.number] = settle
        self._tasks.put(task)
        if self.terminated or self._failure is not None:  # in the meantime, and nobody else may see this one
            self._fail_all()

    def _settle(self, number: int, done: bool, value: Any) -> None:
        settle = self._open.pop(number, None)
        if settle is None:
            return
        if self._no_caller:
            settle(done, value)
            return
        self._outcomes.put((settle, done, value))
        if self._caller_ended:  # perhaps without having seen this one
            self._tell_the_rest()

    def _fail_all(self) -> None:
        for number in list(self._open):
            self._settle(number, False, self._no_use())

    def _call_callbacks(self) -> None:
        while (outcome := self._outcomes.get()) is not None:
            _tell(*outcome)
            del outcome
        self._caller_ended = True
        self._tell_the_rest()

    def _tell_the_rest(self) -> None:
        while not self._outcomes.empty():
            try:
                outcome = self._outcomes.get_nowait()
            except Empty:  # Somebody else was faster.
                return
            if outcome is not None:
                _tell(*outcome)

    def _end_if_done(self) -> None:
        if self.closed and (self.terminated or not self.feeders) and _take(self._not_ended):
            self._tasks.put(None)

    def _expect(self, options: "Options | None", feeder: object = None) -> None:
        self.check(feeder)
        if options is not None and (options.timeout or options.retries or options.priority):
            raise TypeError(
                "a task of a ThreadPool has no timeout, retries or priority: nothing can break off a thread; "
                "those of a Pool have"
            )

    def _no_use(self) -> BaseException:
        if self._failure is None:
            return _broken("the pool was terminated before this task was done")
        error = _broken(f"the initializer of the pool has raised {self._failure!r}")
        error.__cause__ = self._failure
        return error


def _thread(target: Callable[[], object], name: str) -> threading.Thread:
    return threading.Thread(target=target, name=name, daemon=True)


def _tell(settle: Settle, done: bool, value: Any) -> None:
    try:
        settle(done, value)
    except BaseException as error:
        # A callback's: reported like that of any thread, and the others are still called.
        thread = threading.current_thread()
        threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, thread)))


def _take(tokens: list[None]) -> bool:
    """Takes one out; whether there was one. Of two who do it at the same time only one gets the last."""
    try:
        tokens.pop()
    except IndexError:
        return False
    return True


def _run(function: Callable[..., Any], items: Iterable[Any], star: bool) -> list[Any]:
    return [function(*item) if star else function(item) for item in items]


def _arriving(
    arrivals: "Arrivals", number: int, function: Any, part: Any, chunks: bool
) -> tuple[Callable[[], Any], Settle]:
    def settle(done: bool, value: Any) -> None:
        arrivals.put(number, chunks, done, value)

    return (lambda: _run(function, part, False) if chunks else function(part)), settle


def _broken(text: str) -> BaseException:
    from .exceptions import BrokenPool

    return BrokenPool(text)


class ThreadPool(Pool):
    """A pool of threads with the interface of `Pool`; the counterpart of `multiprocessing.pool.ThreadPool`.

    Tasks, arguments and results are not pickled, and share all memory. What differs from there: a task that
    raises SystemExit fails, rather than being waited for for ever; so do tasks when the initializer raises
    (`BrokenPool`), and those that are not done when the pool is terminated; `imap` reads its input as results
    are taken. What differs from `Pool`: nothing can break off a thread, so tasks have no options, and
    `terminate` does not wait for those that run.

    Args:
        processes: how many threads; what `cpu_count` says if None.
        initializer: called first in every thread. If it raises, the pool is broken.
        initargs: its arguments.

    Raises:
        ValueError: fewer than one.
        TypeError: the number is none, or the initializer cannot be called.

    Example:
        >>> with ThreadPool(2) as pool:
        ...     pool.map(len, ["a", "bb"])
        [1, 2]
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
    ) -> None:
        from ._cpus import cpu_count

        size = cpu_count() if processes is None else as_count(processes, "processes")
        if size < 1:
            raise ValueError("Number of processes must be at least 1")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._context = None
        self._scheduler: Any = Threads(size, initializer, tuple(initargs))

    @staticmethod
    def Process(ctx: object, *args: Any, **kwds: Any) -> Any:  # noqa: N802
        """A `forkless.dummy.Process`."""
        from .dummy import Process

        return Process(*args, **kwds)

    def stream(self, *args: Any, **kwds: Any) -> NoReturn:
        """Raises NotImplementedError: a generator runs as it is read, without a thread."""
        self._refuse("stream")

    def statistics(self) -> NoReturn:
        """Raises NotImplementedError: threads are not watched."""
        self._refuse("statistics")

    def insights(self) -> NoReturn:
        """Raises NotImplementedError: threads are not watched."""
        self._refuse("insights")

    def resize(self, processes: int) -> NoReturn:
        """Raises NotImplementedError: there are as many threads as at first."""
        self._refuse("resize")

    def _refuse(self, name: str) -> NoReturn:
        raise NotImplementedError(f"a ThreadPool has no {name}(); a forkless.Pool has")

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        del _pickling.handlers[cls]

    def __reduce__(self) -> NoReturn:
        raise NotImplementedError(
            "pool objects cannot be passed between processes: threads are of one process"
        )


del _pickling.handlers[ThreadPool]
