"""What a worker is set up with: state and hooks, variables, CPUs, a share of them, threads of libraries."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import forkless
import pytest
from forkless._setup import Setup
from support import PATIENCE, run_program

ALLOWED = sorted(os.sched_getaffinity(0))


def inside(setup: Setup, call: Callable[[], Any], index: int = 0, process: type | None = None) -> Any:
    """What a function returns, or the error it raises, in a process that is set up like a worker.

    Functions here are local ones, which travel by value: to load this file takes a child seconds.
    """
    results: forkless.SimpleQueue[Any] = forkless.SimpleQueue()

    def body() -> None:
        try:
            setup.enter(index, f"Worker-{index}")
            result = call()
        except Exception as error:
            from forkless import _setup

            result = (_setup.step, error)
        setup.leave()
        results.put(result)

    child = (process or forkless.Process)(target=body)
    child.start()
    result = results.get(timeout=PATIENCE)
    child.join()
    assert child.exitcode == 0
    child.close()
    return result


# --- the worker and its state ---


def test_a_worker_knows_who_it_is() -> None:
    def who() -> tuple[int, str, Any]:
        worker = forkless.current_worker()
        return worker.index, worker.name, worker.state

    assert inside(Setup.of(size=3), who, index=2) == (2, "Worker-2", None)


def test_who_is_no_worker_is_told_so() -> None:
    with pytest.raises(RuntimeError, match=rf"MainProcess \(pid {os.getpid()}\) is no worker"):
        forkless.current_worker()


def test_a_child_of_a_worker_is_none() -> None:
    def ask_child() -> Any:
        errors: forkless.SimpleQueue[str] = forkless.SimpleQueue()

        def ask() -> None:
            try:
                forkless.current_worker()
            except RuntimeError as error:
                errors.put(str(error))

        child = forkless.Process(target=ask, name="Grandchild")
        child.start()
        return errors.get(timeout=PATIENCE)

    assert "Grandchild" in inside(Setup.of(size=1), ask_child)


def test_an_empty_state() -> None:
    def use() -> tuple[bool, int]:
        state = forkless.current_worker().state
        state.hits = 1
        return type(state) is SimpleNamespace, forkless.current_worker().state.hits

    assert inside(Setup.of(size=1, worker_state=True), use) == (True, 1)


def test_state_then_initializer_then_exit() -> None:
    def make() -> list[Any]:
        assert forkless.current_worker().state is None
        return ["made by", forkless.current_worker().index]

    def initialize(*arguments: object) -> None:
        forkless.current_worker().state.extend(arguments)

    with_exit: forkless.SimpleQueue[Any] = forkless.SimpleQueue()
    setup = Setup.of(
        size=1, worker_state=make, initializer=initialize, initargs=iter("ab"), exit=with_exit.put
    )

    def work() -> int:
        forkless.current_worker().state.append("worked")
        return 7

    assert inside(setup, work, index=4) == 7
    assert with_exit.get(timeout=PATIENCE) == ["made by", 4, "a", "b", "worked"]


def test_a_state_of_none_is_a_state() -> None:
    seen: forkless.SimpleQueue[Any] = forkless.SimpleQueue()

    def bye(*arguments: object) -> None:
        seen.put(arguments)

    inside(Setup.of(size=1, worker_state=lambda: None, exit=bye), int)
    assert seen.get(timeout=PATIENCE) == (None,)


def test_exit_without_a_state_has_no_argument_and_comes_once() -> None:
    seen: forkless.SimpleQueue[Any] = forkless.SimpleQueue()

    def bye(*arguments: object) -> None:
        seen.put(arguments)

    setup = Setup.of(size=1, exit=bye)
    inside(setup, setup.leave)  # which is called again afterwards
    assert seen.get(timeout=PATIENCE) == ()
    assert seen.empty()


def test_what_exit_raises_is_reported_and_changes_nothing() -> None:
    source = """
import sys, forkless
from forkless._setup import Setup

def body(setup):
    setup.enter(0, "Worker-0")
    setup.leave()
    print("goes on")

for kind in (ValueError, SystemExit):
    def bye():
        raise kind("no goodbye")
    child = forkless.Process(target=body, args=(Setup.of(size=1, exit=bye),), name="Speaker")
    child.start()
    child.join()
    print(child.exitcode)
