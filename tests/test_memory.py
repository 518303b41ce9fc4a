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


def test_memory_of_messages_is_kept_up_to_a_limit(run_program: Callable[..., Outcome]) -> None:
    run_program("""
import forkless as mp
from forkless._forkless import warm_memory
queue = mp.Queue()
def send(count, size):
    for _ in range(count):
        queue.put(bytes(size))
    for _ in range(count):
        queue.get()
send(4, 3_000_000)
assert 12_000_000 <= warm_memory() < 13_000_000, warm_memory()
mp.set_warm_memory(7_000_000)
assert 6_000_000 <= warm_memory() <= 7_000_000, warm_memory()
send(4, 3_000_000)
assert 6_000_000 <= warm_memory() <= 7_000_000, warm_memory()
given = mp.trim_memory()
assert 6_000_000 <= given <= 7_000_000 and warm_memory() == 0 == mp.trim_memory(), given
mp.set_warm_memory(0)
send(4, 3_000_000)
assert warm_memory() == 0
try:
    mp.set_warm_memory(-1)
except ValueError as error:
    assert "not -1" in str(error)
""").check()


def test_the_limit_is_in_the_environment(run_program: Callable[..., Outcome]) -> None:
    source = """
import forkless as mp
from forkless._forkless import warm_memory
def send(queue, count):
    for _ in range(count):
        queue.put(bytes(1_000_000))
queue = mp.Queue()
child = mp.Process(target=send, args=(queue, 8))
child.start()
child.join()
for _ in range(8):
    queue.get()
print(warm_memory())
"""
    for text, limit in (("4M", 4 << 20), ("0", 0)):
        warm = int(run_program(source, environ={"FORKLESS_WARM_MEMORY": text}).check())
        assert limit - 1_100_000 < warm <= limit
    outcome = run_program(source, environ={"FORKLESS_WARM_MEMORY": "much"})
    assert outcome.exit_code == 1
    assert "ValueError: FORKLESS_WARM_MEMORY=much is no number of bytes" in outcome.stderr


def test_what_is_too_large_is_refused_with_sizes(run_program: Callable[..., Outcome]) -> None:
    run_program("""
import resource
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
import forkless as mp
queue = mp.Queue()
data = memoryview(bytes(100_000_000))
for _ in range(2):
    try:
        queue.put([data[number:] for number in range(30)])
    except mp.SharedMemoryFull as error:
        assert isinstance(error, MemoryError) and isinstance(error, mp.ProcessError)
        assert "30000" in str(error) and "RLIMIT_AS" in str(error), error
    else:
        raise AssertionError
    queue.put(data)
    assert queue.get() == data
assert queue.empty()
""").check()


def test_what_no_machine_has_is_refused_with_sizes(run_program: Callable[..., Outcome]) -> None:
    """Twice the memory there is, as views of one megabyte."""
    run_program("""
import forkless as mp
with open("/proc/meminfo") as file:
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in file}
count = 2 * kilobytes["MemAvailable"] + 2 * kilobytes["SwapFree"] >> 10
queue, data = mp.Queue(), bytes(1 << 20)
try:
    queue.put([memoryview(data) for _ in range(min(count, 60_000))])
except mp.SharedMemoryFull as error:
    assert " bytes" in str(error), error
else:
    assert count >= 60_000
""").check()
