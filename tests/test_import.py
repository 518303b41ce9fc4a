"""`import forkless`: light, and without side effects."""

from __future__ import annotations

import statistics
import subprocess
import sys

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


def test_the_import_is_faster_than_that_of_a_standard_pool() -> None:
    def cost(module: str) -> float:
        """Microseconds, inclusive, as the interpreter itself measures it."""
        command = [sys.executable, "-X", "importtime", "-c", f"import {module}"]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stderr.splitlines()
        return float(next(line for line in lines if line.endswith(f" {module}")).split("|")[1])

    # Taken in turns, so that what else the machine does hits both alike.
    pairs = [(cost("forkless"), cost("multiprocessing.pool")) for _ in range(7)]
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    assert ours < theirs


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
