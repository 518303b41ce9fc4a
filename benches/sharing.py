"""Data that processes have in common: what it costs to prepare it, and what reading it costs each of them."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jobs
from messages import arena_memory
from suite import NotThere, benchmark

# Objects stay in common where Python can have them immortal. Elsewhere the figures come without a promise.
CAN_IMMORTALISE = sys.version_info[:2] in ((3, 12), (3, 13))
MOST = 2e6 if CAN_IMMORTALISE else None


def of(mp: Any, name: str) -> Any:
    """What only some subjects have."""
    if not hasattr(mp, name):
        raise NotThere(name)
    return getattr(mp, name)


class Thing:
    """An object with a list."""

    def __init__(self, number: int) -> None:
        self.number, self.items = number, [number]


def ints() -> list[int]:
    """Ten million of them."""
    return list(range(10_000_000))


def dicts() -> list[dict[str, int]]:
    """A million of them."""
    return [{"number": number} for number in range(1_000_000)]


def things() -> list[Thing]:
    """Half a million objects with a list each."""
    return [Thing(number) for number in range(500_000)]


def sum_of_dicts(data: list[dict[str, int]]) -> int:
    """Reads all of them."""
    return sum(each["number"] for each in data)


def sum_of_things(data: list[Thing]) -> int:
    """Reads all of them, and their lists."""
    return sum(each.number + each.items[0] - len(each.items) + 1 for each in data)


def copied_by_reading(mp: Any, data: Any, read: Callable[[Any], int], *, preloaded: bool = True) -> float:
    """Bytes that become a child's own when it reads what it inherits, and collects garbage."""
    if preloaded and hasattr(mp, "preload"):
        mp.preload(data)
    queue = mp.SimpleQueue()
    child = mp.Process(target=jobs.read_and_tell, args=(queue, data, read, data[:1]))
    child.start()
    total, copied = queue.get()
    child.join()
    assert total == read(data)
    return float(copied)


@benchmark(limit=MOST, unit="B")
def copied_ints(mp: Any) -> float:
    """What a child that reads ten million ints copies of them."""
    return copied_by_reading(mp, ints(), sum)


@benchmark(limit=MOST, unit="B")
def copied_dicts(mp: Any) -> float:
    """The same with a million dicts."""
    return copied_by_reading(mp, dicts(), sum_of_dicts)


@benchmark(limit=MOST, unit="B")
def copied_objects(mp: Any) -> float:
    """The same with half a million objects that have a list each."""
    return copied_by_reading(mp, things(), sum_of_things)


def prepared(mp: Any, data: list[Any]) -> tuple[float, float]:
    """Seconds that preloading took in all, and in the template."""
    preload = of(mp, "preload")
    begin = time.perf_counter()
    report = preload(data)
    elapsed = time.perf_counter() - begin
    assert (report.immortal > len(data) * 0.9) == CAN_IMMORTALISE
    return elapsed, report.seconds


@benchmark(limit=0.5)
def prepare_ints(mp: Any) -> float:
    """Ten million ints in the template: loaded, and made immortal."""
    return prepared(mp, ints())[1]


@benchmark()
def preload_ints(mp: Any) -> float:
    """All of it, a new template included."""
    return prepared(mp, ints())[0]


@benchmark()
def preload_dicts(mp: Any) -> float:
    """The same with a million dicts."""
    return prepared(mp, dicts())[0]


@benchmark()
def preload_objects(mp: Any) -> float:
    """The same with half a million objects."""
    return prepared(mp, things())[0]


def array_in_4_tasks(mp: Any) -> tuple[float, float]:
    """Bytes beside an array of 200 MB that four workers read, in the whole tree; then seconds per task."""
    import numpy

    share = getattr(mp, "share", lambda array: array)
    with mp.Pool(4) as pool:
        # With an array, so that all of them have imported what it takes.
        idle = dict(pool.map(jobs.own_memory, [numpy.zeros(10)] * 64, 1))
        before = jobs.anonymous() + arena_memory()
        array = share(numpy.arange(25_000_000, dtype="float64"))
        busy: dict[int, int] = {}
        for pid, own in pool.map(jobs.own_memory, [array] * 4, 1):
            busy[pid] = max(own, busy.get(pid, 0))
        extra = sum(busy.values()) - sum(idle[pid] for pid in busy)
        extra += jobs.anonymous() + arena_memory() - before - array.nbytes
        begin = time.perf_counter()
        results = [pool.map(jobs.ends, [array] * 4, 1) for _ in range(50 if hasattr(mp, "share") else 1)]
        elapsed = time.perf_counter() - begin
        assert results[0] == [(0.0, 24_999_999.0)] * 4
    return float(extra), elapsed / len(results) / 4


@benchmark(limit=4e6, unit="B")
def array_200_mb_memory(mp: Any) -> float:
    """What the tree has beside an array of 200 MB that four workers read."""
    return array_in_4_tasks(mp)[0]


@benchmark(limit=1e-3)
def array_200_mb_task(mp: Any) -> float:
    """Per task that gets it, not for the first time, and looks at both ends."""
    return array_in_4_tasks(mp)[1]


def shared(mp: Any, before_each: Callable[[], object]) -> float:
    """The median of making 100 MB of numbers common, seven times."""
    import numpy

    array = numpy.arange(12_500_000, dtype="float64")
    figures = []
    result = mp.share(array)
    for _ in range(7):
        del result
        before_each()
        begin = time.perf_counter()
        result = mp.share(array)
        figures.append(time.perf_counter() - begin)
    assert (result == array).all()
    return statistics.median(figures)


@benchmark(at_most={"fresh segment": 1.2})
def share_100_mb_cold(mp: Any) -> float:
    """To share an array of 100 MB, in memory that was not used before."""
    return shared(mp, getattr(mp, "trim_memory", lambda: None))


@benchmark(at_most={"memcpy": 1.2})
def share_100_mb_warm(mp: Any) -> float:
    """The same where something of that size was shared before, and dropped."""
    return shared(mp, lambda: None)


@benchmark(limit=0.5)
def share_ints(mp: Any) -> float:
    """To share a list of ten million ints."""
    share = of(mp, "share")
    data = ints()
    begin = time.perf_counter()
    shared_ints = share(data)
    elapsed = time.perf_counter() - begin
    assert shared_ints[-1] == data[-1]
    return elapsed


@benchmark(limit=3e6, unit="B")
def copied_shared_ints(mp: Any) -> float:
    """What a child that sums a shared list of ten million ints copies; on every Python."""
    data = getattr(mp, "share", lambda data: data)(ints())
    return copied_by_reading(mp, data, sum, preloaded=False)


@benchmark(at_most={"plain list": 1.5})
def sum_shared_ints(mp: Any) -> float:
    """To sum it."""
    data = of(mp, "share")(ints())
    figures = []
    for _ in range(3):
        begin = time.perf_counter()
        total = sum(data)
        figures.append(time.perf_counter() - begin)
        assert total == 9_999_999 * 5_000_000
    return statistics.median(figures)
