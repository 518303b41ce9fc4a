"""`forkless doctor`: real programs that hang, told apart from those that do not."""

from __future__ import annotations

import itertools
import json
import os
import queue
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import forkless.doctor
import pytest
from forkless import _forkless, _watchdog
from forkless.doctor import Diagnosis
from support import PATIENCE, PROGRAM_PATIENCE, run_program

PROGRAMS = Path(__file__).parent / "doctor"
GALLERY = Path(forkless.__file__).parent / "_gallery" / "programs"
COMMAND = (sys.executable, "-m", "forkless", "doctor")
NO_PID = 2**22 + 1  # the kernel's limit is below it
NOBODY = 65534

# What each program hangs by, and words of the summary.
HANGS = {
    "dead_owner": ("dead-owner", "has ended without giving it back"),
    "dead_owner_spawned": ("dead-owner", "has ended without giving it back"),
    "dead_owner_of_queue": ("dead-owner", "self._rlock"),
    "cycle_of_processes": ("lock-cycle", r"processes \d+ and \d+ wait for each other"),
    "cycle_of_threads": ("lock-cycle", r"threads \d+ and \d+ of process \d+ wait for each other"),
    "inherited_lock": ("inherited-lock", "the lock `ledger`"),
    "inherited_logging_lock": ("inherited-lock", "a lock of logging"),
    "join_before_drain": ("queue-join", "cannot end before somebody fetches"),
    "reentrant_queue": ("reentrant-queue", "interrupted in put"),
    "reentrant_mp_queue": ("reentrant-queue", "interrupted in put"),
    "reentrant_thread_lock": ("reentrant-queue", "only this thread itself"),
    "reentrant_lock": ("reentrant-queue", "which it has itself"),
    "producer_gone": ("lost-worker", "its producer is gone"),
    "lost_worker": ("lost-worker", "the worker that had the task has ended"),
    "pool_in_pool": ("pool-in-pool-deadlock", "wait for other tasks"),
    "pool_in_pool_of_threads": ("pool-in-pool-deadlock", "all 2 threads of a pool"),
    "stopped_holder": ("stopped-process", r"is stopped, and process \d+ waits for it"),
    "zombies": ("zombies", "3 children of process"),
}
# With forkless these are all that hang: who takes locks in two orders, or stops a process, is to blame.
STILL_HANGS = {
    "cycle_of_processes": ("lock-cycle", r"processes \d+ and \d+ wait for each other"),
    "cycle_of_threads": ("lock-cycle", r"2 threads of process \d+ wait for each other"),
    "reentrant_lock": ("reentrant-queue", "which it has itself"),
    "stopped_holder": ("stopped-process", r"is stopped, and process \d+ waits for it"),
}


def names(program: str, pattern: str) -> list[str]:
    return re.findall(rf"^def ({pattern})\(\):", (PROGRAMS / program).read_text(), re.MULTILINE)


HEALTHY = [
    (program, name)
    for program in ("standard.py", "with_forkless.py")
    for name in names(program, r"healthy_\w+")
]
SHAPES = names("with_forkless.py", "(?!healthy|ready)[a-z]+(?:_[a-z]+)*")
ENDS = [name for name in SHAPES if name in HANGS and name not in (*STILL_HANGS, "zombies")]


@contextmanager
def running(program: str, name: str) -> Iterator[subprocess.Popen[str]]:
    """A program that has come to where it hangs, in a group of its own, all of which is killed in the end."""
    command = [sys.executable, str(PROGRAMS / program), name]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def diagnosis_of(pid: int, hazard: str) -> Diagnosis:
    """Looks until the program hangs as it should: the watchdog of the test ends this if it never does."""
    while True:
        diagnosis = forkless.doctor.report(pid)
        if any(finding.hazard == hazard for finding in diagnosis.findings):
            return diagnosis


def doctor(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PROGRAM_PATIENCE, **options)  # type: ignore[call-overload,no-any-return]


def check(program: str, name: str, hazard: str, words: str) -> None:
    with running(program, name) as process:
        diagnosis = diagnosis_of(process.pid, hazard)
        finding = diagnosis.findings[0]
        assert [each.hazard for each in diagnosis.findings] == [hazard], diagnosis
        assert re.search(words, finding.summary), finding.summary
        assert finding.evidence
        assert finding.advice
        assert set(finding.pids) <= {each["pid"] for each in diagnosis.processes}


