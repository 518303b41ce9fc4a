"""`forkless.memory_report`: every process of the tree, and nothing started for it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import forkless
import pytest
from forkless import _forkless
from forkless._memory import MemoryReport, ProcessMemory
from support import Outcome

REPORT = MemoryReport(
    (
        ProcessMemory(4711, "main", "main", 30_000_000, 20_500_000, 12_000_000, 9_000_000),
        ProcessMemory(4712, "worker-1", "child", 20_000_000, 10_000_000, 5_000_000, 4_000_000),
    )
)


def test_the_table() -> None:
    assert str(REPORT).splitlines() == [
        "PID    NAME      ROLE    RSS   PSS   USS  PRIVATE DIRTY",
        "4711   main      main   30.0  20.5  12.0            9.0",
        "4712   worker-1  child  20.0  10.0   5.0            4.0",
        "total                   50.0  30.5  17.0           13.0",
        "(MB of 1,000,000 bytes; PSS divides shared pages among those that share them)",
    ]


def test_the_report_as_plain_data() -> None:
    plain = json.loads(json.dumps(REPORT.to_dict()))
    assert plain["total"] == {
        "rss": 50_000_000,
        "pss": 30_500_000,
        "uss": 17_000_000,
        "private_dirty": 13_000_000,
    }
    assert plain["processes"][0] == dataclasses.asdict(REPORT.processes[0])


def test_the_report_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        REPORT.processes = ()  # type: ignore[misc]


def test_no_process_at_all() -> None:
    assert "total" in str(MemoryReport(()))


def test_without_children_it_reports_this_process_and_starts_nothing(
    run_program: Callable[..., Outcome],
) -> None:
    run_program("""
import os, threading
def held():
    with open("/proc/self/maps") as maps:
        return sorted(os.listdir("/proc/self/fd")), [line for line in maps if "memfd" in line]
import forkless, forkless._memory, forkless._forkless
before = held()
report = forkless.memory_report()
assert held() == before, (held(), before)
assert not before[1] and threading.active_count() == 1
[one] = report.processes
assert one.pid == os.getpid() and one.role == "main"
assert one.rss >= one.pss >= one.uss >= one.private_dirty > 1_000_000
""").check()


def test_children_and_the_template_are_in_it(run_program: Callable[..., Outcome]) -> None:
    run_program("""
import os, forkless as mp
def wait(started, end):
    data = bytearray(os.urandom(1000) * 30_000)
    started.set()
    end.wait()
started, end = mp.Event(), mp.Event()
child = mp.Process(target=wait, args=(started, end), name="eats")
child.start()
started.wait()
report = mp.memory_report()
by_role = {each.role: each for each in report.processes}
assert by_role["main"].pid == os.getpid()
assert by_role["child"].pid == child.pid and by_role["child"].name == "eats"
assert by_role["child"].private_dirty > 30_000_000
assert "template" in by_role
assert report.uss == sum(each.uss for each in report.processes)
end.set()
child.join()
assert child.pid not in [each.pid for each in mp.memory_report().processes]
""").check()


def test_it_is_the_same_tree_from_inside_a_child(run_program: Callable[..., Outcome]) -> None:
    run_program("""
import os, forkless as mp
def look(queue): queue.put({(each.pid, each.role) for each in mp.memory_report().processes})
queue = mp.Queue()
child = mp.Process(target=look, args=(queue,))
child.start()
seen = queue.get()
child.join()
assert (os.getpid(), "main") in seen and (child.pid, "child") in seen
""").check()


def test_a_process_that_ends_meanwhile_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is there when the processes are listed, and gone when it is looked at."""
    known = _forkless.processes()
    # No process has this id: the kernel's limit is below it.
    monkeypatch.setattr(_forkless, "processes", lambda: [*known, (2**22 + 1, "gone", "child")])
    assert [each.pid for each in forkless.memory_report().processes] == [pid for pid, _, _ in known]
