"""Death at every step of a start: of whoever asks for a child, of its template, of the child, of a standby.

Whoever survives goes on: the next start works, and in the end no process, block or lease is left.
"""

from __future__ import annotations

import json
import os
import random
import signal
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from crash_points import deaths, needs_points
from support import run_program

pytestmark = [
    pytest.mark.timeout(1000),
    needs_points,
]

HEAD = """
import json, os, signal, sys, time
from collections import Counter
import forkless
from forkless import _forkless

def eventually(condition):
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True

def roles():
    return Counter(role for _, _, role in _forkless.processes())

def is_calm():
    return roles() == {"main": 1, "template": 1, "standby": 2}

def leave_a_trace():
    os.write(1, b"ran\\n")

def run(method="forkserver", *, target=leave_a_trace):
    process = forkless.get_context(method).Process(target=target)
    try:
        process.start()
    except forkless.ProcessError as error:
        return type(error).__name__
    process.join(60)
    try:
        return process.exitcode
    except forkless.ProcessError:
        return "lost"
    finally:
        process.kill()

class Calm:
    '''Asserts that there is nothing more at the end than there was at the beginning.'''

    def __enter__(self):
        assert run(target=int) == 0 and eventually(is_calm), roles()
        # The surroundings of the first start stay.
        self.census = _forkless.census()

    def __exit__(self, *error):
        if error == (None, None, None):
            assert run(target=int) == 0
            assert eventually(is_calm), roles()
            assert eventually(lambda: _forkless.census() == self.census), (_forkless.census(), self.census)
"""

# Loaded into one template, the next one: it, or all that it forks, dies at the point.
DOOM = """
import os
from forkless import _forkless
try:
    os.unlink(os.environ["DOOM"])
except FileNotFoundError:
    pass
else:
    assert _forkless.arm_crash_point(os.environ["POINT"], int(os.environ["PASSES"]))
"""


@dataclass(frozen=True)
class Doomed:
    """What came of some starts for each fate.

    Attributes:
        ends: Their exit codes, for each.
        runs: How many children have run.
        died: How many processes have died at which point.
    """

    ends: list[list[object]]
    runs: int
    died: Counter[str]


def run_doomed(tmp_path: Path, points: list[tuple[str, str, int]], until_death: bool = False) -> Doomed:
    """Starts three children for each (method, point, pass), or more, in a template with that fate."""
    (tmp_path / "doom.py").write_text(DOOM)
    source = f"""{HEAD}
sys.path.insert(0, {str(tmp_path)!r})
os.environ["DOOM"] = {str(tmp_path / "doom")!r}
EARLY = {EARLY!r}

def deaths():
    with open("/proc/self/fd/2") as file:
        return sum(line.endswith("dies at " + os.environ["POINT"]) for line in file.read().splitlines())

def rounds():
    for method, os.environ["POINT"], passes in {points!r}:
        os.environ["PASSES"] = str(passes)
        open(os.environ["DOOM"], "x").close()
        forkless.set_forkserver_preload(["doom"])
        before = deaths()
        ends = [run(method)]
        # The standbys are next, if they live; those that the fate is for cannot be waited for.
        if not os.environ["POINT"].startswith(EARLY):
            assert eventually(lambda: roles()["standby"] == 2 or not roles()["template"])
        ends += [run(method) for _ in range(2)]
        # Standbys are made when there is nothing else to do, and end with their template.
        if os.environ["POINT"].startswith((*EARLY, "standby.forked")):
            assert eventually(lambda: deaths() > before)
        if {until_death}:
            assert eventually(lambda: ends.append(run(method)) or ends[-1])
        yield ends
        forkless.set_forkserver_preload([])
        assert eventually(lambda: not roles()["template"])

with Calm():
    print(json.dumps(list(rounds())))
"""
    outcome = run_program(source, timeout=600)
    *ran, ends = outcome.check().splitlines()
    assert set(ran) <= {"ran"}
    return Doomed(json.loads(ends), len(ran), deaths(outcome))


