"""`forkless.Pool`: results, errors, deaths, ends."""

from __future__ import annotations

import functools
import gc
import itertools
import multiprocessing.pool
import operator
import os
import pickle
import signal
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import forkless
import forkless._scheduler
import jobs
import pytest
from support import PATIENCE, Program, eventually, run_program


@pytest.fixture
def pool() -> Iterator[forkless.Pool]:
    with forkless.Pool(2) as pool:
        yield pool


# --- results ---


def test_apply(pool: forkless.Pool) -> None:
    assert pool.apply(jobs.add, (1,), {"right": 2}) == 3
    assert pool.apply(jobs.pid) in [worker.pid for worker in forkless.active_children()]


def test_apply_async(pool: forkless.Pool) -> None:
    go = forkless.Event()
    result = pool.apply_async(jobs.wait_for, (go, "gone"))
    assert not result.ready()
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    result.wait(0)
    for timeout in (0.01, 0, -1):
        with pytest.raises(forkless.TimeoutError, match="the call goes on"):
            result.get(timeout)
    go.set()
    assert result.get(PATIENCE) == "gone"
    assert result.ready()
    assert result.successful()


def test_callbacks(pool: forkless.Pool) -> None:
    got: list[Any] = []
    pool.apply_async(jobs.add, (1, 2), callback=got.append, error_callback=got.append).wait(PATIENCE)
    pool.apply_async(jobs.refuse, (1,), callback=got.append, error_callback=got.append).wait(PATIENCE)
    pool.map_async(jobs.double, [1, 2], callback=got.append).wait(PATIENCE)
    assert eventually(lambda: len(got) == 3)
    assert (got[0], str(got[1]), got[2]) == (3, "no 1", [2, 4])


def test_a_callback_may_submit_and_may_fail(pool: forkless.Pool, capsys: pytest.CaptureFixture[str]) -> None:
    got: list[int] = []
    pool.apply_async(
        jobs.add, (1, 2), callback=lambda _: pool.apply_async(jobs.add, (3, 4), callback=got.append)
    )
    assert eventually(lambda: got == [7])
    pool.apply_async(jobs.add, (1, 2), callback=jobs.refuse).wait(PATIENCE)
    assert pool.apply(jobs.add, (5, 6)) == 11
    assert "ValueError: no 3" in capsys.readouterr().err


@pytest.mark.parametrize("size", [0, 1, 7, 100])
@pytest.mark.parametrize("chunksize", [None, 1, 3, 1000])
def test_map(pool: forkless.Pool, size: int, chunksize: int | None) -> None:
    expected = [2 * number for number in range(size)]
    assert pool.map(jobs.double, range(size), chunksize) == expected
    assert pool.map(jobs.double, iter(range(size)), chunksize) == expected
    assert pool.map_async(jobs.double, range(size), chunksize).get(PATIENCE) == expected
    assert list(pool.imap(jobs.double, range(size), chunksize or 2)) == expected
    assert sorted(pool.imap_unordered(jobs.double, range(size), chunksize or 2)) == expected


def test_starmap(pool: forkless.Pool) -> None:
    pairs = [(number, 10 * number) for number in range(10)]
    expected = [11 * number for number in range(10)]
    assert pool.starmap(jobs.add, pairs) == expected
    assert pool.starmap_async(jobs.add, pairs, 3).get(PATIENCE) == expected


def test_a_chunk_size_must_be_positive(pool: forkless.Pool) -> None:
    for call in (pool.map, pool.map_async, pool.imap, pool.imap_unordered):
        with pytest.raises(ValueError, match="Chunksize"):
            call(jobs.double, [1], 0)


def test_lambdas_closures_and_methods(pool: forkless.Pool) -> None:
    factor = 3
    assert pool.map(lambda number: number * factor, range(4)) == [0, 3, 6, 9]
    assert pool.map("{}!".format, range(2)) == ["0!", "1!"]
    assert pool.map(operator.attrgetter("real"), [1, 2]) == [1, 2]


def test_both_workers_work_at_the_same_time(pool: forkless.Pool) -> None:
    one, two = forkless.Event(), forkless.Event()
    first, second = pool.apply_async(jobs.meet, (one, two)), pool.apply_async(jobs.meet, (two, one))
    assert {first.get(PATIENCE), second.get(PATIENCE)} == {worker.pid for worker in pool._pool}


