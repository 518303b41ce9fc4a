"""`forkless.memory_report`: real trees, and numbers that are known."""

from __future__ import annotations

import os
from collections.abc import Callable

import forkless
import pytest
from forkless import _forkless
from support import Outcome, Program, started

SIZE = 50_000_000
# What the programs below have in common: a part of a report, and children that wait.
PRELUDE = """
import os, sys, forkless as mp
from forkless._memory import memory_report

def kinds(report):
    [arena] = report.arenas
    assert arena.whole
    return {kind.kind: (kind.blocks, kind.bytes) for kind in arena.kinds}

def wait(data, started, end):
    started.release()
    end.wait()

started, end = mp.Semaphore(0), mp.Event()
def start(count, data=None):
    children = [mp.Process(target=wait, args=(data, started, end), name=f"w-{n}") for n in range(count)]
    for child in children:
        child.start()
    for child in children:
        assert started.acquire(timeout=60)
    return children

def finish(children):
    end.set()
    for child in children:
        child.join()
"""


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
assert one.pid == os.getpid() and one.role == "main" and not report.missing and not report.arenas
assert one.rss >= one.pss >= one.uss >= one.private_dirty > 1_000_000
assert one.shared == one.rss - one.uss
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
before = sorted(os.listdir("/proc/self/fd"))
report = mp.memory_report()
assert sorted(os.listdir("/proc/self/fd")) == before
assert [each.role for each in report.processes][:3] == ["main", "template", "child"]
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


def test_programs_that_are_no_members_are_in_it(run_program: Callable[..., Outcome]) -> None:
    run_program("""
import os, subprocess, forkless as mp
other = subprocess.Popen(["sleep", "600"])
for report in (mp.memory_report(), mp.memory_report(os.getpid())):
    found = {each.pid: each for each in report.processes}
    assert (found[other.pid].role, found[other.pid].name) == ("other", "sleep 600")
other.kill()
# Until it is reaped it is there, without memory.
while other.pid in [each.pid for each in mp.memory_report().processes]: pass
[missing] = mp.memory_report().missing
assert missing.pid == other.pid and "ended" in missing.reason, missing
other.wait()
assert not mp.memory_report().missing
""").check()


def test_a_process_that_ends_meanwhile_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is there when the processes are listed, and gone when it is looked at."""
    known = started()
    # No process has this id: the kernel's limit is below it.
    monkeypatch.setattr(_forkless, "processes", lambda: [*known, (2**22 + 1, "gone", "child")])
    report = forkless.memory_report()
    assert {pid for pid, _, _ in known} <= {each.pid for each in report.processes}
    [missing] = report.missing
    assert (missing.pid, missing.name, missing.role) == (2**22 + 1, "gone", "child")
    assert missing.reason == "it has ended"
    assert "Not measured: 4194305 gone (child): it has ended" in str(report).splitlines()


def test_a_process_that_may_not_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    measure = _forkless.memory
    [template] = [pid for pid, _, role in _forkless.processes() if role == "template"]

    def refuse(pid: int) -> tuple[int, int, int, int, int, int, int]:
        if pid == template:
            raise PermissionError(f"process {pid}: its memory is not ours to read")
        return measure(pid)

    monkeypatch.setattr(_forkless, "memory", refuse)
    known = started()
    monkeypatch.setattr(_forkless, "processes", lambda: known)
    report = forkless.memory_report()
    [missing] = report.missing
    assert (missing.pid, missing.role) == (template, "template")
    assert missing.reason == "its memory is not ours to read"
    with pytest.raises(PermissionError):
        forkless.memory_report(template)


def test_a_shared_array_is_there_once_and_with_each_holder(run_program: Callable[..., Outcome]) -> None:
    run_program(
        PRELUDE
        + f"""
size = {SIZE}
children = start(3, mp.share(bytes(size)))
# The children hold it, as this process does through their arguments.
report = memory_report()
blocks, held = kinds(report)["shared objects"]
assert blocks == 1 and size <= held < size + 10_000, (blocks, held)
[arena] = report.arenas
assert size <= arena.held_by_several < size + 1_000_000
by_pid = {{each.pid: each for each in arena.holders}}
for child in children:
    assert size <= by_pid[child.pid].shared <= by_pid[child.pid].bytes < size + 1_000_000, by_pid
    assert by_pid[child.pid].name == child.name and by_pid[child.pid].live
assert size < arena.bytes < size + 5_000_000
assert abs(sum(each.bytes for each in arena.kinds) - arena.bytes) < 1_000_000
template = next(each for each in report.processes if each.role == "template")
assert by_pid[template.pid].bytes < 1_000_000
finish(children)
assert "shared objects" not in kinds(memory_report())
"""
    ).check()


def test_a_pool_and_its_arrays(run_program: Callable[..., Outcome]) -> None:
    run_program(
        PRELUDE
        + f"""
