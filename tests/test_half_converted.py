"""Objects of `multiprocessing` meet those of forkless: what docs/half-converted.md says of it is true."""

from __future__ import annotations

import copy
import json
import multiprocessing
import pickle
import re
from pathlib import Path
from typing import Any

import forkless
import halves
import pytest
import side_by_side
from support import run_program

TESTS = Path(__file__).resolve().parent
PAGE = (TESTS.parent / "docs" / "half-converted.md").read_text()
PROGRAM = """
import sys
from {module} import main
if __name__ == "__main__":
    main(*sys.argv[1:])
"""


def table(heading: str) -> dict[str, list[str]]:
    """A table of the page: the cells of each row, by its first one."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in rows}


GIVEN_TO_US = table("Objects of multiprocessing, given to forkless")
GIVEN_TO_THEM = table("Objects of forkless, given to multiprocessing")
SIDE_BY_SIDE = table("The libraries side by side")


def holds(cell: str, outcome: str, said: str = "") -> bool:
    """Whether a cell of the page is true: it works, or it is refused with these words.

    Args:
        cell: "works", or "refused: " and words of the message; alternatives after "or".
        outcome: what became of it.
        said: what was written to standard error.
    """
    if cell == "works":
        return outcome == "works"
    expected = cell.removeprefix("refused: ").replace("`", "")
    # Pages say `get()`; and where something is to be made is the same everywhere.
    return outcome not in ("works", "not seen") and expected in f"{outcome}\n{said}"


def outcomes(*arguments: str) -> list[list[str]]:
    result = run_program(
        PROGRAM.format(module="halves"), *arguments, timeout=550, environ={"PYTHONPATH": str(TESTS)}
    )
    return [json.loads(line) for line in result.check().splitlines()]


def test_the_page_names_every_kind() -> None:
    ours_only = {f"`{kind}`" for kind in halves.OURS_ONLY}
    everything = {f"`{kind}`" for kind in halves.KINDS}
    assert set(GIVEN_TO_THEM) == everything
    assert set(GIVEN_TO_US) == everything - ours_only
    assert set(SIDE_BY_SIDE) == set(side_by_side.ROWS)
    cells = [
        cell for rows in (GIVEN_TO_US, GIVEN_TO_THEM, SIDE_BY_SIDE) for row in rows.values() for cell in row
    ]
    assert all(re.fullmatch("works|refused: .+", cell) for cell in cells)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_objects_of_multiprocessing(method: str) -> None:
    seen = outcomes("forkless", method, *halves.PLACES)
    assert len(seen) == len(GIVEN_TO_US) * len(halves.PLACES)
    wrong = [each for each in seen if not holds(GIVEN_TO_US[f"`{each[1]}`"][0], *each[2:])]
    assert not wrong, wrong


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("method", "places"),
    [
        ("fork", ["process"]),
        ("fork", ["queue", "pool", "executor"]),
        ("spawn", ["process", "initializer", "pool", "executor"]),
        ("spawn", ["queue", "pipe", "manager"]),
        ("forkserver", ["process", "queue", "pipe", "manager", "pool", "executor"]),
    ],
)
def test_objects_of_forkless(method: str, places: list[str]) -> None:
    column = 0 if (method, places) == ("fork", ["process"]) else 1
    seen = outcomes("multiprocessing", method, *places)
    assert len(seen) == len(GIVEN_TO_THEM) * len(places)
    wrong = [each for each in seen if not holds(GIVEN_TO_THEM[f"`{each[1]}`"][column], *each[2:])]
    assert not wrong, wrong


@pytest.mark.parametrize("name", side_by_side.ROWS)
def test_side_by_side(name: str) -> None:
    program = PROGRAM.format(module="side_by_side")
    result = run_program(program, name, environ={"PYTHONPATH": str(TESTS)})
    assert (result.exit_code, result.survivors) == (0, ()), f"{result}"
    assert holds(SIDE_BY_SIDE[name][0], result.stdout.strip(), result.stderr), f"{result}"


def test_what_is_on_its_way_is_held_until_it_is_taken() -> None:
    from forkless import _strangers

    queue: Any = multiprocessing.get_context("spawn").Queue()
    before = dict(_strangers._held)
    pickled = pickle.dumps(forkless.Lock())
    held: Any
    (held,) = (obj for key, obj in _strangers._held.items() if key not in before)
    assert pickle.loads(pickled).handle == held.handle
    process = multiprocessing.get_context("spawn").Process(target=hold_until_told, args=(held, queue))
    process.start()
    assert queue.get() == "holding"
    for _ in range(2 + len(before)):
        pickle.dumps(held_elsewhere := forkless.Event())
    assert held not in _strangers._held.values()
    assert held_elsewhere in _strangers._held.values()
    held.release()
    process.join()
    queue.close()
    queue.join_thread()


def hold_until_told(lock: Any, queue: Any) -> None:
    lock.acquire()
    queue.put("holding")
    lock.acquire()


def test_a_thousand_are_held_at_most() -> None:
    from forkless import _strangers

    for _ in range(1500):
        pickle.dumps(forkless.Event())
    assert len(_strangers._held) == 1000
    _strangers._held.clear()


def test_a_copy_of_what_all_have_is_the_same() -> None:
    for obj in (forkless.Lock(), forkless.Event(), forkless.Queue()._channel, forkless.share(b"bytes")):
        assert copy.copy(obj) is obj
        assert copy.deepcopy([obj])[0] is obj
