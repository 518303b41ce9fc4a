"""Queues are used in the middle of their own operations: by finalisers, weakref callbacks, signal handlers.

FORKLESS_TEST_SECONDS=30 is the long version; `reentrant` has the program.
"""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest
import reentrant
from support import run_program

SECONDS = float(os.environ.get("FORKLESS_TEST_SECONDS") or 1)

pytestmark = pytest.mark.timeout(500 + 2 * SECONDS)

KINDS = [
    pytest.param(kind, maxsize, many, id=f"{kind}-{maxsize or 'unbounded'}{'-many' if many else ''}")
    for kind in ("Queue", "JoinableQueue", "SimpleQueue")
    for maxsize in (0, 3)
    for many in (False, True)
    if not (kind == "SimpleQueue" and maxsize)
]


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize(("kind", "maxsize", "many"), KINDS)
def test_every_item_comes_once(kind: str, maxsize: int, many: bool, processes: int) -> None:
    source = f"""
import sys
sys.path.insert(0, {str(Path(__file__).resolve().parent)!r})
import reentrant
print(dict(reentrant.main({kind!r}, {maxsize}, {many}, {processes}, {SECONDS})))
"""
    outcome = run_program(source, timeout=400 + 1.5 * SECONDS)
    counts = ast.literal_eval(outcome.check())
    assert outcome.stderr == "", "what goes wrong in a finaliser or a callback is only printed"
    print(counts)
    for what in (*reentrant.KINDS, "items"):
        assert counts.get(what, 0) >= reentrant.ENOUGH, counts