@pytest.mark.parametrize("name", HANGS)
def test_what_a_program_of_the_standard_library_hangs_by(name: str) -> None:
    check("standard.py", name, *HANGS[name])


@pytest.mark.parametrize("name", STILL_HANGS)
def test_what_a_program_with_forkless_hangs_by(name: str) -> None:
    check("with_forkless.py", name, *STILL_HANGS[name])


@pytest.mark.parametrize("name", ENDS)
def test_what_hangs_with_the_standard_library_ends_with_forkless(name: str) -> None:
    assert name in HANGS
    with running("with_forkless.py", name) as process:
        assert process.wait(timeout=PATIENCE) == 0


@pytest.mark.parametrize(("program", "name"), HEALTHY)
def test_nothing_is_wrong_with_a_tree_that_is_busy_or_idle(program: str, name: str) -> None:
    with running(program, name) as process:
        for _ in range(5):
            diagnosis = forkless.doctor.report(process.pid)
            assert diagnosis.healthy, diagnosis
        assert str(diagnosis).startswith("Nothing wrong with process")


@pytest.mark.parametrize(
    ("hazard", "program"),
    [
        ("inherited-lock", "standard.py"),
        ("inherited-lock", "standard_import.py"),
        ("pool-in-pool-deadlock", "standard.py"),
    ],
)
def test_traps_of_the_gallery_are_named(hazard: str, program: str) -> None:
    folder = GALLERY / hazard
    with subprocess.Popen(
        [sys.executable, program], cwd=folder, stdout=subprocess.DEVNULL, start_new_session=True
    ) as process:
        try:
            assert [each.hazard for each in diagnosis_of(process.pid, hazard).findings] == [hazard]
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_the_thread_that_has_an_inherited_lock_is_named() -> None:
    with running("standard.py", "inherited_lock") as process:
        (finding,) = diagnosis_of(process.pid, "inherited-lock").findings
        assert any(
            re.search(rf"in process {process.pid} thread \d+ has it: .* in hold$", each)
            for each in finding.evidence
        )


def test_a_program_on_the_command_line_has_a_source_too() -> None:
    source = """
import os, threading
lock = threading.Lock()
lock.acquire()
if os.fork() == 0:
    with lock:
        pass
os.wait()
"""
    with subprocess.Popen([sys.executable, "-c", source], start_new_session=True) as process:
        try:
            (finding,) = diagnosis_of(process.pid, "inherited-lock").findings
            assert "the lock `lock`" in finding.summary
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_a_pool_that_is_joined_has_lost_a_worker_too() -> None:
    source = """
import multiprocessing, os, time
pool = multiprocessing.get_context("fork").Pool(2)
pool.apply_async(os._exit, (1,))
pool.close()
pool.join()
"""
    with subprocess.Popen([sys.executable, "-c", source], start_new_session=True) as process:
        try:
            assert (
                "the worker that had the task has ended"
                in diagnosis_of(process.pid, "lost-worker").findings[0].summary
            )
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_children_that_ended_are_no_zombies_with_forkless() -> None:
    with running("with_forkless.py", "zombies") as process:
        diagnosis = forkless.doctor.report(process.pid)
        assert diagnosis.healthy, diagnosis
        assert all(each["state"] != "zombie" for each in diagnosis.processes)


def test_a_wait_is_noted_with_object_owner_and_time() -> None:
    with running("with_forkless.py", "stopped_holder") as process:
        diagnosis = diagnosis_of(process.pid, "stopped-process")
        root, *others = diagnosis.processes
        waiting = root["waiting"]
        (stopped,) = (each["pid"] for each in others if each["state"] == "stopped")
        assert (waiting["kind"], waiting["owner_pid"]) == ("lock", stopped)
        assert re.search(r"made at with_forkless.py:\d+", waiting["object"])
        assert 0 <= waiting["since_s"] < 600
        assert (root["role"], root["state"]) == ("main", "sleeping")
        assert root["stack"][0]["function"] == "stopped_holder"


