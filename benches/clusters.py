"""What an executor of a cluster costs, beside the same work in the cluster's own words.

Starts a Ray and a Dask on this machine, one after the other, and prints medians of several rounds in which
both ways take turns:

    .venv/bin/python benches/clusters.py [ROUNDS]
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import forkless as mp
import numpy

TASKS, READERS = 500, 20
ARRAY = numpy.arange(12_500_000.0)  # 100 MB


def nothing() -> None:
    """The smallest task."""


def read(array: Any, start: int) -> float:
    """A task that needs all of a large array, and looks at some of it."""
    return float(array[start :: len(array) // 1000].sum())


EXPECTED = [read(ARRAY, start) for start in range(READERS)]


def clock(call: Callable[[], object]) -> float:
    """Seconds."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def check(found: list[float]) -> None:
    """A wrong answer is no measurement."""
    assert found == EXPECTED


def ours(executor: mp.Executor) -> dict[str, Callable[[], object]]:
    """By forkless."""

    def share() -> None:
        shared = mp.share(ARRAY)
        check(list(executor.map(read, [shared] * READERS, range(READERS))))

    return {
        "one task and its result": lambda: executor.submit(nothing).result(),
        f"a map of {TASKS} tasks, each": lambda: list(executor.map(noop, range(TASKS))),
        f"100 MB, shared, for {READERS} tasks": share,
    }


def noop(number: int) -> int:
    """A task of a map."""
    return number


def of_ray() -> dict[str, Callable[[], object]]:
    """By Ray."""
    import ray

    task, each, reader = ray.remote(nothing), ray.remote(noop), ray.remote(read)

    def share() -> None:
        shared = ray.put(ARRAY)
        check(ray.get([reader.remote(shared, start) for start in range(READERS)]))

    return {
        "one task and its result": lambda: ray.get(task.remote()),
        f"a map of {TASKS} tasks, each": lambda: ray.get([each.remote(n) for n in range(TASKS)]),
        f"100 MB, shared, for {READERS} tasks": share,
    }


def of_dask(client: Any) -> dict[str, Callable[[], object]]:
    """By Dask."""

    def share() -> None:
        shared = client.scatter(ARRAY, broadcast=True, hash=False)
        futures = [client.submit(read, shared, start, pure=False) for start in range(READERS)]
        check(client.gather(futures))

    return {
        "one task and its result": lambda: client.submit(nothing, pure=False).result(),
        f"a map of {TASKS} tasks, each": lambda: client.gather(client.map(noop, range(TASKS), pure=False)),
        f"100 MB, shared, for {READERS} tasks": share,
    }


def compare(title: str, ways: dict[str, dict[str, Callable[[], object]]], rounds: int) -> None:
    """Prints a row for each kind of work."""
    for kind in ways["forkless"]:
        repeats = 50 if kind.startswith("one") else 1
        times: dict[str, list[float]] = {way: [] for way in ways}
        for way in ways:
            clock(ways[way][kind])  # Once for whatever is only slow the first time.
        for _ in range(rounds):
            for way in ways:
                took = [clock(ways[way][kind]) for _ in range(repeats)]
                times[way].append(statistics.median(took))
        scale = TASKS if kind.endswith("each") else 1
        native, mine = (statistics.median(times[way]) / scale * 1e3 for way in ("native", "forkless"))
        print(
            f"{title:5} {kind:34} native {native:8.2f} ms, forkless {mine:8.2f} ms, ratio {mine / native:.2f}"
        )


def main(rounds: int) -> None:
    """Both engines."""
    with mp.Executor("ray") as executor:
        compare("Ray", {"native": of_ray(), "forkless": ours(executor)}, rounds)
    with mp.Executor("dask") as executor:
        from distributed import Client

        with Client(executor._scheduler.engine._local.address, set_as_default=False) as client:  # type: ignore[attr-defined,no-untyped-call]
            compare("Dask", {"native": of_dask(client), "forkless": ours(executor)}, rounds)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
