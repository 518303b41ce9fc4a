"""What there is in a module, as its callers see it: names, the members of classes, and signatures."""

from __future__ import annotations

import ast
import builtins
import contextlib
import enum
import importlib
import inspect
import multiprocessing
import pkgutil
from collections.abc import Iterator
from types import BuiltinFunctionType, ModuleType
from typing import Any

Kind = inspect.Parameter

# Meant for use, though neither in `__all__` nor defined where they are found.
ALSO = {
    "multiprocessing": {"reducer", "process", "context"},
    "multiprocessing.connection": {"AuthenticationError", "BufferTooShort"},
    "multiprocessing.context": {
        "AuthenticationError",
        "BufferTooShort",
        "ProcessError",
        "TimeoutError",
        "reduction",
    },
    "multiprocessing.pool": {"TimeoutError"},
    "multiprocessing.queues": {"Empty", "Full"},
    "multiprocessing.managers": {"SharedMemoryManager", "shared_memory"},
    "multiprocessing.reduction": {"ForkingPickler"},
}
# Special methods that are part of what an object can do.
_PROTOCOL = (
    "__aiter__ __call__ __contains__ __delattr__ __delitem__ __enter__ __exit__ __getitem__ __iadd__ "
    "__imul__ __iter__ __len__ __next__ __setitem__"
).split()


def modules() -> list[str]:
    """The modules of `multiprocessing` that work on this system, the package first."""
    found = [module.name for module in pkgutil.walk_packages(multiprocessing.__path__, "multiprocessing.")]
    return ["multiprocessing", *(name for name in sorted(found) if not name.endswith("_win32"))]


def ours(module: str) -> str:
    """The module of forkless that stands for one of the standard library."""
    return "forkless" + module.removeprefix("multiprocessing")


def names(module: str) -> dict[str, Any]:
    """What a module of the standard library offers, by name: members of classes as "Class.member".

    That is what stands in `__all__`, what is defined in the module and has no underscore, and `ALSO`.
    """
    home = importlib.import_module(module)
    chosen = {*getattr(home, "__all__", ()), *_defined(home), *ALSO.get(module, ())}
    found = {}
    for name in sorted(name for name in chosen if not name.startswith("_")):
        value = found[name] = getattr(home, name)
        if inspect.isclass(value):
            found.update((f"{name}.{member}", part) for member, part in members(value).items())
    return found


def find(module: str, name: str) -> Any:
    """What forkless has under a name of the standard library's module.

    Raises:
        AttributeError, ModuleNotFoundError: it has not.
    """
    value: Any = importlib.import_module(ours(module))
    for part in name.split("."):
        value = inspect.getattr_static(value, part) if inspect.isclass(value) else getattr(value, part)
    return value


def _defined(module: ModuleType) -> set[str]:
    """The names that a module's own text defines, and that are there."""
    tree = ast.parse(inspect.getsource(module))
    found = {name for statement in _top(tree.body) for name in _names_of(statement)}
    return {name for name in found if not name.startswith("_") and hasattr(module, name)}


def _top(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when the module is loaded, those in branches too."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.If | ast.Try | ast.With):
            for field in ("body", "orelse", "finalbody"):
                yield from _top(getattr(statement, field, []))


def _names_of(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
        yield statement.name
    elif isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        for target in targets:
            parts = target.elts if isinstance(target, ast.Tuple) else [target]
            yield from (part.id for part in parts if isinstance(part, ast.Name))


def members(kind: type, home: str = "") -> dict[str, Any]:
    """The public methods and attributes of a class that are not those of a built-in one.

    Args:
        kind: the class.
        home: only those that classes of this package define, if it is given.
    """
    found: dict[str, Any] = {}
    for owner in reversed(kind.__mro__):
        if owner.__module__ in ("builtins", "_thread", "typing", "abc") or not owner.__module__.startswith(
            home
        ):
            continue
        for name, value in vars(owner).items():
            if not name.startswith("_") or name in _PROTOCOL:
                found[name] = value
    return found


# --- signatures ------------------------------------------------------------------------------------------


def complaint(theirs: Any, ours: Any, *, method: bool = False) -> str | None:
    """Why a call that the standard library's object takes would not be taken by ours; None if it would.

    Args:
        theirs: what the standard library has.
        ours: what forkless has.
        method: whether both are members of a class, as they stand in it.
    """
    if inspect.isclass(theirs) and issubclass(theirs, BaseException | enum.Enum):
        return None
    wanted, given = (_signature(value, method) for value in (theirs, ours))
    if wanted is None or all(p.kind in _REST for p in wanted.parameters.values()):
        return None  # It does not say.
    if given is None:
        return "it has no signature" if callable(_bare(ours)) else "it cannot be called"
    return next(_complaints(wanted, given), None)


def _bare(value: Any) -> Any:
    return value.__func__ if isinstance(value, staticmethod | classmethod) else value


def _signature(value: Any, method: bool) -> inspect.Signature | None:
    """How it is called; None for what is no function, or does not say."""
    free = isinstance(value, staticmethod | BuiltinFunctionType)
    bound = isinstance(value, classmethod) or (method and not free)
    value = _bare(value)
    if not callable(value) or (inspect.isclass(value) and value.__module__ == builtins.__name__):
        return None
    with contextlib.suppress(ValueError, TypeError):
        signature = inspect.signature(value)
        if bound and not inspect.isclass(value):
            return signature.replace(parameters=list(signature.parameters.values())[1:])
        return signature
    return None


def _complaints(wanted: inspect.Signature, given: inspect.Signature) -> Iterator[str]:
    positional = [p for p in given.parameters.values() if p.kind in _POSITIONAL]
    kinds = {p.kind for p in given.parameters.values()}
    index = -1
    for parameter in wanted.parameters.values():
        name, kind, ours = parameter.name, parameter.kind, given.parameters.get(parameter.name)
        if kind in _REST:
            if kind not in kinds:
                yield f"it takes no {'*' if kind is Kind.VAR_POSITIONAL else '**'}{name}"
            continue
        if kind in _POSITIONAL:
            index += 1
            if index >= len(positional) and Kind.VAR_POSITIONAL not in kinds:
                yield f"it takes no {name} by position"
        by_keyword = ours is not None and ours.kind in _BY_NAME
        if kind in _BY_NAME and not (by_keyword or Kind.VAR_KEYWORD in kinds or name.startswith("_")):
            yield f"it takes no {name} by name"
        if ours is None:
            continue
        if kind is Kind.POSITIONAL_OR_KEYWORD and ours in positional and positional.index(ours) != index:
            yield f"{name} is in another place"
        if parameter.default is not Kind.empty and ours.default is Kind.empty and ours.kind not in _REST:
            yield f"{name} has no default"
    for place, parameter in enumerate(given.parameters.values()):
        needed = parameter.default is Kind.empty and parameter.kind not in _REST
        if needed and parameter.name not in wanted.parameters and place > index:
            yield f"it wants a {parameter.name}"


_POSITIONAL = (Kind.POSITIONAL_ONLY, Kind.POSITIONAL_OR_KEYWORD)
_REST = (Kind.VAR_POSITIONAL, Kind.VAR_KEYWORD)
_BY_NAME = (Kind.POSITIONAL_OR_KEYWORD, Kind.KEYWORD_ONLY)