@pytest.mark.parametrize(
    ("program", "name"), [("standard.py", "dead_owner"), ("with_forkless.py", "cycle_of_processes")]
)
def test_the_command_prints_json(program: str, name: str) -> None:
    with running(program, name) as process:
        diagnosis_of(process.pid, (HANGS | STILL_HANGS)[name][0])
        shown = doctor(process.pid, "--format", "json")
        assert (shown.returncode, shown.stderr) == (1, "")
        report = json.loads(shown.stdout)
        assert report["root"] == process.pid
        root = report["processes"][0]
        assert root["pid"] == process.pid
        assert root["parent"] == os.getpid()
        assert name in root["command"]
        assert {"kind", "object", "since_s", "owner_pid"} <= set(root["waiting"])
        assert all(set(frame) == {"function", "file", "line"} for frame in root["stack"])
        assert name in [frame["function"] for frame in root["stack"]]
        (finding,) = report["findings"]
        assert set(finding) == {"hazard", "pids", "summary", "evidence", "advice"}


def test_the_command_says_it_in_words_first() -> None:
    with running("standard.py", "cycle_of_processes") as process:
        diagnosis_of(process.pid, "lock-cycle")
        shown = doctor(process.pid)
    assert (shown.returncode, shown.stderr) == (1, "")
    lines = shown.stdout.splitlines()
    assert lines[0] == f"One thing is wrong with process {process.pid} (3 processes)."
    assert lines[2].startswith("1. lock-cycle: processes ")
    assert [line for line in lines if line in ("Who waits for whom", "Processes")] == [
        "Who waits for whom",
        "Processes",
    ]
    assert len(re.findall(r"^  (\d+) ──▶ `second` .* ──▶ (\d+) has it$", shown.stdout, re.MULTILINE)) == 2
    assert f"  {process.pid} ──▶ end of " in shown.stdout


def test_the_command_draws_a_graph() -> None:
    with running("standard.py", "cycle_of_processes") as process:
        diagnosis_of(process.pid, "lock-cycle")
        shown = doctor(process.pid, "--dot")
    assert shown.returncode == 1
    lines = shown.stdout.splitlines()
    assert (lines[0], lines[-1]) == ("digraph processes {", "}")
    assert sum("color=red" in line for line in lines) == 2
    assert sum(bool(re.match(r'  \d+ -> \d+ \[label="`second`', line)) for line in lines) == 2


def test_a_healthy_tree_is_no_failure_of_the_command() -> None:
    with running("with_forkless.py", "healthy_pool") as process:
        shown = doctor(process.pid)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith(f"Nothing wrong with process {process.pid} (")


def test_a_process_that_is_not_there() -> None:
    shown = doctor(NO_PID)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert f"there is no process {NO_PID}" in shown.stderr
    assert "pgrep" in shown.stderr
    for pid in (NO_PID, 0, -1, 1 << 40):
        with pytest.raises(ProcessLookupError, match="there is no process"):
            forkless.doctor.report(pid)


def test_a_process_that_ended_and_was_not_reaped() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    diagnosis = forkless.doctor.report(process.pid)
    assert [(each["state"], each["ended"]) for each in diagnosis.processes] == [("zombie", "exit code 0")]
    assert process.wait() == 0
    with pytest.raises(ProcessLookupError):
        forkless.doctor.report(process.pid)


