"""Shared memory of every kind, while those who make it, read it and send it are killed.

`sharing` has the work and the books. FORKLESS_TEST_SEGMENTS=10000 is the long version of the soak.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from crash_points import deaths, needs_points, points
from support import run_program

TOTAL = int(os.environ.get("FORKLESS_TEST_SEGMENTS") or 2000)

pytestmark = pytest.mark.timeout(1000 + TOTAL / 20)

HEAD = f"""
import sys
sys.path.insert(0, {str(Path(__file__).resolve().parent)!r})
import forkless
forkless.set_forkserver_preload(["sharing"])
import sharing
"""


def test_segments_come_and_go_while_processes_are_killed() -> None:
    seed = int(os.environ.get("FORKLESS_TEST_SEED") or random.randrange(2**32))
    print(f"FORKLESS_TEST_SEED={seed}")
    print(run_program(f"{HEAD}print(sharing.soak({seed}, {TOTAL}))", timeout=300 + TOTAL / 20).check())


@needs_points
def test_death_at_every_step_of_every_kind_of_segment() -> None:
    names = points(
        "forkless-ipc/src/buffer.rs",
        "forkless-ipc/src/memory.rs",
        "forkless-ipc/src/parcel.rs",
        "forkless-ipc/src/segment.rs",
        "forkless-shm/src/lease.rs",
        "forkless-shm/src/warm.rs",
        "forkless-shm/src/txn.rs",
    )
    outcome = run_program(
        f"""{HEAD}
# So that all that is dropped loses its pages at once, which takes more steps.
forkless.set_warm_memory(0)
for number, point in enumerate({names!r}):
    # So many passes, of which each of three points gets a third.
    start, step = (number % 3 + 1, 3) if point.startswith("arena.") else (1, 1)
    sharing.die_at(point, start, step)
""",
        timeout=900,
    )
    assert outcome.check() == "", outcome
    assert set(deaths(outcome)) == set(names), "a point that nobody has died at is not tested"