KILLED = -signal.SIGKILL
# Points that standbys pass too, before they wait for a job.
EARLY = ("child.left", "slot.entered", "slot.registered", "standby.rehearsed", "standby.offered")


def test_the_death_of_the_template(tmp_path: Path) -> None:
    """The next one does what it was asked for; nothing runs twice."""
    forked = ["start.received", "start.forked", "start.recorded", "standby.forked", "template.learned"]
    points = [("forkserver", point, 1) for point in [*forked, "template.reaped", "template.retired"]]
    points += [("forkserver", point, 2) for point in ["standby.forked", "template.reaped"]]
    points += [("forkserver", point, 1) for point in ["clean.marked", "clean.done"]]
    points += [("spawn", point, 1) for point in ["start.received", "start.forked", "start.recorded"]]
    doomed = run_doomed(tmp_path, points)
    assert doomed.died == Counter(point for _, point, _ in points)
    for point, ends in zip(points, doomed.ends, strict=True):
        # A template that has reaped a child and dies is the only one to know how that ended.
        may_lose = {"lost"} if point[1] in ("template.reaped", "clean.marked", "clean.done") else set()
        assert set(ends) <= {0} | may_lose, (point, ends)
    assert doomed.runs == 3 * len(points)


def test_the_death_of_the_child(tmp_path: Path) -> None:
    points = ["child.left", "slot.entered", "slot.registered", "child.arrived"]
    doomed = run_doomed(tmp_path, [("forkserver", point, 1) for point in points])
    assert doomed.ends[:3] == [[KILLED] * 3] * 3
    assert doomed.ends[3][0] == KILLED
    assert set(doomed.died) == set(points)


def test_the_death_of_standbys(tmp_path: Path) -> None:
    """Before anybody has claimed one it is nobody's loss, and afterwards it is a child."""
    points = ["standby.rehearsed", "standby.offered"]
    doomed = run_doomed(tmp_path, [("forkserver", point, 1) for point in points])
    assert set(doomed.ends[0]) == {0}
    assert set(doomed.ends[1]) <= {0, KILLED}, "it may be claimed in the instant before its death"
    assert set(doomed.died) == set(points)
    doomed = run_doomed(tmp_path, [("forkserver", "standby.assigned", 1)], until_death=True)
    assert set(doomed.ends[0]) == {0, KILLED}
    assert set(doomed.died) == {"standby.assigned"}


MIDDLE = """
def start_and_die():
    assert eventually(lambda: roles()["standby"] == 2)
    assert _forkless.arm_crash_point(point, passes)
    run(method)
    os._exit(66)
"""


def test_the_death_of_the_process_that_asks() -> None:
    """With it goes what it was about to start."""
    points = [("forkserver", point, 1) for point in ["standby.claimed", "standby.adopted", "start.assigned"]]
    points += [("spawn", point, 1) for point in ["slot.reserved", "start.asked"]]
    points += [("forkserver", "start.packed", 1)]
    points += [
        ("forkserver", point, passes) for point in ["arena.logged", "arena.applied"] for passes in (1, 3)
    ]
    source = f"""{HEAD}
method = point = passes = None
{MIDDLE}
with Calm():
    for method, point, passes in {points!r}:
        assert eventually(is_calm)
        end = run(target=start_and_die)
        assert end == -signal.SIGKILL, (point, end)
"""
    outcome = run_program(source, timeout=600)
    assert set(outcome.check().splitlines()) <= {"ran"}
    assert deaths(outcome) == Counter(point for _, point, _ in points)


