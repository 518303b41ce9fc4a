"""`forkless.Executor`: a real `concurrent.futures.Executor`."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import gc
import importlib
import os
import pickle
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import forkless
import jobs
import pytest
from forkless.exceptions import RemoteTraceback
from support import PATIENCE, eventually, run_program


@pytest.fixture
def executor() -> Iterator[forkless.Executor]:
    with forkless.Executor(2) as executor:
        yield executor


def test_it_is_an_executor_with_futures(executor: forkless.Executor) -> None:
    assert isinstance(executor, concurrent.futures.Executor)
    future = executor.submit(jobs.add, 1, right=2)
    assert isinstance(future, concurrent.futures.Future)
    assert future.result(PATIENCE) == 3
    assert executor._max_workers == 2
    assert "max_workers=2" in repr(executor)


def test_workers_start_as_tasks_come() -> None:
    with forkless.Executor(8) as executor:
        assert executor._processes == {}
        assert executor.submit(jobs.add, 1).result(PATIENCE) == 1
        assert len(executor._processes) == 1
        one, two = forkless.Event(), forkless.Event()
        pair = [executor.submit(jobs.meet, one, two), executor.submit(jobs.meet, two, one)]
        assert {future.result(PATIENCE) for future in pair} <= set(executor._processes)
        assert len(executor._processes) == 2


def test_keywords_of_the_caller_do_not_clash(executor: forkless.Executor) -> None:
    assert executor.submit(dict, fn=1, self=2).result(PATIENCE) == {"fn": 1, "self": 2}


@pytest.mark.parametrize("chunksize", [1, 3, 100])
def test_map(executor: forkless.Executor, chunksize: int) -> None:
    assert list(executor.map(jobs.double, range(10), chunksize=chunksize)) == [2 * n for n in range(10)]
    assert list(executor.map(jobs.add, range(5), range(9), chunksize=chunksize)) == [0, 2, 4, 6, 8]
    assert list(executor.map(jobs.double, [], chunksize=chunksize)) == []


@pytest.mark.parametrize(("chunksize", "expected"), [(1, 10), (4, 3)])
def test_map_goes_by_a_submit_that_was_set(
    executor: forkless.Executor, chunksize: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    futures: list[concurrent.futures.Future[Any]] = []
    original = executor.submit

    def submit(*args: Any, **kwargs: Any) -> Any:
        futures.append(original(*args, **kwargs))
        return futures[-1]

    monkeypatch.setattr(executor, "submit", submit)
    assert list(executor.map(pow, range(10), [2] * 10, chunksize=chunksize)) == [n * n for n in range(10)]
    assert len(futures) == expected
    assert all(future.done() for future in futures)


def test_map_refuses_a_chunk_size_below_one(executor: forkless.Executor) -> None:
    with pytest.raises(ValueError, match="chunksize"):
        executor.map(jobs.double, [1], chunksize=0)


def test_map_with_a_timeout(executor: forkless.Executor) -> None:
    go = forkless.Event()
    results = executor.map(jobs.wait_for, [go], timeout=0.01)
    with pytest.raises(concurrent.futures.TimeoutError):
        next(results)
    go.set()


def test_a_map_that_times_out_gives_up_what_waits(executor: forkless.Executor) -> None:
    go = forkless.Event()
    blocked = [executor.submit(jobs.wait_for, go) for _ in range(20)]
    with pytest.raises(concurrent.futures.TimeoutError):
        list(executor.map(jobs.double, range(10), timeout=0.01))
    assert executor.statistics().waiting < 20, "what map had submitted is not there any more"
    go.set()
    concurrent.futures.wait(blocked)


@pytest.mark.parametrize("chunksize", [1, 4])
def test_map_does_not_keep_what_was_taken(executor: forkless.Executor, chunksize: int) -> None:
    for result in executor.map(jobs.make_set, range(8), chunksize=chunksize):
        taken = weakref.ref(result)
        del result
        assert taken() is None


def test_an_exception_comes_home_with_its_traceback(executor: forkless.Executor) -> None:
    error = executor.submit(jobs.refuse, "luck").exception(PATIENCE)
    assert isinstance(error, ValueError)
    assert isinstance(error.__cause__, RemoteTraceback)
    assert "in refuse" in error.__cause__.tb
    with pytest.raises(ValueError, match="no 2"):
        list(executor.map(jobs.refuse, [2], chunksize=2))


def test_sys_exit_in_a_task(executor: forkless.Executor) -> None:
    assert isinstance(executor.submit(jobs.exit_with, 3).exception(PATIENCE), SystemExit)
    assert executor.submit(jobs.add, 1, 2).result(PATIENCE) == 3


def test_what_cannot_be_sent_is_an_exception_of_the_future(executor: forkless.Executor) -> None:
    for future in (executor.submit(jobs.double, threading.Lock()), executor.submit(jobs.return_unpicklable)):
        assert isinstance(future.exception(PATIENCE), (TypeError, pickle.PicklingError))
    assert executor.submit(jobs.add, 1, 2).result(PATIENCE) == 3


def test_a_task_that_cannot_be_called(executor: forkless.Executor) -> None:
    assert isinstance(executor.submit(42).exception(PATIENCE), TypeError)  # type: ignore[arg-type]


def test_cancelling_what_waits(executor: forkless.Executor) -> None:
    go = forkless.Event()
    futures = [executor.submit(jobs.wait_for, go, number) for number in range(20)]
    assert futures[-1].cancel()
    assert futures[-1].cancelled()
    go.set()
    assert [future.result(PATIENCE) for future in futures[:-1]] == list(range(19))
    done, pending = concurrent.futures.wait(futures, timeout=PATIENCE)
    assert (len(done), len(pending)) == (20, 0)


def test_an_import_that_was_broken_off_spoils_no_other_task(tmp_path: Path) -> None:
    """Python forgets a package whose import fails, but not its modules, and then cannot import it again."""
    package = tmp_path / "slow_package"
    package.mkdir()
    (package / "part.py").write_text("__all__ = ['value']\nvalue = 5\n")
    (package / "__init__.py").write_text(
        "import sys\nfrom .part import *\nsys.pause_in_import()\n__all__ = part.__all__\n"
    )

    def use(pause: Callable[[], object]) -> int:
        sys.pause_in_import = pause  # type: ignore[attr-defined]
        sys.path.insert(0, str(tmp_path))
        try:
            return int(importlib.import_module("slow_package").value)
        finally:
            sys.path.pop(0)

    begun = forkless.Event()
    with forkless.Executor(1) as executor:
        future = executor.submit(use, functools.partial(jobs.set_and_hang, begun))
        assert begun.wait(PATIENCE), future.exception(0)
        assert future.cancel()
        assert executor.submit(use, int).result(PATIENCE) == 5


def test_the_state_of_a_future(executor: forkless.Executor) -> None:
    go = forkless.Event()
    futures = [executor.submit(jobs.wait_for, go, number) for number in range(20)]
    assert eventually(futures[0].running)
    assert (futures[0]._state, futures[-1]._state) == ("RUNNING", "PENDING")
    assert "state=running" in repr(futures[0])
    assert "state=pending" in repr(futures[-1])
    assert not futures[-1].running()
    go.set()
    assert futures[0].result(PATIENCE) == 0
    assert (futures[0]._state, futures[0].running()) == ("FINISHED", False)


def test_callbacks_and_as_completed(executor: forkless.Executor) -> None:
    seen: list[int] = []
    futures = [executor.submit(jobs.double, number) for number in range(5)]
    for future in futures:
        future.add_done_callback(lambda future: seen.append(future.result()))
    completed = {future.result() for future in concurrent.futures.as_completed(futures, timeout=PATIENCE)}
    assert completed == {0, 2, 4, 6, 8}
    assert eventually(lambda: sorted(seen) == [0, 2, 4, 6, 8])


def test_a_callback_may_submit(executor: forkless.Executor) -> None:
    second: list[concurrent.futures.Future[int]] = []
    first = executor.submit(jobs.add, 1)
    first.add_done_callback(lambda future: second.append(executor.submit(jobs.add, future.result(), 1)))
    assert eventually(lambda: bool(second))
    assert second[0].result(PATIENCE) == 2


def test_a_future_that_the_user_has_settled_is_left_alone(executor: forkless.Executor) -> None:
    go = forkless.Event()
    future = executor.submit(jobs.wait_for, go, 1)
    future.set_result(2)
    go.set()
    assert executor.submit(jobs.add, 1, 2).result(PATIENCE) == 3
    assert future.result() == 2


def test_asyncio(executor: forkless.Executor) -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        return list(
            await asyncio.gather(*(loop.run_in_executor(executor, jobs.double, n) for n in range(10)))
        )

    assert asyncio.run(main()) == [2 * number for number in range(10)]


def test_initializer_and_limit() -> None:
    with forkless.Executor(1, initializer=jobs.initialize, initargs=("ready",)) as executor:
        assert executor.submit(jobs.what_was_initialized).result(PATIENCE) == ["ready"]
    with forkless.Executor(1, max_tasks_per_child=1) as executor:
        pids = [executor.submit(jobs.pid).result(PATIENCE) for _ in range(3)]
        assert len(set(pids)) == 3


def test_a_context_can_be_given() -> None:
    with forkless.Executor(1, mp_context=forkless.get_context("spawn")) as executor:
        assert executor.submit(jobs.add, 1, 2).result(PATIENCE) == 3


def test_arguments_are_checked() -> None:
    for nonsense in (0, -1):
        with pytest.raises(ValueError, match="max_workers"):
            forkless.Executor(nonsense)
        with pytest.raises(ValueError, match="max_tasks_per_child"):
            forkless.Executor(1, max_tasks_per_child=nonsense)
    with pytest.raises(TypeError, match="initializer"):
        forkless.Executor(1, initializer=3)  # type: ignore[call-overload]


def test_a_thread_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with forkless.Executor(1) as executor:
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError, match="new thread"):
                executor.submit(jobs.add, 1)
        assert executor.submit(jobs.add, 1, 2).result(PATIENCE) == 3


# --- deaths ---


def test_a_death_fails_its_future_only(executor: forkless.Executor) -> None:
    futures = [executor.submit(jobs.die_on_three, number) for number in range(8)]
    error = futures[3].exception(PATIENCE)
    assert isinstance(error, forkless.WorkerDied)
    assert isinstance(error, BrokenProcessPool)
    assert isinstance(error, forkless.ProcessError)
    assert (error.exitcode, error.task) == (-signal.SIGKILL, "jobs.die_on_three")
    assert [future.result(PATIENCE) for number, future in enumerate(futures) if number != 3] == [
        0,
        1,
        2,
        4,
        5,
        6,
        7,
    ]


def test_a_death_in_a_chunk_names_the_function(executor: forkless.Executor) -> None:
    with pytest.raises(forkless.WorkerDied, match=r"while it ran jobs\.die_on_three"):
        list(executor.map(jobs.die_on_three, range(8), chunksize=4))


def test_an_initializer_that_fails_breaks_the_executor() -> None:
    for initializer, argument in ((jobs.refuse, 1), (os._exit, 3)):
        executor = forkless.Executor(1, initializer=initializer, initargs=(argument,))
        with pytest.raises(BrokenProcessPool):
            executor.submit(jobs.add, 1).result(PATIENCE)
        with pytest.raises(forkless.BrokenPool):
            executor.submit(jobs.add, 1).result(PATIENCE)
        executor.shutdown()


# --- ends ---


def test_shutdown_finishes_what_was_submitted() -> None:
    executor = forkless.Executor(2)
    futures = [executor.submit(jobs.double, number) for number in range(50)]
    executor.shutdown()
    assert [future.result(0) for future in futures] == [2 * number for number in range(50)]
    assert executor._processes == {}
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(jobs.add, 1)
    executor.shutdown()


def test_shutdown_without_a_task() -> None:
    forkless.Executor(2).shutdown()


def test_shutdown_without_waiting() -> None:
    go = forkless.Event()
    executor = forkless.Executor(1)
    future = executor.submit(jobs.wait_for, go, "done")
    executor.shutdown(wait=False)
    assert not future.done()
    go.set()
    assert future.result(PATIENCE) == "done"
    executor.shutdown()


def test_shutdown_that_cancels() -> None:
    go = forkless.Event()
    executor = forkless.Executor(1)
    futures = [executor.submit(jobs.wait_for, go, number) for number in range(20)]
    executor.shutdown(wait=False, cancel_futures=True)
    go.set()
    assert not concurrent.futures.wait(futures, timeout=PATIENCE).not_done
    cancelled = [future.cancelled() for future in futures]
    assert cancelled == sorted(cancelled), "the first ones had been sent"
    assert (cancelled[0], cancelled[-1]) == (False, True)
    executor.shutdown()


def test_results_outlive_the_executor() -> None:
    future = forkless.Executor(1).submit(jobs.add, 1, 2)
    gc.collect()
    assert future.result(PATIENCE) == 3


def test_the_exit_finishes_what_was_submitted() -> None:
    source = """
