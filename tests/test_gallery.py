"""`forkless gallery`: every promise is kept, and a broken one is noticed."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from forkless._gallery._judge import pattern
from forkless._gallery._memory_page import WAYS
from forkless._gallery._run import Half, run
from forkless._gallery._traps import TRAPS
from support import PATIENCE, Outcome, Program, eventually, run_program, status_of

COMMAND = "import runpy; runpy.run_module('forkless', run_name='__main__')"
SHARED_MEMORY = Path("/dev/shm")
BROKEN = "start-method-twice"  # the slug under which the made-up programs below run

# A program of the standard library that leaks, in the words of most of the tests below.
LEAKS = """
from multiprocessing import resource_tracker, shared_memory
segment = shared_memory.SharedMemory(create=True, size=100)
resource_tracker.unregister(segment._name, "shared_memory")
print("leaks", segment.name)
"""
# A descendant that closes nothing, ignores what it can, and has its own session.
LINGERS = """
import subprocess, sys
child = subprocess.Popen(
    [sys.executable, "-c", "import signal; signal.signal(15, signal.SIG_IGN); print('up'); signal.pause()"],
    start_new_session=True, stdout=subprocess.PIPE)
child.stdout.readline()
print("lingers", child.pid)
"""


def gallery(*arguments: str, programs: Path | None = None, how_long: float = 4 * PATIENCE) -> Outcome:
    """Runs the command; whatever it leaves running is in the outcome."""
    environ = {} if programs is None else {"FORKLESS_GALLERY_PROGRAMS": str(programs)}
    return run_program(COMMAND, "gallery", *arguments, how="command", environ=environ, timeout=how_long)


def result(outcome: Outcome) -> dict[str, Any]:
    """The JSON that a run printed, if it left nothing behind and wrote no errors."""
    assert (outcome.survivors, outcome.stderr) == ((), ""), f"{outcome}"
    document: dict[str, Any] = json.loads(outcome.stdout)
    return document


def made_up(
    folder: Path,
    *,
    standard: str = "print('fine')",
    forkless: str = "print('fine')",
    out: str = "fine\n",
    limit: float = 60,
) -> dict[str, Any]:
    """Runs made-up programs in place of a trap's, and returns its only case and the exit code."""
    place = folder / BROKEN
    place.mkdir()
    (place / "standard.py").write_text(standard)
    (place / "with_forkless.py").write_text(forkless)
    (place / "with_forkless.out").write_text(out)
    outcome = gallery("--json", "--only", BROKEN, "--timeout", f"{limit:g}", programs=folder)
    case: dict[str, Any] = result(outcome)["traps"][0]["cases"][0]
    return {**case, "exit_code": outcome.exit_code}


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.slug)
def test_the_promise_is_kept(trap: Any) -> None:
    outcome = gallery("--json", "--only", trap.slug, "--no-memory", "--items", "2000000")
    document = result(outcome)
    (found,) = document["traps"]
    broken = [
        (case["name"], case["forkless"]) for case in found["cases"] if case["forkless"]["status"] != "kept"
    ]
    assert not broken
    assert (outcome.exit_code, document["kept"], found["kept"]) == (0, True, True)
    assert [case["name"] for case in found["cases"]] == [case.name for case in trap.cases]
    for case in found["cases"]:
        names = [check["name"] for check in case["forkless"]["checks"]]
        assert names[:5] == ["end", "output", "errors", "processes", "segments"]
        assert case["standard"]["status"] in ("reproduced", "changed", "gone")
        # Whatever the standard library did, it was seen: nothing is said without a reason.
        assert case["standard"]["summary"]


def test_memory_is_measured_in_both_halves() -> None:
    outcome = gallery("--json", "--only", "refcount-copy", "--no-memory", "--items", "1000000")
    document = result(outcome)
    (case,) = document["traps"][0]["cases"]
    assert document["items"] == 1_000_000
    assert [memory["when"] for memory in case["standard"]["memory"]] == [
        "child before reading",
        "child after reading",
        "frozen child before reading",
        "frozen child after reading",
    ]
    before, after = case["forkless"]["memory"]
    assert after["private_dirty"] - before["private_dirty"] < 1_000_000
    assert all(memory["rss"] >= memory["pss"] >= memory["uss"] > 0 for memory in (before, after))
    assert "forkless.memory_report():\n" in case["forkless"]["stdout"]


