"""Pools and executors, with two workers if nothing else is said."""

from __future__ import annotations

import gc
import os
import pickle
import statistics
import time
from collections.abc import Callable
from typing import Any

from jobs import double, meet, records, same, total
from processes import unique
from suite import benchmark
from workers import Meeting, executor_of, gather, own_memory, pool_of

TASKS = 20_000
MANY = 1_000_000
EVERYONE = ("fork", "futures", "billiard", "loky", "pebble")


# Many tasks.


def burst(pool: Any, count: int) -> float:
    """Seconds per task of many that are submitted to a pool and then collected."""
    begin = time.perf_counter()
    results = [pool.apply_async(double, (number,)) for number in range(count)]
    answers = sum(result.get() for result in results)
    elapsed = time.perf_counter() - begin
    assert answers == count * (count - 1)
    return elapsed / count


@benchmark(
    at_most={"futures": 0.1, **dict.fromkeys(("fork", "billiard", "loky", "pebble"), 1 / 3)}, limit=5e-6
)
def executor_submit(mp: Any) -> float:
    """Per task of many that are submitted to an executor and then collected."""
    with executor_of(mp) as executor:
        executor.submit(double, 1).result()
        begin = time.perf_counter()
        futures = [executor.submit(double, number) for number in range(TASKS)]
        answers = sum(future.result() for future in futures)
        elapsed = time.perf_counter() - begin
    assert answers == TASKS * (TASKS - 1)
    return elapsed / TASKS


@benchmark(at_most={"fork": 1 / 3, "billiard": 1 / 3}, limit=5e-6)
def pool_apply_async(mp: Any) -> float:
    """The same with a pool."""
    with mp.Pool(2) as pool:
        pool.apply(double, (1,))
        return burst(pool, TASKS)


@benchmark(at_most=dict.fromkeys((*EVERYONE, "joblib"), 0.2))
def map_chunks_of_1(mp: Any) -> float:
    """Per item of `map` with chunks of one."""
    with pool_of(mp) as pool:
        pool.map(double, range(10), chunksize=1)
        begin = time.perf_counter()
        results = pool.map(double, range(TASKS), chunksize=1)
        elapsed = time.perf_counter() - begin
    assert results == [2 * number for number in range(TASKS)]
    return elapsed / TASKS


# The chunks of executors and of pebble are of one item, if nobody says how long they are to be.
@benchmark(at_most={"fork": 1.0, "billiard": 1.0, "joblib": 1.0})
def map_default_chunks(mp: Any) -> float:
    """Per item of `map` with the chunks it chooses."""
    with mp.Pool(2) as pool:
        pool.map(double, range(10))
        begin = time.perf_counter()
        results = pool.map(double, range(MANY))
        elapsed = time.perf_counter() - begin
    assert len(results) == MANY
    assert results[-1] == 2 * (MANY - 1)
    return elapsed / MANY


@benchmark(at_most=dict.fromkeys(EVERYONE, 0.2))
def imap_unordered(mp: Any) -> float:
    """Per item of `imap_unordered` with chunks of one."""
    with pool_of(mp) as pool:
        sum(pool.imap_unordered(double, range(10)))
        begin = time.perf_counter()
        answers = sum(pool.imap_unordered(double, range(TASKS)))
        elapsed = time.perf_counter() - begin
    assert answers == TASKS * (TASKS - 1)
    return elapsed / TASKS


# One task at a time.


def round_trips(call: Callable[[int], Any], count: int = 3000, rest: float = 0.0) -> list[float]:
    """How long each of many calls took, by percentiles from the first to the 99th."""
    call(0)
    trips = []
    for number in range(count):
        if rest:
            time.sleep(rest)
        begin = time.perf_counter()
        answer = call(number)
        trips.append(time.perf_counter() - begin)
        assert answer == 2 * number
    return statistics.quantiles(trips, n=100)


def pool_round_trips(mp: Any) -> list[float]:
    """Of `apply`, on an idle pool."""
    with pool_of(mp) as pool:
        return round_trips(lambda number: pool.apply(double, (number,)))


def executor_round_trips(mp: Any) -> list[float]:
    """Of `submit` and `result`, on an idle executor."""
    with executor_of(mp) as executor:
        return round_trips(lambda number: executor.submit(double, number).result())


