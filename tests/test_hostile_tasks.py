"""Tasks that mistreat their worker: whatever one does, its outcome is clear, and the pool goes on."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import forkless
import hostile
import jobs
import pytest
from forkless import _worker
from support import PATIENCE, Program, eventually, status_of

Run = Callable[..., Any]


@pytest.fixture(params=["Pool", "Executor"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Runs a task in the only worker of a pool, and returns its result."""
    if request.param == "Pool":
        with forkless.Pool(1) as pool:
            yield lambda function, *args, **options: pool.apply_async(function, args, **options).get(PATIENCE)
    else:
        with forkless.Executor(1) as executor:
            yield (
                lambda function, *args, **options: (
                    executor.options(**options).submit(function, *args).result(PATIENCE)
                )
            )


def goes_on(run: Run) -> bool:
    """Whether tasks are still done: in C, in a module of the user, and one with a large result."""
    return (run(abs, -1), run(jobs.double, "a"), len(run(bytes, 100_000))) == (1, "aa", 100_000)


# What is changed for the worker alone, and costs nobody a task.
HARMLESS = [
    (hostile.fork_and_return, (), "original"),
    (hostile.fork_and_exit, (), "original"),
    (hostile.fork_and_exec, (), "original"),
    (hostile.close_descriptors, (3,), "closed"),
    (hostile.close_descriptors, (0,), "closed"),
    (hostile.change_directory, (), "/"),
    (hostile.without_streams, (), "none"),
    (hostile.close_streams, (), "closed"),
    (hostile.replace_streams, (), "replaced"),
    (hostile.ignore_signals, (), "ignored"),
    (hostile.block_signals, (), "blocked"),
    (hostile.leave_thread, (True,), "left"),
    (hostile.change_settings, (), "niceness 0"),
    (hostile.forbid_descriptors, (), "forbidden"),
]


@pytest.mark.parametrize(
    ("task", "args", "result"), HARMLESS, ids=[f"{task.__name__}{args or ''}" for task, args, _ in HARMLESS]
)
def test_what_a_worker_survives(run: Run, task: Any, args: Any, result: str) -> None:
    assert goes_on(run)
    worker = run(os.getpid)
    assert run(task, *args) == result
    assert goes_on(run)
    assert run(os.getpid) == worker


# Copies of the worker by `os.fork`.


def test_a_copy_that_raises_is_not_a_second_worker(run: Run) -> None:
    assert run(hostile.fork_and_raise) == "original"
    assert goes_on(run)


def test_a_copy_that_hangs_keeps_nobody_waiting() -> None:
    with forkless.Executor(1) as executor:
        copy: int = executor.submit(hostile.fork_and_hang).result(PATIENCE)
        assert executor.submit(abs, -1).result(PATIENCE) == 1
    # It is a process of the user, who has to end it.
    with contextlib.suppress(ProcessLookupError):
        os.kill(copy, signal.SIGKILL)
    assert eventually(lambda: status_of(copy)[0] in "ZX")


# Workers that become another program.


def test_a_worker_that_becomes_a_program_that_ends(run: Run) -> None:
    with pytest.raises(forkless.WorkerDied, match=r"ended with exit code 0 while it ran .*become"):
        run(hostile.become, "true")
    assert goes_on(run)


def test_a_worker_that_becomes_a_program_that_stays(run: Run) -> None:
    with pytest.raises(forkless.WorkerDied, match=r"became another program .*while it ran .*become"):
        run(hostile.become, "sleep", "600")
    assert goes_on(run)


@pytest.mark.parametrize("task", ["become", "close_descriptors_and_spin"])
def test_it_does_not_outlive_its_tree(task: str) -> None:
    source = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import forkless, hostile, signal
ready = forkless.Event()
def become(ready):
    ready.set()
    hostile.become("sleep", "600")
with forkless.Executor(1) as executor:
    executor.submit(become if {task!r} == "become" else hostile.{task}, ready)
    assert ready.wait(60)
    print("ready", flush=True)
    signal.pause()
"""
    with Program(source) as program:
        program.wait_for("ready")
        program.signal(signal.SIGKILL)
        outcome = program.finish()
    assert (outcome.exit_code, outcome.survivors) == (-signal.SIGKILL, ()), f"{outcome}"


# What ends a task or its worker.


def test_a_directory_that_is_gone(run: Run, tmp_path: Path) -> None:
    assert run(hostile.delete_directory, str(tmp_path / "gone")) == "deleted"
    assert goes_on(run)


def test_an_alarm_is_a_death_like_any_other(run: Run) -> None:
    with pytest.raises(forkless.WorkerDied, match="was killed by SIGALRM"):
        run(hostile.set_alarm)
    assert goes_on(run)


def test_a_worker_without_modules_is_lost_and_replaced(run: Run) -> None:
    worker = run(os.getpid)
    assert run(hostile.clear_modules) == "cleared"
    with contextlib.suppress(Exception):  # Whatever this worker can still do, and say of what it cannot.
        run(jobs.double, "a")
        run(hostile.become, "true")
    assert goes_on(run)
    assert run(os.getpid) != worker


def test_endless_recursion(run: Run) -> None:
    with pytest.raises(RecursionError):
        run(hostile.recurse)
    assert goes_on(run)


def test_an_error_in_del_is_reported_and_no_outcome(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(hostile.raise_in_del) == "dropped"
    assert goes_on(run)
    assert eventually(lambda: "ValueError: in __del__" in capfd.readouterr().err)


def test_no_memory_left_in_a_worker(run: Run) -> None:
    with pytest.raises(MemoryError):
        run(hostile.ask_for_much, 1 << 30)
    with pytest.raises(MemoryError):
        run(hostile.exhaust_memory)
    # With what was set free again the worker goes on.
    assert goes_on(run)


def test_an_exit_handler_runs_when_the_worker_ends_in_peace() -> None:
    queue: forkless.Queue[str] = forkless.Queue()
    with forkless.Executor(1) as executor:
        assert executor.submit(hostile.at_exit, queue).result(PATIENCE) == "registered"
    assert queue.get(timeout=PATIENCE) == "at exit"


@pytest.mark.parametrize(
    "task", [hostile.ignore_signals_and_hang, hostile.block_signals_and_hang, hostile.ignore_terminate]
)
def test_no_handler_keeps_a_task_from_its_end(run: Run, task: Any) -> None:
    assert _worker.INTERRUPT < signal.NSIG, "it is among the signals that are ignored"
    # So that the time limit is not over before the worker has even loaded the module.
    assert run(hostile.sleep, 0, "loaded") == "loaded"
    with pytest.raises(forkless.TimeoutError, match=rf"{task.__name__} took longer .* its worker was killed"):
        run(task, timeout=1.0)
    assert goes_on(run)


# Threads that never end.


@pytest.mark.slow
def test_an_endless_thread_does_not_keep_a_worker_from_ending(capfd: pytest.CaptureFixture[str]) -> None:
    with forkless.Executor(1) as executor:
        assert executor.submit(hostile.leave_thread, False).result(PATIENCE) == "left"
    assert executor._processes == {}
    assert eventually(lambda: "'endless'" in capfd.readouterr().err)


def test_an_endless_thread_does_not_keep_a_worker_from_being_replaced() -> None:
    with forkless.Pool(1, maxtasksperchild=1) as pool:
        for _ in range(2):
            assert pool.apply_async(hostile.leave_thread, (False,)).get(PATIENCE) == "left"