# A check that cannot fail guards nothing.


def test_programs_that_work_are_kept_and_gone(tmp_path: Path) -> None:
    case = made_up(tmp_path)
    assert case["exit_code"] == 0
    assert (case["standard"]["status"], case["forkless"]["status"]) == ("gone", "kept")
    assert "no longer reproduces on" in case["standard"]["summary"]


@pytest.mark.parametrize(
    ("forkless", "broken", "detail"),
    [
        ("print('fine'); raise SystemExit(3)", "end", "exit code 3"),
        ("print('fine'); import os; os.abort()", "end", "killed by SIGABRT"),
        ("print('fine'); import signal; signal.pause()", "end", "hang: no thread has moved"),
        ("print('fine')\nwhile True: pass", "end", "not finished after 5 s"),
        ("print('fin')", "output", "'fin' instead of 'fine'"),
        ("print('fine\\nand more')", "output", "ending with 'and more'"),
        ("pass", "output", "no line 'fine'"),
        ("import sys; print('fine'); print('oops', file=sys.stderr)", "errors", "not empty: oops"),
        (LINGERS + "print('fine')", "processes", "-c import signal"),
        (LEAKS + "print('fine')", "segments", "left in /dev/shm: psm_"),
    ],
)
def test_a_broken_promise_is_noticed(tmp_path: Path, forkless: str, broken: str, detail: str) -> None:
    out = {LINGERS: "lingers <pid>\nfine\n", LEAKS: "...\nfine\n"}.get(forkless.removesuffix("print('fine')"))
    limit = 5 if "not finished" in detail else 60
    case = made_up(tmp_path, forkless=forkless, out=out or "fine\n", limit=limit)
    assert (case["exit_code"], case["forkless"]["status"]) == (1, "broken")
    failed = {check["name"]: check["detail"] for check in case["forkless"]["checks"] if not check["kept"]}
    assert list(failed) == [broken]
    assert detail in failed[broken]
    assert detail in case["forkless"]["summary"]


@pytest.mark.parametrize(
    ("grown", "detail"),
    [("5000", "reading copied 5.1 MB into the child"), (None, "the child did not report its memory")],
)
def test_a_copy_is_noticed(tmp_path: Path, grown: str | None, detail: str) -> None:
    line = "memory of the child {} reading: RSS 1 PSS 1 USS 1 dirty {} kB\n"
    text = "" if grown is None else line.format("before", 0) + line.format("after", grown)
    (tmp_path / "refcount-copy").mkdir()
    for name, content in (
        ("standard.py", f"print({text!r}, end='')"),
        ("with_forkless.py", f"print({text!r}, end='')"),
        ("with_forkless.out", text),
    ):
        (tmp_path / "refcount-copy" / name).write_text(content)
    outcome = gallery(
        "--json", "--only", "refcount-copy", "--no-memory", "--items", "1000000", programs=tmp_path
    )
    (case,) = result(outcome)["traps"][0]["cases"]
    failed = [(check["name"], check["detail"]) for check in case["forkless"]["checks"] if not check["kept"]]
    assert (outcome.exit_code, failed) == (1, [("memory", detail)])


# What the standard library did is told from what was seen.


@pytest.mark.parametrize(
    ("standard", "status", "summary"),
    [
        ("raise RuntimeError('again')", "reproduced", "RuntimeError: again"),
        ("raise ValueError('else')", "changed", "ValueError instead of a RuntimeError"),
        ("print('something else')", "changed", "exit code 0 instead of a RuntimeError"),
        ("import os; os.kill(os.getpid(), 11)", "changed", "killed by SIGSEGV instead of a RuntimeError"),
        ("print('fine\\nchild exit code: -11')", "changed", "child killed by SIGSEGV instead of"),
        ("import signal; signal.pause()", "changed", "hang: no thread has moved for 2 s instead of"),
    ],
)
def test_the_standard_half_is_judged_by_what_it_did(
    tmp_path: Path, standard: str, status: str, summary: str
) -> None:
    case = made_up(tmp_path, standard=standard)
    assert case["exit_code"] == 0
    assert case["standard"]["status"] == status
    assert summary in case["standard"]["summary"]


