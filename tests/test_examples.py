"""The examples do what they say."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import forkless
import pytest
from support import PATIENCE, Program, run_program

ROOT = Path(__file__).parents[1]
CENSUS = (ROOT / "examples" / "stdlib_census.py").read_text()
RUST_EXAMPLES = ROOT / "crates" / "forkless" / "examples"


def built(example: str) -> str:
    """Builds an example in Rust; the path of the program."""
    if shutil.which("cargo") is None:
        pytest.skip("cargo is not installed, and this example is half Rust")
    command = f"cargo build --quiet --locked -p forkless --example {example} --message-format=json"
    lines = subprocess.run(command.split(), cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    messages = [json.loads(line) for line in lines.splitlines()]
    programs = [m["executable"] for m in messages if m["reason"] == "compiler-artifact" and m["executable"]]
    assert len(programs) == 1, lines
    return str(programs[0])


def test_three_ways_to_count_agree() -> None:
    outcome = run_program(CENSUS, "--limit", "60", "--workers", "2")
    text = outcome.check()
    assert text.startswith("60 files of the standard library")
    assert "all three answers are the same" in text
    assert re.search(r"^most used names: self \(\d", text, re.M)
    assert re.search(r"^slowest file: .+\.py \(\d+\.\d\d s\)$", text, re.M)
    for way in ("this process alone", r"Pool\(2\)\.imap_unordered", r"Executor\(2\)\.submit and \.map"):
        assert re.search(rf"^  {way} +\d+\.\d s$", text, re.M)
    # The progress bar, where there is no terminal.
    assert re.fullmatch(r"parse: 60 of 60 in \d:\d\d\n", outcome.stderr)


def test_a_wrong_answer_is_noticed() -> None:
    wrong = CENSUS.replace("map(parse, paths[1::2]", "map(parse, paths[3::2]")
    assert wrong != CENSUS
    outcome = run_program(wrong, "--limit", "20", "--workers", "2")
    assert outcome.exit_code == 1
    assert "different from the first answer: Executor(2).submit and .map" in outcome.stdout


def test_a_crawl_goes_on_whatever_its_pages_do() -> None:
    program = (ROOT / "examples" / "crawl.py").read_text()
    outcome = run_program(program, "--timeout", "3")
    lines = outcome.check().splitlines()
    # The page that hangs is asked for three times; those that answered 503 twice. On a machine that stands
    # still for so long, others may be late, too.
    told = re.fullmatch(r"36 pages visited, 2 failed, (\d+) retries", lines[0])
    assert told is not None, lines
    assert int(told[1]) >= 7
    assert lines[1] == "most used words: next (37), process (36), memory (31)"
    assert re.match(r"visit\('http://.*/17'\) \(item \d+\) took longer than its time limit", lines[2])
    assert re.match(r"worker PoolWorker-\d+ .* was killed by SIGSEGV while it ran visit\(", lines[3])
    # The progress bars.
    assert re.search(r"^16 pages: 16 of 16 in \d:\d\d$", outcome.stderr, re.M)


def test_streams_are_closed_when_the_answer_is_good_enough() -> None:
    outcome = run_program((ROOT / "examples" / "estimate.py").read_text(), "--error", "0.01")
    *ends, answer = outcome.check().splitlines()
    assert sorted(ends) == ["stream 0 has ended", "stream 1 has ended"]
    assert re.fullmatch(r"pi is 3\.1\d\d, more or less 0\.010, after [\d,]+ points", answer)


def test_a_pool_is_not_what_rss_says(tmp_path: Path) -> None:
    program = (ROOT / "examples" / "memory_of_a_pool.py").read_text()
    picture = tmp_path / "memory.svg"
    outcome = run_program(program, "--plot", str(picture))
    lines = outcome.check().splitlines()
    workers = [line.split() for line in lines if line.split()[1:2] and "PoolWorker" in line.split()[1]]
    assert [row[2] for row in workers] == ["child"] * 4
    rss, uss, held = ([float(row[column]) for row in workers] for column in (3, 5, 9))
    # Each has the array, the words and its notes by RSS, its notes by USS, and the array held.
    assert min(rss) > 280 > 50 > max(uss) >= min(uss) > 20
    assert held == [200.0] * 4
    assert any(line.split()[:5] == ["messages", "on", "their", "way", "24.0"] for line in lines)
    assert "PoolWorker-4" in picture.read_text()


def test_a_server_answers_while_it_computes() -> None:
    outcome = run_program((ROOT / "examples" / "factor_server.py").read_text(), "--limit", "10")
    twos = " ".join(["2"] * 16)
    assert outcome.check().splitlines() == [
        f"1001: 7 11 13, 65536: {twos}, a dozen: is no number, 104729: 104729",
        f"{2**89 - 1}: is too hard",
        f"104729: 104729, a dozen: is no number, 65536: {twos}, 1001: 7 11 13",
    ]


PREFORK = (ROOT / "examples" / "prefork_server.py").read_text()
SMALL = ("--workers", "2", "--records", "2000")


@contextlib.contextmanager
def prefork_server(*arguments: str) -> Iterator[tuple[Program, str]]:
    """The pre-fork server while it serves, and its address."""
    with Program(PREFORK, *SMALL, "--port", "0", *arguments) as program:
        address = program.wait_for(r"http://\S+")
        yield program, address


def get(url: str) -> Any:
    with urlopen(url, timeout=PATIENCE) as response:
        return json.load(response)


@pytest.mark.parametrize("way", [[], ["--preload"], ["--share"], ["--fork"]])
def test_a_prefork_server_answers_until_it_is_told_to_end(way: list[str]) -> None:
    with prefork_server(*way) as (program, address):
        assert get(f"{address}/records/user-7") == {
            "number": 7,
            "name": "User 7",
            "mail": "user-7@example.org",
            "groups": [0, 7],
        }
        assert get(f"{address}/total")["total"] == sum(range(2000)) + 2 * 2000
        with pytest.raises(HTTPError, match="404"):
            get(f"{address}/records/nobody")
        program.signal(signal.SIGTERM)
        outcome = program.finish()
    assert outcome.check() == f"serving on {address} with 2 workers\n"
    assert outcome.stderr == ""


@pytest.mark.parametrize("way", [[], ["--preload"], ["--fork"]])
def test_a_prefork_server_ends_with_ctrl_c(way: list[str]) -> None:
    with prefork_server(*way) as (program, address):
        get(f"{address}/total")
        program.interrupt()
        outcome = program.finish()
    outcome.check()
    assert outcome.stderr == ""


@pytest.mark.parametrize("way", [[], ["--preload"], ["--share"]])
def test_a_prefork_server_replaces_workers(way: list[str]) -> None:
    with prefork_server(*way) as (program, address):
        killed = []
        for _ in range(2):
            killed.append(get(f"{address}/total")["worker"])
            os.kill(killed[-1], signal.SIGKILL)
            program.wait_for(f"worker {killed[-1]} was killed by SIGKILL: another takes its place")
        # Whoever answers, it is none of the dead; and requests that wait at once are all answered.
        with ThreadPoolExecutor(8) as clients:
            answers = list(clients.map(get, [f"{address}/total"] * 16))
        assert {answer["worker"] for answer in answers}.isdisjoint(killed)
        program.signal(signal.SIGTERM)
        outcome = program.finish()
    assert outcome.check().count("another takes its place") == 2


@pytest.mark.parametrize("way", [[], ["--preload"], ["--share"]])
def test_what_a_prefork_server_takes(way: list[str]) -> None:
    told = json.loads(run_program(PREFORK, *SMALL, *way, "--json").check())
    assert told["requests"] >= 2
    for when in ("before", "after"):
        together, own = told[when]
        assert together > own > 0


def test_prefork_servers_side_by_side() -> None:
    outcome = run_program(PREFORK, *SMALL, "--compare")
    _, _, *lines = outcome.check().splitlines()
    for title in ("each loads it itself", "fork", "forkless.preload", "forkless.share"):
        assert re.fullmatch(rf"{re.escape(title)}( +\d+\.\d){{4}}", lines.pop(0))
    assert not lines


@pytest.mark.parametrize(
    "name", ["pool", "executor", "aio", "_options", "_evidence", "_futures", "_setup", "_share"]
)
def test_examples_in_docstrings(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # some of them make files
    module = importlib.import_module(f"forkless.{name}")
    names = {
        each: importlib.import_module(each)
        for each in ("asyncio", "itertools", "math", "numpy", "sqlite3", "time")
    }
    globs = {"Pool": forkless.Pool, "Executor": forkless.Executor, **names, **vars(module)}
    outcome = doctest.testmod(
        module, globs=globs, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    assert outcome.attempted > 0
    assert outcome.failed == 0


# The first time, it is the build that takes long.
@pytest.mark.timeout(600)
def test_rust_and_python_count_together() -> None:
    program = built("with_python")
    outcome = run_program((RUST_EXAMPLES / "with_python.py").read_text(), program)
    assert outcome.check().splitlines() == [
        "Rust has counted 1000 times",
        "together they counted to 3000",
        "the Rust program died with the lock",
        "and Python has it now",
    ]


# Runs a program in any language.
CALL = "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))"


@pytest.mark.timeout(600)
def test_rust_starts_python() -> None:
    script = str(RUST_EXAMPLES / "start_python.py")
    outcome = run_program(CALL, built("start_python"), sys.executable, script)
    assert outcome.check().splitlines() == [
        "worker 1 ended: exit code 0",
        "worker 2 ended: exit code 0",
        "together they counted to 3000",
    ]


@pytest.mark.timeout(600)
def test_rust_and_python_ask_each_other_through_queues() -> None:
    script = str(RUST_EXAMPLES / "word_count.py")
    outcome = run_program(CALL, sys.executable, script, built("word_count"))
    lines = outcome.check().splitlines()
    refused = r"a message \(a pickle, \d+ bytes\) is no Option<Text>: it has an object of Python in "
    assert re.fullmatch(rf"Rust goes on after {refused}it, made by fractions\.Fraction", lines[0])
    assert lines[1:] == [
        "Rust has counted 4 words, 6.0 a line",
        "Rust has counted 4 words, 2.0 a line",
        "Rust has counted 0 words, 0.0 a line",
        "Rust ended: exit code 0",
        'Python has counted the words of "to be or not to be"',
        'Python has counted the words of "that is the question"',
        "Python ended: exit code 0",
    ]


@pytest.mark.timeout(600)
def test_what_rust_starts_is_a_program_like_any_other(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        """
import forkless as mp, pytest

