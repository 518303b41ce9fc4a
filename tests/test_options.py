"""Time limits, retries, cancelling and priorities where it is hard; `test_pool_options` has the rest."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
from collections.abc import Callable, Iterator
from typing import Any

import forkless
import hostile
import jobs
import numpy as np
import pytest
from support import PATIENCE, eventually


@pytest.fixture
def executor() -> Iterator[forkless.Executor]:
    with forkless.Executor(1) as executor:
        yield executor


@pytest.fixture
def attempts() -> Any:
    return forkless.RawValue("i", 0)


# --- time limits ---


@pytest.mark.parametrize(
    ("task", "end", "soft"),
    [
        (hostile.hold_interpreter, "its worker was killed", 0.5),
        # It ends as soon as it is told, and is given all the time for that.
        (hostile.match_for_ever, "it was broken off where it was", PATIENCE),
        (hostile.catch_everything, "its worker was killed", 0.5),
    ],
)
def test_it_ends_anything(
    executor: forkless.Executor, task: Any, end: str, soft: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forkless._deadlines._SOFT", soft)
    executor.submit(jobs.pid).result(PATIENCE)
    with pytest.raises(
        forkless.TimeoutError, match=rf"{task.__name__} took longer than its time limit of 0.1 s; {end}"
    ) as caught:
        executor.options(timeout=0.1).submit(task).result(PATIENCE)
    assert isinstance(caught.value, TimeoutError)
    assert executor.submit(abs, -1).result(PATIENCE) == 1


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("how", ["pickled", "printed", "an argument"])
def test_a_task_is_late_while_its_error_is_taken_apart(
    executor: forkless.Executor, how: str, leap: Callable[[], None]
) -> None:
    begun = forkless.Event()
    late = executor.options(timeout=100).submit(hostile.raise_slowly, how, begun)
    assert begun.wait(PATIENCE)
    leap()
    with pytest.raises(forkless.TimeoutError, match="it was broken off where it was"):
        late.result(PATIENCE)
    assert executor.submit(abs, -1).result(PATIENCE) == 1


def test_only_the_late_items_of_an_imap_are_lost(leap: Callable[[], None]) -> None:
    with forkless.Pool(2) as pool:
        results = pool.imap(hostile.sleep, [0, 600, 0, 0], timeout=100)
        assert next(results) is None
        assert eventually(lambda: pool.statistics().done == 3)
        assert eventually(lambda: any(worker.task for worker in pool.statistics().workers))
        leap()
        with pytest.raises(forkless.TimeoutError, match=r"sleep\(600\) \(item 1\) took longer"):
            next(results)
        assert list(results) == [None, None]


# --- retries ---


def test_another_worker_runs_what_has_killed_the_first(executor: forkless.Executor, attempts: Any) -> None:
    worker = executor.submit(jobs.pid).result(PATIENCE)
    retry = forkless.Retry(1, delay=0.01, on=forkless.WorkerDied)
    executor.options(retries=retry).submit(hostile.fail_at_first, attempts, 1, "die").result(PATIENCE)
    assert executor.submit(jobs.pid).result(PATIENCE) != worker


@pytest.mark.parametrize(
    ("on", "how", "error"),
    [
        (OSError, ValueError, ValueError),
        ((OSError, KeyError), "die", forkless.WorkerDied),
        (Exception, KeyboardInterrupt, KeyboardInterrupt),
        (Exception, SystemExit, SystemExit),
    ],
)
def test_other_errors_are_an_outcome_at_once(
    executor: forkless.Executor, attempts: Any, on: Any, how: Any, error: Any
) -> None:
    calls = executor.options(retries=forkless.Retry(5, on=on))
    with pytest.raises(error):
        calls.submit(hostile.fail_at_first, attempts, 5, how).result(PATIENCE)
    assert attempts.value == 1


def test_the_last_error_says_which_attempt_it_was(executor: forkless.Executor, attempts: Any) -> None:
    retry = forkless.Retry(2, delay=0.01)
    future = executor.options(retries=retry).submit(hostile.fail_at_first, attempts, 9, ValueError)
    error = future.exception(PATIENCE)
    assert str(error) == "attempt 3"
    assert getattr(error, "__notes__", ["attempt 3 of"])[0].startswith(("This was attempt 3", "attempt 3"))


def test_what_waits_for_its_next_attempt_holds_up_nobody(executor: forkless.Executor, attempts: Any) -> None:
    retry = forkless.Retry(1, delay=1000)
    future = executor.options(retries=retry).submit(hostile.fail_at_first, attempts, 1, ValueError)
    assert eventually(lambda: executor.statistics().retried == 1)
    assert executor.submit(abs, -1).result(PATIENCE) == 1
    assert not future.done()
    assert future.cancel()


def test_the_end_of_a_pool_does_not_wait_for_attempts_to_come(attempts: Any) -> None:
    with forkless.Pool(1) as pool:
        retry = forkless.Retry(1, delay=1000)
        result = pool.apply_async(hostile.fail_at_first, (attempts, 1, ValueError), retries=retry)
        assert eventually(lambda: pool.statistics().retried == 1)
    with pytest.raises(forkless.BrokenPool, match="terminated"):
        result.get(PATIENCE)


def test_arguments_are_what_they_were(executor: forkless.Executor, attempts: Any) -> None:
    """Each attempt has a lock, shared memory and an array of its own, as they were when it was submitted."""
    array = np.arange(500_000.0)
    arguments = attempts, forkless.Lock(), forkless.share(b"shared"), array
    future = executor.options(retries=forkless.Retry(2, delay=0.01)).submit(hostile.use_and_die, *arguments)
    expected = float(array.sum())
    del arguments
    array[:] = 1
    assert future.result(PATIENCE) == (3, b"shared", expected)


# --- cancelling ---


@pytest.mark.usefixtures("unhurried")
def test_cancel(executor: forkless.Executor) -> None:
    ready, queue = forkless.Event(), forkless.Queue[str]()
    running = executor.submit(hostile.clean_up, queue, ready)
    waiting, other = executor.submit(jobs.put, queue, "ran"), executor.submit(abs, -1)
    assert ready.wait(PATIENCE)
    assert running.running()
    assert waiting.cancel()
    assert running.cancel()
    assert running.cancel(), "once more changes nothing"
    assert other.result(PATIENCE) == 1
    assert not other.cancel()
    for future in (running, waiting):
        assert future.cancelled()
        with pytest.raises(concurrent.futures.CancelledError):
            future.result(0)
    assert queue.get(timeout=PATIENCE) == "cleaned up"
    assert queue.empty(), "what had not begun does not run"


def test_cancelling_from_callbacks(executor: forkless.Executor) -> None:
    go = forkless.Event()
    first = executor.submit(jobs.wait_for, go)
    others = [executor.submit(jobs.hang) for _ in range(20)]
    seen: list[bool] = []
    first.add_done_callback(lambda _: seen.extend(other.cancel() for other in others))
    others[3].add_done_callback(lambda _: seen.append(others[4].cancel()))
    go.set()
    assert executor.submit(abs, -1).result(PATIENCE) == 1
    assert eventually(lambda: len(seen) == 21)
    assert all(seen)
    assert all(other.cancelled() for other in others)


def test_wait_for_frees_the_worker(executor: forkless.Executor) -> None:
    async def main() -> int:
        loop = asyncio.get_running_loop()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(loop.run_in_executor(executor, jobs.hang), 0.2)
        return await asyncio.wait_for(loop.run_in_executor(executor, abs, -3), PATIENCE)

    assert asyncio.run(main()) == 3


# --- priorities and names ---


def test_higher_priorities_are_first_and_equal_ones_in_order(executor: forkless.Executor) -> None:
    go, queue = forkless.Event(), forkless.Queue[tuple[int, int]]()
    # The worker has one, and two or so are on their way, which nothing overtakes.
    blockers = [executor.submit(jobs.wait_for, go) for _ in range(8)]
    futures = [
        executor.options(priority=priority).submit(jobs.put, queue, (priority, number))
        for number, priority in enumerate([0, 5, -1, 5, 2, 0])
    ]
    go.set()
    assert not concurrent.futures.wait([*blockers, *futures], PATIENCE).not_done
    got = queue.get_many()
    assert got == [(5, 1), (5, 3), (2, 4), (0, 0), (0, 5), (-1, 2)]


def test_a_name_stands_in_messages(executor: forkless.Executor) -> None:
    calls = executor.options(name="the nightly job", timeout=0.1)
    with pytest.raises(forkless.TimeoutError, match=r"^the nightly job\(600\) took longer"):
        calls.submit(hostile.sleep, 600).result(PATIENCE)
    with pytest.raises(forkless.WorkerDied, match=r"while it ran the nightly job\(3\)") as caught:
        executor.options(name="the nightly job").submit(os._exit, 3).result(PATIENCE)
    assert caught.value.task == "the nightly job"
