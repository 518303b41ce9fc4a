"""Packages that know nothing of forkless, unchanged, under `python -m forkless`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from libraries import needs
from support import run_program

pytestmark = pytest.mark.timeout(180)

INSTALLED = (sys.executable, "-m", "forkless")


def test_dill_is_imported_and_its_pickles_travel() -> None:
    needs("dill")
    source = """
import multiprocessing
import dill
def call(pickled, argument):
    return dill.loads(pickled)(argument)
if __name__ == "__main__":
    with multiprocessing.Pool(1) as pool:
        print(pool.apply(call, (dill.dumps(lambda number: number * 3), 7)))
"""
    assert run_program(source, python=INSTALLED, timeout=60).check() == "21\n"


def test_pebble_runs_stops_and_replaces_its_processes() -> None:
    needs("pebble")
    source = """
import os, time
from concurrent.futures import TimeoutError
from pebble import ProcessExpired, ProcessPool
def double(number):
    return 2 * number
if __name__ == "__main__":
    with ProcessPool(max_workers=2) as pool:
        print(list(pool.map(double, range(5)).result()))
        try:
            pool.schedule(time.sleep, args=[600], timeout=0.2).result()
        except TimeoutError:
            print("too late")
        try:
            pool.schedule(os._exit, args=[7]).result()
        except ProcessExpired as error:
            print("ended with", error.exitcode)
    # Whoever does not stop a pool leaves it to an exit handler of pebble's.
    left = ProcessPool(max_workers=1)
    print(left.schedule(double, args=[4]).result())
"""
    outcome = run_program(source, python=INSTALLED, timeout=120)
    assert outcome.check() == "[0, 2, 4, 6, 8]\ntoo late\nended with 7\n8\n", outcome.stderr


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_coverage_measures_processes_and_workers(method: str, tmp_path: Path) -> None:
    needs("coverage")
    (tmp_path / "program.py").write_text(f"""
import multiprocessing
def in_a_process():
    print("process", flush=True)
def in_a_worker(number):
    return number
if __name__ == "__main__":
    multiprocessing.set_start_method({method!r})
    child = multiprocessing.Process(target=in_a_process)
    child.start()
    child.join()
    pool = multiprocessing.Pool(1)
    print(pool.map(in_a_worker, [1, 2]))
    pool.close()
    pool.join()
""")
    (tmp_path / ".coveragerc").write_text("[run]\nconcurrency = multiprocessing\nparallel = true\n")

    def call(*command: str) -> str:
        return subprocess.run(
            [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120
        ).stdout

    assert call("-m", "forkless", "-m", "coverage", "run", "program.py") == "process\n[1, 2]\n"
    call("-m", "coverage", "combine")
    report = call("-m", "coverage", "report", "--include", "program.py")
    assert report.splitlines()[-1].split() == ["TOTAL", "14", "0", "100%"]
