"""What an executor of a cluster costs, beside the same work in the cluster's own words.

Starts a Ray and a Dask on this machine, one after the other, and prints medians of several rounds in which
both ways take turns:

    .venv/bin/python benches/clusters.py [ROUNDS]
"""

import statistics
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import forkless as mp
import numpy

TASKS, READERS = 500, (1, 20, 200)
ARRAY = numpy.arange(12_500_000.0)  # 100 MB
MANY = 10  # arrays of 10 MB


def nothing() -> None:
    """The smallest task."""


def read(array: Any, start: int) -> float:
    """A task that needs all of a large array, and looks at some of it."""
    return float(array[start :: len(array) // 1000].sum())


def make(size: int) -> Any:
    """A task that returns a large array."""
    return numpy.ones(size)


EXPECTED = [read(ARRAY, start) for start in range(max(READERS))]
PARTS = [ARRAY[: len(ARRAY) // MANY]] * MANY
TOTALS = [read(part, start) for start, part in enumerate(PARTS)]


def clock(call: Callable[[], object]) -> float:
    """Seconds."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def check(found: list[float]) -> None:
    """A wrong answer is no measurement."""
    assert found in (EXPECTED[: len(found)], TOTALS)


def check_made(found: list[Any], size: int) -> None:
    """Likewise."""
    assert all(len(array) == size and array[0] == array[-1] == 1 for array in found)


def named(
    nothing: Callable[[], object],
    each: Callable[[], object],
    share: Callable[[int], object],
    arguments: Callable[[list[Any]], object],
    results: Callable[[int, int], object],
) -> dict[str, Callable[[], object]]:
    """What is measured, by name."""
    return {
        "one task and its result": nothing,
        f"a map of {TASKS} tasks, each": each,
        **{f"100 MB, shared, for {n} tasks": partial(share, n) for n in READERS},
        "an argument of 100 MB": partial(arguments, [ARRAY]),
        "10 arguments of 10 MB": partial(arguments, PARTS),
        "a result of 100 MB": partial(results, 1, len(ARRAY)),
        "10 results of 10 MB": partial(results, MANY, len(PARTS[0])),
    }


def ours(executor: mp.Executor) -> dict[str, Callable[[], object]]:
    """By forkless."""

    def share(readers: int) -> None:
        shared = executor.share(ARRAY)
        check(list(executor.map(read, [shared] * readers, range(readers))))

    return named(
        lambda: executor.submit(nothing).result(),
        lambda: list(executor.map(noop, range(TASKS))),
        share,
        lambda arrays: check(list(executor.map(read, arrays, range(len(arrays))))),
        lambda count, size: check_made(list(executor.map(make, [size] * count)), size),
    )


def noop(number: int) -> int:
    """A task of a map."""
    return number


def of_ray() -> dict[str, Callable[[], object]]:
    """By Ray."""
    import ray

    task, each, reader, maker = ray.remote(nothing), ray.remote(noop), ray.remote(read), ray.remote(make)

    def share(readers: int) -> None:
        shared = ray.put(ARRAY)
        check(ray.get([reader.remote(shared, start) for start in range(readers)]))

    return named(
        lambda: ray.get(task.remote()),
        lambda: ray.get([each.remote(n) for n in range(TASKS)]),
        share,
        lambda arrays: check(ray.get([reader.remote(array, start) for start, array in enumerate(arrays)])),
        lambda count, size: check_made(ray.get([maker.remote(size) for _ in range(count)]), size),
    )


def of_dask(client: Any) -> dict[str, Callable[[], object]]:
    """By Dask."""

    def share(readers: int) -> None:
        shared = client.scatter(ARRAY, broadcast=True, hash=False)
        futures = [client.submit(read, shared, start, pure=False) for start in range(readers)]
        check(client.gather(futures))

    def arguments(arrays: list[Any]) -> None:
        futures = [client.submit(read, array, start, pure=False) for start, array in enumerate(arrays)]
        check(client.gather(futures))

    def results(count: int, size: int) -> None:
        futures = [client.submit(make, size, pure=False) for _ in range(count)]
        check_made(client.gather(futures), size)

    return named(
        lambda: client.submit(nothing, pure=False).result(),
        lambda: client.gather(client.map(noop, range(TASKS), pure=False)),
        share,
        arguments,
        results,
    )


def compare(title: str, ways: dict[str, dict[str, Callable[[], object]]], rounds: int) -> None:
    """Prints a row for each kind of work."""
    for kind in ways["forkless"]:
        repeats = 50 if kind.startswith("one") else 1
        times: dict[str, list[float]] = {way: [] for way in ways}
        for way in ways:
            clock(ways[way][kind])  # Once for whatever is only slow the first time.
        for turn in range(rounds):
            for way in sorted(ways, reverse=bool(turn % 2)):
                took = [clock(ways[way][kind]) for _ in range(repeats)]
                times[way].append(statistics.median(took))
        scale = TASKS if kind.endswith("each") else 1
        native, mine = (statistics.median(times[way]) / scale * 1e3 for way in ("native", "forkless"))
        print(
            f"{title:5} {kind:32} native {native:8.2f} ms, forkless {mine:8.2f} ms, "
            f"ratio {mine / native:.2f}",
            flush=True,
        )


def main(rounds: int) -> None:
    """Both engines."""
    warnings.filterwarnings("ignore", "Sending large graph")  # Dask means us.
    with mp.Executor("ray") as executor:
        compare("Ray", {"native": of_ray(), "forkless": ours(executor)}, rounds)
    with mp.Executor("dask") as executor:
        from distributed import Client

        with Client(executor._scheduler.engine._local.address, set_as_default=False) as client:  # type: ignore[attr-defined,no-untyped-call]
            compare("Dask", {"native": of_dask(client), "forkless": ours(executor)}, rounds)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 9)
