"""`forkless.install`: `multiprocessing` means forkless, in parents and children, until it is taken back."""

from __future__ import annotations

import sys
from pathlib import Path

import forkless
import pytest
from support import run_program

PYTHON = (sys.executable,)

PROBE = """
def probe(depth=0):
    import concurrent.futures, sys
    import multiprocessing, multiprocessing.pool
    import forkless
    found = [
        sys.modules["multiprocessing"] is multiprocessing is forkless,
        sys.modules["multiprocessing.pool"] is multiprocessing.pool is forkless.pool,
        concurrent.futures.ProcessPoolExecutor is forkless.Executor,
        forkless.installed(),
    ]
    if depth:
        with multiprocessing.Pool(1) as pool:
            found += pool.apply(probe, (depth - 1,))
    return found
"""


def test_every_name_is_an_alias() -> None:
    source = """
import forkless
forkless.install()
import multiprocessing, multiprocessing.shared_memory as shared, multiprocessing.connection
from multiprocessing import Pool, managers
from multiprocessing.pool import Pool as Other
import concurrent.futures.process
from concurrent.futures import ProcessPoolExecutor
import sys
assert multiprocessing is sys.modules["multiprocessing"] is forkless
assert shared is sys.modules["multiprocessing.shared_memory"] is forkless.shared_memory
assert multiprocessing.connection is forkless.connection and managers is forkless.managers
assert Pool is Other is forkless.Pool
assert ProcessPoolExecutor is concurrent.futures.process.ProcessPoolExecutor is forkless.Executor
class Special(ProcessPoolExecutor): pass
with Special(1) as executor:
    assert isinstance(executor, ProcessPoolExecutor) and executor.submit(abs, -1).result() == 1
copies = [name for name, module in sys.modules.items() if getattr(module, "__file__", "") == shared.__file__]
assert copies == ["forkless.shared_memory", "multiprocessing.shared_memory"], copies
assert shared.__spec__.name == "forkless.shared_memory" and shared.__name__ == "forkless.shared_memory"
"""
    run_program(source).check()


def test_what_is_not_there_is_said_to_be_missing() -> None:
    source = """
import forkless
forkless.install()
try:
    import multiprocessing.nothing
except ModuleNotFoundError as error:
    print(error.name, error)
"""
    printed = run_program(source).check()
    assert printed.startswith("multiprocessing.nothing multiprocessing.nothing means forkless.nothing since")


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_children_are_installed(method: str) -> None:
    source = f"""
import forkless
forkless.install()
import multiprocessing, concurrent.futures
{PROBE}
def send(queue):
    queue.put(probe())
multiprocessing.set_start_method({method!r})
queue = multiprocessing.SimpleQueue()
process = multiprocessing.Process(target=send, args=(queue,))
process.start()
found = queue.get()
process.join()
with multiprocessing.Pool(1) as pool:
    found += pool.apply(probe, (1,))
with concurrent.futures.ProcessPoolExecutor(1) as executor:
    found += executor.submit(probe).result()
class Manager(multiprocessing.managers.BaseManager): pass
Manager.register("probe", probe)
with Manager() as manager:
    found += manager.probe()._getvalue()
assert len(found) == 20 and all(found), found
"""
    run_program(source).check()


def test_preloaded_modules_are_loaded_under_the_installation(tmp_path: Path) -> None:
    (tmp_path / "early.py").write_text("import multiprocessing\nNAME = multiprocessing.__name__\n")
    source = """
import forkless
forkless.install()
import multiprocessing
multiprocessing.set_forkserver_preload(["early"])
def name():
    import sys
    return "early" in sys.modules and sys.modules["early"].NAME
with multiprocessing.Pool(1) as pool:
    assert pool.apply(name) == "forkless", pool.apply(name)
"""
    run_program(source, environ={"PYTHONPATH": str(tmp_path)}).check()


EARLIER = """
import multiprocessing
import multiprocessing as mp
import multiprocessing.pool
import concurrent.futures
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import Pool, Process, cpu_count, get_context, shared_memory
from multiprocessing.pool import Pool as PoolClass
context = get_context("spawn")
ours = abs
"""


