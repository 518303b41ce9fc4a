"""CPython's own test cases, run from the installed interpreter with forkless in place of `multiprocessing`.

See the package `conformance`; `./dev conformance` runs all of it and prints a table. With
FORKLESS_CONFORMANCE_SLOW=1 in the environment the slow tests run here too.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
from conformance import expected
from conformance.guard import EVIDENCE
from conformance.judge import SLOW_TOO, Judge
from conformance.table import MODULES
from support import run_program

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("test") is None
        or importlib.util.find_spec("test._test_multiprocessing") is None,
        reason="this Python comes without its tests",
    ),
    pytest.mark.timeout(900),
]

Found = dict[str, list[str]]


@pytest.fixture(scope="session")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    return Judge(tmp_path_factory.mktemp("conformance"), slow=bool(os.environ.get(SLOW_TOO)))


@pytest.fixture(scope="session")
def found(judge: Judge) -> Found:
    """The test cases that there are on this Python, by module."""
    return {module: judge.cases(module) for module in MODULES}


@pytest.mark.parametrize(
    ("case", "method"), [(case, method) for case in expected.RUN for method in expected.methods_of(case)]
)
def test_case(case: str, method: str, judge: Judge, found: Found) -> None:
    module = expected.RUN[case]
    if case not in found[module]:
        pytest.skip("this Python does not have these tests")
    if expected.is_slow(case, method) and not os.environ.get(SLOW_TOO):
        pytest.skip(f"slow; set {SLOW_TOO}=1 to run it")
    verdict = judge.judge(case, method, module)
    print(verdict)
    assert not verdict.wrong, "\n\n".join([str(verdict), *verdict.wrong])


def test_the_judge_survives_every_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for test in ("test_passes", "test_with_parts"):
        monkeypatch.setitem(expected.DIFFERENT, f"Specimens.{test}", expected.Known("for no reason"))
    monkeypatch.setitem(expected.INTERNALS, "Specimens.test_is_not_run", "an internal")
    verdict = Judge(tmp_path, limit=15).judge("Specimens", "forkserver", "specimens")
    assert verdict.passed == ["Specimens.test_passes"]
    assert verdict.skipped == {"Specimens.test_skips": "on purpose"}
    assert verdict.internals == {"Specimens.test_is_not_run": "an internal"}
    assert sorted(verdict.failed) == [
        f"Specimens.test_{name}"
        for name in (
            "dies",
            "fails",
            "hangs",
            "makes_a_standard_lock",
            "makes_a_standard_process",
            "with_parts",
        )
    ]
    dies, fails, hangs, lock, process, passes, *evidence = verdict.wrong
    assert "test_dies" in dies
    assert "ended with -9" in dies
    assert "AssertionError: on purpose" in fails
    assert "in test_hangs" in hangs, "the stack shows where"
    assert "a semaphore of the standard library was made" in lock
    assert "a process of the standard library was made" in process
    assert "passed, but is listed as different: for no reason" in passes
    assert any("made a semaphore of the standard library" in line for line in evidence), (
        "even if it is caught"
    )
    assert any("made a process of the standard library" in line for line in evidence)
    assert verdict.evidence["program"] == 3, "one more for each that has ended"
    assert verdict.evidence["child"] >= 1


@pytest.mark.parametrize("method", expected.METHODS)
def test_parents_children_and_programs_run_forkless(method: str, judge: Judge, tmp_path: Path) -> None:
    source = f"""
import multiprocessing, subprocess, sys

def module_of_process():
    import multiprocessing
    return multiprocessing.Process.__module__

if __name__ == "__main__":
    import test._test_multiprocessing as cpython
    multiprocessing.set_start_method({method!r})
    program = [sys.executable, "-I", "-c", "import multiprocessing as m; print(m.__name__)"]
    told = subprocess.run(program, capture_output=True, text=True).stdout
    with cpython.multiprocessing.Pool(1) as pool:
        print(module_of_process(), pool.apply(module_of_process), pool.apply(cpython._afunc, (3,)), told)
"""
    evidence = tmp_path / "evidence"
    evidence.touch()
    outcome = run_program(source, environ={EVIDENCE: str(evidence)}, python=(judge.python,))
    assert outcome.check() == "forkless.process forkless.process 9 forkless\n\n"
    roles = [line.split()[1:] for line in evidence.read_text().splitlines()]
    assert {what for _, what in roles} == {"forkless"}
    assert [role for role, _ in roles].count("program") == 2
    assert [role for role, _ in roles].count("child") >= 1


def test_every_case_is_run_or_left_out_for_a_reason(found: Found) -> None:
    listed = {**expected.RUN, **expected.INTERNAL_CASES}
    names = [name for names in found.values() for name in names]
    assert [name for name in names if name not in listed] == []


def test_no_case_is_listed_twice() -> None:
    assert not set(expected.RUN) & set(expected.INTERNAL_CASES)
    assert not set(expected.INTERNALS) & set(expected.DIFFERENT)


def test_tests_with_a_reason_belong_to_a_case_that_is_run() -> None:
    for test in (*expected.INTERNALS, *expected.DIFFERENT, *expected.SLOW):
        assert test.partition(".")[0] in expected.RUN, test
