"""Death at every step of a task, and at random moments, in pools and executors under load.

`chaos` has the work and the books. FORKLESS_TEST_ROUNDS=1000 is the long version of the random test.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
from pathlib import Path

import pytest
from crash_points import deaths, needs_points, points
from support import Outcome, Program, run_program

ROUNDS = int(os.environ.get("FORKLESS_TEST_ROUNDS") or 60)

# The long version takes long.
pytestmark = pytest.mark.timeout(1000 + 10 * ROUNDS)

HEAD = f"""
import gc, json, os, random, signal, sys, time
sys.path.insert(0, {str(Path(__file__).resolve().parent)!r})
import forkless, chaos
from forkless import _forkless
from support import Balanced, eventually, status_of

forkless.set_forkserver_preload(["chaos"])
"""


def test_random_kills_and_stops() -> None:
    seed = int(os.environ.get("FORKLESS_TEST_SEED") or random.randrange(2**32))
    print(f"FORKLESS_TEST_SEED={seed}")
    outcome = run_program(
        f"""{HEAD}
from collections import Counter
books = forkless.RawArray("Q", chaos.TASKS)
total = Counter()
begin = time.monotonic()
descriptors = len(os.listdir("/proc/self/fd"))
for number in range({ROUNDS}):
    try:
        with Balanced(collect=True):
            total.update(chaos.random_round(books, random.Random({seed} + number)))
        assert not forkless.active_children()
    except BaseException:
        print("FORKLESS_TEST_SEED=%d" % ({seed} + number), flush=True)
        raise
print(json.dumps([total, time.monotonic() - begin]))
""",
        timeout=300 + 10 * ROUNDS,
    )
    total, seconds = json.loads(outcome.check().splitlines()[-1])
    print(f"{ROUNDS} rounds, {total}, {seconds:.1f} s")
    assert total["value"] > 5 * ROUNDS


# --- death at every step ---


# After these the worker has answered, before these it has not.
ANSWERED = ["worker.answered", "worker.done", "worker.unclaimed"]
UNANSWERED = ["worker.received", "worker.begun", "worker.called"]

DOOMED_ROUND = """
def doomed_round(point, passes, retries):
    '''One worker of two is to die. The outcomes of all tasks, and how often they ran.'''
    for number in range(len(books)):
        books[number] = 0
    options = {"retries": forkless.Retry(retries, delay=0.0)} if retries else {}
    with forkless.Executor(2, initializer=chaos.open_books, initargs=(books,)) as executor:
        tasks = executor.options(**options)
        futures = [executor.submit(_forkless.arm_crash_point, point, passes)]
        array, text = chaos.np.arange(100_000), chaos.payload(2, chaos.LARGE)
        whats = [("return", None), ("large", None), ("array", array), ("argument", text)]
        if retries:
            whats[0] = ("fail at first", 1)
        for number in range(12):
            futures.append(tasks.submit(chaos.work, number, *whats[number % 4]))
        ends = []
        for number, future in enumerate(futures):
            error = future.exception(60)
            ends.append(type(error).__name__ if error else "value")
            if number and not error:
                value, (what, argument) = future.result(), whats[(number - 1) % 4]
                chaos.check_value(number - 1, what, argument, value)
        # The one that is to die may be alive yet, and die now.
        assert executor.options(retries=2).submit(abs, -3).result(60) == 3
    return ends, list(books)
"""


def doomed_rounds(names: list[str], retries: int) -> tuple[Outcome, list[tuple[str, list[str], list[int]]]]:
    """Has a worker die at every pass through these points."""
    outcome = run_program(
        f"""{HEAD}
books = forkless.RawArray("Q", 12)
{DOOMED_ROUND}
for point in {names!r}:
    for passes in (1, 2, 3, 5, 8):
        try:
            with Balanced(collect=True):
                print(json.dumps([point, *doomed_round(point, passes, {retries})]))
        except BaseException:
            print(point, passes, flush=True)
            raise