import forkless, os
executor = forkless.Executor(2)
for number in range(5):
    executor.submit(os.write, 1, b"%d\\n" % number)
"""
    outcome = run_program(source)
    assert sorted(outcome.check().split()) == ["0", "1", "2", "3", "4"]
    assert outcome.stderr == ""


def test_submitting_from_a_signal_handler() -> None:
    source = """
import forkless, signal
futures, handled = [], 0
def handle(*_):
    global handled
    handled += 1
    futures.append(executor.submit(abs, -1))
with forkless.Executor(2) as executor:
    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    while handled < 20:
        futures.append(executor.submit(abs, -2))
    signal.setitimer(signal.ITIMER_REAL, 0)
    print(sum(future.result(60) == 1 for future in futures) == handled)
"""
    assert run_program(source).check() == "True\n"


def test_a_callback_that_knows_its_future_is_no_leak() -> None:
    called: list[Any] = []
    with forkless.Executor(1) as executor:
        future = executor.submit(jobs.double, 1)
        future.add_done_callback(called.append)
    assert called == [future]
    gone = weakref.ref(future)
    del called, future
    gc.collect()
    assert gone() is None


def test_a_stream_that_was_cancelled_has_not_come_to_its_end() -> None:
    go = forkless.Event()
    executor = forkless.Executor(1)
    busy = executor.submit(jobs.wait_for, go)
    streams = [executor.stream(range, 3) for _ in range(4)]
    executor.shutdown(cancel_futures=True, wait=False)
    go.set()
    assert busy.result(PATIENCE) is None
    ends: list[Any] = []
    for stream in streams:
        try:
            ends.append(list(stream))
        except concurrent.futures.CancelledError:
            ends.append("cancelled")
    assert ends[-1] == "cancelled"
    closed = streams[-1]
    closed.close()
    assert list(closed) == []
    executor.shutdown()
