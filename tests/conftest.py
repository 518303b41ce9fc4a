"""Fixtures for all tests: a leak check around each of them, and properties that repeat exactly."""

from __future__ import annotations

import contextlib
import importlib
import sys
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
from hypothesis import settings
from support import PATIENCE, Holdings, Outcome, hear_interrupts, left_behind
from support import run_program as run_program_text

# The same examples on each run, and no deadline: two cores may be busy with other things.
settings.register_profile("forkless", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("forkless")

hear_interrupts()


@pytest.fixture(scope="session", autouse=True)
def started() -> None:
    """Lets forkless make what one process keeps for its whole life, before anybody counts descriptors."""
    # When this fails, the tests of that part say so better.
    with contextlib.suppress(Exception):
        child = importlib.import_module("forkless").Process(target=int)
        child.start()
        child.join()
        child.close()


@pytest.fixture(autouse=True)
def nothing_left_behind(started: None) -> Iterator[None]:
    """Fails a test that leaves a child, an open descriptor or an entry in /dev/shm."""
    before = Holdings.now()
    yield
    stop_helpers_of_the_standard_library()
    left = left_behind(before)
    assert not left, "left behind by this test:\n" + "\n".join(left)


@pytest.fixture
def run_program() -> Callable[..., Outcome]:
    """Runs the text of a Python program in a process group of its own; see `support.run_program`."""
    return run_program_text


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives tasks that are to end all the time they need for it: only what hangs is killed."""
    monkeypatch.setattr("forkless._deadlines._SOFT", PATIENCE)


@pytest.fixture
def leap(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Has hours go by for the time limits of tasks, whenever it is called.

    So a test chooses the moment at which a task is late, and nothing else is late before, however slow the
    machine is.
    """
    hours = 0

    def leap() -> None:
        nonlocal hours
        hours += 1

    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + 3600 * hours)
    monkeypatch.setattr("forkless._deadlines.time", clock)
    # How often somebody looks at it, in seconds of the true one.
    monkeypatch.setattr("forkless._scheduler._BOUND", 0.05)
    return leap


def stop_helpers_of_the_standard_library() -> None:
    """Ends what `multiprocessing` starts on demand and keeps: comparisons with it use them."""
    for module, name in (
        ("multiprocessing.forkserver", "_forkserver"),
        ("multiprocessing.resource_tracker", "_resource_tracker"),
    ):
        if module in sys.modules:
            getattr(sys.modules[module], name)._stop()
