"""Ctrl-C: told once by the main process, quiet in the children, and over soon.

On a terminal the kernel sends SIGINT to every process of the foreground group; `kill -INT` and supervisors
send it to the main process only.
"""

from __future__ import annotations

import os
import pty
import signal
import sys
import time
from collections.abc import Callable

import pytest
from support import Outcome, Program, eventually, run_program, status_of

METHODS = pytest.mark.parametrize("method", ["forkserver", "spawn"])

# What a shell does: makes the program a foreground process group of its own on the terminal that is its
# standard input. The shell stays until it is told, because the kernel hangs up the group when the terminal's
# session ends.
SHELL = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
pid = os.fork()
if pid == 0:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
_, status = os.waitpid(pid, 0)
print("exit code", os.waitstatus_to_exitcode(status), flush=True)
signal.sigwait([signal.SIGUSR1])
"""

PRELUDE = """
import collections, itertools, os, signal, sys
import forkless
signal.signal(signal.SIGINT, signal.default_int_handler)
forkless.set_start_method({method!r})
ready = forkless.Event()

def sleep(ready):
    ready.set()
    while True:
        signal.pause()

def compute(ready):
    # In C, with the interpreter locked, for ever.
    ready.set()
    collections.deque(itertools.repeat(0), maxlen=0)

def ignore(ready):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sleep(ready)

def start(target, **options):
    process = forkless.Process(target=target, args=(ready,), **options)
    process.start()
    assert ready.wait(60)
    print("ready", flush=True)
    return process
"""


def on_terminal(source: str, method: str) -> Outcome:
    """Runs a program in the foreground of a terminal of its own, and types Ctrl-C when it is ready."""
    master, slave = pty.openpty()
    try:
        program = Program(
            PRELUDE.format(method=method) + source, stdin=slave, python=(sys.executable, "-c", SHELL)
        )
        with program:
            os.close(slave)
            program.wait_for("ready")
            os.write(master, b"\x03")
            code = int(program.wait_for(r"exit code -?\d+").split()[-1])
            eventually(lambda: not program._descendants())
            survivors = tuple(map(str, program._descendants()))
            program.signal(signal.SIGUSR1)
            outcome = program.finish()
    finally:
        os.close(master)
    return Outcome(code, outcome.stdout, outcome.stderr, survivors)


def by_kill(source: str, method: str) -> Outcome:
    """Runs a program, and sends SIGINT to its main process when it is ready."""
    with Program(PRELUDE.format(method=method) + source) as program:
        program.wait_for("ready")
        program.signal(signal.SIGINT)
        return program.finish()


def rests(pid: int) -> bool:
    """Whether a process sleeps in something, and not just for a moment on its way."""
    for _ in range(5):
        if status_of(pid)[0] != "S":
            return False
        time.sleep(0.01)
    return True


def check(outcome: Outcome) -> None:
    assert (outcome.exit_code, outcome.survivors) == (-signal.SIGINT, ()), f"{outcome}"
    assert outcome.stderr.count("Traceback") == 1, f"{outcome}"
    assert outcome.stderr.rstrip().endswith("KeyboardInterrupt"), f"{outcome}"


@pytest.fixture(params=[on_terminal, by_kill])
def interrupt(request: pytest.FixtureRequest) -> Callable[[str, str], Outcome]:
    kind: Callable[[str, str], Outcome] = request.param
    return kind


WAITS = {
    "join": "start(sleep).join()",
    "join a child that computes in C": "start(compute).join()",
    "join a daemon": "start(ignore, daemon=True).join()",
    "acquire": "lock = forkless.Lock(); lock.acquire(); start(sleep); lock.acquire()",
    "get": "start(sleep); forkless.Queue().get()",
    "a child that waits for a lock": """
lock = forkless.Lock()
lock.acquire()
def take(ready):
    ready.set()
    lock.acquire()
start(take).join()
""",
    "a grandchild": """
def parent(ready):
    child = forkless.Process(target=sleep, args=(ready,))
    child.start()
    child.join()
start(parent).join()
""",
    "map": """
with forkless.Pool(2) as pool:
    pool.apply(print, ("ready",), {"flush": True})
    pool.map(sleep, [ready] * 4, 1)
""",
    "a pool that computes in C": """