def test_what_the_standard_half_leaks_is_reported_and_removed(tmp_path: Path) -> None:
    case = made_up(tmp_path, standard=LEAKS + LINGERS)
    (segment,) = case["standard"]["left_segments"]
    assert segment in case["standard"]["stdout"]
    assert not (SHARED_MEMORY / segment).exists()
    (survivor,) = case["standard"]["left_processes"]
    pid = re.findall(r"lingers (\d+)", case["standard"]["stdout"])[0]
    assert survivor.startswith(f"{pid} (")
    assert status_of(int(pid))[0] in "XZ"


def test_shared_memory_of_other_programs_stays(tmp_path: Path) -> None:
    # It appears while the program runs, but no process of the run maps it and nothing prints its name.
    theirs = SHARED_MEMORY / f"forkless-test-{os.getpid()}"
    program = tmp_path / "program.py"
    program.write_text(
        f"import pathlib; pathlib.Path({str(SHARED_MEMORY)!r}, 'forkless-test-%d').touch()" % os.getpid()
    )
    try:
        half = run(program, [], limit=PATIENCE)
        assert theirs.exists()
        assert (half.exit_code, half.left_segments) == (0, ())
    finally:
        theirs.unlink(missing_ok=True)


def test_what_fills_the_output_is_cut(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("import sys\nfor n in range(100_000): print('line', n, file=sys.stderr)")
    half = run(program, [], limit=PATIENCE)
    assert half.stderr_lines == 100_000
    assert half.stderr.endswith("line 99999\n")
    assert len(half.stderr) <= 8_192


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_the_gallery_and_what_it_runs(tmp_path: Path, number: signal.Signals) -> None:
    place = tmp_path / BROKEN
    place.mkdir()
    # Busy, so that it is not found to hang before the signal comes.
    busy = LINGERS + f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))\nwhile True: pass"
    (place / "standard.py").write_text(busy)
    (place / "with_forkless.out").write_text("")
    environ = {"FORKLESS_GALLERY_PROGRAMS": str(tmp_path)}
    arguments = ("gallery", "--only", BROKEN, "--timeout", "600")
    with Program(COMMAND, *arguments, how="command", environ=environ) as program:
        assert eventually(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text() != "")
        program.signal(number)
        outcome = program.finish(grace=0)
    expected = 130 if number == signal.SIGINT else 128 + number
    assert (outcome.exit_code, outcome.survivors) == (expected, ()), f"{outcome}"
    assert "Traceback" not in outcome.stderr


# For people.