lock = mp.inherited("lock")
with mp.Pool(2) as pool:
    assert pool.map(lambda n: n * n, range(4)) == [0, 1, 4, 9]
    pool.apply(lambda lock: lock.acquire() and lock.release(), (lock,))
with pytest.raises(LookupError, match='no object named "nothing"'):
    mp.inherited("nothing")
"""
    )
    outcome = run_program(CALL, built("start_python"), sys.executable, str(script))
    assert outcome.check().splitlines()[:2] == ["worker 1 ended: exit code 0", "worker 2 ended: exit code 0"]


# Kills it when it has said something.
KILL = """
import subprocess, sys
with subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE) as program:
    program.stdout.readline()
    program.kill()
"""


@pytest.mark.timeout(600)
def test_python_ends_with_the_rust_program_that_started_it(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        """
import forkless as mp, signal

mp.inherited("lock")
process = mp.Process(target=signal.pause)
process.start()
print("ready", flush=True)
process.join()
"""
    )
    outcome = run_program(KILL, built("start_python"), sys.executable, str(script))
    outcome.check()


def test_nothing_is_inherited_from_python() -> None:
    with pytest.raises(LookupError, match='no object named "lock" was passed'):
        forkless.inherited("lock")


def test_no_guard_anywhere() -> None:
    for path in [*(ROOT / "examples").glob("**/*.py"), *RUST_EXAMPLES.glob("*.py")]:
        assert "__name__" not in path.read_text(), path


def test_a_command_line_that_makes_no_sense() -> None:
    for program in (CENSUS, PREFORK):
        outcome = run_program(program, "--workers", "0")
        assert outcome.exit_code == 2
        assert "must be at least 1" in outcome.stderr
    assert run_program(CENSUS, "--limit", "0").exit_code == 2
    assert run_program(PREFORK, "--fork", "--preload").exit_code == 2
