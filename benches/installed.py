"""`concurrent.futures.ProcessPoolExecutor` as a program has it, under `forkless.install()` and as it is.

Not part of the default run: `./dev bench --group installed`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from jobs import double
from suite import benchmark

TASKS = 10_000
Step = Callable[[Any], Any]


def measured(executor_class: Any, work: Step) -> float:
    """Seconds of some work for two workers that are there already."""
    with executor_class(2) as executor:
        list(executor.map(double, range(10)))
        begin = time.perf_counter()
        answers = work(executor)
        elapsed = time.perf_counter() - begin
    assert sum(answers) == TASKS * (TASKS - 1)
    return elapsed


@benchmark("standard futures", ours="installed futures", at_most=1.0)
def futures_submit(executor_class: Any) -> float:
    """Many tasks that are submitted and then collected."""

    def work(executor: Any) -> Any:
        return [f.result() for f in [executor.submit(double, number) for number in range(TASKS)]]

    return measured(executor_class, work)


@benchmark("standard futures", ours="installed futures", at_most=1.0)
def futures_map_1(executor_class: Any) -> float:
    """A map of single items."""
    return measured(executor_class, lambda executor: executor.map(double, range(TASKS)))


@benchmark("standard futures", ours="installed futures", at_most=1.0)
def futures_map_100(executor_class: Any) -> float:
    """A map in chunks of a hundred."""
    return measured(executor_class, lambda executor: executor.map(double, range(TASKS), chunksize=100))


@benchmark("standard futures", ours="installed futures", at_most=1.0)
def futures_as_completed(executor_class: Any) -> float:
    """Many futures, taken as they are done."""
    from concurrent.futures import as_completed

    def work(executor: Any) -> Any:
        return [
            f.result() for f in as_completed([executor.submit(double, number) for number in range(TASKS)])
        ]

    return measured(executor_class, work)


@benchmark("standard futures", ours="installed futures", at_most=1.0)
def futures_wait(executor_class: Any) -> float:
    """Many futures, waited for one after another with a callback on each."""
    from concurrent.futures import wait

    def work(executor: Any) -> Any:
        answers: list[int] = []
        futures = [executor.submit(double, number) for number in range(TASKS)]
        for future in futures:
            future.add_done_callback(lambda future: answers.append(future.result()))
        wait(futures)
        return answers

    return measured(executor_class, work)


@benchmark("standard futures", ours="installed futures")
def futures_first_result(executor_class: Any) -> float:
    """From nothing to a result, and to the end. No promise: `fork` has no interpreter to start."""
    begin = time.perf_counter()
    with executor_class(2) as executor:
        assert executor.submit(double, 4).result() == 8
    return time.perf_counter() - begin
