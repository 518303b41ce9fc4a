"""joblib: `Parallel` on workers of forkless, and scikit-learn on that."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

import forkless
import pytest
from libraries import needs
from support import PATIENCE, Balanced, Program, eventually, processes, run_program

joblib = needs("joblib")
from forkless import joblib as backend  # noqa: E402
from joblib import Parallel, delayed, parallel_config  # noqa: E402


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """The backend under its name, and no workers of it afterwards."""
    backend.register()
    with parallel_config("forkless", n_jobs=2):
        yield
    backend.shutdown()


def identity() -> tuple[int, str]:
    return os.getpid(), forkless.current_process().name


def workers() -> set[int]:
    """The workers that are there: two that meet are two."""
    barrier = forkless.Barrier(2, timeout=PATIENCE)
    calls: Any = Parallel(batch_size=1)(delayed(meet)(barrier) for _ in range(2))
    return set(calls)


def meet(barrier: Any) -> int:
    barrier.wait()
    return os.getpid()


def fails(number: int) -> int:
    if number == 3:
        raise LookupError(f"no {number}")
    return number


def fails_from(number: int) -> None:
    try:
        fails(3)
    except LookupError as error:
        raise RuntimeError(f"item {number}") from error


def dies(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGSEGV)
    return number


def test_results_come_in_order_from_children() -> None:
    calls = Parallel()(delayed(pow)(n, 2) for n in range(500))
    assert calls == [n * n for n in range(500)]
    found = set(Parallel()(delayed(identity)() for _ in range(100)))
    assert 1 <= len(found) <= 2
    assert os.getpid() not in {pid for pid, _ in found}
    assert all(name.startswith("ExecutorWorker-") for _, name in found)


def test_the_backend_says_who_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    Parallel(verbose=51)(delayed(abs)(n) for n in range(4))
    shown = capsys.readouterr()
    assert "Using backend ForklessBackend with 2 concurrent workers" in shown.out + shown.err


@pytest.mark.parametrize("ordered", [True, False])
def test_results_as_a_generator(ordered: bool) -> None:
    return_as = "generator" if ordered else "generator_unordered"
    found = Parallel(return_as=return_as)(delayed(pow)(n, 2) for n in range(50))
    assert next(found) in {n * n for n in range(50)}
    rest = list(found)
    assert len(rest) == 49
    assert rest == sorted(rest) or not ordered


def test_unordered_results_come_as_they_are_done() -> None:
    event = forkless.Event()
    calls = [delayed(event.wait)(PATIENCE), delayed(event.is_set)()]
    found = Parallel(return_as="generator_unordered", batch_size=1)(iter(calls))
    assert next(found) is False
    event.set()
    assert list(found) == [True]


def test_a_generator_that_is_dropped_cancels_the_rest() -> None:
    event = forkless.Event()
    found = Parallel(return_as="generator", batch_size=1)(
        [delayed(abs)(-1), delayed(event.wait)(), delayed(event.wait)()]
    )
    assert next(found) == 1
    with pytest.warns(UserWarning, match="still being processed"):
        found.close()
    assert len(workers()) == 2  # They are free, though nobody has set the event.


def test_an_error_has_the_traceback_of_the_worker() -> None:
    with pytest.raises(LookupError, match="no 3") as caught:
        Parallel()(delayed(fails)(n) for n in range(10))
    text = str(caught.value.__cause__)
    assert "in fails" in text
    assert "raised in ExecutorWorker-" in text
    with pytest.raises(RuntimeError, match="item 0") as chained:
        Parallel()(delayed(fails_from)(n) for n in range(4))
    remote = chained.value.__cause__
    assert isinstance(remote, forkless.exceptions.RemoteTraceback)
    assert "in fails_from" in str(remote)
    assert isinstance(remote.__cause__, LookupError)


def test_a_worker_that_dies_fails_the_call_and_names_the_signal() -> None:
    with pytest.raises(
        forkless.WorkerDied, match=r"was killed by SIGSEGV while it ran test_joblib\.dies;"
    ) as died:
        Parallel(batch_size=1)(delayed(dies)(n) for n in range(10))
    assert died.value.exitcode == -signal.SIGSEGV
    assert "in dies" in str(died.value)
    assert len(workers()) == 2


def test_a_batch_that_is_lost_can_be_run_again() -> None:
    count = forkless.Value("i")
    found = Parallel(retries=1, batch_size=2)(delayed(dies_once)(count, n) for n in range(6))
    assert found == list(range(6))
    assert count.value == 7


def dies_once(count: Any, number: int) -> int:
    with count.get_lock():
        count.value += 1
        if count.value == 1:
            os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_timeout_ends_the_call_and_frees_the_workers() -> None:
    event = forkless.Event()
    with pytest.raises(multiprocessing.TimeoutError):  # The one that joblib uses.
        Parallel(timeout=0.2)(delayed(event.wait)() for _ in range(4))
    assert len(workers()) == 2


def test_workers_are_kept_for_the_next_call_with_the_same_options() -> None:
    first = workers()
    assert workers() == first
    with Parallel(n_jobs=2) as parallel:
        assert set(parallel(delayed(os.getpid)() for _ in range(20))) <= first
        with pytest.raises(LookupError):
            parallel(delayed(fails)(n) for n in range(10))
        assert set(parallel(delayed(os.getpid)() for _ in range(20))) <= first


def test_nothing_of_a_call_that_failed_is_in_the_next_one() -> None:
    with Parallel() as parallel:
        for _ in range(10):
            with pytest.raises(LookupError):
                parallel(delayed(fails)(n) for n in range(10))
            assert parallel(delayed(fails)(n) for n in range(20, 25)) == list(range(20, 25))


def test_workers_for_other_options_replace_those_of_before() -> None:
    first = workers()
    other = set(Parallel(n_jobs=3)(delayed(os.getpid)() for _ in range(20)))
    assert not other & first
    assert eventually(lambda: not first & set(processes())), "the workers of before are still there"


def test_options_reach_the_executor() -> None:
    set_up = {"initializer": os.putenv, "initargs": ("FORKLESS_TEST_GREETING", "hello")}
    options = {**set_up, "env": {"FORKLESS_TEST_NAME": "you"}, "inner_max_num_threads": 1}
    names = ["FORKLESS_TEST_GREETING", "FORKLESS_TEST_NAME", "OMP_NUM_THREADS"]
    with parallel_config("forkless", n_jobs=2, **options):
        assert Parallel()(delayed(variable)(name) for name in names) == ["hello", "you", "1"]
        first = workers()
    with parallel_config("forkless", n_jobs=2, **options):
        assert workers() == first
    with pytest.raises(TypeError, match="idle_worker_timeout"):
        Parallel(idle_worker_timeout=5)(delayed(abs)(n) for n in range(3))


def variable(name: str) -> str:
    return subprocess.run(["printenv", name], check=True, capture_output=True, text=True).stdout.strip()


def test_an_initializer_that_fails_is_an_error_and_the_next_call_works() -> None:
    with pytest.raises(forkless.BrokenPool, match="no 3"):
        Parallel(initializer=fails, initargs=(3,))(delayed(abs)(n) for n in range(4))
    for number in (4, 3):
        count = forkless.Value("i")
        set_up = {"initializer": refuse_once, "initargs": (count, number)}
        with parallel_config("forkless", n_jobs=2, **set_up):
            if number == 3:
                with pytest.raises(forkless.BrokenPool):
                    Parallel()(delayed(abs)(n) for n in range(4))
            assert Parallel()(delayed(abs)(n) for n in range(4)) == list(range(4))


def refuse_once(count: Any, number: int) -> None:
    with count.get_lock():
        count.value += number == 3
        if count.value == 1:
            raise LookupError


@pytest.mark.parametrize(("n_jobs", "expected"), [(1, 1), (3, 3), (-1, 2), (-2, 1), (-100, 1)])
def test_n_jobs(n_jobs: int | None, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "cpu_count", lambda: 2)
    with parallel_config("forkless"):
        assert joblib.effective_n_jobs(n_jobs) == expected
        found = set(Parallel(n_jobs=n_jobs)(delayed(os.getpid)() for _ in range(20)))
    assert (found == {os.getpid()}) == (expected == 1)


def test_no_jobs_are_refused() -> None:
    with pytest.raises(ValueError, match="n_jobs == 0"):
        Parallel(n_jobs=0)(delayed(abs)(n) for n in range(3))


def inner(**options: Any) -> tuple[int, set[tuple[int, int]]]:
    found = Parallel(**options)(delayed(os.getpid)() for _ in range(6))
    return os.getpid(), set(found)


@pytest.mark.parametrize("options", [{"n_jobs": -1}, {"n_jobs": 8}, {"n_jobs": 8, "backend": "forkless"}])
def test_calls_within_tasks_take_no_more_than_their_share(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "cpu_count", lambda: 2)
    for pid, found in Parallel()(delayed(inner)(**options) for _ in range(4)):
        assert found == {pid}


def threads_of(n_jobs: int) -> tuple[int, int, type]:
    barrier = threading.Barrier(2, timeout=PATIENCE)
    found = Parallel(n_jobs=n_jobs)(delayed(meet_as_thread)(barrier) for _ in range(2))
    return len(set(found)), joblib.effective_n_jobs(-1), type(found)


def meet_as_thread(barrier: threading.Barrier) -> int:
    barrier.wait()
    return threading.get_ident()


def test_calls_within_tasks_run_in_threads_where_there_are_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "cpu_count", lambda: 4)
    assert Parallel()(delayed(threads_of)(2) for _ in range(2)) == [(2, min(2, joblib.cpu_count()), list)] * 2


def test_threads_of_the_program_have_calls_of_their_own() -> None:
    found: list[list[int]] = []

    def call(start: int) -> None:
        with parallel_config("forkless", n_jobs=2):
            found.append(Parallel()(delayed(pow)(n, 2) for n in range(start, start + 20)))

    threads = [threading.Thread(target=call, args=(start,)) for start in (0, 100, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [[n * n for n in range(start, start + 20)] for start in (0, 100, 200)]


def test_arrays_arrive_writable_and_shared_ones_are_not_copied() -> None:
    numpy = needs("numpy")
    plain, shared = numpy.ones(500_000), forkless.share(numpy.ones(500_000))

    def look(array: Any) -> tuple[bool, float]:
        return bool(array.flags.writeable), float(array.sum())

    assert Parallel()(delayed(look)(plain) for _ in range(3)) == [(True, 500_000.0)] * 3
    assert Parallel()(delayed(look)(shared) for _ in range(3)) == [(False, 500_000.0)] * 3
    results = Parallel()(delayed(numpy.full)(300_000, n) for n in range(4))
    assert [float(result[-1]) for result in results] == [0.0, 1.0, 2.0, 3.0]


def write(array: Any, number: int) -> tuple[float, float]:
    before = float(array[number]), float(array.sum())
    array[number] = -1.0
    return before


@pytest.mark.parametrize("size", [200_000, 5_000_000])
@pytest.mark.parametrize("options", [{}, {"max_nbytes": None}, {"max_nbytes": "100M"}])
def test_what_a_task_writes_to_an_array_no_other_sees(size: int, options: dict[str, Any]) -> None:
    numpy = needs("numpy")
    array = numpy.ones(size)
    found = Parallel(batch_size=1, **options)(delayed(write)(array, n % 2) for n in range(12))
    assert found == [(1.0, float(size))] * 12
    assert array.min() == 1.0


@pytest.mark.parametrize("size", [200_000, 5_000_000])
def test_an_array_that_changes_between_tasks_is_sent_as_it_is_then(size: int) -> None:
    numpy = needs("numpy")
    array = numpy.zeros(size)

    def calls() -> Iterator[Any]:
        for number in range(12):
            array[-1] = number // 2
            yield delayed(numpy.sum)(array)

    assert Parallel(batch_size=1)(calls()) == [number // 2 for number in range(12)]


def test_tasks_write_to_a_file_that_is_mapped(tmp_path: Any) -> None:
    numpy = needs("numpy")
    mapped = numpy.memmap(tmp_path / "numbers", dtype="int64", mode="w+", shape=(4, 6))
    calls = [delayed(fill)(mapped, 0), delayed(fill)(mapped[1], 1), delayed(fill)(mapped[:, 4:], 2)]
    for call in calls:  # One after the other, as their places overlap.
        assert Parallel(n_jobs=2)([call]) == [numpy.memmap]
    expected = [[0, 0, 0, 0, 2, 2], [1, 1, 1, 1, 2, 2], [0, 0, 0, 0, 2, 2], [0, 0, 0, 0, 2, 2]]
    assert mapped.tolist() == expected


def fill(array: Any, number: int) -> type:
    numpy = needs("numpy")
    base = array
    while not isinstance(base, numpy.memmap):
        base = base.base
    array[...] = number
    return type(base)


@pytest.mark.parametrize("return_as", ["list", "generator"])
def test_results_are_waited_for_rather_than_polled(return_as: str, monkeypatch: pytest.MonkeyPatch) -> None:
    naps: list[float] = []

    class Clock:
        time = staticmethod(time.time)

        @staticmethod
        def sleep(seconds: float) -> None:
            naps.append(seconds)
            time.sleep(seconds)

    monkeypatch.setattr(joblib.parallel, "time", Clock)
    begin = time.monotonic()
    assert list(Parallel(return_as=return_as)(delayed(time.sleep)(0.3) for _ in range(4))) == [None] * 4
    assert len(naps) <= 2 * (time.monotonic() - begin)  # It would be a hundred a second.


@pytest.mark.parametrize("return_as", ["list", "generator"])
def test_an_error_ends_a_call_that_waits_for_another_task(return_as: str) -> None:
    event = forkless.Event()
    with pytest.raises(LookupError, match="no 3"):
        list(Parallel(return_as=return_as, batch_size=1)([delayed(event.wait)(), delayed(fails)(3)]))
    assert len(workers()) == 2


def test_everything_goes_back() -> None:
    numpy = needs("numpy")
    backend.shutdown()
    gc.collect()
    with Balanced(collect=True):
        Parallel()(delayed(numpy.sum)(numpy.ones(200_000)) for _ in range(10))
        Parallel()([delayed(numpy.sum)(numpy.ones(5_000_000))] * 10)
        with pytest.raises(LookupError):
            Parallel()(delayed(fails)(n) for n in range(10))
        backend.shutdown()
        gc.collect()


def test_results_are_cached_by_memory(tmp_path: Any) -> None:
    memory = joblib.Memory(tmp_path, verbose=0)
    count = forkless.Value("i")
    slow = memory.cache(counted, ignore=["count"])
    for _ in range(2):
        assert Parallel(batch_size=1)(delayed(slow)(n, count) for n in range(4)) == [0, 1, 4, 9]
    assert count.value == 4


def counted(number: int, count: Any) -> int:
    with count.get_lock():
        count.value += 1
    return number * number


PROGRAM = """
import os, forkless.joblib
from joblib import Parallel, delayed
forkless.joblib.register(default=True)
offset = 5
class Point:
    def __init__(self, x): self.x = x
