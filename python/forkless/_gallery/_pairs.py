"""A case of a trap, run under the standard library and under forkless, and judged."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ._interpreters import Interpreter
from ._judge import Check, Observation, check, observe
from ._run import Half, run
from ._traps import Case, Trap
from ._watch import segments


@dataclass(frozen=True)
class Pair:
    """One case, run under both."""

    case: Case
    standard: Half
    observation: Observation
    forkless: Half
    checks: list[Check]

    @property
    def kept(self) -> bool:
        """Whether forkless keeps its promise."""
        return all(check.kept for check in self.checks)


def pairs(trap: Trap, python: Interpreter, items: int, timeout: float) -> Iterator[Pair]:
    """Runs all cases of a trap, one after the other.

    Args:
        trap: What to run.
        python: What runs the programs.
        items: How many integers `refcount-copy` uses.
        timeout: The time limit of each program, in seconds.

    Yields:
        What happened in each case.
    """
    for case in trap.cases:
        yield _pair(trap, case, python, items, timeout)


def _pair(trap: Trap, case: Case, python: Interpreter, items: int, timeout: float) -> Pair:
    """Runs both halves of a case and judges them."""
    arguments = [str(items)] if case.takes_items else []
    standard_path, forkless_path = (
        programs() / trap.file(half, case) for half in ("standard", "with_forkless")
    )
    expected = forkless_path.with_suffix(".out").read_text()
    limit = min(timeout, case.standard_limit or timeout)
    where = f"on {python.version}" + ("" if segments() is not None else " without /dev/shm")
    path = python.executable
    standard = run(standard_path, arguments, limit=limit, on_stdin=case.on_stdin, python=path)
    forkless = run(forkless_path, arguments, limit=timeout, on_stdin=case.on_stdin, python=path)
    return Pair(
        case,
        standard,
        observe(case, standard, expected, where),
        forkless,
        check(case, forkless, expected, items),
    )


def programs() -> Path:
    """The folder of the programs; the tests replace it."""
    return Path(os.environ.get("FORKLESS_GALLERY_PROGRAMS") or Path(__file__).with_name("programs"))
