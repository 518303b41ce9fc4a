"""CPython's own test cases, run from the installed interpreter with forkless in place of `multiprocessing`.

See the package `conformance`; `python -m conformance` in this folder prints the same as a table. With
FORKLESS_CONFORMANCE_SLOW=1 in the environment the slow tests run too.
"""

from __future__ import annotations

import importlib.util
import os

import forkless
import pytest
from conformance import expected
from conformance.judge import SLOW_TOO, cases, environment, is_slow, judge
from support import run_program

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("test") is None
        or importlib.util.find_spec("test._test_multiprocessing") is None,
        reason="this Python comes without its tests",
    ),
    pytest.mark.timeout(600),
]

Found = dict[str, list[str]]


@pytest.fixture(scope="session")
def found() -> Found:
    """The test cases that there are on this Python, by module."""
    return {module: cases(module) for module in sorted(set(expected.RUN.values()))}


@pytest.mark.parametrize(
    ("case", "method"), [(case, method) for case in expected.RUN for method in expected.methods_of(case)]
)
def test_case(case: str, method: str, found: Found) -> None:
    module = expected.RUN[case]
    if case not in found[module]:
        pytest.skip("this Python does not have these tests")
    slow_too = bool(os.environ.get(SLOW_TOO))
    if is_slow(case, method) and not slow_too:
        pytest.skip(f"slow; set {SLOW_TOO}=1 to run it")
    verdict = judge(case, method, module, slow_too)
    print(verdict)
    assert not verdict.wrong, "\n\n".join([str(verdict), *verdict.wrong])


def test_the_judge_survives_every_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(expected.DIFFERENT, "Specimens.test_passes", "for no reason")
    monkeypatch.setitem(expected.DIFFERENT, "Specimens.test_with_parts", "one of them")
    verdict = judge("Specimens", "forkserver", "specimens", limit=5)
    assert verdict.passed == []
    assert verdict.skipped == ["Specimens.test_skips"]
    assert list(verdict.missing) == ["Specimens.test_needs_what_is_missing"]
    assert list(verdict.different) == ["Specimens.test_with_parts"]
    dies, fails, hangs, passes = verdict.wrong
    assert "test_dies" in dies
    assert "ended with -9" in dies
    assert "AssertionError: on purpose" in fails
    assert "in test_hangs" in hangs, "the stack shows where"
    assert "passed, but is listed as different: for no reason" in passes


@pytest.mark.parametrize("method", expected.METHODS)
def test_parents_and_children_run_forkless(method: str) -> None:
    source = """
import forkless
from conformance.suite import cpython

def module_of_process():
    return cpython.multiprocessing.Process.__module__

forkless.set_start_method({method!r})
with cpython.multiprocessing.Pool(1) as pool:
    print(module_of_process(), pool.apply(module_of_process), pool.apply(cpython._afunc, (3,)))
"""
    outcome = run_program(source.format(method=method), environ=environment())
    assert outcome.check() == "forkless.process forkless.process 9\n"


def test_every_case_is_run_or_left_out_for_a_reason(found: Found) -> None:
    listed = {**expected.RUN, **expected.WAITING, **expected.LEFT_OUT}
    prefixes = tuple(expected.LEFT_OUT_BY_PREFIX)
    names = [name for names in found.values() for name in names]
    assert [name for name in names if name not in listed and not name.startswith(prefixes)] == []


def test_no_case_is_listed_twice() -> None:
    lists = expected.RUN, expected.WAITING, expected.LEFT_OUT
    assert sum(map(len, lists)) == len({name for names in lists for name in names})
    assert not set(expected.NOT_RUN) & set(expected.DIFFERENT)


def test_tests_with_a_reason_belong_to_a_case_that_is_run() -> None:
    for test in (*expected.NOT_RUN, *expected.DIFFERENT, *expected.SLOW):
        assert test.partition(".")[0] in expected.RUN, test


@pytest.mark.parametrize("name", expected.NAMES)
def test_what_is_said_to_be_missing_is_missing(name: str) -> None:
    # When this fails, strike the name off the list in `conformance.expected`: its tests then run.
    assert not hasattr(forkless, name)


def test_what_waits_waits_for_something_missing() -> None:
    assert set(expected.WAITING.values()) <= set(expected.NAMES)
