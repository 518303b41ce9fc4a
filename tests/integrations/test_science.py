"""emcee, scipy and what else takes a pool or its map."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import forkless
import pytest
from libraries import needs

numpy = needs("numpy")


@pytest.fixture
def pool() -> Iterator[Any]:
    with forkless.Pool(2) as pool:
        yield pool


def bowl(place: Any, *offset: float) -> float:
    return float(((place - numpy.asarray(offset or 1.0)) ** 2).sum())


def recorded(place: Any, pids: Any) -> float:
    with pids.get_lock():
        pids[os.getpid() % len(pids)] = os.getpid()
    return bowl(place)


def seen(pids: Any) -> set[int]:
    return set(pids) - {0}


def kill(place: Any) -> float:
    os.kill(os.getpid(), signal.SIGKILL)
    return bowl(place)


class TestEmcee:
    def sample(self, log_probability: Callable[..., float], pool: Any, args: tuple[Any, ...] = ()) -> Any:
        emcee = needs("emcee")
        start = numpy.random.RandomState(1).randn(8, 2)
        sampler = emcee.EnsembleSampler(8, 2, log_probability, args=args, pool=pool)
        sampler.random_state = numpy.random.RandomState(2).get_state()
        sampler.run_mcmc(start, 20)
        return sampler.get_chain()

    def test_a_chain_is_the_same_as_without_a_pool(self, pool: Any) -> None:
        def log_probability(place: Any) -> float:
            return -bowl(place)

        assert numpy.array_equal(self.sample(log_probability, pool), self.sample(log_probability, None))

    def test_it_is_computed_by_workers(self, pool: Any) -> None:
        pids = forkless.Array("i", 1 << 16)
        self.sample(lambda place, pids: -recorded(place, pids), pool, (pids,))
        assert 1 <= len(seen(pids)) <= 2
        assert os.getpid() not in seen(pids)

    def test_a_worker_that_dies_is_an_error(self, pool: Any) -> None:
        with pytest.raises(forkless.WorkerDied, match="was killed by SIGKILL"):
            self.sample(kill, pool)


class TestScipy:
    def test_differential_evolution(self, pool: Any) -> None:
        optimize = needs("scipy.optimize")
        pids = forkless.Array("i", 1 << 16)
        options = {"seed": 3, "maxiter": 15, "popsize": 8, "updating": "deferred", "polish": False}
        limits = [(-2, 3), (-2, 3)]
        found = optimize.differential_evolution(recorded, limits, args=(pids,), workers=pool.map, **options)
        alone = optimize.differential_evolution(bowl, limits, workers=1, **options)
        assert list(found.x) == list(alone.x)
        assert os.getpid() not in seen(pids)
        assert seen(pids)

    def test_brute(self, pool: Any) -> None:
        optimize = needs("scipy.optimize")
        found = optimize.brute(bowl, ((-2, 2), (-2, 2)), Ns=9, workers=pool.map, finish=None)
        assert list(found) == [1.0, 1.0]

    def test_quad_vec(self, pool: Any) -> None:
        integrate = needs("scipy.integrate")
        value, _ = integrate.quad_vec(numpy.sin, 0, numpy.pi, workers=pool.map)
        assert value == pytest.approx(2.0)

    def test_an_executor_s_map_does_too(self) -> None:
        optimize = needs("scipy.optimize")
        with forkless.Executor(2) as executor:
            found = optimize.brute(bowl, ((-2, 2), (-2, 2)), Ns=5, workers=executor.map, finish=None)
        assert list(found) == [1.0, 1.0]

    def test_a_worker_that_dies_is_an_error(self, pool: Any) -> None:
        optimize = needs("scipy.optimize")
        with pytest.raises(forkless.WorkerDied, match="was killed by SIGKILL"):
            optimize.brute(kill, ((-2, 2), (-2, 2)), Ns=3, workers=pool.map, finish=None)


def fit(pool: Any, places: Iterable[Any]) -> list[float]:
    """As in programs that are given a pool of threads, of processes or of MPI."""
    return list(pool.map(bowl, places))


def test_a_program_that_is_given_some_pool(pool: Any) -> None:
    places = [numpy.array([n, n]) for n in range(4)]
    expected = [2.0, 0.0, 2.0, 8.0]
    assert fit(pool, places) == expected
    with forkless.Executor(2) as executor:
        assert fit(executor, places) == expected
