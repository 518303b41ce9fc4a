"""What a child says that a fatal signal kills."""

from __future__ import annotations

import ctypes
import os
import signal
from typing import Any

import forkless
import pytest
from support import PATIENCE, run_program

FATAL = [signal.SIGSEGV, signal.SIGFPE, signal.SIGABRT, signal.SIGBUS, signal.SIGILL]


def innermost(number: int) -> None:
    signal.raise_signal(number)


def outermost(number: int) -> None:
    innermost(number)


def dead(target: Any, *args: Any, method: str = "forkserver") -> forkless.Process:
    process = forkless.get_context(method).Process(target=target, args=args)
    process.start()
    process.join(PATIENCE)
    return process


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
@pytest.mark.parametrize("number", FATAL)
def test_the_stack_is_there(number: int, method: str, capfd: pytest.CaptureFixture[str]) -> None:
    process = dead(outermost, number, method=method)
    assert process.exitcode == -number
    stack = process.stack_at_death
    assert stack is not None
    names = [line.rpartition(" in ")[2] for line in stack.splitlines() if " in " in line]
    assert names[:3] == ["innermost", "outermost", "run"]
    # Told once, however often one asks.
    assert not process.is_alive()
    told = capfd.readouterr().err
    how = f"was killed by {signal.Signals(number).name}."
    assert told.count(f"Process {process.name} (pid {process.pid}) {how}") == 1
    assert told.count("in innermost") == 1


def test_a_real_crash(capfd: pytest.CaptureFixture[str]) -> None:
    process = dead(ctypes.string_at, 0)
    assert process.exitcode == -signal.SIGSEGV
    assert "string_at" in (process.stack_at_death or "")
    assert "string_at" in capfd.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_other_signals_leave_no_time(number: int, capfd: pytest.CaptureFixture[str]) -> None:
    process = dead(innermost, number)
    assert (process.exitcode, process.stack_at_death) == (-number, None)
    assert capfd.readouterr().err == ""


def test_a_life_without_a_crash_has_nothing_to_say() -> None:
    process = forkless.Process(target=os._exit, args=(3,))
    assert process.stack_at_death is None
    process.start()
    process.join(PATIENCE)
    assert (process.exitcode, process.stack_at_death) == (3, None)


def test_the_words_are_those_of_the_last_in_the_slot(capfd: pytest.CaptureFixture[str]) -> None:
    def deep(depth: int) -> None:
        deep(depth - 1) if depth else innermost(signal.SIGABRT)

    long = dead(deep, 50)
    short = dead(innermost, signal.SIGABRT)
    assert (long.stack_at_death or "").count("in deep") == 51
    assert "in deep" not in (short.stack_at_death or "")
    long.close()
    short.close()
    for _ in range(5):
        again = dead(innermost, signal.SIGABRT)
        assert "in deep" not in (again.stack_at_death or "")
        again.close()
    with pytest.raises(ValueError, match="closed"):
        _ = long.stack_at_death


def test_a_worker_s_death_tells_the_stack(capfd: pytest.CaptureFixture[str]) -> None:
    with forkless.Pool(1) as pool:
        with pytest.raises(forkless.WorkerDied, match=r"SIGSEGV while it ran .*outermost\(") as caught:
            pool.apply(outermost, (signal.SIGSEGV,))
        assert pool.apply(abs, (-1,)) == 1
    stack = getattr(caught.value, "stack", "")
    assert "in innermost" in stack
    assert "in outermost" in str(caught.value)
    assert "innermost" not in capfd.readouterr().err, "once is enough"
    with forkless.Executor(1) as executor:
        error = executor.submit(innermost, signal.SIGKILL).exception(PATIENCE)
    assert isinstance(error, forkless.WorkerDied)
    assert getattr(error, "stack", "") is None


def test_a_copy_does_not_speak_for_the_original() -> None:
    source = """
import forkless, os, signal

def part():
    if os.fork() == 0:
        signal.raise_signal(signal.SIGABRT)
    os.wait()
    os.kill(os.getpid(), signal.SIGKILL)

process = forkless.Process(target=part)
process.start()
process.join()
print(process.exitcode, process.stack_at_death)
"""
    assert run_program(source).check() == "-9 None\n"


def test_small_arenas_have_room_for_little() -> None:
    source = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, resource.RLIM_INFINITY))
import forkless, signal

def deep(depth):
    deep(depth - 1) if depth else signal.raise_signal(signal.SIGABRT)

queue = forkless.Queue()
queue.put(b"x" * 100_000)
processes = [forkless.Process(target=deep, args=(90,)) for _ in range(3)]
for process in processes:
    process.start()
for process in processes:
    process.join()
print([(process.exitcode, "in deep" in process.stack_at_death) for process in processes])
print(queue.get() == b"x" * 100_000)
"""
    assert run_program(source).check() == "[(-6, True), (-6, True), (-6, True)]\nTrue\n"
