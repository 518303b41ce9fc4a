"""pytest-xdist beside it: suites that use pools, in several processes at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from libraries import needs
from support import Outcome, run_program

needs("xdist")

SUITE = """
import os
import forkless
import pytest

@pytest.fixture(scope="module")
def pool():
    with forkless.Pool(2) as pool:
        yield pool

@pytest.mark.parametrize("number", range(6))
def test_a_pool(pool, number):
    assert pool.map(lambda n: n * number, range(10)) == [n * number for n in range(10)]
    assert os.getpid() not in pool.map(os.getpgid, [0] * 4)

@pytest.mark.parametrize("number", range(6))
def test_an_executor(number, capfd):
    with forkless.Executor(2) as executor:
        assert executor.submit(print, "from a worker").result() is None
    assert capfd.readouterr().out == "from a worker\\n"

def test_a_process():
    child = forkless.Process(target=os._exit, args=(3,))
    child.start()
    child.join()
    assert child.exitcode == 3
"""

KILLED = (
    SUITE
    + """
def test_that_kills_its_worker(pool):
    pool.apply_async(__import__("time").sleep, (1000,))
    os.kill(os.getpid(), 9)
"""
)


def run(suite: str, directory: Path, *options: str) -> Outcome:
    (directory / "test_suite.py").write_text(suite)
    (directory / "pytest.ini").write_text("[pytest]\n")
    arguments = ["-p", "no:cacheprovider", "-n", "2", *options, str(directory)]
    return run_program(f"import sys, pytest; sys.exit(pytest.main({arguments!r}))")


@pytest.mark.parametrize("options", [(), ("--dist", "worksteal")])
def test_a_suite_that_uses_pools_passes(options: tuple[str, ...], tmp_path: Path) -> None:
    assert "13 passed" in run(SUITE, tmp_path, *options).check()


def test_a_worker_of_xdist_that_is_killed_takes_its_children_along(tmp_path: Path) -> None:
    outcome = run(KILLED, tmp_path)
    assert (outcome.exit_code, outcome.survivors) == (1, ())
    assert "13 passed" in outcome.stdout
    assert "crashed while running" in outcome.stdout
