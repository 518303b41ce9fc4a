"""Starting and ending processes."""

from __future__ import annotations

import statistics
import time
from typing import Any

from jobs import nothing, sleep_until
from suite import benchmark


def ballast(size: int) -> bytearray:
    """Touched memory."""
    memory = bytearray(size)
    for offset in range(0, size, 4096):
        memory[offset] = 1
    return memory


@benchmark(at_most=0.7)
def start_and_join(mp: Any, count: int = 50, target: Any = nothing) -> float:
    """Per process started and joined, one after the other; its function is in a module."""
    mp.Process(target=target).start()
    begin = time.perf_counter()
    for _ in range(count):
        process = mp.Process(target=target)
        process.start()
        process.join()
        assert process.exitcode == 0
    return (time.perf_counter() - begin) / count


@benchmark(at_most=0.7)
def start_and_join_by_value(mp: Any) -> float:
    """The same with a function of the script."""
    script: dict[str, Any] = {"__name__": "__main__"}
    exec("def nothing(): pass", script)
    return start_and_join(mp, target=script["nothing"])


@benchmark(limit=150e-6)
def start(mp: Any) -> float:
    """The median call of `start`, one process after the other."""
    mp.Process(target=nothing).start()
    calls = []
    for _ in range(100):
        process = mp.Process(target=nothing)
        begin = time.perf_counter()
        process.start()
        calls.append(time.perf_counter() - begin)
        process.join()
    return statistics.median(calls)


@benchmark(at_most=1 / 15)
def start_and_join_from_1_gb(mp: Any) -> float:
    """The same as the first, from a parent with a gigabyte of touched memory."""
    memory = ballast(1 << 30)
    elapsed = start_and_join(mp)
    assert len(memory) == 1 << 30
    return elapsed


@benchmark("spawn", ours="forkless-spawn", at_most=0.6)
def spawn_and_join(mp: Any) -> float:
    """Per process started with a fresh interpreter, and joined."""
    return start_and_join(mp, count=10)


@benchmark(limit=3e6, unit="B")
def idle_child(mp: Any) -> float:
    """Memory that an idle child has for itself alone (USS), with numpy in the parent."""
    import numpy

    assert numpy.__version__
    event = mp.Event()
    children = [mp.Process(target=sleep_until, args=(event,)) for _ in range(4)]
    for child in children:
        child.start()
    time.sleep(0.5)
    sizes = [unique(child.pid) for child in children]
    event.set()
    for child in children:
        child.join()
    return statistics.median(sizes)


def unique(pid: int) -> int:
    """Bytes of a process that no other has mapped."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as table:
        fields = dict(line.split(":", 1) for line in table if line.startswith("Private_"))
    return sum(int(value.split()[0]) * 1024 for value in fields.values())
