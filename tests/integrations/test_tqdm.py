"""tqdm: bars over what pools and executors do, and bars in workers."""

from __future__ import annotations

import os
import pickle
from typing import Any

import forkless
import pytest
from libraries import needs
from support import run_program

tqdm = needs("tqdm")
concurrent = needs("tqdm.contrib.concurrent")


def square(number: int) -> tuple[int, int]:
    return number * number, os.getpid()


def check(found: Any) -> None:
    assert [result for result, _ in found] == [n * n for n in range(20)]
    assert os.getpid() not in dict(found).values()


def test_a_bar_over_results(capsys: pytest.CaptureFixture[str]) -> None:
    with forkless.Executor(2) as executor:
        check(list(tqdm.tqdm(executor.map(square, range(20)), total=20)))
    assert "100%" in capsys.readouterr().err
    with forkless.Pool(2) as pool:
        check(list(tqdm.tqdm(pool.imap(square, range(20)), total=20)))
    assert "20/20" in capsys.readouterr().err


def test_process_map_with_the_executor(capsys: pytest.CaptureFixture[str]) -> None:
    # What `process_map` is made of; it takes no executor itself.
    check(
        concurrent._executor_map(forkless.Executor, square, range(20), max_workers=2, _lock=forkless.RLock())
    )
    assert "20/20" in capsys.readouterr().err


def test_a_lock_of_multiprocessing_is_refused_by_name() -> None:
    with pytest.raises(pickle.PicklingError, match=r"use forkless\.RLock"):
        concurrent._executor_map(forkless.Executor, square, range(20), max_workers=2, lock_name="mp_lock")


def test_bars_in_workers_take_turns() -> None:
    source = """
import forkless
from tqdm import tqdm

def work(position):
    for _ in tqdm(range(50), desc=f"job {position}", position=position, mininterval=0):
        pass
    return position

tqdm.set_lock(forkless.RLock())
with forkless.Pool(2, initializer=tqdm.set_lock, initargs=(tqdm.get_lock(),)) as pool:
    print(pool.map(work, range(4), chunksize=1))
"""
    outcome = run_program(source)
    assert outcome.check() == "[0, 1, 2, 3]\n"
    for position in range(4):
        assert f"job {position}: 100%" in outcome.stderr
