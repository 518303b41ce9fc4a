"""Runs test cases in processes of their own and holds their outcomes against what is expected."""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from support import Outcome, run_program

from .expected import DIFFERENT, NAMES, NOT_RUN, NOT_THERE, SLOW

TESTS = str(Path(__file__).resolve().parent.parent)
CASE_LIMIT = 240.0  # seconds
TEST_LIMIT = 60.0
SLOW_TOO = "FORKLESS_CONFORMANCE_SLOW"


@dataclass
class Verdict:
    """What came of one test case under one start method.

    Attributes:
        case: The class.
        method: The start method.
        passed: Tests that passed, as they should.
        skipped: Tests that CPython skips here.
        missing: Tests that need what forkless does not have yet, with the reason.
        different: Tests that failed as expected, with the reason.
        left_out: Tests that are not run, with the reason.
        wrong: What should not be, in words.
        seconds: How long each test took.
    """

    case: str
    method: str
    passed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    different: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        counts = (
            f"{len(self.passed)} passed",
            f"{len(self.skipped)} skipped",
            f"{len(self.missing)} not there yet",
            f"{len(self.different)} different",
            f"{len(self.left_out)} not run",
        )
        return f"{self.case} [{self.method}]: {', '.join(counts)} in {sum(self.seconds.values()):.1f} s"


def judge(case: str, method: str, module: str, slow: bool = False, limit: float = TEST_LIMIT) -> Verdict:
    """Runs a test case to its end, over hangs and crashes.

    Args:
        case: The class.
        method: The start method.
        module: Where it is, below `conformance`.
        slow: Run the slow tests too.
        limit: How long a test may take, in seconds.

    Returns:
        The verdict; everything is fine if nothing is wrong.
    """
    verdict = Verdict(case, method)
    verdict.left_out = {test: why for test, why in NOT_RUN.items() if test.startswith(f"{case}.")}
    lazy = [test for test, methods in SLOW.items() if test.startswith(f"{case}.") and method in methods]
    done = [] if slow else lazy
    verdict.left_out.update(dict.fromkeys(done, f"slow: set {SLOW_TOO}=1"))
    with tempfile.TemporaryDirectory(prefix="forkless-conformance-") as folder:
        while True:
            report = Path(folder) / f"report-{len(done)}"
            report.touch()
            outcome = _run("main", method, module, case, str(report), str(limit), *done)
            lines = [json.loads(line) for line in report.read_text(encoding="utf-8").splitlines()]
            ended = {line["test"]: line for line in lines if "outcome" in line}
            for line in ended.values():
                _weigh(verdict, line["test"], line["outcome"], line["detail"])
                verdict.seconds[line["test"]] = line["seconds"]
            broken = [line["test"] for line in lines if line["test"] not in ended]
            for test in broken:
                _weigh(verdict, test, "failed", f"it ended or hung the process\n{outcome}")
            done += [*ended, *broken]
            if not broken:
                break
    if (outcome.exit_code, outcome.survivors) != (0, ()) or "left by" in outcome.stderr:
        verdict.wrong.append(f"{case} [{method}]: {outcome}")
    return verdict


def is_slow(case: str, method: str) -> bool:
    """Whether a whole test case is run only on request."""
    return method in SLOW.get(case, ())


def cases(module: str) -> list[str]:
    """The names of all test cases that there are on this Python."""
    return _run("names", module).check().split()


def environment() -> dict[str, str]:
    """What lets a program find this package."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, (TESTS, os.environ.get("PYTHONPATH"))))}


def _run(what: str, *arguments: str) -> Outcome:
    source = f"import sys\nfrom conformance.run import {what}\n{what}(*sys.argv[1:])\n"
    return run_program(source, *arguments, timeout=CASE_LIMIT, environ=environment())


def _weigh(verdict: Verdict, test: str, outcome: str, detail: str) -> None:
    known = DIFFERENT.get(test)
    lacks = re.search(r"AttributeError: forkless has no (\w+) yet", detail)
    label = f"{test} [{verdict.method}, Python {sys.version_info.major}.{sys.version_info.minor}]"
    if lacks and lacks[1] in NAMES:
        verdict.missing[test] = f"{lacks[1]}: {NAMES[lacks[1]]}"
    elif outcome == "failed" and known:
        verdict.different[test] = known
    elif outcome == "failed":
        verdict.wrong.append(f"{label} failed:\n{detail}")
    elif outcome == "passed" and known:
        verdict.wrong.append(f"{label} passed, but is listed as different: {known}")
    elif outcome == "passed":
        verdict.passed.append(test)
    elif detail.startswith(NOT_THERE):
        verdict.missing[test] = detail.removeprefix(NOT_THERE)
    else:
        verdict.skipped.append(test)