"""
    outcome = run_program(source)
    assert outcome.check() == "goes on\n0\n" * 2
    assert outcome.stderr.count("Process Speaker:\nTraceback") == 2
    assert "ValueError: no goodbye" in outcome.stderr
    assert "SystemExit: no goodbye" in outcome.stderr


@pytest.mark.parametrize("hook", ["worker_state", "initializer"])
def test_what_hooks_raise_comes_out_and_nothing_is_exited(hook: str) -> None:
    def refuse() -> None:
        raise ValueError("no start")

    exits: forkless.SimpleQueue[Any] = forkless.SimpleQueue()
    hooks: Any = {hook: refuse, "exit": lambda *_: exits.put("exit")}
    step, error = inside(Setup.of(size=1, **hooks), int)
    assert (step.removeprefix("the "), type(error), str(error)) == (hook, ValueError, "no start")

    assert exits.empty()


def test_hooks_that_cannot_be_loaded() -> None:
    class Elsewhere:
        def __init__(self) -> None:
            self.owner = os.getpid()

        def __setstate__(self, state: Any) -> None:
            raise ImportError("not there")

    step, error = inside(Setup.of(size=1, initializer=print, initargs=[Elsewhere()]), int)
    assert step == "the loading of the initializer"
    assert str(error) == "not there"


def test_hooks_that_cannot_be_sent_are_named() -> None:
    for option, value, blamed in (
        ("worker_state", threading.Lock().acquire, "worker_state"),
        ("exit", threading.Lock().acquire, "exit"),
    ):
        options: Any = {option: value}
        with pytest.raises(pickle.PicklingError, match=blamed):
            Setup.of(size=1, **options)


def test_shared_objects_in_hooks_live_as_long_as_the_setup() -> None:
    def make(word: str) -> Setup:
        queue: forkless.SimpleQueue[str] = forkless.SimpleQueue()
        queue.put(word)

        def initialize() -> None:
            forkless.current_worker().state.word = queue.get(timeout=PATIENCE)

        return Setup.of(size=1, worker_state=True, initializer=initialize)

    setup = make("kept")
    assert setup.handles
    assert inside(setup, lambda: forkless.current_worker().state.word) == "kept"
    assert pickle.loads(pickle.dumps(setup)).handles == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"initializer": 1}, "initializer must be a callable, not 1"),
        ({"exit": "bye"}, "exit must be a callable, not 'bye'"),
        ({"worker_state": None}, "worker_state must be a callable .*, not None"),
        ({"worker_state": {}}, "worker_state must be"),
        ({"initializer": print, "initargs": 5}, "iterable"),
    ],
)
def test_bad_hooks(options: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Setup.of(size=1, **options)


# --- the environment ---


def test_variables_are_set_and_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORKLESS_JOB", "of the owner")
    setup = Setup.of(size=1, env={"FORKLESS_JOB": None, "FORKLESS_NEW": "new", "FORKLESS_NONE": None})

    def look() -> list[str | None]:
        import ctypes

        get = ctypes.CDLL(None).getenv
        get.restype = ctypes.c_char_p
        names = ("FORKLESS_JOB", "FORKLESS_NEW", "FORKLESS_NONE")
        seen_by_c = [value and value.decode() for value in map(get, map(str.encode, names))]
        assert seen_by_c == list(map(os.environ.get, names))
        return seen_by_c

    assert inside(setup, look) == [None, "new", None]
    assert os.environ["FORKLESS_JOB"] == "of the owner"


def test_variables_by_worker() -> None:
    setup = Setup.of(size=3, env=lambda index: {"FORKLESS_JOB": f"job {index}"})
    for index in range(3):
        assert inside(setup, lambda: os.environ["FORKLESS_JOB"], index) == f"job {index}"


def test_variables_are_there_before_modules_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "early.py").write_text(
        "import os, forkless\n"
        "seen = os.environ.get('FORKLESS_JOB'), os.environ.get('OMP_NUM_THREADS'), forkless.cpu_count(),"
        " os.sched_getaffinity(0)\n"
        "def initialize(): pass\n"
    )
    source = """
