"""`python -m conformance [CASE ...]`: runs the test cases on this Python and prints a table."""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from support import hear_interrupts

from .expected import INTERNAL_CASES, METHODS, is_slow, methods_of
from .judge import Judge, Verdict
from .table import MODULES, TARGET, Summary, table_of

SHOWN_FROM = 4.0  # seconds that a test took


def main() -> int:
    """Prints a line for each test case and start method; what is wrong goes to standard error."""
    options = _parser().parse_args()
    hear_interrupts()
    began = time.monotonic()
    summary = Summary(standard=options.standard)
    with tempfile.TemporaryDirectory(prefix="forkless-conformance-") as folder:
        judge = Judge(Path(folder), standard=options.standard, slow=options.slow)
        runs = _runs(judge, options)
        print(f"Python {platform.python_version()}: {len(runs)} runs of a test case", flush=True)
        with ThreadPoolExecutor(options.jobs) as executor:
            for verdict in executor.map(lambda run: judge.judge(*run), runs):
                _show(verdict, why=options.why)
                summary.add(verdict)
    summary.seconds = time.monotonic() - began
    if options.json:
        summary.write(options.json)
    print(table_of([summary]))
    return int(summary.wrong > 0 or summary.percent < TARGET)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="conformance", description="CPython's own tests, on forkless")
    parser.add_argument("--slow", action="store_true", help="run the slow tests too")
    parser.add_argument("--standard", action="store_true", help="run them on the standard library instead")
    parser.add_argument("--method", choices=METHODS, help="one start method only")
    parser.add_argument("--why", action="store_true", help="show each test that did not run or pass")
    parser.add_argument("--jobs", type=int, default=2, help="how many cases to run at a time")
    parser.add_argument("--json", type=Path, help="write the outcome of each test to a file")
    parser.add_argument("case", nargs="*", help="all, if none is given")
    return parser


def _runs(judge: Judge, options: argparse.Namespace) -> list[tuple[str, str, str]]:
    """What to run: case, start method, module."""
    return [
        (case, method, module)
        for module in MODULES
        for case in judge.cases(module)
        for method in methods_of(case)
        if case in (options.case or [case])
        and case not in INTERNAL_CASES
        and method == (options.method or method)
        and (options.slow or not is_slow(case, method))
    ]


def _show(verdict: Verdict, *, why: bool) -> None:
    print(verdict, flush=True)
    if why:
        for word, reasons in (("skipped", verdict.skipped), ("failed", verdict.failed)):
            for test, reason in reasons.items():
                print(f"    {word} {test}: {(reason.strip().splitlines() or [''])[-1]}", flush=True)
        for test, seconds in verdict.seconds.items():
            if seconds > SHOWN_FROM:
                print(f"    {test}: {seconds:.1f} s", flush=True)
    for line in verdict.wrong:
        print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