def test_modules_imported_before_get_the_new_names_and_have_the_old_ones_afterwards(tmp_path: Path) -> None:
    (tmp_path / "earlier.py").write_text(EARLIER)
    source = f"""
import earlier, forkless
from multiprocessing import Queue
before = dict(vars(earlier))
standard = Queue
forkless.install()
assert Queue is forkless.Queue
assert earlier.multiprocessing is earlier.mp is forkless
assert earlier.Pool is earlier.PoolClass is forkless.Pool
assert earlier.ProcessPoolExecutor is forkless.Executor
assert (earlier.Process, earlier.cpu_count) == (forkless.Process, forkless.cpu_count)
assert earlier.shared_memory is forkless.shared_memory
assert earlier.context is forkless.get_context("spawn")
assert earlier.ours is abs and earlier.concurrent.futures.ProcessPoolExecutor is forkless.Executor
{PROBE}
with earlier.Pool(1) as pool:
    assert all(pool.apply(probe))
mine = earlier.Process = object()
forkless.uninstall()
assert earlier.Process is mine, "what somebody has bound meanwhile stays"
del earlier.Process, before["Process"]
assert vars(earlier) == before and Queue is standard
"""
    run_program(source, environ={"PYTHONPATH": str(tmp_path)}).check()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "import multiprocessing.process\nclass Mine(multiprocessing.process.BaseProcess): pass",
            "earlier derives Mine from multiprocessing.process.BaseProcess",
        ),
        (
            "from concurrent.futures import ProcessPoolExecutor\nimport multiprocessing\n"
            "class Mine(ProcessPoolExecutor): pass",
            "earlier derives Mine from concurrent.futures.ProcessPoolExecutor",
        ),
        (
            "import multiprocessing\ndef run(kind=multiprocessing.Process): pass",
            "earlier has multiprocessing.Process as a default argument of run",
        ),
        (
            "import multiprocessing\nclass Mine:\n    def run(self, *, kind=multiprocessing.Pool): pass",
            "earlier has multiprocessing.Pool as a default argument of Mine.run",
        ),
        (
            "import multiprocessing\nclass Mine:\n    kind = multiprocessing.Process",
            "earlier has multiprocessing.Process as Mine.kind",
        ),
    ],
)
def test_what_cannot_be_replaced_is_named(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "earlier.py").write_text(text)
    source = """
import earlier, forkless, multiprocessing
try:
    forkless.install()
except RuntimeError as error:
    print(error)
assert not forkless.installed() and multiprocessing.Pool is not forkless.Pool
import sys
assert sys.modules["multiprocessing"] is multiprocessing is not forkless
"""
    printed = run_program(source, environ={"PYTHONPATH": str(tmp_path)}).check()
    assert printed.startswith("import earlier after forkless.install()")
    assert told in printed


@pytest.mark.parametrize(
    ("use", "told"),
    [
        ("multiprocessing.set_start_method('spawn')", "its start method has been fixed ('spawn')"),
        ("lock = multiprocessing.get_context('spawn').Lock()", "locks or queues were made"),
        ("queue = multiprocessing.get_context('spawn').Queue()", "locks or queues were made"),
        ("process = multiprocessing.get_context('spawn').Process()", "processes were made"),
        (
            "child = multiprocessing.Process(target=time.sleep, args=(60,)); child.start()",
            "it runs Process-1",
        ),
        ("multiprocessing.sharedctypes.RawValue('i')", "values or arrays were made"),
        (
            "memory = multiprocessing.shared_memory.SharedMemory(create=True, size=1); memory.unlink()",
            "tracker",
        ),
        ("manager = multiprocessing.Manager()", "it runs SyncManager-1"),
    ],
)
def test_it_is_too_late_once_multiprocessing_was_used(use: str, told: str) -> None:
    source = f"""
import forkless, multiprocessing, multiprocessing.sharedctypes, multiprocessing.shared_memory, time
{use}
try:
    forkless.install()
except RuntimeError as error:
    print(error)
for child in multiprocessing.active_children():
    child.kill()
assert not forkless.installed()
"""
    printed = run_program(source).check()
    assert printed.startswith("forkless.install() comes too late, because multiprocessing was used before: ")
    assert told in printed
    assert "python -m forkless script.py" in printed


def test_it_is_too_late_in_a_child_of_multiprocessing() -> None:
    source = """
import forkless, multiprocessing
def late():
    try:
        forkless.install()
    except RuntimeError as error:
        print(error, flush=True)
child = multiprocessing.Process(target=late)
child.start()
child.join()
"""
    assert "this process is a child of it, started by MainProcess" in run_program(source).check()


