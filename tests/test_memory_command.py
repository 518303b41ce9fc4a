"""The command `forkless memory`: real trees from outside, and every way to ask wrongly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import PATIENCE, PROGRAM_PATIENCE, Outcome, Program, eventually

COMMAND = (sys.executable, "-m", "forkless", "memory")
NOBODY = 65534
NO_PID = 2**22 + 1  # the kernel's limit is below it

TREE = """
import forkless as mp
def wait(data, started, end):
    started.release()
    end.wait()
started, end = mp.Semaphore(0), mp.Event()
child = mp.Process(target=wait, args=(mp.share(bytes(50_000_000)), started, end), name="watched")
child.start()
started.acquire()
print("ready", child.pid, flush=True)
input()
end.set()
child.join()
"""


def memory(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PROGRAM_PATIENCE, **options)  # type: ignore[call-overload,no-any-return]


@pytest.fixture
def tree() -> Iterator[tuple[Program, int]]:
    """A tree that waits, and the id of a child in it; it ends well, whatever was done to it."""
    reader, writer = os.pipe()
    try:
        with Program(TREE, stdin=reader) as program:
            child = int(program.wait_for(r"ready \d+").split()[1])
            yield program, child
            os.write(writer, b"\n")
            program.finish().check()
    finally:
        os.close(reader)
        os.close(writer)


def open_files(*pids: int) -> list[list[str]]:
    return [sorted(os.listdir(f"/proc/{pid}/fd")) for pid in pids]


def test_a_tree_from_outside(tree: tuple[Program, int]) -> None:
    program, child = tree
    before = open_files(program.pid, child)
    shown = memory(program.pid)
    assert (shown.returncode, shown.stderr) == (0, "")
    lines = shown.stdout.splitlines()
    assert lines[0].split() == [
        "PID",
        "NAME",
        "ROLE",
        "RSS",
        "PSS",
        "USS",
        "DIRTY",
        "SHARED",
        "SWAP",
        "HOLDS",
    ]
    rows = {line.split()[0]: line.split() for line in lines[1 : lines.index("")]}
    assert rows[str(program.pid)][1:3] == ["MainProcess", "main"]
    assert rows[str(child)][1:3] + rows[str(child)][-1:] == ["watched", "child", "50.0"]
    assert any(line.split()[:3] == ["shared", "objects", "50.0"] for line in lines)
    assert open_files(program.pid, child) == before


def test_json_and_plots(tree: tuple[Program, int], tmp_path: Path) -> None:
    program, child = tree
    for ending, start in (("png", b"\x89PNG"), ("svg", b"<?xml")):
        path = tmp_path / f"memory.{ending}"
        shown = memory(program.pid, "--json", "--plot", path)
        assert (shown.returncode, shown.stderr) == (0, "")
        report = json.loads(shown.stdout)
        assert report["schema"] == 1
        assert {program.pid, child} <= {each["pid"] for each in report["processes"]}
        assert report["arenas"][0]["kinds"][0]["bytes"] // 10**6 == 50
        assert path.read_bytes().startswith(start)


def test_who_looks_is_not_counted(run_program: Callable[..., Outcome]) -> None:
    """A program that has itself looked at finds itself, and not the command that it ran."""
    run_program("""
