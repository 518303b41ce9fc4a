"""Runs test cases in processes of their own and holds their outcomes against what is expected."""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from support import Outcome, run_program

from . import environment
from .expected import DIFFERENT, INTERNALS, SLOW, is_slow
from .guard import EVIDENCE

CASE_LIMIT = 800.0  # seconds
TEST_LIMIT = 120.0
SLOW_LIMIT = 300.0  # for a test of a slow run
SLOW_TOO = "FORKLESS_CONFORMANCE_SLOW"


@dataclass
class Verdict:
    """What came of one test case under one start method.

    Attributes:
        case: The class.
        method: The start method.
        passed: Tests that passed.
        skipped: Tests that skip themselves here, with the reason that they give.
        failed: Tests that failed, with what they wrote.
        internals: Tests of the standard library's insides, which are not run, with the reason.
        lazy: Tests that are only run on request.
        wrong: What should not be, in words.
        seconds: How long each test took.
        evidence: How many processes of which role were installed.
    """

    case: str
    method: str
    passed: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    internals: dict[str, str] = field(default_factory=dict)
    lazy: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    evidence: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        counts = (
            f"{len(self.passed)} passed",
            f"{len(self.failed)} failed",
            f"{len(self.skipped)} skipped",
            f"{len(self.internals)} internals",
            f"{len(self.lazy)} not run",
        )
        processes = f"{sum(self.evidence.values())} processes"
        seconds = sum(self.seconds.values())
        return f"{self.case} [{self.method}]: {', '.join(counts)} in {seconds:.1f} s and {processes}"


class Judge:
    """Runs test cases in an environment of its own.

    Args:
        folder: Where to make that.
        standard: Run them on the standard library: nothing is expected then, and nothing is wrong.
        slow: Run the slow tests too.
        limit: How long a test may take, in seconds.

    Attributes:
        python: The interpreter of that environment.
    """

    def __init__(
        self, folder: Path, *, standard: bool = False, slow: bool = False, limit: float | None = None
    ) -> None:
        self.python = environment.make(folder / "environment", standard=standard)
        self._standard = standard
        self._slow = slow
        self._limit = limit or (SLOW_LIMIT if slow else TEST_LIMIT)

    def cases(self, module: str) -> list[str]:
        """The names of all test cases that there are on this Python."""
        return self._run("names", module).check().split()

    def judge(self, case: str, method: str, module: str) -> Verdict:
        """Runs a test case to its end, over hangs and crashes.

        Args:
            case: The class.
            method: The start method.
            module: Where it is, below `conformance`.

        Returns:
            The verdict; everything is fine if nothing is wrong.
        """
        verdict = Verdict(case, method)
        verdict.internals = {test: why for test, why in INTERNALS.items() if test.startswith(f"{case}.")}
        lazy = [test for test in (*SLOW, *DIFFERENT) if test.startswith(f"{case}.") and is_slow(test, method)]
        verdict.lazy = [] if self._slow else lazy
        done = [*verdict.internals, *verdict.lazy]
        with tempfile.TemporaryDirectory(prefix="forkless-conformance-") as folder:
            evidence = Path(folder) / "evidence"
            evidence.touch()
            while True:
                report = Path(folder) / f"report-{len(done)}"
                report.touch()
                words = method, module, case, str(report), str(self._limit), *done
                outcome = self._run("main", *words, evidence=str(evidence))
                lines = [json.loads(line) for line in report.read_text(encoding="utf-8").splitlines()]
                ended = {line["test"]: line for line in lines if "outcome" in line}
                for line in ended.values():
                    self._weigh(verdict, line["test"], line["outcome"], line["detail"])
                    verdict.seconds[line["test"]] = line["seconds"]
                broken = [line["test"] for line in lines if line["test"] not in ended]
                for test in broken:
                    verdict.seconds[test] = self._limit
                    self._weigh(verdict, test, "failed", f"it ended or hung the process\n{outcome}")
                done += [*ended, *broken]
                if not broken:
                    break
            _hear(verdict, evidence.read_text())
        if (outcome.exit_code, outcome.survivors) != (0, ()) or "left by" in outcome.stderr:
            verdict.wrong.append(f"{case} [{method}]: {outcome}")
        if self._standard:
            verdict.wrong, verdict.evidence = [], Counter()
        return verdict

    def _run(self, what: str, *arguments: str, evidence: str = "/dev/null") -> Outcome:
        # With a guard for the standard library, which runs this in each child.
        source = (
            "import sys\n"
            "if __name__ == '__main__':\n"
            f"    from conformance.run import {what}\n"
            f"    {what}(*sys.argv[1:])\n"
        )
        environ = {EVIDENCE: evidence, "PYTHONPATH": ""}
        return run_program(source, *arguments, timeout=CASE_LIMIT, environ=environ, python=(self.python,))

    def _weigh(self, verdict: Verdict, test: str, outcome: str, detail: str) -> None:
        known = DIFFERENT.get(test)
        label = f"{test} [{verdict.method}, Python {sys.version_info.major}.{sys.version_info.minor}]"
        if outcome == "failed":
            verdict.failed[test] = detail
            if known is None:
                verdict.wrong.append(f"{label} failed:\n{detail}")
        elif outcome == "skipped":
            verdict.skipped[test] = detail
        else:
            verdict.passed.append(test)
            if known is not None and not known.sometimes:
                verdict.wrong.append(f"{label} passed, but is listed as different: {known.why}")


def _hear(verdict: Verdict, evidence: str) -> None:
    """What the processes of a case have said of themselves; see `guard`."""
    for line in evidence.splitlines():
        pid, _, words = line.partition(" ")
        role, _, what = words.partition(" ")
        if what == "forkless":
            verdict.evidence[role] += 1
        else:
            verdict.wrong.append(f"{verdict.case} [{verdict.method}]: process {pid} ({role}): {words}")
    if not verdict.evidence["program"]:
        verdict.wrong.append(f"{verdict.case} [{verdict.method}]: nothing shows that it ran on forkless")
