"""Where the standard library's own `multiprocessing` is: the only place of forkless that knows.

That is where everybody finds it, until `forkless.install` makes these names mean forkless. Then its modules
are put *aside*: they have other names in `sys.modules`, below `ASIDE`, and other values of `__package__`, so
that their own relative imports go on to find each other. What was not loaded by then is loaded there.

Its classes and functions keep the names of the modules that they are from.

Example:
    >>> from ._stdlib import context as _standard
    >>> class BaseContext(_standard.BaseContext): ...
"""

import builtins
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing import connection as connection
    from multiprocessing import context as context
    from multiprocessing import dummy as dummy
    from multiprocessing import managers as managers
    from multiprocessing import pool as pool
    from multiprocessing import process as process
    from multiprocessing import reduction as reduction
    from multiprocessing import util as util
else:

    def __getattr__(name: str) -> ModuleType:
        # Not remembered, as it is found by another name later.
        full = f"{home()}.{name}"
        try:
            if not name.startswith("__"):
                return import_module(full)
        except ModuleNotFoundError as error:
            if error.name != full:
                raise
        # `pickle` asks all modules for the names of what does not know its own, as ufuncs do.
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


STANDARD = "multiprocessing"
ASIDE = f"{__package__}._standard_multiprocessing"

# Libraries that are made of its innermost parts, which nothing else has: they go on to get the real ones.
KEPT = ("concurrent.futures.process", "joblib.externals.loky", "loky")

aside = False  # whether it has been put aside


def home() -> str:
    """The name of the standard package now."""
    return ASIDE if aside else STANDARD


def loaded(name: str) -> ModuleType | None:
    """One of its modules if somebody has loaded it: "" for the package, "pool", "dummy.connection"."""
    return sys.modules.get(f"{home()}.{name}" if name else home())


def modules() -> dict[str, ModuleType]:
    """All of its modules that are loaded, by their own names: "multiprocessing.pool" and so on."""
    found = {}
    for name, module in list(sys.modules.items()):
        if belongs(name, home()) and isinstance(module, ModuleType):
            found[STANDARD + name.removeprefix(home())] = module
    return found


def belongs(name: str, package: str) -> bool:
    """Whether this is the name of a package, or of something in it."""
    return name == package or name.startswith(f"{package}.")


def is_kept(name: str) -> bool:
    """Whether a module goes on to use the standard `multiprocessing`."""
    return any(belongs(name, kept) for kept in KEPT)


# --- moving it ------------------------------------------------------------------------------------------


def put_aside() -> None:
    """Gives its modules their other names; whoever asks for the usual ones finds nothing."""
    global aside
    found = modules()
    aside = True
    for name, module in found.items():
        own: Any = module.__spec__
        del sys.modules[name]
        _name(module, _elsewhere(own))


def put_back() -> None:
    """Undoes `put_aside`."""
    global aside
    found = modules()
    aside = False
    for name, module in found.items():
        del sys.modules[_aside(name)]
        spec: Any = module.__spec__
        _name(module, spec.loader_state)


def _name(module: ModuleType, spec: ModuleSpec) -> None:
    module.__name__, module.__package__ = spec.name, spec.parent
    module.__spec__, module.__loader__ = spec, spec.loader
    sys.modules[spec.name] = module


def _elsewhere(own: ModuleSpec) -> ModuleSpec:
    """How a module of the standard library is found aside; its own specification is in `loader_state`."""
    spec = ModuleSpec(_aside(own.name), _Aside(own), origin=own.origin, loader_state=own)  # type: ignore[arg-type]
    spec.submodule_search_locations = own.submodule_search_locations
    spec.has_location, spec.cached = True, own.cached
    return spec


def _aside(name: str) -> str:
    return ASIDE + name.removeprefix(STANDARD)


class _Loader:
    """Loads the code of another loader. What is not defined here (`get_source`) is that one's."""

    def __init__(self, own: ModuleSpec) -> None:
        self._own = own

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """None: modules are ordinary ones."""

    def _run(self, module: ModuleType) -> None:
        loader: Any = self._own.loader
        code: CodeType = loader.get_code(self._own.name)
        exec(code, module.__dict__)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own.loader, name)


class _Aside(_Loader):
    """Loads a module of the standard `multiprocessing` while that is aside."""

    def exec_module(self, module: ModuleType) -> None:
        """Runs it. What it defines says that it is from where everybody knows it."""
        name = module.__name__
        if self._own.submodule_search_locations is None:
            module.__name__ = self._own.name
            self._run(module)
            module.__name__ = name
        else:  # The import system takes a package by its name.
            self._run(module)
            for value in list(vars(module).values()):
                if isinstance(value, (type, FunctionType)) and value.__module__ == name:
                    value.__module__ = self._own.name


class _Followed(_Loader):
    """Loads a module, and then calls a function with it."""

    def __init__(self, own: ModuleSpec, then: Callable[[ModuleType], None]) -> None:
        super().__init__(own)
        self._then = then

    def exec_module(self, module: ModuleType) -> None:
        """Runs it."""
        self._run(module)
        self._then(module)


class _Kept(_Followed):
    """Loads a module that shall get the standard `multiprocessing` when it imports that, now or later."""

    def exec_module(self, module: ModuleType) -> None:
        """Runs it, with an `__import__` of its own."""
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": _import}
        super().exec_module(module)


def _import(
    name: str,
    globals: Mapping[str, object] | None = None,
    locals: Mapping[str, object] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> Any:
    """`__import__`, to which `multiprocessing` is the standard one."""
    if not aside or level or not belongs(name, STANDARD):
        return builtins.__import__(name, globals, locals, fromlist or (), level)
    module = builtins.__import__(_aside(name), globals, locals, fromlist or (), 0)
    # Of a dotted name it returns what is before the first dot, unless something is imported from it.
    return module if fromlist else sys.modules[ASIDE]


def find(name: str, path: Sequence[str] | None) -> ModuleSpec | None:
    """The specification of a module that is aside, by its name there; `path` is that of its package."""
    # By the finder of paths, since all others are asked by way of `sys.meta_path`, where ours is.
    own = PathFinder.find_spec(STANDARD + name.removeprefix(ASIDE), path)
    return None if own is None else _elsewhere(own)


def keep(
    name: str, path: Sequence[str] | None, then: Callable[[ModuleType], None] = lambda module: None
) -> ModuleSpec | None:
    """The specification of a module that goes on to use the standard `multiprocessing`; see `KEPT`.

    Args:
        name: the module's.
        path: where to look.
        then: called with the module when it has been loaded.
    """
    return _specify(name, path, lambda own: _Kept(own, then))


def follow(name: str, path: Sequence[str] | None, then: Callable[[ModuleType], None]) -> ModuleSpec | None:
    """The specification of an ordinary module; `then` is called with it when it has been loaded."""
    return _specify(name, path, lambda own: _Followed(own, then))


def _specify(name: str, path: Sequence[str] | None, loader: Callable[[ModuleSpec], Any]) -> ModuleSpec | None:
    spec = PathFinder.find_spec(name, path)
    if spec is not None and hasattr(spec.loader, "get_code"):
        spec.loader = loader(ModuleSpec(name, spec.loader))
    return spec