import forkless, os, sys
from forkless._setup import Setup
os.environ["FORKLESS_CPU_COUNT"] = "8"
import early
cpu = max(os.sched_getaffinity(0))
for hook in ("initializer", "exit", "worker_state"):
    setup = Setup.of(size=2, env={"FORKLESS_JOB": "set"}, cpus=[cpu], threads=3, **{hook: early.initialize})

    def body():
        assert "early" not in sys.modules
        setup.enter(0, "")
        print(sys.modules["early"].seen == ("set", "3", 1, {cpu}))

    child = forkless.Process(target=body)
    child.start()
    child.join()
"""
    assert run_program(source, environ={"PYTHONPATH": str(tmp_path)}).check() == "True\n" * 3


@pytest.mark.parametrize(
    ("env", "error", "message"),
    [
        (["A=1"], TypeError, r"env must be a mapping .*, not \['A=1'\]"),
        ({"A": 1}, TypeError, "env must map names to strings, or to None, not 'A': 1"),
        ({1: "A"}, TypeError, "not 1: 'A'"),
        ({b"A": "A"}, TypeError, "not b'A'"),
        ({"": "A"}, ValueError, "no variable ''"),
        ({"A=B": "C"}, ValueError, "no variable 'A=B'"),
        ({"A": "B\0"}, ValueError, "no variable 'A' with the value"),
        ({"A": "\ud800"}, ValueError, "surrogates"),
        (lambda index: {"A": "B"} if index < 2 else None, TypeError, r"env\(2\) must be a mapping"),
        (lambda index: {"A": index}, TypeError, r"env\(0\) must map"),
    ],
)
def test_bad_variables(env: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Setup.of(size=3, env=env)


# --- CPUs ---


@pytest.mark.parametrize("cpus", [ALLOWED[:1], set(ALLOWED[:1]), range(ALLOWED[0], ALLOWED[0] + 1)])
def test_the_same_cpus_for_all(cpus: Any) -> None:
    setup = Setup.of(size=2, cpus=cpus)
    for index in range(2):
        assert inside(setup, lambda: os.sched_getaffinity(0), index) == {ALLOWED[0]}
    assert os.sched_getaffinity(0) == set(ALLOWED)


def test_cpus_by_worker_in_turn() -> None:
    sets = [ALLOWED, {ALLOWED[-1]}]
    setup = Setup.of(size=3, cpus=sets)
    for index in range(3):
        assert inside(setup, lambda: os.sched_getaffinity(0), index) == set(sets[index % 2])


def test_cpus_spread() -> None:
    setup = Setup.of(size=len(ALLOWED) + 1, cpus="spread")
    found = [inside(setup, lambda: os.sched_getaffinity(0), index) for index in range(len(ALLOWED) + 1)]
    assert found == [{cpu} for cpu in (*ALLOWED, ALLOWED[0])]


@pytest.mark.parametrize(
    ("cpus", "error", "message"),
    [
        ([4095], ValueError, f"may use {', '.join(map(str, ALLOWED))}, and not 4095"),
        ([-1], ValueError, "not -1"),
        ([ALLOWED, [4095]], ValueError, "not 4095"),
        ([], ValueError, "leave every worker a CPU"),
        ([ALLOWED, []], ValueError, "leave every worker a CPU"),
        ("close", ValueError, "not 'close'"),
        (2, TypeError, "not 2"),
        ([ALLOWED, 0], TypeError, "cpus must be numbers"),
        (["a"], TypeError, "cpus must be numbers"),
        ([0.5], TypeError, "cpus must be numbers"),
    ],
)
def test_bad_cpus(cpus: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Setup.of(size=1, cpus=cpus)


def test_cpus_that_are_gone_when_the_worker_starts() -> None:
    setup = Setup.of(size=1, cpus=ALLOWED)._replace(cpus=((4095,),))
    step, error = inside(setup, int)
    assert step == "the setting of variables and CPUs"
    assert "the CPUs of this worker, 4095, are not available any more" in str(error)


# --- the share of the CPUs ---


@pytest.mark.parametrize(("cpus", "size", "share"), [(8, 2, 4), (8, 3, 2), (8, 9, 1), (1, 1, 1)])
def test_workers_share_the_cpus(monkeypatch: pytest.MonkeyPatch, cpus: int, size: int, share: int) -> None:
    monkeypatch.setenv("FORKLESS_CPU_COUNT", str(cpus))
    assert inside(Setup.of(size=size), forkless.cpu_count) == share
    assert forkless.cpu_count() == cpus


def test_bound_workers_have_as_many_cpus_as_they_are_bound_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORKLESS_CPU_COUNT", "8")
    assert inside(Setup.of(size=2, cpus="spread"), forkless.cpu_count) == 1
    # A share is a share, whatever one is bound to.
    assert inside(Setup.of(size=8, cpus=ALLOWED), forkless.cpu_count) == 1


def test_the_share_goes_on_to_children_programs_and_workers_of_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FORKLESS_CPU_COUNT", "12")

    def ask(setup: Setup | None) -> int:
        queue: forkless.SimpleQueue[int] = forkless.SimpleQueue()

        def answer() -> None:
            if setup is not None:
                setup.enter(0, "")
            queue.put(forkless.cpu_count())

        child = forkless.Process(target=answer)
        child.start()
        return queue.get(timeout=PATIENCE)

    def ask_all() -> list[int]:
        program = [sys.executable, "-c", "import forkless; print(forkless.cpu_count())"]
        by_program = int(subprocess.run(program, capture_output=True, check=True).stdout)
        return [forkless.cpu_count(), ask(None), by_program, ask(Setup.of(size=2))]

    assert inside(Setup.of(size=2), ask_all) == [6, 6, 6, 3]


def test_the_environment_says_it_better(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORKLESS_CPU_COUNT", "8")
    assert inside(Setup.of(size=8, env={"FORKLESS_CPU_COUNT": "3"}), forkless.cpu_count) == 3
    monkeypatch.delenv("FORKLESS_CPU_COUNT")
    everything = Setup.of(size=2 * len(ALLOWED), env={"FORKLESS_CPU_COUNT": None})
    assert inside(everything, forkless.cpu_count) == forkless.cpu_count()


# --- threads of libraries ---

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")


@pytest.fixture
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FORKLESS_CPU_COUNT", "8")
    return monkeypatch


def look_at_variables() -> Callable[[], list[str | None]]:
    names = VARIABLES
    return lambda: [os.environ.get(name) for name in names]


@pytest.mark.parametrize(
    ("options", "owner", "expected"),
    [
        ({}, {}, [None, None, None, None]),
        ({}, {"OMP_NUM_THREADS": "7"}, ["7", None, None, None]),
        ({"threads": 3}, {}, ["3", "3", "3", "3"]),
        ({"threads": 3}, {"OMP_NUM_THREADS": "7", "MKL_NUM_THREADS": "5"}, ["3", "3", "3", "3"]),
        ({"threads": 3, "env": {"MKL_NUM_THREADS": "5"}}, {}, ["3", "3", "5", "3"]),
        ({"threads": 3, "env": {"MKL_NUM_THREADS": None}}, {"MKL_NUM_THREADS": "5"}, ["3", "3", None, "3"]),
        ({"threads": "auto"}, {}, ["4", "4", "4", "4"]),
        ({"threads": "auto", "cpus": ALLOWED[:1]}, {}, ["1", "1", "1", "1"]),
        ({"threads": "auto"}, {"MKL_NUM_THREADS": "5"}, ["4", "4", "5", "4"]),
        # BLAS heeds the variable of OpenMP, if it has none of its own.
        ({"threads": "auto"}, {"OMP_NUM_THREADS": "7"}, ["7", None, None, "4"]),
        ({"threads": "auto", "env": {"OMP_NUM_THREADS": "7"}}, {}, ["7", None, None, "4"]),
        ({"threads": "auto", "env": {"OMP_NUM_THREADS": None}}, {}, [None, "4", "4", "4"]),
        ({"threads": "auto"}, {"OMP_NUM_THREADS": ""}, ["4", "4", "4", "4"]),
    ],
)
def test_thread_variables(
    eight_cpus: pytest.MonkeyPatch, options: Any, owner: dict[str, str], expected: list[str | None]
) -> None:
    for name, value in owner.items():
        eight_cpus.setenv(name, value)
    assert inside(Setup.of(size=2, **options), look_at_variables()) == expected


@pytest.mark.parametrize(
    ("threads", "error", "message"),
    [
        (0, ValueError, "threads must be at least 1, not 0"),
        (-1, ValueError, "not -1"),
        (1.5, TypeError, "threads must be an int, 'auto' or None, not 1.5"),
        (True, TypeError, "not True"),
        ("many", TypeError, "not 'many'"),
    ],
)
def test_bad_threads(threads: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Setup.of(size=1, threads=threads)


WITH_NUMPY = """
import forkless
from forkless._setup import Setup
from threadpoolctl import threadpool_info

