"""Locks and what is built from them, free and contended."""

from __future__ import annotations

import statistics
import time
from typing import Any

from jobs import answer, note_wakes, take
from processes import unique
from suite import benchmark


@benchmark(at_most=1.0)
def lock(mp: Any) -> float:
    """Per acquire and release of a free lock."""
    mutex, count = mp.Lock(), 200_000
    begin = time.perf_counter()
    for _ in range(count):
        mutex.acquire()
        mutex.release()
    return (time.perf_counter() - begin) / count


@benchmark(at_most=1.0)
def rlock(mp: Any) -> float:
    """Per acquire and release of a free recursive lock."""
    mutex, count = mp.RLock(), 200_000
    begin = time.perf_counter()
    for _ in range(count):
        mutex.acquire()
        mutex.release()
    return (time.perf_counter() - begin) / count


@benchmark(at_most=0.5)
def contended_lock(mp: Any) -> float:
    """Per `with lock` of two processes that do nothing else."""
    mutex, count, ready = mp.Lock(), 100_000, mp.Barrier(3)
    workers = [mp.Process(target=take, args=(mutex, ready, count)) for _ in range(2)]
    for worker in workers:
        worker.start()
    ready.wait()
    begin = time.perf_counter()
    for worker in workers:
        worker.join()
    return (time.perf_counter() - begin) / (2 * count)


@benchmark(at_most=1.0)
def semaphore_ping_pong(mp: Any) -> float:
    """The median round trip through two semaphores."""
    there, back, count = mp.Semaphore(0), mp.Semaphore(0), 3000
    partner = mp.Process(target=answer, args=(there, back, count))
    partner.start()
    trips = []
    for _ in range(count):
        begin = time.perf_counter()
        there.release()
        back.acquire()
        trips.append(time.perf_counter() - begin)
    partner.join()
    return statistics.median(trips)


@benchmark(at_most=0.6)
def event_wake(mp: Any) -> float:
    """The median time from `set` to the return of another process's `wait`, which was asleep."""
    count = 300
    event, ready, times = mp.Event(), mp.Semaphore(0), mp.RawArray("d", count)
    waiter = mp.Process(target=note_wakes, args=(event, ready, times, count))
    waiter.start()
    sets = []
    for _ in range(count):
        ready.acquire()
        time.sleep(0.001)
        sets.append(time.clock_gettime(time.CLOCK_MONOTONIC))
        event.set()
        while event.is_set():
            time.sleep(0.0001)
    waiter.join()
    return statistics.median(woken - set_ for woken, set_ in zip(times, sets, strict=True))


@benchmark(at_most=1.0)
def value_increment(mp: Any) -> float:
    """Per `with value.get_lock(): value.value += 1`."""
    value, count = mp.Value("q", 0), 100_000
    begin = time.perf_counter()
    for _ in range(count):
        with value.get_lock():
            value.value += 1
    elapsed = time.perf_counter() - begin
    assert value.value == count
    return elapsed / count


def make_locks(mp: Any) -> tuple[float, float]:
    """Seconds and bytes that 10,000 locks take."""
    import os

    mp.Lock()
    before = unique(os.getpid())
    begin = time.perf_counter()
    locks = [mp.Lock() for _ in range(10_000)]
    elapsed = time.perf_counter() - begin
    return elapsed, unique(os.getpid()) - before - locks.__sizeof__()


@benchmark(limit=20e-3)
def creation_of_10_000_locks(mp: Any) -> float:
    """All of them."""
    return make_locks(mp)[0]


@benchmark(limit=2e6, unit="B")
def memory_of_10_000_locks(mp: Any) -> float:
    """All of them, without the list."""
    return make_locks(mp)[1]
