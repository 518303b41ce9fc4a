"""`python -m conformance [CASE ...]`: runs the test cases on this Python and prints a table."""

from __future__ import annotations

import argparse
import platform
import sys

from .expected import METHODS, RUN, methods_of
from .judge import cases, is_slow, judge


def main() -> int:
    """Prints a line for each test case and start method; what is wrong goes to standard error."""
    parser = argparse.ArgumentParser(prog="conformance", description="CPython's own tests, on forkless")
    parser.add_argument("--slow", action="store_true", help="run the slow tests too")
    parser.add_argument("--method", choices=METHODS, help="one start method only")
    parser.add_argument("--why", action="store_true", help="show each test that did not run or pass")
    parser.add_argument("case", nargs="*", help="all, if none is given")
    options = parser.parse_args()
    print(f"Python {platform.python_version()}")
    wrong = 0
    found = {module: cases(module) for module in set(RUN.values())}
    for case, module in RUN.items():
        if case not in (options.case or found[module]):
            continue
        for method in methods_of(case):
            if method != (options.method or method) or (is_slow(case, method) and not options.slow):
                continue
            verdict = judge(case, method, module, options.slow)
            print(verdict, flush=True)
            if options.why:
                for reasons in (verdict.missing, verdict.different, verdict.left_out):
                    for test, reason in reasons.items():
                        print(f"    {test}: {reason}")
                for test, seconds in verdict.seconds.items():
                    if seconds > 2:
                        print(f"    {test}: {seconds:.1f} s")
            for line in verdict.wrong:
                print(line, file=sys.stderr)
            wrong += len(verdict.wrong)
    return min(wrong, 1)


sys.exit(main())