AS_NOBODY = f"""
import argparse, locale, os, pwd, sys
from forkless import _diagnosis, _forkless
from forkless._cli import _doctor
os.setgroups([])
os.setgid({NOBODY})
os.setuid({NOBODY})
{{action}}
"""
DOCTOR = "sys.exit(_doctor.doctor(argparse.Namespace(pid=int(sys.argv[1]), dot=False, format='text')))"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_process_of_another_user_is_refused_with_advice() -> None:
    command = [sys.executable, "-c", AS_NOBODY.format(action=DOCTOR)]
    with running("standard.py", "healthy_input") as process:
        refused = subprocess.run(
            [*command, str(process.pid)], capture_output=True, text=True, timeout=PROGRAM_PATIENCE
        )
    assert (refused.returncode, refused.stdout) == (2, ""), refused
    assert f"process {process.pid} is not yours to look at: it belongs to the user root" in refused.stderr
    assert "Run the command as the same user, or as root (sudo)" in refused.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_protected_process_of_the_same_user_is_refused_with_advice() -> None:
    # Whoever changes their user cannot be traced by it any more.
    protected = [sys.executable, "-c", AS_NOBODY.format(action="print('ready', flush=True); input()")]
    command = [sys.executable, "-c", AS_NOBODY.format(action=DOCTOR)]
    with subprocess.Popen(protected, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        refused = subprocess.run(
            [*command, str(process.pid)], capture_output=True, text=True, timeout=PROGRAM_PATIENCE
        )
        process.communicate("\n")
    assert (refused.returncode, refused.stdout) == (2, ""), refused
    assert "it is protected" in refused.stderr
    assert "PTRACE_MODE_ATTACH" in refused.stderr


@pytest.mark.parametrize("arguments", [[], ["none"], ["0"], ["1", "--format", "xml"]])
def test_a_command_line_that_makes_no_sense(arguments: list[str]) -> None:
    assert doctor(*arguments).returncode == 2


def test_looking_changes_nothing() -> None:
    with running("with_forkless.py", "healthy_pool") as process:

        def files() -> list[str]:
            return sorted(os.listdir(f"/proc/{process.pid}/fd"))

        before = files()
        for _ in range(3):
            forkless.doctor.report(process.pid)
        assert files() == before
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.wait(timeout=PATIENCE) == 0


def test_a_program_reports_on_itself() -> None:
    source = """
import forkless.doctor
report = forkless.doctor.report()
assert report.healthy, report
assert report.processes[0]["stack"][-1]["function"] == "<module>", report.processes
print(report.root)
"""
    assert int(run_program(source).check()) > 0


WATCHED = """
import sys, threading
import forkless
{start}
lock = forkless.Lock()
lock.acquire()
lock.acquire()
"""


@pytest.mark.parametrize(("start", "seconds"), [("forkless.watchdog(0.5)", None), ("", "0.5")])
def test_a_watchdog_reports_a_standstill(start: str, seconds: str | None, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(WATCHED.format(start=start))
    environ = {**os.environ, **({} if seconds is None else {"FORKLESS_WATCHDOG": seconds})}
    with subprocess.Popen(
        [sys.executable, str(program)], stderr=subprocess.PIPE, text=True, env=environ
    ) as process:
        assert process.stderr is not None
        try:
            # A machine that is slow may stand still on the way to the lock, too, with nothing wrong.
            lines = list(itertools.takewhile(lambda line: not line.startswith("1. "), process.stderr))
            assert lines[-3:] == [
                "forkless watchdog: nothing has moved for 0.5 s\n",
                f"One thing is wrong with process {process.pid} (1 process).\n",
                "\n",
            ]
        finally:
            process.kill()


def test_a_watchdog_is_quiet_while_something_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it counts are looks, so that it takes no slow or sleeping machine for a standstill."""
    looks = itertools.count(1)
    found, reports = [0], queue.SimpleQueue[int]()

    def pulse(root: int) -> int:
        found.append(next(looks))
        return min(found[-1] // 10, 10)  # moves every ten looks, and after a hundred no more

    monkeypatch.setattr(_forkless, "pulse", pulse)
    monkeypatch.setattr(_watchdog._Watchdog, "_write", lambda self, root: reports.put(found[-1]))
    forkless.watchdog(0.01)
    thread = _watchdog._running
    assert thread is not None
    try:
        assert reports.get(timeout=PATIENCE) == 110
    finally:
        forkless.watchdog(None)
        thread.join(PATIENCE)
    assert reports.empty()


def test_a_pool_that_works_moves() -> None:
    with forkless.Pool(1) as pool:
        assert pool.apply(abs, (-1,)) == 1
        before = _forkless.pulse(os.getpid())
        for _ in range(100):
            pool.apply(abs, (-1,))
        assert _forkless.pulse(os.getpid()) != before


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_watchdog_needs_a_time(seconds: float) -> None:
    with pytest.raises(ValueError, match="a number of seconds above zero"):
        forkless.watchdog(seconds)


def test_a_variable_without_sense_is_said_so_and_only_once() -> None:
    environ = {**os.environ, "FORKLESS_WATCHDOG": "soon"}
    program = "import forkless as mp; child = mp.Process(target=int); child.start(); child.join()"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environ, capture_output=True, text=True, timeout=PROGRAM_PATIENCE
    )
    assert done.returncode == 0
    assert done.stderr == "forkless: FORKLESS_WATCHDOG=soon is no number of seconds above zero\n"


def test_a_tree_of_twenty_is_seen_whole() -> None:
    source = """
import multiprocessing, time
if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(20) as pool:
        print("ready", flush=True)
        pool.map(time.sleep, [3600] * 20)
"""
    program = [sys.executable, "-c", source]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            diagnosis = forkless.doctor.report(process.pid)
            assert len(diagnosis.processes) == 21
            assert diagnosis.healthy, diagnosis
        finally:
            os.killpg(process.pid, signal.SIGKILL)