@pytest.mark.parametrize("point", ["template.launched", "slot.reserved", "start.packed", "start.asked"])
def test_the_death_of_the_main_process_at_its_first_start(point: str) -> None:
    source = f"""{HEAD}
forkless.Lock()
assert _forkless.arm_crash_point({point!r})
run()
"""
    outcome = run_program(source)
    assert (outcome.exit_code, outcome.survivors) == (KILLED, ()), outcome
    assert deaths(outcome) == {point: 1}


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_a_child_that_nobody_waits_for_any_more_turns_round(tmp_path: Path, method: str) -> None:
    (tmp_path / "halting.py").write_text(
        "from forkless import _forkless\nassert _forkless.arm_crash_point('start.received', halt=True)\n"
    )
    source = f"""{HEAD}
import threading
sys.path.insert(0, {str(tmp_path)!r})

def state(pid):
    return open(f"/proc/{{pid}}/stat").read().rpartition(")")[2].split()[0]

def interrupt():
    global template
    assert eventually(lambda: roles()["template"])
    template = next(pid for pid, _, role in _forkless.processes() if role == "template")
    assert eventually(lambda: state(template) == "T")
    os.kill(os.getpid(), signal.SIGINT)

forkless.set_forkserver_preload(["halting"])
thread = threading.Thread(target=interrupt)
thread.start()
try:
    forkless.get_context({method!r}).Process(target=leave_a_trace).start()
except KeyboardInterrupt:
    print("interrupted")
thread.join()
os.kill(template, signal.SIGCONT)
assert run({method!r}) == 0
assert eventually(lambda: not roles()["child"])
"""
    outcome = run_program(source)
    assert outcome.check().splitlines() == ["interrupted", "ran"]
    assert outcome.stderr == ""


@pytest.mark.parametrize("point", ["template.buried", "clean.marked", "clean.done"])
def test_the_death_of_the_main_process_after_that_of_its_template(point: str) -> None:
    source = f"""{HEAD}
child = forkless.Process(target=time.sleep, args=(3600,))
child.start()
os.kill(next(pid for pid, _, role in _forkless.processes() if role == "template"), signal.SIGKILL)
assert eventually(lambda: not roles()["template"])
assert _forkless.arm_crash_point({point!r})
run()
"""
    outcome = run_program(source)
    assert (outcome.exit_code, outcome.survivors) == (KILLED, ()), outcome
    assert deaths(outcome) == {point: 1}


def test_random_kills() -> None:
    """Of four children at a time, each runs at most once, and once if nobody killed it."""
    seed = int(os.environ.get("FORKLESS_TEST_SEED") or random.randrange(2**32))
    rounds = int(os.environ.get("FORKLESS_TEST_ROUNDS") or 150)
    print(f"FORKLESS_TEST_SEED={seed}")
    source = f"""{HEAD}
import random, threading
random = random.Random({seed})

def kill(role):
    pids = [pid for pid, _, its in _forkless.processes() if its == role]
    if pids:
        os.kill(random.choice(pids), signal.SIGKILL)

def leave(counter):
    with counter.get_lock():
        counter.value += 1

counters = [forkless.Value("i", 0, lock=forkless.RLock(recover=lambda info: None)) for _ in range(4)]
with Calm():
    for round in range({rounds}):
        for counter in counters:
            counter.value = 0
        victim = random.choice(["template"] + 5 * ["standby", "child", "nobody"])
        delay = random.random() * 0.004
        def strike():
            time.sleep(delay)
            kill(victim)
        striker = threading.Thread(target=strike)
        striker.start()
        method = random.choice(["forkserver", "forkserver", "spawn"])
        children = []
        for counter in counters:
            child = forkless.get_context(method).Process(target=leave, args=(counter,))
            child.start()
            children.append(child)
        striker.join()
        for child, counter in zip(children, counters):
            child.join(60)
            try:
                code = child.exitcode
            except forkless.ProcessError:
                code = "lost" if victim == "template" else "unexpected"
            allowed = [0, -9] if victim in ("standby", "child") else [0, "lost"]
            assert code in allowed, (round, victim, code)
            assert counter.value in ([0, 1] if code else [1]), (round, victim, code, counter.value)
            child.close()
"""
    outcome = run_program(source, timeout=300 + 4 * rounds)
    assert outcome.check() == "", outcome