def test_the_table_fits() -> None:
    slugs = ("start-method-twice", "context-mismatch", "refcount-copy")
    outcome = gallery("--no-memory", *(argument for slug in slugs for argument in ("--only", slug)))
    lines = outcome.check().splitlines()
    assert max(map(len, lines)) <= 100
    assert not [line for line in lines if "\x1b" in line or "\r" in line]
    assert lines[0].startswith("forkless ")
    assert "forkless keeps 3 of 3 promises; under " in outcome.stdout
    assert re.search(r"^ +10?,000,000 integers, in MB +RSS +PSS +USS +private dirty$", outcome.stdout, re.M)


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_colour_is_for_terminals(tmp_path: Path, no_color: str, coloured: bool) -> None:
    place = tmp_path / BROKEN
    place.mkdir()
    for name in ("standard.py", "with_forkless.py"):
        (place / name).write_text("print('fine')")
    (place / "with_forkless.out").write_text("fine\n")
    environ = {
        **os.environ,
        "FORKLESS_GALLERY_PROGRAMS": str(tmp_path),
        "NO_COLOR": no_color,
        "TERM": "xterm",
    }
    ours, terminal = pty.openpty()
    command = [sys.executable, "-m", "forkless", "gallery", "--only", BROKEN]
    with subprocess.Popen(command, env=environ, stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        shown = b""
        with suppress(OSError):  # how Linux says that the other end of a terminal is closed
            while piece := os.read(ours, 1 << 16):
                shown += piece
        os.close(ours)
    assert process.returncode == 0, shown
    assert (b"\x1b[" in shown) is coloured
    assert b"running start-method-twice" in shown


def test_explain_shows_all_programs() -> None:
    for trap in TRAPS:
        text = gallery("--explain", trap.slug).check()
        assert max(map(len, text.splitlines())) <= 110
        assert trap.why in text
        assert trap.instead in text
        for case in trap.cases:
            for half in ("standard", "with_forkless"):
                assert f"# {trap.file(half, case)}" in text
        for name in trap.page:
            assert f"# {trap.slug}/{name}, of the memory page" in text
        assert "import multiprocessing as mp" in text
        assert "import forkless as mp" in text


def test_a_command_line_that_makes_no_sense() -> None:
    for arguments in (["--only", "nonsense"], ["--timeout", "0"], ["--timeout", "x"], ["--items", "7"]):
        outcome = gallery(*arguments)
        assert (outcome.exit_code, outcome.stdout) == (2, "")
        assert "forkless gallery: error: argument" in outcome.stderr


def test_the_version() -> None:
    text = run_program(COMMAND, "--version", how="command").check()
    assert re.fullmatch(r"forkless \d+\.\d+\.\d+\S* \(CPython 3\.\d+\.\d+\S*\)\n", text)


def test_no_command_is_an_error() -> None:
    outcome = run_program(COMMAND, how="command")
    assert outcome.exit_code == 2
    assert "required: COMMAND" in outcome.stderr


def test_a_reader_that_leaves_early_is_no_error() -> None:
    script = f"{sys.executable} -m forkless gallery --explain reentrant-queue | head -n 1"
    outcome = run_program(f"import os; os.system({script!r})", how="command")
    assert outcome.check().startswith("reentrant-queue")
    assert outcome.stderr == ""


# The programs, and the language of their expected output.


def test_every_program_belongs_to_a_case() -> None:
    folder = Path(sys.modules["forkless._gallery"].__path__[0]) / "programs"
    expected = {
        trap.file(half, case)
        for trap in TRAPS
        for case in trap.cases
        for half in ("standard", "with_forkless")
    }
    pages = {f"{trap.slug}/{name}" for trap in TRAPS for name in trap.page}
    assert pages == {str(path.relative_to(folder)) for path in folder.glob("*/memory_*.py")}
    assert {way.program for way in WAYS} < pages
    found = {str(path.relative_to(folder)) for path in folder.glob("*/*.py")}
    assert {path for path in found if "standard" in path or "with_forkless" in path} == expected
    for path in expected:
        text = (folder / path).read_text()
        assert ("__name__ ==" in text) is ("/standard" in path and "unguarded" not in path)
        assert ("import forkless as mp" in text) is ("with_forkless" in path)
        assert ("multiprocessing" in text) is ("standard" in path)


def test_the_halves_are_the_same_program() -> None:
    folder = Path(sys.modules["forkless._gallery"].__path__[0]) / "programs"
    for trap in TRAPS:
        if trap.slug in ("refcount-copy", "shared-memory-leak", "pool-in-pool-deadlock"):
            continue  # data is shared in other ways there, and executors are of another module
        for case in trap.cases:
            standard, forkless = (
                sorted(
                    line.strip()
                    for line in (folder / trap.file(half, case)).read_text().splitlines()
                    if line.strip() and "__name__" not in line
                )
                for half in ("standard", "with_forkless")
            )
            assert sorted(
                "import forkless as mp" if "multiprocessing as mp" in line else line for line in standard
            ) == (forkless)


def test_the_language_of_expected_output() -> None:
    assert pattern("put <n> of <n> (<#>)\n").fullmatch("put 7 of 7 (8)\n")
    assert not pattern("put <n> of <n>\n").fullmatch("put 7 of 8\n")
    assert pattern("a\n...\nb\n").fullmatch("a\nx\ny\nb\n")
    assert not pattern("a\n...\nb\n").fullmatch("a\nx\n")
    assert not pattern("a.c\n").fullmatch("abc\n")


def test_a_half_finds_what_was_printed() -> None:
    half = Half("x/y.py", "exit", 0, None, 0.1, "child exit code: -9\nchild exit code: 4\n", "", 0, (), ())
    assert [(child.exit_code, child.signal) for child in half.children] == [(-9, "SIGKILL"), (4, None)]