with forkless.Pool(2) as pool:
    pool.apply_async(compute, (ready,))
    assert ready.wait(60)
    print("ready", flush=True)
    pool.map(compute, [ready] * 4, 1)
""",
    "a pool that nobody ends": """
pool = forkless.Pool(2)
pool.apply(print, ("ready",), {"flush": True})
pool.map(compute, [ready] * 4, 1)
""",
    "an executor": """
with forkless.Executor(2) as executor:
    futures = [executor.submit(sleep, ready) for _ in range(4)]
    assert ready.wait(60)
    print("ready", flush=True)
    futures[0].result()
""",
    "an executor that nobody ends": """
executor = forkless.Executor(2)
futures = [executor.submit(compute, ready) for _ in range(4)]
assert ready.wait(60)
print("ready", flush=True)
futures[0].result()
""",
    "starts without end": """
print("ready", flush=True)
while True:
    process = forkless.Process(target=int)
    process.start()
    process.join()
""",
}


@METHODS
@pytest.mark.parametrize("wait", WAITS)
def test_ctrl_c(interrupt: Callable[[str, str], Outcome], method: str, wait: str) -> None:
    check(interrupt(WAITS[wait], method))


def test_ctrl_c_during_a_start_that_takes_long() -> None:
    source = """
from forkless import _forkless
forkless.Process().start()
template = next(pid for pid, _, role in _forkless.processes() if role == "template")
os.kill(template, signal.SIGSTOP)
print("ready", flush=True)
forkless.Process().start()
"""
    check(by_kill(source, "spawn"))


@pytest.mark.parametrize("daemon", [False, True])
def test_a_second_ctrl_c_during_the_exit(daemon: bool) -> None:
    source = f"""
forkless.set_terminate_grace(1000)
start(ignore, daemon={daemon}).join()
"""
    with Program(PRELUDE.format(method="forkserver") + source) as program:
        program.wait_for("ready")
        program.interrupt()
        program.wait_for_error("KeyboardInterrupt")
        # Its last words were said, so what it sleeps in now is the exit.
        assert eventually(lambda: rests(program.pid))
        program.interrupt()
        outcome = program.finish()
    check(outcome)


def test_ctrl_c_while_the_exit_waits_for_children() -> None:
    source = """
start(compute)
"""
    with Program(PRELUDE.format(method="forkserver") + source) as program:
        program.wait_for("ready")
        assert eventually(lambda: rests(program.pid))
        program.interrupt()
        outcome = program.finish()
    assert (outcome.exit_code, outcome.survivors) == (0, ()), f"{outcome}"
    assert outcome.stderr.count("Traceback") == 1, f"{outcome}"


def test_a_child_cleans_up_after_ctrl_c(interrupt: Callable[[str, str], Outcome]) -> None:
    source = """
forkless.set_terminate_grace(1000)  # as long as it takes
def careful(ready):
    try:
        sleep(ready)
    finally:
        print("cleaned up", flush=True)
start(careful).join()
"""
    outcome = interrupt(source, "forkserver")
    check(outcome)
    assert outcome.stdout.count("cleaned up") == 1


def test_a_program_that_catches_ctrl_c_decides_itself() -> None:
    source = """
def last(ready, go):
    ready.set()
    assert go.wait(60)
    print("waited for", flush=True)
go = forkless.Event()
process = forkless.Process(target=last, args=(ready, go))
process.start()
assert ready.wait(60)
try:
    print("ready", flush=True)
    process.join()
except KeyboardInterrupt:
    go.set()
"""
    outcome = by_kill(source, "forkserver")
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    assert "waited for" in outcome.stdout


def test_an_interrupt_while_a_result_is_loaded_does_not_lose_it() -> None:
    outcome = run_program("""
import forkless, os
OWNER, seen = os.getpid(), []
def load():
    if os.getpid() == OWNER and not seen:
        seen.append(1)
        raise KeyboardInterrupt
    return 42
class Result:
    def __reduce__(self):
        return load, ()
with forkless.Executor(1) as executor:
    for number in range(100):  # so that this thread comes to receive its answers itself
        assert executor.submit(abs, -number).result() == number
    future = executor.submit(Result)
    try:
        future.result(60)
    except KeyboardInterrupt:
        pass
    print(future.result(60), executor.submit(abs, -1).result(60))
""")
    assert outcome.check() == "42 1\n"