def look(data):
    report = memory_report()
    own = next(each for each in report.arenas[0].holders if each.pid == os.getpid())
    return own.role, own.bytes, kinds(report)["shared objects"]
data = mp.share(bytes({SIZE}))
with mp.Pool(2) as pool:
    for role, own, (blocks, size) in pool.map(look, [data] * 4, chunksize=1):
        assert role == "child" and own >= {SIZE} and (blocks, size // 1_000_000) == (1, {SIZE // 1_000_000})
"""
    ).check()


def test_messages_on_their_way_in_use_and_gone(run_program: Callable[..., Outcome]) -> None:
    run_program(
        PRELUDE
        + """
size = 3_000_000
queue = mp.Queue()
for _ in range(4):
    queue.put(memoryview(bytes(size)))
blocks, held = kinds(memory_report())["messages on their way"]
assert blocks == 4 and 4 * size <= held < 4 * size + 100_000, (blocks, held)
received = [queue.get() for _ in range(3)]
found = kinds(memory_report())
assert found["messages on their way"][0] == 1 and found["messages in use"][0] == 3, found
report = memory_report()
[me] = [each for each in report.arenas[0].holders if each.pid == os.getpid()]
assert 3 * size <= me.bytes < 4 * size and me.shared < size
del received
found = kinds(memory_report())
assert "messages in use" not in found and 3 * size <= found["kept warm"][1] < 4 * size, found
mp.trim_memory()
found = kinds(memory_report())
# The blocks are there, without pages.
assert found["kept warm"][1] < 100_000 and found["messages on their way"][0] == 1, found
"""
    ).check()


def test_every_kind_of_object_is_counted(run_program: Callable[..., Outcome]) -> None:
    run_program(
        PRELUDE
        + """
from forkless.shared_memory import SharedMemory
before = kinds(memory_report())
many = [mp.Lock() for _ in range(1000)] + [mp.Semaphore(2), mp.Condition(), mp.Event(), mp.Barrier(2)]
array, value, queue = mp.Array("d", 100_000), mp.Value("i"), mp.Queue()
segment = SharedMemory(create=True, size=1_000_000)
found = kinds(memory_report())
assert 1000 <= found["locks"][0] - before["locks"][0] < 1020, found
assert found["arrays and values"][1] >= 800_000 and found["arrays and values"][0] >= 2, found
assert found["named segments"][0] == 1 and 1_000_000 <= found["named segments"][1] < 1_010_000, found
assert found["queues"][1] >= 65_536 and found["bookkeeping"][0] >= 1000, found
segment.close()
segment.unlink()
"""
    ).check()


def test_a_hundred_thousand_blocks_are_counted_exactly(run_program: Callable[..., Outcome]) -> None:
    run_program(
        PRELUDE
        + """
before = kinds(memory_report())["locks"][0]
locks = [mp.Lock() for _ in range(100_000)]
report = memory_report()
assert kinds(report)["locks"][0] - before == 100_000
[me] = report.arenas[0].holders
assert me.leases >= 100_000
""",
    ).check()


def test_what_the_template_saves(run_program: Callable[..., Outcome]) -> None:
    """Bytes are not copied on access, on any Python: one copy for each process but the template is saved."""
    run_program(
        PRELUDE
        + f"""
size = {SIZE}
def saved():
    report = memory_report()
    forked = [each for each in report.processes if each.role in ("child", "standby")]
    return report, len(forked)
mp.preload(bytes(size))
children = start(3)
report, count = saved()
assert count >= 3
# An interpreter has less than 15 MB that a fork inherits.
assert count * size <= report.saved < count * (size + 15_000_000), (count, report.saved)
# Over the children alone it is less than what they were spared.
assert sum(each.saved for each in report.processes if each.role != "template") < count * size
by_pid = {{each.pid: each for each in report.processes}}
for child in children:
    assert by_pid[child.pid].uss < size / 2 < size <= by_pid[child.pid].rss
assert by_pid[os.getpid()].saved == 0, "it was not forked, and nobody was from it"
assert f"The template saves {{report.saved / 1e6:,.0f}} MB" in str(report)
finish(children)
"""
    ).check()


def test_a_child_that_was_killed(run_program: Callable[..., Outcome]) -> None:
    """While its template is stopped, nobody cleans up after it, and that is said. Then all is given back."""
    run_program(
        PRELUDE
        + f"""
import signal, time
size = {SIZE}
def make(started, end):
    data = mp.share(bytes(size))
    started.release()
    end.wait()
child = mp.Process(target=make, args=(started, end), name="maker")
child.start()
assert started.acquire(timeout=60)
template = next(each.pid for each in memory_report().processes if each.role == "template")
os.kill(template, signal.SIGSTOP)
os.kill(child.pid, signal.SIGKILL)
while child.pid in [each.pid for each in memory_report().processes]: pass
report = memory_report()
[missing] = report.missing
assert (missing.pid, missing.name, missing.role) == (child.pid, "maker", "child"), missing
[dead] = [each for each in report.arenas[0].holders if not each.live]
assert dead.pid == child.pid and size <= dead.bytes < size + 1_000_000
assert f"50.0 MB were held by maker ({{child.pid}}): ended" in str(report), str(report)
os.kill(template, signal.SIGCONT)
child.join()
report = memory_report()
assert not report.missing and "shared objects" not in kinds(report)
assert all(each.live for each in report.arenas[0].holders)
"""
    ).check()


STANDARD = """
import multiprocessing, os, sys, time
def wait(end): end.wait()
if __name__ == "__main__":
    data = os.urandom(1000) * 50_000
    context = multiprocessing.get_context(sys.argv[1])
    end = context.Event()
    children = [context.Process(target=wait, args=(end,)) for _ in range(2)]
    for child in children: child.start()
    print("started", *[child.pid for child in children], flush=True)
    input()
    end.set()
    for child in children: child.join()
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_tree_of_the_standard_library(method: str) -> None:
    reader, writer = os.pipe()
    with Program(STANDARD, method, stdin=reader) as program:
        started = program.wait_for(r"started \d+ \d+").split()
        report = forkless.memory_report(program.pid)
        found = {each.pid: each for each in report.processes}
        assert report.processes[0].pid == program.pid
        assert {program.pid, *map(int, started[1:])} <= set(found)
        assert {each.role for each in report.processes} == {"other"}
        assert "program.py" in found[program.pid].name
        assert not report.arenas
        assert not report.notes
        if method == "fork":
            assert 2 * SIZE <= report.saved < 2 * (SIZE + 20_000_000)
            assert "Forking saves 1" in str(report)
        else:
            assert report.saved == 0
            assert found[program.pid].uss >= SIZE
        os.write(writer, b"\n")
        program.finish().check()
    os.close(reader)
    os.close(writer)


def test_a_tree_of_forkless_from_outside() -> None:
    reader, writer = os.pipe()
    source = PRELUDE + f"children = start(2, mp.share(bytes({SIZE})))\n"
    source += "print('ready', *[child.pid for child in children], flush=True)\ninput()\nfinish(children)\n"
    with Program(source, stdin=reader) as program:
        ready = program.wait_for(r"ready \d+ \d+").split()
        children = [int(pid) for pid in ready[1:]]
        before = {pid: sorted(os.listdir(f"/proc/{pid}/fd")) for pid in (program.pid, *children)}
        own = sorted(os.listdir("/proc/self/fd"))
        report = forkless.memory_report(program.pid)
        assert sorted(os.listdir("/proc/self/fd")) == own
        assert {pid: sorted(os.listdir(f"/proc/{pid}/fd")) for pid in before} == before
        roles = {each.pid: each.role for each in report.processes}
        assert roles[program.pid] == "main"
        assert [roles[pid] for pid in children] == ["child", "child"]
        [arena] = report.arenas
        # This process has no place in it, and has taken none.
        assert os.getpid() not in {each.pid for each in arena.holders}
        held = {each.pid: each.shared for each in arena.holders}
        assert all(held[pid] >= SIZE for pid in children)
        # The same arena from a child on, which is all that is below it.
        below = forkless.memory_report(children[0])
        assert [each.pid for each in below.processes] == children[:1]
        assert below.arenas[0].id == arena.id
        os.write(writer, b"\n")
        program.finish().check()
    os.close(reader)
    os.close(writer)


def test_a_file_that_is_no_arena_is_a_note(run_program: Callable[..., Outcome]) -> None:
    run_program("""
import fcntl, os, forkless as mp
file = os.memfd_create("forkless", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
os.truncate(file, 1 << 22)
fcntl.fcntl(file, 1033, 1 | 2 | 4)  # F_ADD_SEALS: seal, shrink, grow
report = mp.memory_report()
assert report.processes and not report.arenas
[note] = report.notes
assert str(os.getpid()) in note and "not an arena" in note, note
assert f"Note: {note}" in str(report).splitlines()
""").check()


@pytest.mark.parametrize("pid", [2**22 + 1, 2**31 - 1, 2**31, 0, -1])
def test_no_such_process(pid: int) -> None:
    with pytest.raises(ProcessLookupError, match=str(pid)):
        forkless.memory_report(pid)
