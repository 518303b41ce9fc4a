"""The twelve probes: what breaks the pools of others, as whole programs, for both pools and start methods.

Each has one sensible outcome: the right answer, or only the guilty task fails, with an error that says why.
The comparison with other libraries was made with the same hazards. More of each is elsewhere: busy trees that
lose their parent in `test_faults`, Ctrl-C in `test_interrupt`, deaths in `test_pool`, errors in
`test_errors`.
"""

from __future__ import annotations

import re
import signal
from typing import Literal, NamedTuple

import pytest
from support import Program

KINDS = pytest.mark.parametrize("kind", ["Pool", "Executor"])
METHODS = pytest.mark.parametrize("method", ["forkserver", "spawn"])

# One way to write both: `submit`, and `outcome`, which is a result or an error in words.
PRELUDE = """
import os, signal, sys, threading
import forkless as mp
kind, method = sys.argv[1:]
mp.set_start_method(method)
# Who runs the tests in the background may have them ignore it, which programs inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)
def workers(count=2):
    return getattr(mp, kind)(count)
def submit(pool, function, *args):
    return pool.apply_async(function, args) if kind == "Pool" else pool.submit(function, *args)
def outcome(future):
    try:
        return future.get(60) if kind == "Pool" else future.result(60)
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
def guilty_is_three(number):
    if number == 3:
        end()
    return number
def run_eight(task):
    with workers() as pool:
        futures = [submit(pool, task, number) for number in range(8)]
        for future in futures:
            print(outcome(future))
        print("then", outcome(submit(pool, abs, -1)))
"""


def eight(guilty: str) -> str:
    """What `run_eight` prints: a pattern."""
    return "".join(guilty if number == 3 else f"{number}\n" for number in range(8)) + "then 1\n"


class Probe(NamedTuple):
    """A program and the pattern of what it prints."""

    source: str
    expected: str
    how: Literal["file", "command", "stdin"] = "file"


PROBES = {
    "no guard": Probe(
        """
print("once")
def square(number):
    return number * number
with workers() as pool:
    print([outcome(submit(pool, square, number)) for number in range(4)])
""",
        r"once\n\[0, 1, 4, 9\]\n",
    ),
    "python -c": Probe(
        """
def square(number):
    return number * number
with workers() as pool:
    print(list(pool.map(square, range(4))))
""",
        r"\[0, 1, 4, 9\]\n",
        "command",
    ),
    "a lambda with a global": Probe(
        """
k = 10
with workers() as pool:
    print(list(pool.map(lambda number: number * k, range(3))))
""",
        r"\[0, 10, 20\]\n",
    ),
    "a lock as argument": Probe(
        """
counter = mp.RawValue("i", 0)
def count(lock, counter):
    for _ in range(200):
        with lock:
            counter.value += 1
with workers() as pool:
    lock = mp.Lock()
    for future in [submit(pool, count, lock, counter) for _ in range(8)]:
        outcome(future)
print(counter.value)
""",
        r"1600\n",
    ),
    "SIGKILL": Probe(
        """
def end():
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()
run_eight(guilty_is_three)
""",
        eight(r"WorkerDied: .* \(pid \d+\) was killed by SIGKILL while it ran guilty_is_three\(3\).*\n"),
    ),
    "os._exit(0)": Probe(
        """
def end():
    os._exit(0)
run_eight(guilty_is_three)
""",
        eight(r"WorkerDied: .* \(pid \d+\) ended with exit code 0 while it ran guilty_is_three\(3\).*\n"),
    ),
    "an exception that does not unpickle": Probe(
        """
class NeedsTwo(Exception):
    def __init__(self, left, right):
        super().__init__(f"{left} and {right}")
def end():
    raise NeedsTwo("one", "two")
run_eight(guilty_is_three)
""",
        eight(r"NeedsTwo: one and two\n"),
    ),
    "an exception that cannot travel": Probe(
        """
class Holds(Exception):
    pass
def end():
    raise Holds("this", threading.Lock())
run_eight(guilty_is_three)
""",
        eight(r"RemoteError: __main__\.Holds\('this', <unlocked .*\) was raised in .*: .*lock.*\n"),
    ),
    "sys.exit()": Probe(
        """
def end():
    sys.exit("enough")
run_eight(guilty_is_three)
""",
        eight(r"SystemExit: enough\n"),
    ),
    "a result that does not pickle": Probe(
        """
def task(number):
    return {"lock": threading.Lock()} if number == 3 else number
run_eight(task)
""",
        eight(r"ResultPicklingError: .*\['lock'\].* cannot pickle '_thread.lock' object.*\n"),
    ),
    "a pool in a task": Probe(
        """
def inner(numbers):
    with workers() as pool:
        return sum(pool.map(abs, numbers))
with workers() as pool:
    print([outcome(future) for future in [submit(pool, inner, [-1, -number]) for number in range(6)]])
""",
        r"\[1, 2, 3, 4, 5, 6\]\n",
    ),
}

BUSY = """
def spin(ready):
    ready.release()
    while True:
        pass
ready = mp.Semaphore(0)
with workers() as pool:
    futures = [submit(pool, spin, ready) for _ in range(8)]
    for _ in range(2):
        assert ready.acquire(timeout=60)
    print("ready", flush=True)
    (futures[0].get if kind == "Pool" else futures[0].result)()
"""


@KINDS
@METHODS
@pytest.mark.parametrize("probe", PROBES)
def test_it_has_the_sensible_outcome(probe: str, method: str, kind: str) -> None:
    source, expected, how = PROBES[probe]
    with Program(PRELUDE + source, kind, method, how=how) as program:
        outcome = program.finish()
    assert re.fullmatch(expected, outcome.check()), f"{outcome}"
    assert outcome.stderr == ""


@KINDS
@METHODS
def test_nobody_is_left_after_the_parent_was_killed(method: str, kind: str) -> None:
    with Program(PRELUDE + BUSY, kind, method) as program:
        program.wait_for("ready")
        program.signal(signal.SIGKILL)
        outcome = program.finish()
    assert (outcome.exit_code, outcome.survivors, outcome.stderr) == (-signal.SIGKILL, (), ""), f"{outcome}"


@KINDS
@METHODS
def test_ctrl_c_ends_it_quietly(method: str, kind: str) -> None:
    with Program(PRELUDE + BUSY, kind, method) as program:
        program.wait_for("ready")
        program.interrupt()
        outcome = program.finish()
    assert (outcome.exit_code, outcome.survivors) == (-signal.SIGINT, ()), f"{outcome}"
    assert outcome.stderr.count("Traceback") == 1, f"{outcome}"
    assert outcome.stderr.rstrip().endswith("KeyboardInterrupt"), f"{outcome}"