SNAPSHOT = """
def snapshot():
    import concurrent.futures, sys
    names = [name for name in sys.modules if name.partition(".")[0] in ("multiprocessing", "concurrent")]
    modules = {name: sys.modules[name] for name in names}
    return modules, {name: dict(vars(module)) for name, module in modules.items()}, list(sys.meta_path)
"""


@pytest.mark.parametrize(
    "imports",
    [
        "multiprocessing, multiprocessing.pool, multiprocessing.dummy.connection, concurrent.futures.process",
        "multiprocessing, multiprocessing.pool, concurrent.futures\nconcurrent.futures.ProcessPoolExecutor",
        "multiprocessing.context, concurrent.futures",
        "concurrent.futures",
    ],
)
def test_taking_it_back_leaves_everything_as_before(imports: str) -> None:
    source = f"""
import sys
import {imports}
import forkless
{SNAPSHOT}
before = snapshot()
forkless.install()
assert snapshot() != before
forkless.uninstall()
forkless.uninstall()
assert not forkless.installed()
assert snapshot() == before
forkless.install()
import concurrent.futures, multiprocessing.managers
concurrent.futures.ProcessPoolExecutor
forkless.uninstall()
import multiprocessing.pool, multiprocessing.managers, multiprocessing.queues
for name, module in sys.modules.items():
    if name.startswith("multiprocessing"):
        assert module.__name__ == module.__spec__.name == name, name
        assert module.__package__ == module.__spec__.parent
        assert "forkless" not in module.__file__
        for value in vars(module).values():
            assert "forkless" not in getattr(value, "__module__", ""), (name, value)
assert multiprocessing.pool.Pool.__module__ == "multiprocessing.pool"
assert not [name for name in sys.modules if "_standard_multiprocessing" in name]
with multiprocessing.Pool(1) as pool:
    assert pool.map(abs, [-1]) == [1]
with concurrent.futures.ProcessPoolExecutor(1) as executor:
    assert executor.submit(abs, -1).result() == 1
assert type(executor).__module__ == "concurrent.futures.process"
"""
    run_program(source, python=(*PYTHON, "-W", "error", "-W", "ignore::DeprecationWarning")).check()


def test_it_is_a_context_manager_and_the_outermost_counts() -> None:
    source = """
import forkless
with forkless.install() as outer:
    with forkless.install():
        pass
    forkless.install()
    assert forkless.installed()
    print(outer)
print(forkless.installed(), outer)
"""
    assert run_program(source).check().splitlines() == [
        "<forkless installation: in place>",
        "False <forkless installation: taken back>",
    ]


def test_children_that_run_stay_as_they_are_and_later_ones_differ() -> None:
    source = f"""
import forkless
{PROBE}
def ask(ours, question):
    question.get()
    ours.put(forkless.installed())
answers, question = forkless.Queue(), forkless.Queue()
early = forkless.Process(target=ask, args=(answers, question))
early.start()
forkless.install()
question.put(None)
assert answers.get() is False
early.join()
with forkless.Pool(1) as pool:
    assert all(pool.apply(probe))
    forkless.uninstall()
    assert all(pool.apply(probe)), "so does a worker"
with forkless.Pool(1) as pool:
    assert pool.apply(forkless.installed) is False
"""
    run_program(source).check()


def test_in_a_child_and_in_a_thread() -> None:
    source = f"""
import forkless, threading
{PROBE}
def inside():
    forkless.install()
    return probe(1)
with forkless.Pool(1) as pool:
    assert all(pool.apply(inside))
    assert pool.apply(forkless.installed), "for as long as that worker lives"
assert not forkless.installed()
thread = threading.Thread(target=forkless.install)
thread.start()
thread.join()
assert all(probe(1))
"""
    run_program(source).check()


def test_a_fork_by_the_program_is_installed() -> None:
    source = f"""
import forkless, os
{PROBE}
forkless.install()
pid = os.fork()
if not pid:
    os._exit(0 if all(probe(1)) else 1)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""
    run_program(source).check()


def test_mocks_logging_reload_pickles_and_sources() -> None:
    source = """
import forkless
forkless.install()
import importlib.util, inspect, logging, multiprocessing, multiprocessing.pool, pickle
from unittest import mock
with mock.patch("multiprocessing.cpu_count", return_value=99):
    assert multiprocessing.cpu_count() == 99
with mock.patch("multiprocessing.pool.Pool") as fake:
    assert multiprocessing.pool.Pool is fake
