"""Threads behind the interface of processes: `forkless.dummy`, and `forkless.pool.ThreadPool`."""

from __future__ import annotations

import itertools
import os
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import forkless
import pytest
from forkless import dummy
from forkless.dummy import connection
from forkless.pool import ThreadPool
from support import PATIENCE, Outcome

Run = Callable[..., Outcome]


@pytest.fixture
def pool() -> Iterator[ThreadPool]:
    """A pool of two threads."""
    with ThreadPool(2) as pool:
        yield pool
    pool.join()


def exits(code: object) -> None:
    """Calls `sys.exit`."""
    sys.exit(code)  # type: ignore[arg-type]


# --- processes that are threads ---


@pytest.mark.parametrize(
    ("target", "args", "code"), [(int, (), 0), (exits, (None,), 0), (exits, (3,), 3), (exits, ("no",), 1)]
)
def test_exit_codes(target: Any, args: Any, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    process = dummy.Process(target=target, args=args)
    assert (process.exitcode, process.pid) == (None, None)
    process.start()
    process.join()
    assert (process.exitcode, process.is_alive()) == (code, False)
    assert capsys.readouterr().err == ("no\n" if args == ("no",) else "")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_exit_code_of_a_target_that_raises() -> None:
    process = dummy.Process(target=int, args=("x",))
    process.start()
    process.join()
    assert process.exitcode == 1


def test_a_process_of_threads_that_is_derived_from() -> None:
    class Worker(dummy.Process):
        def run(self) -> None:
            self.ran = threading.current_thread() is self

    worker = Worker(name="worker", daemon=True)
    worker.start()
    worker.join()
    assert (worker.ran, worker.exitcode, worker.name, worker.daemon) == (True, 0, "worker", True)


def test_children_are_those_of_the_thread_that_started_them() -> None:
    stop, seen = dummy.Event(), []
    child = dummy.Process(target=stop.wait)
    child.start()
    assert dummy.active_children() == [child]
    # In the standard library a thread of `threading` that asks gets an AttributeError.
    other = threading.Thread(target=lambda: seen.append(dummy.active_children()))
    other.start()
    other.join()
    assert seen == [[]]
    stop.set()
    child.join()
    assert dummy.active_children() == []


def test_the_rest_of_the_interface() -> None:
    manager = dummy.Manager()
    assert manager is dummy
    assert (dummy.dict(a=1), dummy.list("ab")) == ({"a": 1}, ["a", "b"])
    assert repr(dummy.Namespace(x=1)) == "Namespace(x=1)"
    assert list(dummy.Array("i", [1, 2])) == [1, 2]
    value = dummy.Value("i", 3)
    value.value += 1
    assert value.value == 4
    queue: Any = dummy.JoinableQueue()
    queue.put(1)
    assert queue.get() == 1
    queue.task_done()
    queue.join()
    for kind in (dummy.Lock, dummy.RLock, dummy.Semaphore, dummy.BoundedSemaphore, dummy.Condition):
        with kind():
            pass
    assert dummy.Barrier(1).wait() == 0
    dummy.freeze_support()
    dummy.shutdown()
    assert dummy.current_process() is threading.current_thread()
    with dummy.Pool(2) as pool:
        assert isinstance(pool, ThreadPool)
        assert pool.map(abs, [-1, 2]) == [1, 2]


# --- connections ---


def test_a_pipe() -> None:
    here, there = dummy.Pipe()
    obj = object()
    here.send(obj)
    assert there.poll()
    assert there.recv() is obj
    assert not there.poll(0.01)
    # As a program does with processes; the thread has the same object, and goes on to use it.
    thread = dummy.Process(target=lambda end: end.send(end.recv() + 1), args=(there,))
    thread.start()
    there.close()
    here.send_bytes(1)
    assert here.recv() == 2
    thread.join()


def test_a_listener() -> None:
    with connection.Listener() as listener:
        address: Any = listener.address
        thread = dummy.Process(target=lambda: connection.Client(address).send("hello"))
        thread.start()
        with listener.accept() as accepted:
            assert accepted.recv() == "hello"
        thread.join()
    assert connection.families == [None]


# --- pools: what works as in others ---


def test_every_call(pool: ThreadPool) -> None:
    numbers = range(-20, 20)
    expected = [abs(number) for number in numbers]
    for size in (None, 1, 3, 100):
        assert pool.map(abs, numbers, chunksize=size) == expected
        assert pool.map_async(abs, iter(numbers), chunksize=size).get(PATIENCE) == expected
        assert pool.starmap(pow, [(2, 3), (3, 2)], chunksize=size) == [8, 9]
        assert list(pool.imap(abs, numbers, chunksize=size or 2)) == expected
        assert sorted(pool.imap_unordered(abs, numbers, chunksize=size or 2)) == sorted(expected)
    assert pool.starmap_async(pow, [(2, 3)]).get() == [8]
    assert pool.apply(pow, (2,), {"exp": 5}) == 32
    assert pool.map(abs, []) == []
    assert isinstance(pool, forkless.pool.Pool)
    assert (pool._processes, len(pool._pool), pool._state) == (2, 2, "RUN")


def test_nothing_is_pickled(pool: ThreadPool) -> None:
    lock = threading.Lock()
    assert pool.apply(lambda: lock) is lock
    assert {thread.name for thread in pool._pool} == {"ThreadPool-1", "ThreadPool-2"}
    with pytest.raises(NotImplementedError, match="threads are of one process"):
        pickle.dumps(pool)
    with pytest.raises(TypeError, match="threads are of one process"):
        forkless.Queue[Any]().put(pool)


def test_an_error_is_the_very_same(pool: ThreadPool) -> None:
    error = ValueError("no")

    def work(number: int) -> int:
        if number == 2:
            raise error
        return number

    with pytest.raises(ValueError, match="no") as caught:
        pool.map(work, range(5))
    assert caught.value is error
    results = pool.imap(work, range(4))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="no"):
        next(results)
    assert next(results) == 3
    result = pool.apply_async(work, (2,))
    result.wait()
    assert result.ready()
    assert not result.successful()