def move(point): return Point(point.x + offset)
found = Parallel(n_jobs=2)(delayed(move)(Point(n)) for n in range(4))
assert all(type(point) is Point for point in found)
print([point.x for point in found])
print(Parallel(n_jobs=2)(delayed(lambda n: n * offset)(n) for n in range(4)))
print(os.getpid() not in Parallel(n_jobs=2)(delayed(os.getpid)() for n in range(4)))
"""


@pytest.mark.parametrize("how", ["file", "command", "stdin"])
def test_a_program_without_a_guard(how: Any) -> None:
    outcome = run_program(PROGRAM, how=how)
    assert outcome.check() == "[5, 6, 7, 8]\n[0, 5, 10, 15]\nTrue\n"
    assert outcome.stderr == ""


def test_ctrl_c_ends_the_call_and_the_program_goes_on() -> None:
    source = """
import forkless.joblib, forkless
from joblib import Parallel, delayed
forkless.joblib.register(default=True)
event = forkless.Event()
def wait():
    print("ready", flush=True)
    event.wait()
try:
    Parallel(n_jobs=2)(delayed(wait)() for _ in range(2))
except KeyboardInterrupt:
    print("interrupted")
print(Parallel(n_jobs=2)(delayed(abs)(n) for n in range(3)))
"""
    with Program(source) as program:
        program.wait_for("ready\nready")
        program.interrupt()
        outcome = program.finish()
    assert outcome.check() == "ready\nready\ninterrupted\n[0, 1, 2]\n"
    assert outcome.stderr == ""


def test_a_killed_program_takes_its_workers_along() -> None:
    source = """
