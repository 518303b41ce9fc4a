"""The tools of the other tests are tested too: a watchdog that never barks guards nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from multiprocessing import shared_memory

import pytest
from support import Holdings, Program, left_behind, run_program, status_of


@pytest.mark.parametrize("how", ["file", "command", "stdin"])
def test_a_program_runs_to_its_end(how: str) -> None:
    source = "import sys; print(sys.argv[1:]); print('oops', file=sys.stderr); sys.exit(3)"
    outcome = run_program(source, "a", "b", how=how)  # type: ignore[arg-type]
    assert (outcome.exit_code, outcome.stdout, outcome.stderr) == (3, "['a', 'b']\n", "oops\n")
    with pytest.raises(AssertionError, match="ended with 3"):
        outcome.check()


def test_a_program_reads_its_input() -> None:
    assert run_program("print(input())", stdin="seven\n").check() == "seven\n"


def test_a_signal_is_an_exit_code() -> None:
    with Program("import signal; print('ready', flush=True); signal.pause()") as program:
        program.wait_for("ready")
        program.signal(signal.SIGKILL)
        assert program.finish().exit_code == -signal.SIGKILL


def test_an_interrupt_reaches_the_group() -> None:
    with Program("import signal; print('ready', flush=True); signal.pause()") as program:
        program.wait_for("re(.)dy")
        program.interrupt()
        outcome = program.finish()
    assert outcome.exit_code == -signal.SIGINT
    assert "KeyboardInterrupt" in outcome.stderr


def test_a_hang_is_stopped_and_shows_its_stacks() -> None:
    source = "import signal\ndef stuck():\n    print('ready', flush=True)\n    signal.pause()\nstuck()"
    with Program(source) as program:
        program.wait_for("ready")
        outcome = program.finish(timeout=0.1)
    assert outcome.exit_code is None
    assert "in stuck" in outcome.stderr


@pytest.mark.parametrize("session", ["same", "new"])
def test_a_survivor_is_found_and_killed(session: str) -> None:
    source = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'],"
        f" start_new_session={session == 'new'})\n"
        "print(child.pid)"
    )
    outcome = run_program(source, grace=0.2)
    assert outcome.exit_code == 0
    assert [line.partition(" ")[0] for line in outcome.survivors] == [outcome.stdout.strip()]
    assert status_of(int(outcome.stdout))[0] in "ZX"


def test_what_is_left_behind_is_named() -> None:
    before = Holdings.now()
    descriptor = os.open("/dev/zero", os.O_RDONLY)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    memory = shared_memory.SharedMemory(f"forkless-test-{os.getpid()}", create=True, size=1)
    try:
        left = "\n".join(left_behind(before, timeout=0))
    finally:
        os.close(descriptor)
        child.communicate(b"\n")
        memory.close()
        memory.unlink()
    assert "open /dev/zero" in left
    assert f"child {child.pid} (" in left
    assert f"/dev/shm/{memory.name.lstrip('/')}" in left