""",
        timeout=900,
    )
    return outcome, [tuple(json.loads(line)) for line in outcome.check().splitlines()]


@needs_points
def test_death_at_every_step_of_a_task_has_one_outcome() -> None:
    outcome, rounds = doomed_rounds(ANSWERED + UNANSWERED, retries=0)
    assert set(deaths(outcome)) == {*ANSWERED, *UNANSWERED}
    for point, ends, runs in rounds:
        lost = [number for number, end in enumerate(ends) if end == "WorkerDied"]
        assert ends.count("value") == len(ends) - len(lost)
        assert len(lost) <= (0 if point in ANSWERED else 1), (point, ends)
        assert max(runs) == 1, (point, runs)
        assert all(runs[number] == 1 for number in range(12) if number + 1 not in lost), (point, runs)
        if point in ("worker.received", "worker.begun"):
            assert all(runs[number - 1] == 0 for number in lost if number)


@needs_points
def test_death_at_every_step_of_a_task_with_retries() -> None:
    outcome, rounds = doomed_rounds(ANSWERED + UNANSWERED, retries=2)
    assert set(deaths(outcome)) == {*ANSWERED, *UNANSWERED}
    for point, ends, runs in rounds:
        assert set(ends[1:]) == {"value"}, (point, ends)
        # Those that fail at first, another time each; what was lost, once more.
        more = sum(runs) - 15
        assert 0 <= more <= (0 if point in ANSWERED else 1), (point, runs)


@needs_points
def test_death_at_every_step_of_the_channels_and_the_arena() -> None:
    names = points(
        "forkless-ipc/src/channel.rs",
        "forkless-ipc/src/parcel.rs",
        "forkless-shm/src/txn.rs",
        "forkless-shm/src/robust.rs",
    )
    elsewhere = ("channel.task.", "channel.closed", "lock.waits", "lock.woken")
    names = [name for name in names if not name.startswith(elsewhere)]
    outcome, rounds = doomed_rounds(names, retries=0)
    assert set(deaths(outcome)) == set(names)
    for point, ends, runs in rounds:
        assert ends.count("WorkerDied") <= 1, (point, ends)
        assert set(ends) <= {"value", "WorkerDied"}, (point, ends)
        assert max(runs) == 1, (point, runs)
        assert all(run == 1 for run, end in zip(runs, ends[1:], strict=True) if end == "value"), (point, runs)


@needs_points
def test_an_answer_behind_many_others_counts() -> None:
    """The owner was busy; then it finds many answers, and behind them that of a worker that is dead."""
    outcome = run_program(
        f"""{HEAD}
import threading
import forkless._worker
go, held = threading.Event(), threading.Event()
def hold(_):
    held.set()
    go.wait(60)
def talk():
    worker = forkless._worker.current
    for _ in range(600):
        worker.notify(1, b"")  # the answer of a task that is gone
    return _forkless.arm_crash_point("worker.answered")
with forkless.Pool(2) as pool:
    scheduler = pool._scheduler
    pool.apply_async(abs, (-1,), callback=hold)
    assert held.wait(60)
    # One task answers much; it dies itself in the end, when its answer is behind that.
    doomed = pool.apply_async(talk)
    pids = [worker.pid for worker in pool._pool]
    assert eventually(lambda: any(status_of(pid)[0] in "ZX" for pid in pids))
    print(scheduler._answered() > 512)
    go.set()
    print(doomed.get(60))
"""
    )
    assert outcome.check().endswith("True\nTrue\n"), outcome


# --- stopped, cancelled, late ---

# `go_by` has hours go by for the time limits of tasks: a task is late when the test has it so.
HOURS = """
from types import SimpleNamespace
from forkless import _deadlines
hours = 0
_deadlines.time = SimpleNamespace(monotonic=lambda: time.monotonic() + 3600 * hours)
def go_by():
    global hours
    hours += 1
"""


def test_a_stopped_worker_keeps_nobody_else_waiting() -> None:
    outcome = run_program(
        f"""{HEAD}{HOURS}
go, at_work = forkless.Event(), forkless.Semaphore(0)
def work(go, at_work):
    at_work.release()
    go.wait(60)
    return os.getpid()
with forkless.Executor(2) as executor:
    for end in ("continued", "late", "cancelled"):
        held = executor.options(timeout=100 if end == "late" else None).submit(work, go, at_work)
        assert at_work.acquire(timeout=60), held.exception(0)
        # It may have begun before this process has taken notice of its start.
        assert eventually(lambda: any(each.task for each in executor.statistics().workers))
        (pid,) = [each.pid for each in executor.statistics().workers if each.task]
        os.kill(pid, signal.SIGSTOP)
        assert [executor.submit(abs, -number).result(60) for number in range(100)] == list(range(100))
        if end == "continued":
            assert not held.done()
            go.set()
            os.kill(pid, signal.SIGCONT)
            print(held.result(60) == pid)
            go.clear()
        elif end == "late":
            go_by()
            try:
                held.result(60)
            except forkless.TimeoutError as error:
                print(error)
        else:
            print(held.cancel())
        if end != "continued":
            # Neither the signal for Python nor SIGTERM arrives while it is stopped.
            assert eventually(lambda: status_of(pid)[0] in "ZX")
    assert executor.submit(abs, -3).result(60) == 3
"""
    )
    true, late, true_again = outcome.check().splitlines()
    assert true == true_again == "True"
    assert re.fullmatch(r"work.* took longer than its time limit of 100 s; its worker was killed", late), late


def test_an_idle_worker_that_is_stopped_keeps_nobody_waiting() -> None:
    """One of those that wait for tasks has the lock of the channel while it does."""
    outcome = run_program(
        f"""{HEAD}
