"""`import forkless`: light, and without side effects."""

from __future__ import annotations

import forkless
import pytest
from support import run_program


def test_nothing_heavy_is_loaded() -> None:
    source = """
import sys
before = set(sys.modules)
import forkless
print(*sorted(set(sys.modules) - before))
"""
    assert run_program(source).check().split() == ["forkless"]


def test_no_thread_no_descriptor_no_process() -> None:
    source = """
import os, threading
def holdings():
    return (
        threading.active_count(), len(os.listdir("/proc/self/task")), sorted(os.listdir("/proc/self/fd")),
        open("/proc/self/task/%d/children" % os.getpid()).read(), sorted(os.environ),
    )
before = holdings()
import forkless
{more}
after = holdings()
print(after == before or (before, after))
"""
    names = "; ".join(f"forkless.{name}" for name in forkless.__all__)
    for more in (
        "",
        names,
        "forkless.Process(target=int); forkless.get_context('spawn'); forkless.cpu_count()",
    ):
        assert run_program(source.format(more=more)).check() == "True\n", more


def test_the_import_does_less_than_that_of_a_standard_pool() -> None:
    def calls(module: str) -> int:
        """How many calls it makes, in Python and in C: what it takes, whatever else the machine does."""
        source = f"""
import sys
count = 0
def tell(frame, event, argument):
    global count
    count += event in ("call", "c_call")
sys.setprofile(tell)
import {module}
sys.setprofile(None)
print(count)
"""
        return int(run_program(source).check())

    assert calls("forkless") < calls("multiprocessing.pool") / 5


def test_names_are_loaded_when_used_and_stay() -> None:
    source = """
import sys, forkless
assert "forkless.pool" not in sys.modules
Pool = forkless.Pool
assert "forkless.pool" in sys.modules and "forkless.executor" not in sys.modules
assert "Pool" in vars(forkless) and forkless.Pool is Pool
from forkless import *
assert Executor is forkless.Executor
"""
    run_program(source).check()


def test_a_process_needs_neither_multiprocessing_nor_futures() -> None:
    source = """
import sys, forkless
process = forkless.Process(target=int)
process.start()
process.join()
queue = forkless.Queue()
queue.put(1)
queue.get()
heavy = {"multiprocessing", "concurrent.futures", "socket", "cloudpickle"}
print(*heavy & set(sys.modules))
"""
    assert run_program(source).check() == "\n"


def test_unknown_names() -> None:
    with pytest.raises(AttributeError, match="no attribute 'fork'"):
        _ = forkless.fork  # type: ignore[attr-defined]
    with pytest.raises(ImportError):
        from forkless import nothing  # type: ignore[attr-defined] # noqa: F401


def test_the_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert forkless.__version__ == version("forkless")


def test_every_exception_is_one_of_the_standard_library() -> None:
    import builtins
    import multiprocessing
    from concurrent.futures.process import BrokenProcessPool

    for kind in (forkless.OwnerDied, forkless.StaleHandle, forkless.RemoteError, forkless.ProcessError):
        assert issubclass(kind, multiprocessing.ProcessError)
        assert str(kind("one message")) == "one message"
    for broken in (forkless.WorkerDied, forkless.BrokenPool):
        assert issubclass(broken, multiprocessing.ProcessError)
        assert issubclass(broken, BrokenProcessPool)
        assert str(broken("one message")) == "one message"
    assert issubclass(forkless.TimeoutError, multiprocessing.TimeoutError)
    assert issubclass(forkless.TimeoutError, builtins.TimeoutError)
    assert issubclass(forkless.AuthenticationError, multiprocessing.AuthenticationError)
    assert issubclass(forkless.BufferTooShort, multiprocessing.BufferTooShort)