def threads():
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

def body(setup):
    before = threads()
    setup.enter(0, "")
    import numpy
    assert (numpy.ones((200, 200)) @ numpy.ones((200, 200)) == 200).all()
    print(before, threads())

{preload}
child = forkless.get_context({method!r}).Process(target=body, args=(Setup.of(size=2, threads={threads!r}),))
child.start()
child.join()
"""


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
@pytest.mark.parametrize(("threads", "expected"), [(1, 1), ("auto", 1), (None, len(ALLOWED))])
def test_numpy_that_is_loaded_later(method: str, threads: Any, expected: int) -> None:
    source = WITH_NUMPY.format(preload="", method=method, threads=threads)
    environ = {"FORKLESS_CPU_COUNT": "2", "OMP_NUM_THREADS": "", "OPENBLAS_NUM_THREADS": ""}
    assert run_program(source, environ=environ).check() == f"[] [{expected}]\n"


@pytest.mark.parametrize(("threads", "expected"), [(1, 1), ("auto", 1), (None, len(ALLOWED))])
def test_numpy_that_was_loaded_in_the_template(threads: Any, expected: int) -> None:
    preload = "forkless.set_forkserver_preload(['numpy'])"
    source = WITH_NUMPY.format(preload=preload, method="forkserver", threads=threads)
    environ = {"FORKLESS_CPU_COUNT": "2", "OMP_NUM_THREADS": "", "OPENBLAS_NUM_THREADS": ""}
    assert run_program(source, environ=environ).check() == f"[{len(ALLOWED)}] [{expected}]\n"


def test_a_module_with_threads_of_its_own_is_told() -> None:
    def count() -> int:
        import pyarrow

        before: int = pyarrow.cpu_count()
        Setup.of(size=1, threads=before + 1).enter(0, "")
        after: int = pyarrow.cpu_count()
        return after - before

    assert inside(Setup.of(size=1), count) == 1


LIBRARIES = {
    "libopenblas.so.0": "openblas_set_num_threads",
    "libopenblas64_p-r0.3.29.so": "openblas_set_num_threads64_",
    "libscipy_openblas-68440149.so": "scipy_openblas_set_num_threads",
    "libscipy_openblas64_-56d6093b.so": "scipy_openblas_set_num_threads64_",
    "libmkl_rt.so.2": "MKL_Set_Num_Threads",
    "libblis.so.4": "bli_thread_set_num_threads",
    "libgomp-a34b3233.so.1": "omp_set_num_threads",
    "libiomp5.so": "omp_set_num_threads",
    "libother.so": "omp_set_num_threads",
}


def test_each_library_is_told_by_its_own_function(tmp_path: Path) -> None:
    # Not the real ones, which few machines have all of.
    for name, setter in LIBRARIES.items():
        kind = "long" if setter.startswith("bli") else "int"
        text = f"{kind} told = -1; void {setter}({kind} number) {{ told = number; }}"
        command = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(tmp_path / name)]
        subprocess.run(command, input=text.encode(), check=True)
    paths = [str(tmp_path / name) for name in LIBRARIES]

    def ask() -> list[int]:
        import ctypes

        libraries = [ctypes.CDLL(path) for path in paths]
        os.environ.update(OPENBLAS_NUM_THREADS="5,2", MKL_NUM_THREADS="many")
        os.unlink(paths[0])  # as an upgrade does
        Setup.of(size=1, threads="auto", env={"OMP_NUM_THREADS": "3"}).enter(0, "")
        return [ctypes.c_int.in_dll(library, "told").value for library in libraries]

    assert inside(Setup.of(size=1), ask) == [5, 5, 5, 5, -1, 3, 3, 3, -1]
