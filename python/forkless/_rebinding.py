"""What modules imported before `forkless.install` hold of `multiprocessing`: their names are bound anew.

A module's name that is bound to a module, class, function or context of the standard library gets what
forkless has in that place. What else refers to one of them cannot be seen or changed from outside (a base
class, a default argument, a class's attribute), and refuses the installation. Modules of the standard library
stay as they are, and so do those that are to keep the standard `multiprocessing`.
"""

import sys
from collections.abc import Iterable, Iterator
from importlib import import_module
from types import FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

from . import _stdlib


class Origin(NamedTuple):
    """What something of the standard library is.

    Attributes:
        thing: itself; kept, so that nothing else gets its id.
        title: by what people know it.
        module: where its counterpart is, below `forkless`; "" for the package.
        name: the name of that there; "" for the module itself.
    """

    thing: object
    title: str
    module: str
    name: str

    def __str__(self) -> str:
        return self.title

    def counterpart(self) -> Any:
        """What forkless has in its place.

        Raises:
            RuntimeError: nothing.
        """
        package = __package__ or ""
        try:
            module = import_module(f"{package}.{self.module}" if self.module else package)
            if isinstance(self.thing, _standard_context()):
                return module._contexts[self.name]
            return getattr(module, self.name) if self.name else module
        except (ImportError, AttributeError) as error:
            raise RuntimeError(f"forkless has nothing in the place of {self}") from error


class Binding(NamedTuple):
    """A name of a module: what it was bound to, and what it is to be bound to."""

    namespace: dict[str, Any]
    name: str
    old: object
    new: object


_done: list[Binding] = []


def find() -> list[Binding]:
    """What there is to be bound anew; changes nothing.

    Raises:
        RuntimeError: something cannot be replaced; the message names it, and what to do.
    """
    origins = _origins()
    if not origins:
        return []
    found, problems = [], [*_derived(origins)]
    for module in _modules():
        namespace = vars(module)
        hits = [(name, value) for name, value in list(namespace.items()) if id(value) in origins]
        for name, value in hits:
            try:
                found.append(Binding(namespace, name, value, origins[id(value)].counterpart()))
            except RuntimeError as error:
                problems.append((module.__name__, f"holds {origins[id(value)]}, and {error}"))
        if hits:
            problems += [(module.__name__, what) for what in _hidden(module, origins)]
    if problems:
        names = sorted({name for name, _ in problems})
        details = "; ".join(f"{name} {what}" for name, what in problems)
        raise RuntimeError(
            f"import {', '.join(names)} after forkless.install(), because what was made of multiprocessing "
            f"there cannot be replaced: {details}"
        )
    return found


def apply(bindings: Iterable[Binding]) -> None:
    """Binds the names anew."""
    for binding in bindings:
        binding.namespace[binding.name] = binding.new
        _done.append(binding)


def undo() -> None:
    """Binds them as they were, where nobody has bound them to something else since."""
    while _done:
        binding = _done.pop()
        if binding.namespace.get(binding.name) is binding.new:
            binding.namespace[binding.name] = binding.old


def _modules() -> Iterator[ModuleType]:
    """Everybody's modules, but for those that go on to use the standard `multiprocessing`."""
    for name, module in list(sys.modules.items()):
        if not _is_left_alone(name) and _is_module(module):
            yield module


def _is_module(value: object) -> bool:
    return isinstance(value, ModuleType)  # anything can be put there


def _is_left_alone(name: str) -> bool:
    top = name.partition(".")[0]
    return top == __package__ or top in sys.stdlib_module_names or _stdlib.is_kept(name)


# --- what is the standard library's -----------------------------------------------------------------------


def _origins() -> dict[int, Origin]:
    """Everything public in the loaded modules of the standard library, by id."""
    found: dict[int, Origin] = {}
    for full_name, module in sorted(_stdlib.modules().items()):
        name = full_name.removeprefix(_stdlib.STANDARD).removeprefix(".")
        found[id(module)] = Origin(module, full_name, name, "")
        for attribute, value in vars(module).items():
            if not attribute.startswith("_") and _is_of_standard(value):
                found.setdefault(id(value), Origin(value, f"{full_name}.{attribute}", name, attribute))
    contexts = getattr(_stdlib.loaded("context"), "_concrete_contexts", {})
    for method, context in contexts.items():
        found[id(context)] = Origin(context, f"the context {method!r} of multiprocessing", "context", method)
    executor = getattr(sys.modules.get("concurrent.futures.process"), "ProcessPoolExecutor", None)
    if executor is not None:
        found[id(executor)] = Origin(
            executor, "concurrent.futures.ProcessPoolExecutor", "executor", "Executor"
        )
    return found


def _is_of_standard(value: object) -> bool:
    if isinstance(value, MethodType):  # `multiprocessing.Pool` is a method of a context
        return isinstance(value.__self__, _standard_context())
    if isinstance(value, (type, FunctionType)):
        return _stdlib.belongs(value.__module__, _stdlib.STANDARD)
    return False


def _standard_context() -> type | tuple[()]:
    return getattr(_stdlib.loaded("context"), "BaseContext", ())


# --- what cannot be replaced ------------------------------------------------------------------------------


def _derived(origins: dict[int, Origin]) -> Iterator[tuple[str, str]]:
    """Classes of others that are derived from standard ones, each with its module."""
    pickler = getattr(_stdlib.loaded("reduction"), "ForkingPickler", ())
    for origin in list(origins.values()):
        base = origin.thing
        # An exception or a pickler of the standard library is as good as one of forkless.
        if isinstance(base, type) and not issubclass(base, (BaseException, pickler)):
            for kind in _subclasses(base):
                yield kind.__module__, f"derives {kind.__qualname__} from {origin}"


def _subclasses(base: type) -> Iterator[type]:
    kinds: list[type] = type.__subclasses__(base)
    for kind in kinds:
        # Those of forkless itself are not followed: what is derived from them is as it should be.
        if kind.__module__.partition(".")[0] == __package__:
            continue
        if not _is_left_alone(kind.__module__):
            yield kind
        yield from _subclasses(kind)


def _hidden(module: ModuleType, origins: dict[int, Origin]) -> Iterator[str]:
    """What functions and classes of a module hold: default arguments and attributes of classes."""
    for value in list(vars(module).values()):
        if getattr(value, "__module__", None) != module.__name__:
            continue
        if isinstance(value, FunctionType):
            yield from _defaults(value, origins)
        elif isinstance(value, type):
            for name, attribute in list(vars(value).items()):
                if id(attribute) in origins:
                    yield f"has {origins[id(attribute)]} as {value.__qualname__}.{name}"
                elif isinstance(attribute, FunctionType):
                    yield from _defaults(attribute, origins)


def _defaults(function: FunctionType, origins: dict[int, Origin]) -> Iterator[str]:
    for default in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
        if id(default) in origins:
            yield f"has {origins[id(default)]} as a default argument of {function.__qualname__}"
