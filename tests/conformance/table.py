"""What came of all runs on one Python, and the table of several."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .judge import Verdict

MODULES = "suite", "futures"
TARGET = 98.0  # percent of the tests of public behaviour that are to pass


@dataclass
class Summary:
    """The outcome of each test, with what it wrote or why.

    Attributes:
        python: The version.
        standard: Whether this is the standard library itself.
        passed: By test and start method.
        failed: The same; what differs on purpose is among them.
        skipped: By the tests themselves, which say why.
        internals: Not run.
        wrong: How many failures nobody expects, and other things that should not be.
        processes: How many processes have shown that they run forkless.
        seconds: How long it took.
    """

    python: str = field(default_factory=platform.python_version)
    standard: bool = False
    passed: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    internals: dict[str, str] = field(default_factory=dict)
    wrong: int = 0
    processes: int = 0
    seconds: float = 0.0

    def add(self, verdict: Verdict) -> None:
        """Adds what came of one test case."""
        where = f" [{verdict.method}]"
        self.passed.update((test + where, "") for test in verdict.passed)
        for mine, found in (
            (self.failed, verdict.failed),
            (self.skipped, verdict.skipped),
            (self.internals, verdict.internals),
        ):
            mine.update((test + where, why) for test, why in found.items())
        self.wrong += len(verdict.wrong)
        self.processes += sum(verdict.evidence.values())

    @property
    def percent(self) -> float:
        """How many of the tests that were run, and do not skip themselves, pass."""
        return 100 * len(self.passed) / max(1, len(self.passed) + len(self.failed))

    def write(self, path: Path) -> None:
        """Writes it to a file."""
        path.write_text(json.dumps(asdict(self), indent=1))


def read(path: Path) -> Summary:
    """Reads what was written."""
    return Summary(**json.loads(path.read_text()))


def table_of(summaries: Sequence[Summary]) -> str:
    """A table in Markdown: a line for each Python."""
    lines = [
        "| Python | on | run | passed | failed | skipped | internals | percent | seconds |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for each in summaries:
        counts = [len(part) for part in (each.passed, each.failed, each.skipped, each.internals)]
        on = "the standard library" if each.standard else "forkless"
        cells = [
            each.python,
            on,
            counts[0] + counts[1],
            *counts,
            f"{each.percent:.1f}",
            f"{each.seconds:.0f}",
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main(paths: Sequence[str]) -> int:
    """Prints the table of what is in files."""
    summaries = [read(Path(path)) for path in paths]
    print(table_of(summaries))
    return int(any(each.wrong or each.percent < TARGET for each in summaries))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
