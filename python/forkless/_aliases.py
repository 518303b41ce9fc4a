"""What makes `multiprocessing` mean forkless: entries of `sys.modules`, and a finder for those to come.

A name is an alias of the module itself, which is loaded when somebody asks for it first and has one copy
under both names. `concurrent.futures` keeps its modules; their `ProcessPoolExecutor` is `forkless.Executor`.
joblib, whose own backend needs parts of `multiprocessing` that nothing else has, gets ours as the default.

Children call `turn_on` before they load anything else, so this module needs next to nothing.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import forkless

from . import _stdlib

_FUTURES = "concurrent.futures"
_PROCESS = "concurrent.futures.process"
_EXECUTOR = "ProcessPoolExecutor"
_JOBLIB = "joblib"

# What a template and a spawned child run first, if their parent is installed.
PRELUDE = f"from {__name__} import turn_on; turn_on()\n"

# The standard library's own, from when it is replaced until it is put back.
_standard_executor: Any = None


def turn_on() -> None:
    """Puts the standard modules aside, and forkless into their place."""
    if _stdlib.aside:
        return
    # The finder first, for threads that import something meanwhile.
    sys.meta_path.insert(0, _finder)
    _stdlib.put_aside()
    sys.modules[_stdlib.STANDARD] = forkless
    process = sys.modules.get(_PROCESS)
    if process is not None:
        _replace(process)
    if hasattr(sys.modules.get(_JOBLIB), "Parallel"):  # It has been loaded, all of it.
        _take_over_joblib()


def turn_off() -> None:
    """Undoes `turn_on`; what was loaded in between stays loaded, each module under its own name."""
    if not _stdlib.aside:
        return
    for name in [name for name in list(sys.modules) if _stdlib.belongs(name, _stdlib.STANDARD)]:
        del sys.modules[name]
    sys.meta_path.remove(_finder)
    _stdlib.put_back()
    _put_back()
    ours: Any = sys.modules.get("forkless.joblib")
    if ours is not None:
        ours.give_back()


def _replace(process: ModuleType) -> None:
    """Replaces the executor in `concurrent.futures.process`, and in its package if it is there already."""
    global _standard_executor
    from .executor import Executor

    namespace: dict[str, Any] = vars(process)
    _standard_executor, namespace[_EXECUTOR] = namespace[_EXECUTOR], Executor
    futures = vars(sys.modules[_FUTURES])
    if _EXECUTOR in futures:
        futures[_EXECUTOR] = Executor


def _put_back() -> None:
    global _standard_executor
    if _standard_executor is not None:
        for name in (_PROCESS, _FUTURES):
            # The package gets it from the module when somebody asks for it.
            if _EXECUTOR in vars(sys.modules[name]):
                vars(sys.modules[name])[_EXECUTOR] = _standard_executor
        _standard_executor = None


def _take_over_joblib(_joblib: object = None) -> None:
    # An older joblib may not have what our backend needs, and goes on as it is.
    try:
        backend: Any = import_module("forkless.joblib")
    except ImportError:
        return
    # Whoever has begun with importing the backend is in the midst of it, and it does this at its end.
    if hasattr(backend, "take_over"):
        backend.take_over()


class _Finder:
    """Finds `multiprocessing` and what is in it, where that is now, and who shall not notice."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        if _stdlib.belongs(name, _stdlib.STANDARD):
            return _alias(name)
        if _stdlib.belongs(name, _stdlib.ASIDE):
            # Of the package itself the path is that of forkless, which it is in by name only.
            return _stdlib.find(name, None if name == _stdlib.ASIDE else path)
        if name == _JOBLIB:
            return _stdlib.follow(name, path, _take_over_joblib)
        if name == _PROCESS:
            return _stdlib.keep(name, path, _replace)
        if _stdlib.is_kept(name):
            return _stdlib.keep(name, path)
        return None


_finder = _Finder()


def _alias(name: str) -> ModuleSpec:
    # Nobody else may be asked: with forkless as their package, files of ours would be loaded a second time.
    ours = "forkless" + name.removeprefix(_stdlib.STANDARD)
    try:
        module = import_module(ours)
    except ModuleNotFoundError as error:
        if error.name != ours:
            raise
        raise ModuleNotFoundError(
            f"{name} means {ours} since forkless.install(), and there is no such module", name=name
        ) from None
    loader: Any = _Alias(module)
    spec = ModuleSpec(name, loader, origin=module.__file__)
    spec.submodule_search_locations = getattr(module, "__path__", None)
    return spec


class _Alias:
    """Loads nothing: the module is there."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module
        self._spec = module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module that the name stands for."""
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        """Gives it back its specification, which the import has just replaced."""
        module.__spec__ = self._spec
