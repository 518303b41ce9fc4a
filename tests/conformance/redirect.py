"""What `import multiprocessing` means to a module imported below `conformance.cpython`.

Each of these modules gets builtins of its own, whose `__import__` answers imports of `multiprocessing` and
`concurrent.futures` with a facade. Functions find it there as well, at run time and in any process: children
import the same modules under the same names. A facade offers what forkless has. What forkless does not have
yet skips the test that uses it; only internals, listed below by name, come from the standard library.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.machinery
import sys
import threading
import unittest
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import forkless
from forkless import _authentication
from forkless.exceptions import RemoteTraceback
from forkless.heap import BufferWrapper
from support import eventually

from .expected import NAMES, NOT_THERE


class Facade(ModuleType):
    """A module of the standard library, as the tests see it.

    Args:
        name: Its name.
        ours: The modules of forkless that stand for it, the first that has an attribute wins.
        given: Attributes that are none of forkless.
    """

    def __init__(self, name: str, ours: Sequence[str], given: Mapping[str, object] = {}) -> None:
        super().__init__(name)
        self.__dict__.update(given)
        self._ours = ours

    def __getattr__(self, name: str) -> Any:
        for module in self._ours:
            try:
                value = getattr(importlib.import_module(module), name)
            except (ModuleNotFoundError, AttributeError):
                continue
            return value
        if name in NAMES:
            return absent(name, NAMES[name])
        raise AttributeError(f"forkless has nothing for {self.__name__}.{name}")


def absent(name: str, reason: str) -> Callable[..., Any]:
    """Stands for what forkless does not have yet: calling it skips the test."""

    def skip(*args: object, **kwargs: object) -> None:
        raise unittest.SkipTest(f"{NOT_THERE}{name}: {reason}")

    return skip


def standard(name: str) -> ModuleType:
    """A module of the standard library, for tests that need an internal of it for something else."""
    return importlib.import_module(name)


def install(package: str) -> None:
    """Sees to it that modules of a package get the facades."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder(package + "."))


class _Finder:
    """Finds modules where their package says, and has them loaded with other builtins."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not name.startswith(self._prefix):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.origin is not None:
            spec.loader = _Loader(name, spec.origin)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": _import}
        super().exec_module(module)


def _import(
    name: str,
    globals: Mapping[str, object] | None = None,
    locals: Mapping[str, object] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> Any:
    """`__import__`, which returns the package of a dotted name unless something is imported from it."""
    top, _, rest = name.partition(".")
    if level == 0 and top in FACADES:
        found: Any = FACADES[top]
        for part in rest.split(".") if rest and fromlist else ():
            try:
                found = getattr(found, part)
            except AttributeError as error:
                raise ImportError(str(error), name=name) from error
        return found
    return builtins.__import__(name, globals, locals, fromlist or (), level)


class _Template:
    """Our template, as tests see the `_forkserver` that they want to kill."""

    def ensure_running(self) -> None:
        """Starts it."""
        child = forkless.get_context("forkserver").Process()
        child.start()
        child.join()

    @property
    def _forkserver_pid(self) -> int:
        from forkless._forkless import processes

        (pid,) = (pid for pid, _, role in processes() if role == "template")
        return pid


class _BufferWrapper(BufferWrapper):
    """The tests of the heap begin with one of their own; there is none behind ours."""

    _heap: object = None


class _Pool(forkless.Pool):
    def _repopulate_pool(self) -> None:
        """Does nothing: the collector of a pool starts what is missing without being told."""


class _Executor(forkless.Executor):
    """`ProcessPoolExecutor`, with what tests use of its insides."""

    _call_queue = SimpleNamespace(join_thread=lambda: None)

    @property
    def _executor_manager_thread(self) -> threading.Thread | None:
        return self._scheduler._thread

    @property
    def _processes(self) -> dict[int | None, forkless.Process]:
        # Tests look right after `submit`, which starts workers itself there; ours start in the background.
        eventually(lambda: not self._scheduler.staff.is_short(), 10)
        return super()._processes


def _multiprocessing() -> Facade:
    """`multiprocessing`: forkless, and internals that tests use beside the subject of the test."""
    given: dict[str, object] = {
        "Pool": _Pool,
        "connection": Facade(
            "multiprocessing.connection",
            ["forkless.connection", "forkless.exceptions"],
            # What the tests of authentication call by its private name.
            {
                "_CHALLENGE": _authentication.CHALLENGE,
                "_create_response": _authentication.respond,
                "_verify_challenge": _authentication.verify,
            },
        ),
        "context": Facade("multiprocessing.context", ["forkless.context", "forkless.process", "forkless"]),
        "forkserver": SimpleNamespace(_forkserver=_Template()),
        "heap": SimpleNamespace(BufferWrapper=_BufferWrapper, Heap=object),
        "managers": Facade("multiprocessing.managers", ["forkless.managers"]),
        "pool": Facade("multiprocessing.pool", ["forkless.pool", "forkless.exceptions"]),
        "process": Facade(
            "multiprocessing.process",
            ["forkless.process"],
            # The mixins ask for processes that nobody has joined; we look for them ourselves, see `run`.
            {"_dangling": weakref.WeakSet(), "_cleanup": forkless.active_children},
        ),
        "queues": Facade("multiprocessing.queues", ["forkless.queues"]),
        "reduction": Facade("multiprocessing.reduction", ["forkless.reduction"]),
        # Nothing serves descriptors in our processes, so nothing is to be stopped.
        "resource_sharer": SimpleNamespace(stop=lambda timeout=None: None),
        "shared_memory": Facade("multiprocessing.shared_memory", ["forkless.shared_memory"]),
        "sharedctypes": Facade("multiprocessing.sharedctypes", ["forkless.sharedctypes"]),
        "synchronize": Facade("multiprocessing.synchronize", ["forkless.synchronize", "forkless"]),
    }
    given["util"] = Facade("multiprocessing.util", ["forkless.util"], {"_cleanup_tests": lambda: None})
    internals = "dummy resource_tracker spawn"
    for name in internals.split():
        given[name] = standard(f"multiprocessing.{name}")
    return Facade("multiprocessing", ["forkless"], given)


def _concurrent() -> ModuleType:
    """`concurrent.futures`, with our executor as `ProcessPoolExecutor`."""
    futures = standard("concurrent.futures")
    given: dict[str, object] = {
        part: standard(f"concurrent.futures.{part}") for part in ("_base", "process", "thread")
    }
    given.update((name, getattr(futures, name)) for name in futures.__all__)
    given["ProcessPoolExecutor"] = _Executor
    given["process"] = Facade(
        "concurrent.futures.process", ["concurrent.futures.process"], {"_RemoteTraceback": RemoteTraceback}
    )
    concurrent = ModuleType("concurrent")
    concurrent.__dict__["futures"] = Facade("concurrent.futures", [], given)
    return concurrent


FACADES: dict[str, ModuleType] = {"multiprocessing": _multiprocessing(), "concurrent": _concurrent()}