assert multiprocessing.cpu_count() != 99
assert multiprocessing.pool.Pool.__name__ == "Pool"
def record():
    return logging.makeLogRecord({}).processName
record()
def name_of_process():
    return logging.LogRecord("a", 1, "b", 1, "c", (), None).processName
assert name_of_process() == "MainProcess"
with multiprocessing.Pool(1) as pool:
    assert pool.apply(name_of_process).startswith("PoolWorker")
assert importlib.reload(multiprocessing.heap) is forkless.heap
assert importlib.reload(multiprocessing) is forkless
assert importlib.import_module("multiprocessing.heap") is forkless.heap
assert importlib.util.find_spec("multiprocessing.queues").origin.endswith("forkless/queues.py")
assert pickle.loads(pickle.dumps(multiprocessing.Process)) is forkless.Process
assert pickle.loads(pickle.dumps(multiprocessing.TimeoutError)) is forkless.TimeoutError
assert "class Process" in inspect.getsource(multiprocessing.Process)
"""
    run_program(source).check()


def test_errors_are_caught_by_their_usual_names() -> None:
    source = """
import forkless
forkless.install()
import multiprocessing, os, time
from concurrent.futures.process import BrokenProcessPool
from concurrent.futures import ProcessPoolExecutor
with multiprocessing.Pool(1) as pool:
    try:
        pool.apply_async(time.sleep, (60,)).get(0.01)
    except multiprocessing.TimeoutError:
        print("late")
with ProcessPoolExecutor(1) as executor:
    try:
        executor.submit(os._exit, 3).result()
    except BrokenProcessPool as error:
        print("died")
"""
    assert run_program(source).check() == "late\ndied\n"


def test_fork_is_another_name_and_is_warned_of_once() -> None:
    source = """
import forkless, warnings
for call in (forkless.get_context, forkless.set_start_method):
    try:
        call("fork")
    except ValueError as error:
        assert "never forks" in str(error)
forkless.install()
import multiprocessing
def pid():
    import os
    return os.getpid()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    context = multiprocessing.get_context("fork")
    multiprocessing.set_start_method("fork")
    multiprocessing.set_start_method("fork", force=True)
assert [w.category for w in caught] == [RuntimeWarning] and caught[0].filename == __file__, caught
assert "no copy of the rest of this process's memory" in str(caught[0].message)
assert multiprocessing.get_start_method() == "fork" == context.get_start_method()
assert multiprocessing.get_all_start_methods() == ["fork", "spawn", "forkserver"]
for pool in (multiprocessing.Pool(1), context.Pool(1), multiprocessing.get_context().Pool(1)):
    with pool:
        assert pool.apply(pid) != pid()
def ask():
    import multiprocessing
    return multiprocessing.get_start_method()
with context.Executor(1) as executor:
    print(executor.submit(ask).result())
process = context.Process(target=print, args=("from a child",), kwargs={"flush": True})
process.start()
process.join()
forkless.uninstall()
assert multiprocessing.get_start_method() == "forkserver"
"""
    assert run_program(source).check() == "fork\nfrom a child\n"


def test_threads_by_the_name_of_a_pool() -> None:
    source = """
import forkless
forkless.install()
from multiprocessing.pool import ThreadPool
import threading
with ThreadPool(1) as pool:
    assert pool.apply(threading.get_native_id) != threading.get_native_id()
"""
    run_program(source).check()


def test_who_needs_the_standard_parts_has_them() -> None:
    pytest.importorskip("joblib", reason="joblib is not installed")
    source = """
import forkless
forkless.install()
import joblib, math, multiprocessing
from joblib.externals.loky.backend import context
calls = [joblib.delayed(math.sqrt)(n * n) for n in range(4)]
assert joblib.Parallel(n_jobs=2, backend="loky")(calls) == [0, 1, 2, 3]
assert multiprocessing is forkless
"""
    run_program(source).check()


def test_no_more_is_loaded_than_is_needed() -> None:
    source = """
import sys, forkless
forkless.install()
heavy = {"concurrent.futures", "concurrent.futures.process", "forkless.pool", "forkless.connection", "socket"}
print(*heavy & set(sys.modules), *[name for name in sys.modules if "_standard_multi" in name])
"""
    assert run_program(source).check() == "\n"


def test_it_is_not_there_without_being_asked_for() -> None:
    assert not forkless.installed()
