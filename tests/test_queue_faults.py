"""Death at every step of a queue, and at random moments, among many who put and get at the same time.

`traffic` has the processes and the books. FORKLESS_TEST_ROUNDS=1000 is the long version of the random test.
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest
from crash_points import deaths, needs_points, points
from support import run_program

ROUNDS = int(os.environ.get("FORKLESS_TEST_ROUNDS") or 100)

pytestmark = pytest.mark.timeout(1000 + 10 * ROUNDS)

HEAD = f"""
import json, random, sys, time
sys.path.insert(0, {str(Path(__file__).resolve().parent)!r})
import forkless, traffic
from forkless import _forkless
from support import Balanced, eventually, status_of

forkless.set_forkserver_preload(["traffic"])
board = forkless.RawArray("Q", traffic.WORDS)
"""


def check_deaths_at(names: list[str]) -> None:
    """Has senders and receivers die at every pass through these points, while others use the queue."""
    outcome = run_program(
        f"""{HEAD}
with Balanced():
    for number, (dooms, many) in enumerate(traffic.every_doom({names!r})):
        try:
            traffic.doomed_round(board, random.Random(number), dooms, many)
        except BaseException:
            print(dooms, many, flush=True)
            raise
""",
        timeout=900,
    )
    assert outcome.check() == "", outcome
    assert set(deaths(outcome)) == set(names), "a point that nobody has died at is not tested"


@needs_points
def test_death_at_every_step_of_the_channel() -> None:
    names = points("forkless-ipc/src/channel.rs", "forkless-ipc/src/channel/*.rs")
    names.remove("channel.closed")  # see the next test
    check_deaths_at(names)


@needs_points
@pytest.mark.parametrize("immediate", [False, True])
def test_death_while_shutting_a_queue_down(immediate: bool) -> None:
    outcome = run_program(
        f"""{HEAD}
def put(full, at_work):
    at_work.put(None)
    try:
        full.put(3)
    except forkless.ShutDown:
        at_work.put("put was told")

def get(empty, at_work):
    at_work.put(None)
    for _ in empty:
        pass
    at_work.put("get was told")

def shut_down(queue):
    assert _forkless.arm_crash_point("channel.closed")
    queue.shutdown({immediate})

def main():
    full, empty, at_work = forkless.Queue(2), forkless.Queue(), forkless.Queue()
    full.put_many([1, 2])
    others = [forkless.Process(target=put, args=(full, at_work))]
    others.append(forkless.Process(target=get, args=(empty, at_work)))
    for other in others:
        other.start()
    assert at_work.get(timeout=60) is at_work.get(timeout=60) is None
    for queue in (full, empty):
        doomed = forkless.Process(target=shut_down, args=(queue,))
        doomed.start()
        doomed.join()
        assert doomed.exitcode == -9
        doomed.close()
    told = {{at_work.get(timeout=60), at_work.get(timeout=60)}}
    assert told == {{"put was told", "get was told"}}
    assert list(full) == ([] if {immediate} else [1, 2])
    for other in others:
        other.join()
        other.close()

with Balanced():
    main()
"""
    )
    assert outcome.check() == "", outcome
    assert deaths(outcome) == {"channel.closed": 2}


@needs_points
@pytest.mark.parametrize(
    ("point", "is_done"),
    [("arena.written", False), ("arena.logged", True), ("arena.applied", True), ("channel.task.done", True)],
)
def test_death_in_task_done_is_not_held_against_the_next_item(point: str, is_done: bool) -> None:
    outcome = run_program(
        f"""{HEAD}
queue = forkless.JoinableQueue()

def die_in_task_done(queue):
    queue.get()
    assert _forkless.arm_crash_point({point!r})
    queue.task_done()

def work(queue, has_it, go_on):
    queue.get()
    has_it.set()
    assert go_on.wait(60)
    queue.task_done()

queue.put("done with")
doomed = forkless.Process(target=die_in_task_done, args=(queue,))
doomed.start()
doomed.join()
try:
    queue.join(timeout=60)
    print("done")
except forkless.WorkerDied:
    print("lost")
queue.put("being worked on")
has_it, go_on = forkless.Event(), forkless.Event()
worker = forkless.Process(target=work, args=(queue, has_it, go_on))
worker.start()
assert has_it.wait(60)
try:
    queue.join(timeout=0.1)
except forkless.TimeoutError:
    print("not done yet")
go_on.set()
worker.join()
assert worker.exitcode == 0
queue.join(timeout=60)
"""
    )
    assert outcome.check() == ("done" if is_done else "lost") + "\nnot done yet\n", outcome


@needs_points
def test_death_at_every_step_of_the_lock_and_the_arena() -> None:
    """The steps that a channel takes through others: their own tests do not know what it does with them."""
    names = points("forkless-shm/src/robust.rs", "forkless-shm/src/txn.rs")
    check_deaths_at(names)


def test_random_kills_and_stops() -> None:
    seed = int(os.environ.get("FORKLESS_TEST_SEED") or random.randrange(2**32))
    print(f"FORKLESS_TEST_SEED={seed}")
    outcome = run_program(
        f"""{HEAD}
arrived = lost = 0
begin = time.monotonic()
with Balanced():
    for number in range({ROUNDS}):
        try:
            more = traffic.random_round(board, random.Random({seed} + number))
        except BaseException:
            print("FORKLESS_TEST_SEED=%d" % ({seed} + number), flush=True)
            raise
        arrived, lost = arrived + more[0], lost + more[1]
print(json.dumps([arrived, lost, time.monotonic() - begin]))
""",
        timeout=300 + 10 * ROUNDS,
    )
    arrived, lost, seconds = json.loads(outcome.check())
    print(f"{ROUNDS} rounds, {arrived} messages, {lost} lost with their consumers, {seconds:.1f} s")
    assert arrived > 10 * ROUNDS


@needs_points
@pytest.mark.parametrize("point", ["arena.written", "arena.logged", "arena.applied"])
def test_who_is_stopped_while_it_has_the_arenas_lock_is_told_to_go_on(point: str) -> None:
    """Nobody else could: whoever was to send SIGCONT may be waiting for the lock."""
    outcome = run_program(
        f"""{HEAD}
queue = forkless.Queue()

def stop(queue):
    assert _forkless.arm_crash_point({point!r}, halt=True)
    queue.put(bytes(100_000))

child = forkless.Process(target=stop, args=(queue,))
child.start()
# The template may have told it already.
assert eventually(lambda: status_of(child.pid)[0] in "TZX")
print(len([forkless.Event() for _ in range(10)]), len(queue.get(timeout=60)))
child.join(60)
print(child.exitcode)
"""
    )
    assert outcome.check() == "10 100000\n0\n", outcome