def test_callbacks_are_called_in_one_thread_and_before_the_result(pool: ThreadPool) -> None:
    threads, got = set(), []
    errors: list[BaseException] = []

    def note(value: Any) -> None:
        threads.add(threading.current_thread().name)
        got.append(value)

    results = [pool.apply_async(abs, (number,), callback=note) for number in range(50)]
    for number, result in enumerate(results):
        assert result.get() in got
        assert number == result.get()
    assert pool.map_async(abs, [-1, -2], chunksize=1, callback=note).get() == [1, 2]
    assert got[-1] == [1, 2]
    failed = pool.apply_async(int, ("x",), error_callback=errors.append)
    failed.wait()
    assert [type(error) for error in errors] == [ValueError]
    assert threads == {"ThreadPool callbacks"}


def test_input_is_read_as_results_are_taken(pool: ThreadPool) -> None:
    for root in pool.imap(abs, itertools.count()):
        if root == 100:
            break
    read = itertools.count()
    results = pool.imap(abs, read, buffersize=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    assert next(read) <= 6


def test_timeouts(pool: ThreadPool) -> None:
    event = threading.Event()
    result = pool.apply_async(event.wait)
    with pytest.raises(forkless.TimeoutError):
        result.get(timeout=0.01)
    results = pool.imap(lambda _: event.wait(), [1])
    with pytest.raises(forkless.TimeoutError):
        results.next(timeout=0.01)
    event.set()
    assert result.get() is True
    assert next(results) is True


def test_close_and_join() -> None:
    pool = ThreadPool(3)
    result = pool.map_async(abs, range(100), chunksize=1)
    rest = pool.imap(abs, range(100))
    with pytest.raises(ValueError, match="Pool is still running"):
        pool.join()
    pool.close()
    with pytest.raises(ValueError, match="Pool not running"):
        pool.apply(abs, (1,))
    pool.join()
    assert (result.get(0), sum(rest), pool._pool) == (list(range(100)), sum(range(100)), [])
    assert "state=CLOSE" in repr(pool)


# --- pools: where those of the standard library hang ---


def test_a_task_that_exits_fails(pool: ThreadPool) -> None:
    for _ in range(5):  # more than there are threads
        with pytest.raises(SystemExit) as caught:
            pool.apply(exits, (3,))
        assert caught.value.code == 3
    with pytest.raises(SystemExit):
        pool.map(exits, [1, 2, 3])
    assert pool.apply(abs, (-1,)) == 1


def test_a_failing_initializer_breaks_the_pool() -> None:
    for initializer in (lambda: 1 / 0, lambda: sys.exit(1)):
        pool = ThreadPool(2, initializer)
        with pytest.raises(forkless.BrokenPool, match="the initializer of the pool has raised") as caught:
            pool.map_async(abs, range(5)).get()
        assert isinstance(caught.value.__cause__, ZeroDivisionError | SystemExit)
        pool.terminate()
        pool.join()


def test_initializers_run_in_every_thread() -> None:
    ready, seen = threading.Barrier(3), []

    def start(value: int) -> None:
        seen.append(value)
        ready.wait()

    with ThreadPool(3, start, (7,)) as pool:
        assert pool.apply(abs, (-1,)) == 1
    pool.join()
    assert seen == [7, 7, 7]


def test_what_is_not_done_at_the_end_fails() -> None:
    event, begun = threading.Event(), threading.Semaphore(0)

    def work() -> None:
        begun.release()
        event.wait()

    told: list[Any] = []
    pool = ThreadPool(1)
    running, waiting = pool.apply_async(work), pool.apply_async(work, error_callback=told.append)
    results = pool.imap(lambda _: work(), range(3))
    begun.acquire()
    pool.terminate()  # It does not wait for the task.
    for get in (running.get, waiting.get, results.next):
        with pytest.raises(forkless.BrokenPool, match="terminated before this task was done"):
            get()
    assert len(told) == 1
    with pytest.raises(ValueError, match="Pool not running"):
        pool.apply(abs, (1,))
    event.set()
    pool.join()
    assert pool._pool == []


def test_a_task_that_ends_in_the_midst_of_the_end() -> None:
    """Its outcome comes when the thread that tells outcomes has ended already."""
    taken, go_on = threading.Event(), threading.Event()

    class Slow(dict[int, Any]):
        def pop(self, *args: Any) -> Any:
            value = super().pop(*args)
            if threading.current_thread() is not threading.main_thread():
                taken.set()
                go_on.wait()
            return value

    pool = ThreadPool(1)
    pool._scheduler._open = Slow()
    told: list[Any] = []
    result = pool.apply_async(abs, (-1,), callback=told.append)
    taken.wait()
    pool.terminate()
    go_on.set()
    assert (result.get(), told) == (1, [1])
    pool.join()


def test_a_callback_that_raises_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    errors: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", errors.append)
    with ThreadPool(1) as pool:
        result = pool.apply_async(abs, (-1,), callback=lambda value: value / 0)
        assert result.get() == 1
        assert pool.apply_async(abs, (-2,), callback=int).get() == 2
    pool.join()
    assert [error.exc_type for error in errors] == [ZeroDivisionError]


def test_a_pool_that_the_system_has_no_threads_for(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start
    started: list[threading.Thread] = []

    def fail(thread: threading.Thread) -> None:
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", fail)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        ThreadPool(3)
    for thread in started:
        thread.join()


def test_a_pool_that_is_dropped_warns_and_ends() -> None:
    pool = ThreadPool(2)
    threads = pool._pool
    with pytest.warns(ResourceWarning, match="unclosed running multiprocessing pool"):
        del pool
    for thread in threads:
        thread.join()


def test_a_task_that_never_ends_does_not_keep_the_program(run_program: Run) -> None:
    source = """
import threading
from forkless.pool import ThreadPool
pool = ThreadPool(2)
begun = threading.Event()
def work():
    begun.set()
    threading.Event().wait()
result = pool.apply_async(work)
begun.wait()
with pool:
    pass
print("over")
"""
    assert run_program(source).check() == "over\n"


def test_a_copy_of_the_process_has_no_threads(run_program: Run) -> None:
    source = """
import os, forkless
from forkless.pool import ThreadPool
with ThreadPool(2) as pool:
    pid = os.fork()
    if pid == 0:
        try:
            pool.apply(abs, (-1,))
        except forkless.BrokenPool as error:
            print("which this one was forked from" in str(error), flush=True)
        pool.terminate()
        pool.join()
        os._exit(0)
    os.waitpid(pid, 0)
    print(pool.apply(abs, (-2,)))
"""
    assert run_program(source).check() == "True\n2\n"


def test_tasks_that_submit(pool: ThreadPool) -> None:
    assert pool.apply(lambda: pool.apply_async(abs, (-1,)).get()) == 1


def test_submitting_from_finalizers_and_callbacks(pool: ThreadPool) -> None:
    done: list[int] = []
    finished = threading.Event()

    def again(number: int) -> None:
        done.append(number)
        if number < 5:
            pool.apply_async(abs, (number + 1,), callback=again)
        else:
            finished.set()

    pool.apply_async(abs, (0,), callback=again)
    assert finished.wait(PATIENCE)
    assert done == [0, 1, 2, 3, 4, 5]


# --- pools: bad input ---


def test_what_cannot_be(pool: ThreadPool) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ThreadPool(0)
    with pytest.raises(TypeError, match="must be an int"):
        ThreadPool("two")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="initializer must be a callable"):
        ThreadPool(1, 3)  # type: ignore[arg-type]
    options: Any
    for options in ({"timeout": 1}, {"retries": 1}, {"priority": 1}):
        with pytest.raises(TypeError, match="nothing can break off a thread"):
            pool.map(abs, [1], **options)
        with pytest.raises(TypeError, match="nothing can break off a thread"):
            pool.apply(abs, (1,), **options)
    assert pool.apply(abs, (-1,), name="a name does no harm") == 1
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        pool.apply(abs, (1,), unknown=1)  # type: ignore[call-arg]
    for call in (pool.stream, pool.statistics, pool.insights, lambda: pool.resize(3)):
        with pytest.raises(NotImplementedError, match=r"a forkless\.Pool has"):
            call()


def test_its_process_is_a_thread() -> None:
    assert isinstance(ThreadPool.Process(None, target=int), dummy.Process)
    assert ThreadPool.Process(forkless.get_context(), target=os.getpid).exitcode is None