with forkless.Pool(3) as pool:
    assert eventually(lambda: all(each.start_up for each in pool.statistics().workers))
    for worker in pool._pool:
        time.sleep(0.1)  # not for synchronisation: so that they sleep
        os.kill(worker.pid, signal.SIGSTOP)
        assert pool.map_async(abs, range(-20, 0), 1).get(60) == list(range(20, 0, -1))
        os.kill(worker.pid, signal.SIGCONT)
"""
    )
    assert outcome.check() == "", outcome


def test_who_is_to_die_for_one_task_does_not_begin_another() -> None:
    outcome = run_program(
        f"""{HEAD}{HOURS}
# It has all the time to end by itself.
_deadlines._HARD = 3600
def end_when_told(at_work):
    told = []
    signal.signal(signal.SIGTERM, lambda *_: told.append(1))
    at_work.release()
    while not told:
        try:
            while not told:
                time.sleep(0.01)
        except forkless.TaskInterrupted:
            pass
def count(runs):
    runs.release()
    return os.getpid()
at_work, runs = forkless.Semaphore(0), forkless.Semaphore(0)
with forkless.Executor(1) as executor:
    first = executor.submit(os.getpid).result(60)
    late = executor.options(timeout=100).submit(end_when_told, at_work)
    next_one = executor.submit(count, runs)
    assert at_work.acquire(timeout=60)
    go_by()
    print(next_one.result(60) != first, runs.get_value(), late.exception(60))
"""
    )
    assert outcome.check() == "True 1 None\n", outcome


def test_tasks_that_were_cancelled_leave_nothing_on_the_board() -> None:
    outcome = run_program(
        f"""{HEAD}
def hang(at_work):
    at_work.release()
    while True:
        time.sleep(0.001)
at_work = forkless.Semaphore(0)
with forkless.Executor(2) as executor:
    scheduler = executor._scheduler
    for number in range(70):
        future = executor.submit(hang, at_work)
        assert at_work.acquire(timeout=60)
        assert future.cancel()
    assert eventually(lambda: not scheduler._deadlines._cancelled)
    # All places for those that are not to begin are free.
    print(all([scheduler._revoke(2**40 + number) for number in range(63)]))
    for number in range(63):
        scheduler._unrevoke(2**40 + number)
    go, began = forkless.Event(), forkless.Semaphore(0)
    busy = [executor.submit(go.wait, 30) for _ in range(2)]
    futures = [executor.submit(began.release) for _ in range(2)]
    assert eventually(lambda: scheduler._untaken() == 2)
    print([future.cancel() for future in futures])
    go.set()
    print([each.result(60) for each in busy], executor.submit(abs, -3).result(60), began.get_value())
"""
    )
    assert outcome.check() == "True\n[True, True]\n[True, True] 3 0\n", outcome


# --- the end of others ---

BUSY_IN_C = """
import ctypes, forkless, time
def spin(at_work):
    at_work.release()
    ctypes.PyDLL(None).sleep(3600)  # with the interpreter held
def count(at_work):
    at_work.release()
    sum(range(10**12))
at_work = forkless.Semaphore(0)
pool = forkless.Pool(4)
results = [pool.apply_async(func, (at_work,)) for func in (spin, count, spin, count)]
for _ in results:
    assert at_work.acquire(timeout=60)
print("busy", flush=True)
results[0].get()
"""


def test_a_killed_parent_of_workers_that_are_busy_in_c() -> None:
    with Program(BUSY_IN_C) as program:
        program.wait_for("busy")
        program.signal(signal.SIGKILL)
        outcome = program.finish()
    assert (outcome.exit_code, outcome.survivors) == (-signal.SIGKILL, ())


def test_a_template_that_is_killed_under_load() -> None:
    outcome = run_program(
        f"""{HEAD}
def template():
    return next((pid for pid, _, role in _forkless.processes() if role == "template"), None)
books = forkless.RawArray("Q", 1)
dice = random.Random(5)
ends = {{}}
for number in range(15):
    limit = dice.choice([None, 5])
    with forkless.Executor(
        3, max_tasks_per_child=limit, initializer=chaos.open_books, initargs=(books,)
    ) as executor:
        futures = [executor.submit(abs, each) for each in range(100)]
        futures += [executor.submit(chaos.work, 0, "kill") for _ in range(2)]
        time.sleep(dice.random() * 0.02)  # a random moment
        victim = template()
        if victim:
            os.kill(victim, signal.SIGKILL)
        futures += [executor.submit(abs, each) for each in range(100)]
        for future in futures:
            kind = type(future.exception(60)).__name__
            ends[kind] = ends.get(kind, 0) + 1
print(json.dumps(ends))
"""
    )
    assert json.loads(outcome.check()) == {"NoneType": 15 * 200, "WorkerDied": 15 * 2}, outcome