@benchmark(at_most=dict.fromkeys(EVERYONE, 0.5))
def pool_round_trip(mp: Any) -> float:
    """The median call of `apply` on an idle pool."""
    return pool_round_trips(mp)[49]


@benchmark(at_most=dict.fromkeys(EVERYONE, 0.5))
def pool_round_trip_p99(mp: Any) -> float:
    """The 99th percentile of the same."""
    return pool_round_trips(mp)[98]


@benchmark(at_most=dict.fromkeys(EVERYONE, 0.5))
def executor_round_trip(mp: Any) -> float:
    """The median `submit` and `result` on an idle executor."""
    return executor_round_trips(mp)[49]


@benchmark(at_most=dict.fromkeys(EVERYONE, 0.5))
def executor_round_trip_p99(mp: Any) -> float:
    """The 99th percentile of the same."""
    return executor_round_trips(mp)[98]


@benchmark(*EVERYONE)
def pool_round_trip_rested(mp: Any) -> float:
    """The median call of `apply` after two milliseconds of rest: whoever looks out for tasks has given up."""
    with pool_of(mp) as pool:
        return round_trips(lambda number: pool.apply(double, (number,)), count=500, rest=2e-3)[49]


# Beginning and end.


def first_result(mp: Any) -> float:
    """From nothing to a pool's first result; its end is not counted."""
    begin = time.perf_counter()
    pool = pool_of(mp)
    answer = pool.apply(double, (21,))
    elapsed = time.perf_counter() - begin
    assert answer == 42
    pool.close()
    pool.join()
    return elapsed


@benchmark("fork", "futures", "loky", "spawn", limit=50e-3)
def first_result_cold(mp: Any) -> float:
    """From nothing to a pool's first result, the first pool of this process."""
    return first_result(mp)


@benchmark("fork", "futures", "loky", "spawn", limit=5e-3)
def first_result_warm(mp: Any) -> float:
    """The same of later pools, the one before having ended a moment ago."""
    first_result(mp)
    later = []
    for _ in range(5):
        time.sleep(0.1)
        later.append(first_result(mp))
    return statistics.median(later)


@benchmark(at_most=1.0)
def pool_of_64_start(mp: Any) -> float:
    """From nothing to 64 workers that all have a task at the same time."""
    with Meeting() as meeting:
        begin = time.perf_counter()
        with mp.Pool(64) as pool:
            results = [pool.apply_async(meet, (meeting.path,)) for _ in range(64)]
            meeting.wait(64)
            elapsed = time.perf_counter() - begin
            with meeting.departure():
                for result in results:
                    result.get()
    return elapsed


def stop(mp: Any, end: str) -> float:
    """From the first word about the end to the end of 64 idle workers."""
    pool = mp.Pool(64)
    pids = gather(pool, 64)
    time.sleep(0.2)
    begin = time.perf_counter()
    getattr(pool, end)()
    pool.join()
    elapsed = time.perf_counter() - begin
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
    return elapsed


@benchmark(limit=50e-3)
def pool_of_64_terminate(mp: Any) -> float:
    """`terminate` and `join` with 64 idle workers."""
    return stop(mp, "terminate")


@benchmark(limit=50e-3)
def pool_of_64_close(mp: Any) -> float:
    """`close` and `join` with 64 idle workers."""
    return stop(mp, "close")


# More workers than processors.