import json, os, subprocess, sys
command = [sys.executable, "-m", "forkless", "memory", str(os.getpid()), "--json"]
report = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
assert [each["pid"] for each in report["processes"]] == [os.getpid()], report
assert not report["missing"] and not report["arenas"]
""").check()


def test_watching_goes_on_until_the_process_ends(tree: tuple[Program, int]) -> None:
    _, child = tree
    with subprocess.Popen(
        [*COMMAND, str(child), "--json", "--watch", "0.05"], stdout=subprocess.PIPE, text=True
    ) as watcher:
        assert watcher.stdout is not None
        reports = [json.loads(watcher.stdout.readline()) for _ in range(3)]
        assert [each["processes"][0]["pid"] for each in reports] == [child] * 3
        files = os.listdir(f"/proc/{watcher.pid}/fd")
        # One more look leaves no more open than those before.
        json.loads(watcher.stdout.readline())
        assert eventually(lambda: len(os.listdir(f"/proc/{watcher.pid}/fd")) <= len(files))
        os.kill(child, signal.SIGKILL)
        rest = watcher.stdout.read().splitlines()
        assert all(json.loads(line)["processes"][0]["pid"] == child for line in rest)
        assert watcher.wait(PATIENCE) == 0


def test_watching_as_text_says_that_it_has_ended() -> None:
    with (
        subprocess.Popen(["sleep", "60"]) as other,
        subprocess.Popen(
            [*COMMAND, str(other.pid), "--watch", "600"], stdout=subprocess.PIPE, text=True
        ) as watcher,
    ):
        assert watcher.stdout is not None
        assert watcher.stdout.readline()[2:6:3] == "::"
        assert watcher.stdout.readline().startswith("PID")
        assert watcher.stdout.readline().split()[:4] == [str(other.pid), "sleep", "60", "other"]
        other.kill()
        assert watcher.stdout.read().splitlines()[-1] == f"process {other.pid} has ended"
        assert watcher.wait(PATIENCE) == 0


def test_ctrl_c_ends_watching() -> None:
    with subprocess.Popen(
        [*COMMAND, str(os.getpid()), "--watch", "600"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as watcher:
        assert watcher.stdout is not None
        assert watcher.stderr is not None
        watcher.stdout.readline()
        watcher.send_signal(signal.SIGINT)
        assert watcher.wait(PATIENCE) == 130
        assert watcher.stderr.read() == "forkless: interrupted\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([NO_PID], "there is no process 4194305, or it has ended"),
        (["all"], "'all' is no process id"),
        (["0"], "'0' is no process id"),
        (["-1"], "-1"),
        (["4711.5"], "'4711.5' is no process id"),
        ([2**31], "is no process id"),
        ([], "PID"),
        ([1, "--watch", "0"], "more than zero"),
        ([1, "--watch", "often"], "'often' is no number of seconds"),
        ([1, "--watch", "nan"], "more than zero"),
        ([1, "--plot", "memory.pdf"], "ends neither with .png nor with .svg"),
    ],
)
def test_what_makes_no_sense(arguments: list[object], said: str) -> None:
    refused = memory(*arguments)
    assert refused.returncode == 2
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr
    assert refused.stdout == ""


def test_another_users_process(run_program: Callable[..., Outcome]) -> None:
    """Process 1 is root's, and who asks is another user: that of the test, or nobody."""
    outcome = run_program(f"""
import os, pwd, sys, forkless._cli
# All that is imported by that is here; the other user may not be allowed to read it.
forkless._cli.main(["memory", str(os.getpid())])
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid({NOBODY})
    os.setuid({NOBODY})
sys.exit(forkless._cli.main(["memory", "1"]))
""")
    assert outcome.exit_code == 2, outcome
    assert "the memory of process 1 is not yours to read: it belongs to the user root" in outcome.stderr
    assert "sudo" in outcome.stderr
    assert outcome.stdout.count("PID") == 1


def test_a_picture_that_cannot_be_written() -> None:
    refused = memory(os.getpid(), "--plot", "/nowhere/memory.png")
    assert refused.returncode == 2
    assert "cannot write /nowhere/memory.png: No such file or directory" in refused.stderr


def test_a_terminal_that_cannot_show_all_there_is() -> None:
    with subprocess.Popen(
        ["sh", "-c", "read line # a name that is to be shortened"], stdin=subprocess.PIPE
    ) as other:
        shown = memory(other.pid, env={**os.environ, "PYTHONIOENCODING": "ascii"})
        other.communicate(b"\n")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "sh -c read ?be shortened" in shown.stdout


def test_without_matplotlib(tmp_path: Path) -> None:
    (tmp_path / "matplotlib.py").write_text("raise ImportError('no module')")
    refused = memory(
        os.getpid(), "--plot", tmp_path / "memory.png", env={**os.environ, "PYTHONPATH": str(tmp_path)}
    )
    assert refused.returncode == 2
    assert "pip install matplotlib" in refused.stderr
    assert "total" in refused.stdout, "the table comes all the same"