def test_locks_and_queues_as_arguments(pool: forkless.Pool) -> None:
    lock, queue = forkless.Lock(), forkless.Queue[str]()
    with lock:
        assert pool.apply(jobs.holding, (lock,))
    pool.apply(jobs.put, (queue, "here"))
    assert queue.get_nowait() == "here"


def test_a_task_is_sent_as_it_is_when_submitted(pool: forkless.Pool) -> None:
    go = forkless.Event()
    blockers = [pool.apply_async(jobs.wait_for, (go,)) for _ in range(8)]
    items = [1]
    result = pool.apply_async(jobs.double, (items,))
    items.append(2)
    go.set()
    assert result.get(PATIENCE) == [1, 1]
    assert [blocker.get(PATIENCE) for blocker in blockers] == [None] * 8


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_initializer(method: str) -> None:
    with forkless.get_context(method).Pool(2, jobs.initialize, ("a", 1)) as pool:
        assert pool.map(jobs.what_was_initialized, range(4)) == [["a", 1]] * 4


def test_a_worker_is_replaced_after_its_tasks() -> None:
    with forkless.Pool(1, maxtasksperchild=2) as pool:
        pids = [pool.apply(jobs.pid) for _ in range(6)]
    assert [len(list(group)) for _, group in itertools.groupby(pids)] == [2, 2, 2]


def test_a_pool_in_a_pool(pool: forkless.Pool) -> None:
    assert pool.map(jobs.sum_in_pool, [[1, 2], [3]], chunksize=1) == [6, 6]


def test_progress(pool: forkless.Pool, capsys: pytest.CaptureFixture[str]) -> None:
    assert pool.map(jobs.double, range(5), progress=True) == [0, 2, 4, 6, 8]
    assert list(pool.imap(jobs.double, range(5), progress=True)) == [0, 2, 4, 6, 8]
    assert sorted(pool.imap_unordered(jobs.double, iter(range(5)), progress=True)) == [0, 2, 4, 6, 8]
    assert pool.starmap(jobs.add, [(1, 2)], progress=True) == [3]
    capsys.readouterr()


# --- imap ---


class Counted:
    """Input that knows how far it has been read."""

    def __init__(self, size: int) -> None:
        self.size, self.read = size, 0

    def __iter__(self) -> Iterator[int]:
        for number in range(self.size):
            self.read += 1
            yield number


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_imap_reads_its_input_only_a_little_ahead(pool: forkless.Pool, method: str) -> None:
    source = Counted(1000)
    results = getattr(pool, method)(jobs.double, source, buffersize=8)
    assert 2 <= source.read <= 8
    for _ in range(100):
        next(results)
    assert 100 <= source.read <= 108
    assert sorted(results)[-1] == 1998
    with pytest.raises(StopIteration):
        next(results)


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_imap_does_not_read_all_of_its_input(pool: forkless.Pool, method: str) -> None:
    source = Counted(100_000)
    results = getattr(pool, method)(jobs.double, source)
    for _ in range(1000):
        next(results)
    assert 1000 <= source.read <= 1000 + 1024


def test_imap_is_ordered_and_lazy(pool: forkless.Pool) -> None:
    go = forkless.Event()

    def task(number: int) -> int:
        if number == 0:
            go.wait(PATIENCE)
        return number

    results = pool.imap(task, range(4))
    for timeout in (0.01, 0, -1):
        with pytest.raises(forkless.TimeoutError):
            results.next(timeout)
    go.set()
    assert list(results) == [0, 1, 2, 3]