def beside_2_workers(mp: Any, size: int) -> float:
    """What a task takes with so many workers, as a multiple of what it takes with two."""
    ratios = []
    with mp.Pool(size) as pool, mp.Pool(2) as two:
        gather(pool, size)
        gather(two, 2)
        for _ in range(5):
            ratios.append(burst(pool, TASKS // 2) / burst(two, TASKS // 2))
    return statistics.median(ratios)


@benchmark(limit=1.1, unit="x")
def workers_1(mp: Any) -> float:
    """Time per task with 1 worker by that with 2."""
    return beside_2_workers(mp, 1)


@benchmark(limit=1.1, unit="x")
def workers_4(mp: Any) -> float:
    """Time per task with 4 workers by that with 2."""
    return beside_2_workers(mp, 4)


@benchmark(limit=1.1, unit="x")
def workers_8(mp: Any) -> float:
    """Time per task with 8 workers by that with 2."""
    return beside_2_workers(mp, 8)


@benchmark(limit=1.1, unit="x")
def workers_16(mp: Any) -> float:
    """Time per task with 16 workers by that with 2."""
    return beside_2_workers(mp, 16)


# Memory.


def queued_memory(submit: Callable[..., Any], result_of: Callable[[Any], Any]) -> float:
    """Bytes per task that waits, what holds its result included, above those of the pickled task."""
    pickled = statistics.mean(len(pickle.dumps((double, (n,), {}))) for n in range(0, MANY, 1000))
    with Meeting() as meeting:
        held = [submit(meet, (meeting.path,)) for _ in range(2)]
        meeting.wait(2)
        tasks: list[Any] = [None] * MANY
        gc.collect()
        before = own_memory()
        for number in range(MANY):
            tasks[number] = submit(double, (number,))
        size = own_memory() - before
        with meeting.departure():
            assert [result_of(task) for task in held] == [None, None]
            assert [result_of(task) for task in tasks[:100]] == [2 * number for number in range(100)]
    return size / MANY - pickled


@benchmark("futures", limit=300, unit="B")
def queued_submit_memory(mp: Any) -> float:
    """Per task of a million that wait in an executor: memory with its future, above the pickled task."""
    with executor_of(mp) as executor:
        size = queued_memory(lambda func, args: executor.submit(func, *args), lambda future: future.result())
        executor.shutdown(cancel_futures=True)
    return size


@benchmark("fork", limit=300, unit="B")
def queued_apply_memory(mp: Any) -> float:
    """The same in a pool, submitted by `apply_async`."""
    with mp.Pool(2) as pool:
        return queued_memory(pool.apply_async, lambda result: result.get())


@benchmark("fork", limit=20e6, unit="B")
def memory_after_tasks(mp: Any) -> float:
    """What this process has more, after a million tasks were submitted, then done, and all was dropped."""
    with mp.Pool(2) as pool:
        burst(pool, 100)
        gc.collect()
        before = own_memory()
        burst(pool, MANY)
        time.sleep(0.2)
        return max(4096.0, own_memory() - before)


@benchmark(limit=3e6, unit="B")
def idle_worker(mp: Any) -> float:
    """Memory that an idle worker has for itself alone (USS), with numpy in the parent."""
    import numpy

    assert numpy.__version__
    with mp.Pool(4) as pool:
        pids = gather(pool, 4)
        time.sleep(0.5)
        return statistics.median(unique(pid) for pid in pids)


# Large arguments and results.


def with_arrays(mp: Any, func: Callable[[Any], Any], check: Callable[[Any, Any], bool]) -> float:
    """The median call with an array of 50 MB; each has its own, so that nothing is known of it before."""
    import numpy

    calls = []
    with pool_of(mp) as pool:
        for number in range(9):
            array = numpy.arange(number, 6_250_000 + number, dtype="float64")
            begin = time.perf_counter()
            answer = pool.apply(func, (array,))
            calls.append(time.perf_counter() - begin)
            assert check(answer, array)
            del answer
    # In the first ones the workers import numpy.
    return statistics.median(calls[2:])


@benchmark(*EVERYONE, "joblib", limit=50e-3)
def array_argument(mp: Any) -> float:
    """A call with an array of 50 MB, which the worker sums."""
    return with_arrays(mp, total, lambda answer, array: answer == float(array.sum()))


@benchmark(*EVERYONE, "joblib")
def array_echo(mp: Any) -> float:
    """A call with an array of 50 MB as argument and as result."""
    return with_arrays(mp, same, lambda answer, array: bool((answer == array).all()))


@benchmark(*EVERYONE, "joblib")
def result_of_100_dicts(mp: Any) -> float:
    """A call whose result is a list of a hundred small dictionaries."""
    expected, calls = records(100), []
    with pool_of(mp) as pool:
        pool.apply(records, (100,))
        for _ in range(500):
            begin = time.perf_counter()
            answer = pool.apply(records, (100,))
            calls.append(time.perf_counter() - begin)
            assert answer == expected
    return statistics.median(calls)