import time, forkless.joblib
from joblib import Parallel, delayed
forkless.joblib.register(default=True)
def work():
    print("ready", flush=True)
    time.sleep(1000)
Parallel(n_jobs=2)(delayed(work)() for _ in range(2))
"""
    with Program(source) as program:
        program.wait_for("ready\nready")
        program.signal(signal.SIGKILL)
        outcome = program.finish()
    assert (outcome.exit_code, outcome.survivors) == (-signal.SIGKILL, ())


class TestScikitLearn:
    """What most people call joblib through."""

    @pytest.fixture
    def data(self) -> Any:
        datasets = needs("sklearn.datasets")
        return datasets.make_classification(n_samples=300, n_features=8, random_state=0)

    def test_grid_search(self, data: Any) -> None:
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import GridSearchCV

        def search(n_jobs: int) -> Any:
            grid = GridSearchCV(LogisticRegression(), {"C": [0.01, 1.0, 10.0]}, cv=3, n_jobs=n_jobs)
            return grid.fit(*data)

        ours, alone = search(2), search(1)
        assert ours.best_params_ == alone.best_params_
        assert list(ours.cv_results_["mean_test_score"]) == list(alone.cv_results_["mean_test_score"])

    def test_shared_data_and_an_estimator_with_threads_of_its_own(self, data: Any) -> None:
        from sklearn.ensemble import RandomForestClassifier
        from sklearn.model_selection import cross_val_score

        samples, target = forkless.share(data[0]), data[1]
        forest = RandomForestClassifier(n_estimators=10, random_state=0, n_jobs=-1)
        ours = cross_val_score(forest, samples, target, cv=3, n_jobs=2)
        assert list(ours) == list(cross_val_score(forest, *data, cv=3, n_jobs=1))

    def test_the_fits_are_done_by_workers(self, data: Any) -> None:
        from sklearn.base import BaseEstimator, ClassifierMixin
        from sklearn.model_selection import cross_validate

        class Whereabouts(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
            """Defined in a function: it travels by value."""

            def fit(self, samples: Any, target: Any) -> Any:
                self.pid_, self.classes_ = os.getpid(), [0, 1]
                return self

            def predict(self, samples: Any) -> Any:
                return [self.pid_ % 2] * len(samples)

        found = cross_validate(Whereabouts(), *data, cv=4, n_jobs=2, return_estimator=True)
        pids = {estimator.pid_ for estimator in found["estimator"]}
        assert os.getpid() not in pids
        assert 1 <= len(pids) <= 2

    def test_an_error_within_a_fit(self, data: Any) -> None:
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import cross_val_score

        with pytest.raises(ValueError, match="C"):
            cross_val_score(LogisticRegression(C=-1.0), *data, cv=3, n_jobs=2, error_score="raise")