def test_imap_unordered_gives_what_is_ready(pool: forkless.Pool) -> None:
    go = forkless.Event()

    def task(number: int) -> int:
        if number == 0:
            go.wait(PATIENCE)
        return number

    results = pool.imap_unordered(task, range(4))
    assert [next(results) for _ in range(3)] == [1, 2, 3]
    go.set()
    assert list(results) == [0]


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_an_error_in_imap_takes_its_place_and_the_next_results_follow(
    pool: forkless.Pool, method: str
) -> None:
    results = getattr(pool, method)(jobs.refuse_three, range(6))
    got: list[Any] = []
    for _ in range(6):
        try:
            got.append(next(results))
        except ValueError as error:
            got.append(str(error))
    assert sorted(got, key=str) == [0, 1, 2, 4, 5, "three"]
    assert list(results) == []


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_an_error_of_the_input_comes_after_the_results_before_it(pool: forkless.Pool, method: str) -> None:
    def source() -> Iterator[int]:
        yield from range(5)
        raise OSError("the file ends here")

    results = getattr(pool, method)(jobs.double, source())
    assert sorted(itertools.islice(results, 5)) == [0, 2, 4, 6, 8]
    with pytest.raises(OSError, match="ends here"):
        next(results)
    assert list(results) == []


def test_imap_after_close_and_join_has_everything() -> None:
    pool = forkless.Pool(2)
    source = Counted(100)
    results = pool.imap(jobs.double, source, 3)
    pool.close()
    pool.join()
    assert source.read == 100
    assert list(results) == [2 * number for number in range(100)]


def test_imap_goes_on_after_close_without_join() -> None:
    pool = forkless.Pool(2)
    results = pool.imap(jobs.double, range(100))
    pool.close()
    assert list(results) == [2 * number for number in range(100)]
    pool.join()


def test_an_imap_that_nobody_reads_is_still_done() -> None:
    """As in `multiprocessing`, where this is how some programs call functions for their effects."""
    queue: forkless.Queue[int] = forkless.Queue()
    pool = forkless.Pool(2)
    pool.imap_unordered(queue.put, range(100))
    gc.collect()
    pool.close()
    pool.join()
    assert sorted(queue.get_nowait() for _ in range(100)) == list(range(100))


def test_an_imap_that_nobody_reads_does_not_keep_its_pool() -> None:
    pool = forkless.Pool(2)
    workers = pool._pool
    assert next(pool.imap(jobs.double, itertools.count())) == 0
    with pytest.warns(ResourceWarning):
        del pool
    gc.collect()
    assert eventually(lambda: not any(worker.is_alive() for worker in workers))


def test_what_is_left_of_an_imap_after_terminate() -> None:
    with forkless.Pool(1) as pool:
        results = pool.imap(jobs.double, itertools.count())
        assert next(results) == 0
    with pytest.raises((forkless.BrokenPool, ValueError)):
        list(results)


