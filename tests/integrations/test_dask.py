"""dask: an executor of forkless as its scheduler."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import forkless
import pytest
from libraries import needs

dask = needs("dask")


@pytest.fixture
def executor() -> Iterator[forkless.executor.Executor]:
    with forkless.Executor(2) as executor:
        yield executor


def whereabouts(_: object = None) -> tuple[int, str]:
    return os.getpid(), forkless.current_process().name


def are_workers(found: list[tuple[int, str]]) -> bool:
    return os.getpid() not in dict(found) and all(name.startswith("ExecutorWorker-") for _, name in found)


def test_delayed_calls(executor: Any) -> None:
    numbers = [dask.delayed(pow)(n, 2) for n in range(10)]
    assert dask.compute(dask.delayed(sum)(numbers), scheduler=executor) == (285,)
    places = [dask.delayed(whereabouts)(n) for n in range(20)]
    assert are_workers(list(dask.compute(*places, scheduler=executor)))


def test_functions_that_travel_by_value(executor: Any) -> None:
    base = 10
    found = dask.compute(*[dask.delayed(lambda n: n + base)(n) for n in range(3)], scheduler=executor)
    assert found == (10, 11, 12)


def test_arrays(executor: Any) -> None:
    numpy, array = needs("numpy"), needs("dask.array")
    numbers = array.arange(400_000, chunks=100_000)
    assert int((numbers + 1).sum().compute(scheduler=executor)) == sum(range(400_001))
    doubled = (numbers * 2).compute(scheduler=executor)
    assert numpy.array_equal(doubled, numpy.arange(400_000) * 2)


def test_bags(executor: Any) -> None:
    bag = needs("dask.bag")
    words = bag.from_sequence("one two three two one two".split(), npartitions=3)
    with dask.config.set(scheduler=executor):
        assert dict(words.frequencies().compute()) == {"one": 2, "two": 3, "three": 1}
        assert are_workers(bag.from_sequence(range(6), npartitions=3).map(whereabouts).compute())


def test_data_frames(executor: Any) -> None:
    pandas, frames = needs("pandas"), needs("dask.dataframe")
    frame = pandas.DataFrame({"key": [1, 2, 1, 2], "value": [1.0, 2.0, 3.0, 4.0]})
    with dask.config.set(scheduler=executor):
        found = frames.from_pandas(frame, npartitions=2).groupby("key").value.sum().compute()
    assert dict(found) == {1: 4.0, 2: 6.0}


def test_an_error_is_that_of_the_task(executor: Any) -> None:
    with pytest.raises(ZeroDivisionError):
        dask.compute(dask.delayed(divmod)(1, 0), scheduler=executor)
    assert dask.compute(dask.delayed(abs)(-1), scheduler=executor) == (1,)


def test_a_worker_that_dies_is_an_error_that_names_the_signal(executor: Any) -> None:
    with pytest.raises(forkless.WorkerDied, match="was killed by SIGKILL"):
        dask.compute(dask.delayed(die)(), scheduler=executor)
    assert dask.compute(dask.delayed(abs)(-1), scheduler=executor) == (1,)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
