"""The core's crash points, for tests that have processes die at them."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from forkless import _forkless
from support import Outcome

needs_points = pytest.mark.skipif(
    not _forkless.HAS_CRASH_POINTS, reason="crash points are in debug builds only"
)

CRATES = Path(__file__).resolve().parent.parent / "crates"


def points(*patterns: str) -> list[str]:
    """The names of all crash points in some files of the core."""
    files = [path for pattern in patterns for path in CRATES.glob(pattern)]
    assert files, patterns
    return sorted({name for path in files for name in re.findall(r'\bpoint\("([\w.]+)"\)', path.read_text())})


def deaths(outcome: Outcome) -> Counter[str]:
    """How many processes have died at which point."""
    return Counter(re.findall(r"^process \d+ dies at (\S+)$", outcome.stderr, re.MULTILINE))