def test_several_threads_take_from_one_imap(pool: forkless.Pool) -> None:
    for method in (pool.imap, pool.imap_unordered):
        results = method(jobs.double, range(300), 2)
        got: list[int] = []
        threads = [threading.Thread(target=got.extend, args=(results,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(got) == [2 * number for number in range(300)]


# --- errors ---


def test_map_raises_the_first_error_when_all_is_done(pool: forkless.Pool) -> None:
    with pytest.raises(ValueError, match=r"^three$"):
        pool.map(jobs.refuse_three, range(8), 1)
    assert pool.map(jobs.double, [1]) == [2]


def test_a_result_that_cannot_be_pickled(pool: forkless.Pool) -> None:
    with pytest.raises((TypeError, pickle.PicklingError), match="lock"):
        pool.apply(jobs.return_unpicklable)
    with pytest.raises((TypeError, pickle.PicklingError), match="lock"):
        pool.map(jobs.return_unpicklable, range(4))
    refused: Any = getattr(multiprocessing.pool, "MaybeEncodingError")  # noqa: B009 - not in the stubs
    with pytest.raises(refused) as caught:
        pool.apply(jobs.return_unpicklable)
    assert "lock" in caught.value.value
    assert "cannot pickle" in caught.value.exc


def test_a_result_that_cannot_be_loaded_here(pool: forkless.Pool) -> None:
    with pytest.raises(forkless.RemoteError, match=r"result of .*OnlyThere.* cannot be loaded: .*not here"):
        pool.apply(jobs.OnlyThere, (os.getpid(),))


def test_an_argument_that_cannot_be_pickled(pool: forkless.Pool) -> None:
    with pytest.raises((TypeError, pickle.PicklingError), match="lock"):
        pool.apply(jobs.double, (threading.Lock(),))
    with pytest.raises((TypeError, pickle.PicklingError), match="lock"):
        pool.map(jobs.double, [1, threading.Lock()])
    assert pool.apply(jobs.add, (1, 2)) == 3


def test_an_argument_that_cannot_be_loaded_there(pool: forkless.Pool) -> None:
    with pytest.raises(forkless.RemoteError, match="no such object") as caught:
        pool.apply(jobs.double, (jobs.Explosive(),))
    assert type(caught.value.__cause__) is ValueError
    assert pool.apply(jobs.add, (1, 2)) == 3


def test_arguments_of_the_pool_are_checked() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        forkless.Pool(0)
    for nonsense in (0, -1, 0.5, "12"):
        with pytest.raises(ValueError, match="maxtasksperchild"):
            forkless.Pool(1, maxtasksperchild=nonsense)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="initializer"):
        forkless.Pool(1, initializer=3)  # type: ignore[arg-type]
    with pytest.raises((TypeError, pickle.PicklingError), match="lock"):
        forkless.Pool(1, jobs.initialize, (threading.Lock(),))


# --- deaths ---


@pytest.mark.parametrize(
    ("target", "argument", "end", "exitcode"),
    [
        (jobs.die, signal.SIGKILL, "was killed by SIGKILL", -9),
        (jobs.die, signal.SIGSEGV, "was killed by SIGSEGV", -11),
        (os._exit, 0, "ended with exit code 0", 0),
        (os._exit, 3, "ended with exit code 3", 3),
    ],
)
def test_a_death_fails_its_task_and_says_why(
    pool: forkless.Pool, target: Any, argument: int, end: str, exitcode: int
) -> None:
    others = [pool.apply_async(jobs.double, (number,)) for number in range(8)]
    with pytest.raises(forkless.WorkerDied, match=end) as caught:
        pool.apply(target, (argument,))
    assert caught.value.exitcode == exitcode
    assert caught.value.worker.startswith("PoolWorker-")
    assert str(caught.value.pid) in str(caught.value)
    assert caught.value.task in str(caught.value)
    assert [other.get(PATIENCE) for other in others] == [2 * number for number in range(8)]
    assert pool.apply(jobs.add, (1, 2)) == 3
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.task, copy.exitcode, str(copy)) == (caught.value.task, exitcode, str(caught.value))


def test_a_death_in_a_map_names_the_item(pool: forkless.Pool) -> None:
    with pytest.raises(forkless.WorkerDied, match=r"die_on_three\(3\) \(item 3\)"):
        pool.map(jobs.die_on_three, range(10), 1)
    with pytest.raises(forkless.WorkerDied, match=r"die_on_three \(items 2 to 3\)"):
        pool.map(jobs.die_on_three, range(10), 2)


def test_arguments_that_kill_who_loads_them_do_not_kill_the_owner() -> None:
    source = """
import forkless, jobs, plain
with forkless.Pool(1) as pool:
    for call in [
        lambda: pool.apply(abs, (jobs.Deadly(),)),
        lambda: pool.map(abs, [jobs.Deadly()]),
        lambda: pool.apply(plain.end, (*plain.VALUES, {"a": [1, (2.5, None)]}, jobs.OnlyThere(5))),
    ]:
        try:
            call()
        except forkless.WorkerDied as error:
            print(error.task, error.arguments, error.exitcode)
"""
    outcome = run_program(source, environ={"PYTHONPATH": os.path.dirname(__file__)})
    assert outcome.check().splitlines() == [
        "abs <die> -9",
        "abs (item 0) <die> -9",
        "plain.end Config(rate=0.5), Point(x=3), Color.RED, {'a': [1, (...)]}, <OnlyThere> 3",
    ]


def test_every_other_task_of_a_deadly_map_is_done(pool: forkless.Pool) -> None:
    results = [pool.apply_async(jobs.die_on_three, (number,)) for number in range(6)]
    got = [result.get(PATIENCE) for number, result in enumerate(results) if number != 3]
    assert got == [0, 1, 2, 4, 5]


def test_many_deaths_break_nothing_as_long_as_tasks_are_lost_one_by_one(pool: forkless.Pool) -> None:
    results = [pool.apply_async(jobs.die) for _ in range(12)]
    for result in results:
        with pytest.raises(forkless.WorkerDied):
            result.get(PATIENCE)
    assert pool.map(jobs.double, [1, 2]) == [2, 4]


def test_an_idle_worker_that_dies_is_replaced(pool: forkless.Pool) -> None:
    before = pool._pool
    before[0].kill()
    assert eventually(lambda: len({*pool._pool} - {*before}) == 1 and len(pool._pool) == 2)
    assert pool.map(jobs.double, range(10), 1) == [2 * number for number in range(10)]


def replaced(pool: forkless.Pool, before: frozenset[forkless.Process]) -> bool:
    return len({*pool._pool} - before) == len(before)


def has(pool: forkless.Pool, size: int) -> bool:
    return len(pool._pool) == size


def test_idle_workers_that_die_again_and_again_break_nothing(pool: forkless.Pool) -> None:
    for _ in range(4):
        assert eventually(lambda: all(each.start_up for each in pool.statistics().workers[:2]))
        before = frozenset(pool._pool)
        for worker in before:
            worker.kill()
        assert eventually(functools.partial(replaced, pool, before))
    assert pool.map(jobs.double, range(10), 1) == [2 * number for number in range(10)]


def test_the_dead_do_not_work(pool: forkless.Pool) -> None:
    with pytest.raises(forkless.WorkerDied):
        pool.apply(jobs.die)
    former = pool.statistics().workers[-1]
    assert (former.name, former.tasks, former.task) == ("former workers", 0, None)


def test_resizing_an_idle_pool_breaks_nothing(pool: forkless.Pool) -> None:
    for size in (4, 1, 3, 1, 4, 1, 2):
        pool.resize(size)
        assert eventually(functools.partial(has, pool, size))
    assert pool.map(jobs.double, range(10), 1) == [2 * number for number in range(10)]


def test_a_worker_that_dies_before_it_was_told_to_end(pool: forkless.Pool) -> None:
    """The order that it did not take is for another one, which is replaced; nobody is missing in the end."""
    go = forkless.Event()
    busy = [pool.apply_async(jobs.wait_for, (go,)) for _ in range(2)]
    assert eventually(lambda: all(each.task for each in pool.statistics().workers))
    pool.resize(1)
    assert eventually(lambda: pool._scheduler._untaken() == 1)
    pool._pool[0].kill()
    assert eventually(lambda: len(pool._pool) == 1)
    go.set()
    for result in busy:
        result.wait(PATIENCE)
    assert sorted(result.successful() for result in busy) == [False, True]
    assert pool.map(jobs.double, range(10), 1) == [2 * number for number in range(10)]
    assert eventually(lambda: len(pool._pool) == 1)


def test_nobody_is_started_for_an_order_to_end_that_nobody_took(pool: forkless.Pool) -> None:
    """Two are to end when they are done, and killed before; the third takes its time to die meanwhile."""
    pool.resize(3)
    ready, go = forkless.Event(), forkless.Event()
    pool.apply_async(jobs.stubborn, (ready,))
    for _ in range(2):
        pool.apply_async(jobs.wait_for, (go,))
    assert eventually(lambda: [bool(each.task) for each in pool.statistics().workers] == [True] * 3)
    assert ready.wait(PATIENCE)
    # Whoever were started would begin with this.
    pool.apply_async(jobs.hang)
    pool.resize(1)
    assert eventually(lambda: pool._scheduler._untaken() == 3)
    pool.terminate()
    assert pool._pool == []


def test_an_initializer_that_raises_breaks_the_pool() -> None:
    pool = forkless.Pool(2, jobs.refuse, ("start",))
    with pytest.raises(forkless.BrokenPool, match=r"initializer raised ValueError.*no start") as caught:
        pool.map(jobs.double, range(10))
    assert isinstance(caught.value.__cause__, ValueError)
    assert eventually(lambda: pool._pool == [])
    with pytest.raises(forkless.BrokenPool):
        pool.apply_async(jobs.double, (1,))
    pool.terminate()
    pool.join()


@pytest.mark.parametrize("end", [os._exit, jobs.die])
def test_an_initializer_that_dies_breaks_the_pool(end: Any) -> None:
    with (
        pytest.raises(forkless.BrokenPool, match=r"4 workers in a row ended.*initializer"),
        forkless.Pool(2, end, (9,)) as pool,
    ):
        pool.map(jobs.double, range(10))


# --- ends ---


def test_close_and_join() -> None:
    pool = forkless.Pool(2)
    result = pool.map_async(jobs.double, range(50), 1)
    with pytest.raises(ValueError, match="still running"):
        pool.join()
    pool.close()
    with pytest.raises(ValueError, match="not running"):
        pool.apply_async(jobs.double, (1,))
    pool.join()
    assert result.get(0) == [2 * number for number in range(50)]
    assert pool._pool == []
    assert "state=CLOSE" in repr(pool)
    pool.close()
    pool.terminate()
    pool.join()


@pytest.mark.parametrize("kind", ["pool", "executor"])
def test_the_end_waits_for_nothing_but_the_tasks(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # How often the collector would look by itself: now, who closes while tasks run would notice.
    monkeypatch.setattr(forkless._scheduler, "_BOUND", 3600.0)
    go = forkless.Event()
    if kind == "pool":
        pool = forkless.Pool(1)
        result: Any = pool.map_async(jobs.wait_for, [go] * 4, 1)
        pool.close()
        go.set()
        pool.join()
        assert result.ready()
    else:
        executor = forkless.Executor(1)
        future = executor.submit(jobs.wait_for, go)
        executor.shutdown(wait=False)
        go.set()
        executor.shutdown()
        assert future.done()


def test_terminate_fails_what_is_not_done() -> None:
    ready = forkless.Event()
    pool = forkless.Pool(1)
    running, waiting = pool.apply_async(jobs.set_and_hang, (ready,)), pool.apply_async(jobs.double, (1,))
    assert ready.wait(PATIENCE)
    pool.terminate()
    for result in (running, waiting):
        with pytest.raises(forkless.BrokenPool, match="terminated"):
            result.get(PATIENCE)
    assert pool._pool == []
    with pytest.raises(ValueError, match="not running"):
        pool.map(jobs.double, [1])


def test_terminate_ends_workers_that_ignore_sigterm() -> None:
    ready = forkless.Event()
    with forkless.Pool(1) as pool:
        pool.apply_async(jobs.stubborn, (ready,))
        assert ready.wait(PATIENCE)
        worker = pool._pool[0]
    assert worker.exitcode == -signal.SIGKILL


def test_a_broken_with_block_ends_the_workers() -> None:
    pool = forkless.Pool(2)
    workers = pool._pool
    with pytest.raises(ZeroDivisionError), pool:
        _ = 1 / 0
    assert [worker.is_alive() for worker in workers] == [False, False]


def test_a_pool_that_is_dropped_ends() -> None:
    pool = forkless.Pool(2)
    workers, gone = pool._pool, weakref.ref(pool)
    assert pool.apply(jobs.add, (1, 2)) == 3
    with pytest.warns(ResourceWarning, match="unclosed running multiprocessing pool") as caught:  # noqa: PT031
        del pool
        # The thread that has brought the result home may have it for a moment.
        assert eventually(lambda: len(caught) == 1)
    caught.clear()  # the warning has it, too
    assert eventually(lambda: gone() is None)
    assert eventually(lambda: not any(worker.is_alive() for worker in workers))


def test_a_result_keeps_its_pool() -> None:
    with pytest.warns(ResourceWarning, match="unclosed running") as caught:  # noqa: PT031
        assert forkless.Pool(1).apply_async(jobs.add, (1, 2)).get(PATIENCE) == 3
        # Whichever thread had the result drops the pool, a moment later.
        assert eventually(lambda: len(caught) == 1)
    with pytest.warns(ResourceWarning, match="unclosed running multiprocessing pool"):
        assert list(forkless.Pool(1).imap(jobs.double, range(20))) == [2 * number for number in range(20)]


def test_pools_with_an_end_do_not_warn() -> None:
    source = """
import forkless, gc, warnings
warnings.simplefilter("error")
closed, terminated, running = (forkless.Pool(1) for _ in range(3))
closed.close()
terminated.terminate()
del closed, terminated
gc.collect()
print(running.apply(abs, (-1,)))
"""
    outcome = run_program(source)
    assert (outcome.check(), outcome.stderr) == ("1\n", ""), "nor does one that the interpreter's exit ends"


def test_a_pool_does_not_travel(pool: forkless.Pool) -> None:
    with pytest.raises(NotImplementedError, match="cannot be passed"):
        pickle.dumps(pool)


def test_submitting_from_many_threads(pool: forkless.Pool) -> None:
    got: list[list[int]] = []

    def submit_some() -> None:
        results = [pool.apply_async(jobs.double, (number,)) for number in range(100)]
        got.append([result.get(PATIENCE) for result in results])

    threads = [threading.Thread(target=submit_some) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [[2 * number for number in range(100)]] * 4


# --- whole programs ---


@pytest.mark.parametrize("how", ["file", "command", "stdin"])
@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_an_unguarded_program(how: Any, method: str) -> None:
    source = f"""
import forkless
print("once")
forkless.set_start_method({method!r})
offset = 100
def shifted(number):
    return number + offset
with forkless.Pool(2) as pool:
    print(sum(pool.imap_unordered(shifted, range(10))))
    print(pool.map(lambda number: number * offset, [1, 2]))
"""
    assert run_program(source, how=how).check() == "once\n1045\n[100, 200]\n"


def test_output_of_tasks_is_not_lost() -> None:
    source = """
import forkless
with forkless.Pool(1) as pool:
    pool.map(print, ["one", "two"])
"""
    assert run_program(source).check() == "one\ntwo\n"


def test_the_exit_with_a_live_pool_is_quick_and_quiet() -> None:
    source = """
import forkless, signal
ready = forkless.Event()
def work(ready):
    ready.set()
    signal.pause()
pool = forkless.Pool(2)
pool.apply_async(work, (ready,))
pool.map(abs, range(10))
assert ready.wait(60)
"""
    outcome = run_program(source)
    assert (outcome.check(), outcome.stderr) == ("", "")


def test_ctrl_c_is_told_once_and_ends_everything() -> None:
    source = """
import forkless, signal
ready = forkless.Event()
def work(ready):
    ready.set()
    signal.pause()
with forkless.Pool(2) as pool:
    result = pool.map_async(work, [ready] * 10)
    assert ready.wait(60)
    print("ready", flush=True)
    result.get()
"""
    with Program(source) as program:
        program.wait_for("ready")
        program.interrupt()
        outcome = program.finish()
    assert (outcome.exit_code, outcome.survivors) == (-signal.SIGINT, ())
    assert outcome.stderr.count("Traceback") == 1
    assert outcome.stderr.rstrip().endswith("KeyboardInterrupt")


def test_a_pool_survives_a_caught_ctrl_c() -> None:
    source = """
import forkless, time
with forkless.Pool(2) as pool:
    pool.map(abs, [1])
    print("ready", flush=True)
    try:
        time.sleep(600)
    except KeyboardInterrupt:
        print(pool.map(abs, [-1, -2]))
"""
    with Program(source) as program:
        program.wait_for("ready")
        program.interrupt()
        assert program.finish().check() == "ready\n[1, 2]\n"


def test_submitting_from_del_and_from_signal_handlers() -> None:
    source = """
import forkless, gc, signal
results = []
class Loop:
    def __init__(self):
        self.me = self
    def __del__(self):
        results.append(pool.apply_async(abs, (-1,)))
handled = 0
def handle(*_):
    global handled
    handled += 1
    results.append(pool.apply_async(abs, (-2,)))
with forkless.Pool(2) as pool:
    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    number = 0
    while number < 20_000 or handled <= 10:
        Loop()
        results.append(pool.apply_async(abs, (number,)))
        number += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    gc.collect()
    assert len(results) == 2 * number + handled
    for result in results:
        result.get(60)
"""
    run_program(source).check()


def test_a_fork_by_the_user_leaves_the_pool_alone() -> None:
    source = """
import forkless, gc, os, sys
pool = forkless.Pool(2)
assert pool.map(abs, [-1]) == [1]
if os.fork() == 0:
    pool.terminate()
    del pool
    gc.collect()
    sys.exit()
os.wait()
print(pool.map(abs, [-1, -2]))
"""
    assert run_program(source, python=(sys.executable, "-W", "ignore")).check() == "[1, 2]\n"
