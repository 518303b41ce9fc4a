"""Pools and executors."""

from __future__ import annotations

import time
from typing import Any

from jobs import double
from suite import benchmark


def executor_of(mp: Any) -> Any:
    """A subject's executor, with two workers."""
    if hasattr(mp, "Executor"):
        return mp.Executor(2)
    from concurrent.futures import ProcessPoolExecutor

    return ProcessPoolExecutor(2, mp_context=mp)


@benchmark()
def pool_first_result(mp: Any) -> float:
    """From nothing to a pool's first result and its end."""
    begin = time.perf_counter()
    with mp.Pool(2) as pool:
        assert pool.apply(double, (21,)) == 42
    return time.perf_counter() - begin


@benchmark()
def map_chunks_of_1(mp: Any) -> float:
    """Per item of `map` with chunks of one."""
    count = 10_000
    with mp.Pool(2) as pool:
        pool.map(double, range(10), chunksize=1)
        begin = time.perf_counter()
        assert pool.map(double, range(count), chunksize=1)[-1] == 2 * (count - 1)
        return (time.perf_counter() - begin) / count


@benchmark()
def map_default_chunks(mp: Any) -> float:
    """Per item of `map` with the chunks it chooses."""
    count = 1_000_000
    with mp.Pool(2) as pool:
        pool.map(double, range(10))
        begin = time.perf_counter()
        assert pool.map(double, range(count))[-1] == 2 * (count - 1)
        return (time.perf_counter() - begin) / count


@benchmark()
def executor_submit(mp: Any) -> float:
    """Per task submitted and collected."""
    count = 5000
    with executor_of(mp) as executor:
        executor.submit(double, 1).result()
        begin = time.perf_counter()
        futures = [executor.submit(double, number) for number in range(count)]
        assert sum(future.result() for future in futures) == count * (count - 1)
        return (time.perf_counter() - begin) / count


@benchmark()
def executor_round_trip(mp: Any) -> float:
    """Per task on an idle executor."""
    count = 1000
    with executor_of(mp) as executor:
        executor.submit(double, 1).result()
        begin = time.perf_counter()
        for number in range(count):
            assert executor.submit(double, number).result() == 2 * number
        return (time.perf_counter() - begin) / count
