"""Runs one of CPython's test cases in this process, and writes down what comes of each test as it happens."""

from __future__ import annotations

import faulthandler
import importlib
import json
import multiprocessing
import os
import sys
import time
import traceback
import unittest
from typing import Any

GRACE = 60.0  # seconds for children to end after the last test

Test = Any  # a test case, or what stands for the fixture of a class
ExcInfo = Any  # what unittest passes around as `sys.exc_info()`


class Report(unittest.TestResult):
    """Writes a line of JSON when a test begins, and one when its outcome is known."""

    def __init__(self, path: str, limit: float) -> None:
        super().__init__()
        self._limit = limit
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - until this process ends
        self._outcome, self._detail = "", ""

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().startTest(test)
        self._outcome, self._detail, self._began = "passed", "", time.monotonic()
        self._write(test=name_of(test))
        # Nothing can be trusted after a hang: print the stacks and end. Our parent goes on after this test.
        faulthandler.dump_traceback_later(self._limit, exit=True)

    def stopTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        faulthandler.cancel_dump_traceback_later()
        super().stopTest(test)
        self._write(
            test=name_of(test),
            outcome=self._outcome,
            detail=self._detail,
            seconds=round(time.monotonic() - self._began, 3),
        )

    def addSkip(self, test: Test, reason: str) -> None:  # noqa: N802
        self._note(test, "skipped", reason)

    def addFailure(self, test: Test, err: ExcInfo) -> None:  # noqa: N802
        self._note(test, "failed", "".join(traceback.format_exception(*err)))

    addError = addFailure  # noqa: N815

    def addSubTest(  # noqa: N802
        self, test: unittest.TestCase, subtest: unittest.TestCase, err: ExcInfo | None
    ) -> None:
        if err is not None:
            self.addFailure(test, err)

    def _note(self, test: Test, outcome: str, detail: str) -> None:
        if isinstance(test, unittest.TestCase):
            if self._outcome != "failed":  # a cleanup may fail as well, or skip after a failure
                self._outcome, self._detail = outcome, detail
        else:  # not a test but what was to prepare the class
            self._write(test=name_of(test), outcome=outcome, detail=detail, seconds=0.0)

    def _write(self, **line: object) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()


def name_of(test: Test) -> str:
    """`Class.test`; for the fixtures of a class `Class.setUpClass`."""
    if isinstance(test, unittest.TestCase):
        return f"{type(test).__name__}.{test._testMethodName}"
    fixture, _, name = test.id().rstrip(")").partition(" (")
    return f"{name.rpartition('.')[2]}.{fixture}"


def main(method: str, module: str, case: str, report: str, limit: str, *done: str) -> None:
    """Runs a test case, and ends this process.

    Args:
        method: The start method.
        module: Where the class is, below `conformance`.
        case: Its name.
        report: The file to write to. The tests run in its folder.
        limit: How long a test may take, in seconds.
        *done: Tests to leave out.
    """
    os.chdir(os.path.dirname(report))
    multiprocessing.set_start_method(method, force=True)
    suite = importlib.import_module(f"conformance.{module}")
    # As CPython does: importing it takes longer than most tests.
    multiprocessing.set_forkserver_preload([f"conformance.{module}"])
    kind = getattr(suite, case)
    names = unittest.defaultTestLoader.getTestCaseNames(kind)
    tests = [kind(name) for name in names if f"{case}.{name}" not in done]
    unittest.TestSuite(tests).run(Report(report, float(limit)))
    # What was shut down without waiting may take a moment.
    deadline = time.monotonic() + GRACE
    for child in multiprocessing.active_children():
        child.join(max(0.0, deadline - time.monotonic()))
        if child.is_alive():
            print(f"left by {case}: {child}", file=sys.stderr)
            child.kill()


def names(module: str, *_: str) -> None:
    """Prints the names of all test cases in a module."""
    multiprocessing.set_start_method("spawn", force=True)
    found = vars(importlib.import_module(f"conformance.{module}"))
    cases = [n for n, v in found.items() if isinstance(v, type) and issubclass(v, unittest.TestCase)]
    print(*cases, sep="\n")
