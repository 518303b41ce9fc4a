"""What the pickles of `_byvalue` call when they are loaded: it makes functions and classes of definitions."""

import contextlib
import marshal
import pickle
import sys
from _thread import _local
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from importlib import import_module
from types import CellType, CodeType, FunctionType, resolve_bases
from typing import Any, TypeVar

from . import _pickling
from ._units import (
    MISSING,
    Definition,
    Key,
    Namespace,
    ObjectKey,
    SpaceKey,
    Unit,
    VariableKey,
    add_namespace,
    add_object,
    content,
    namespaces,
    objects,
    objects_by_id,
)

_Made = TypeVar("_Made")


class _Loading(_local):
    """What this thread is about to load, by key.

    Attributes:
        pending: Definitions received and not yet looked into, with their senders.
        begun: The pickles of those that are being loaded.
    """

    def __init__(self) -> None:
        self.pending: dict[Key, tuple[str, int, bytes]] = {}
        self.begun: dict[Key, bytes] = {}


_loading = _Loading()


def receive(sender: str, definitions: Sequence[Definition]) -> list[object]:
    """Takes definitions.

    Returns:
        The objects: nobody else may hold some of them until the message is loaded.
    """
    outer, kept, fresh = _loading.pending, [], []
    pending = outer.copy()
    for key, version, pickled in definitions:
        unit = _find(key)
        if unit is None or unit.takes(sender, version):
            pending[key] = (sender, version, pickled)
            fresh.append(key)
        else:
            kept.append(unit.subject)
    if fresh:
        _loading.pending = pending
        try:
            kept += [_take(key) for key in fresh if key in pending]
        finally:
            _loading.pending = outer
    return kept


def _find(key: Key) -> Unit | None:
    return objects.get(key) if len(key) == 2 else _namespace(key[:2]).unit(key[2])


def _take(key: Key) -> Any:
    sender, version, pickled = _loading.pending.pop(key)
    _loading.begun[key] = pickled
    try:
        found = pickle.loads(pickled)
    finally:
        _loading.begun.pop(key, None)
    if len(key) == 3:
        _namespace(key[:2]).variables[key[2]] = found
    unit = _find(key)
    if unit is not None:
        # Not earlier: until now another thread had to load it as well, and did no harm by it.
        unit.seen[sender] = version
    return found


def obj(key: ObjectKey, link: object = None) -> Any:
    """The object of this key."""
    if key in _loading.pending:
        return _take(key)
    found = _known(key)
    if found is MISSING and key in _loading.begun:
        # A base class that lists its subclasses: to make this one it was loaded first, and now wants to have
        # it.
        found = pickle.loads(_loading.begun[key])
    if found is MISSING:
        raise pickle.UnpicklingError("a class or function came back after its process had dropped it")
    return found


def _add(key: ObjectKey, made: _Made) -> _Made:
    """Makes an object known; the one that is to be used, as another thread may have been faster."""
    found: _Made = add_object(key, made, False).subject
    return made if found is MISSING else found


def _known(key: ObjectKey) -> Any:
    unit = objects.get(key)
    return MISSING if unit is None else unit.subject


def variable(key: VariableKey, link: object = None) -> Any:
    """What a global variable holds."""
    if key in _loading.pending:
        return _take(key)
    try:
        return _namespace(key[:2]).variables[key[2]]
    except KeyError:
        raise pickle.UnpicklingError(f"the global variable {key[2]!r} of {key[1]} is gone") from None


def _namespace(key: SpaceKey) -> Namespace:
    """The namespace of this key, made when it is first met."""
    space = namespaces.get(key)
    if space is not None:
        return space
    if key == (_pickling.main_origin, "__main__"):
        return add_namespace(key, vars(sys.modules["__main__"]), _pickling.parent is None)
    name = key[1].partition(" ")[0]
    return add_namespace(key, {"__name__": name, "__builtins__": sys.modules["builtins"]}, False)


def namespace_globals(key: SpaceKey, file: str | None, package: str | None) -> dict[str, Any]:
    """The globals of a namespace, with the attributes that tracebacks and relative imports look for."""
    variables = _namespace(key).variables
    if file is not None:
        variables.setdefault("__file__", file)
    variables.setdefault("__package__", package)
    return variables


def module_globals(name: str) -> dict[str, Any]:
    """The globals of a module that can be imported."""
    return import_module(name).__dict__


def anonymous_globals(base: dict[str, Any]) -> dict[str, Any]:
    """Globals that belong to no module."""
    return base | {"__builtins__": sys.modules["builtins"]}


def load_code(marshalled: bytes) -> CodeType:
    """A code object."""
    code: CodeType = marshal.loads(marshalled)
    return code


def make_cell() -> CellType:
    """An empty cell of a closure."""
    return CellType()


def make_function(
    code: CodeType, variables: dict[str, Any], name: str, cells: tuple[CellType, ...]
) -> FunctionType:
    """A function, to be completed by `fill_function`."""
    return FunctionType(code, variables, name, None, cells)


def define_function(
    key: ObjectKey, code: CodeType, variables: dict[str, Any], name: str, cells: tuple[CellType, ...]
) -> FunctionType:
    """The function of this key, made if there is none, to be completed by `fill_function`."""
    function = _known(key)
    if isinstance(function, FunctionType) and len(function.__closure__ or ()) == len(cells):
        function.__code__ = code
        return function
    made = make_function(code, variables, name, cells)
    if function is not MISSING:
        # The cells of a function are its own for ever.
        objects[key].point_to(made)
        return made
    return _add(key, made)


def fill_function(function: FunctionType, state: tuple[Any, ...]) -> None:
    """Gives a function what it may refer to itself by."""
    _, cells, contents, defaults, keywords, attributes, special, own, submodules = state
    for name in submodules:
        import_module(name)
    for cell, value in contents:
        cell.cell_contents = value
    for cell, new in zip(function.__closure__ or (), cells, strict=True):
        if cell is not new and content(new) is not MISSING:
            cell.cell_contents = new.cell_contents
    function.__globals__.update(own)
    function.__defaults__ = defaults
    function.__kwdefaults__ = keywords
    function.__dict__.clear()
    function.__dict__.update(attributes)
    for name, value in special.items():
        setattr(function, name, value)


def define_class(key: ObjectKey, make: Callable[..., type], arguments: tuple[Any, ...]) -> type:
    """The class of this key, made if there is none, to be completed by `fill_class`."""
    cls = _known(key)
    if isinstance(cls, type):
        return cls
    try:
        cls = make(*arguments)
    except TypeError:
        if not isinstance(arguments[0], type):
            raise
        cls = _make_quietly(*arguments)
    return _add(key, cls)


def _make_quietly(
    meta: Any, name: str, bases: tuple[Any, ...], namespace: dict[str, Any], *_: object
) -> type:
    """Makes a class although its metaclass or `__init_subclass__` wants arguments that nobody remembers.

    Both are passed over: what they would do to the class is part of its definition.
    """
    resolved = resolve_bases(bases)
    if not any("__init_subclass__" in vars(each) for base in resolved for each in base.__mro__[:-1]):
        made: type = type.__new__(meta, name, resolved, dict(namespace))
        return made
    for shield in (_Shield, _SlottedShield):
        # Only a base of the same memory layout can be taken away again.
        with contextlib.suppress(TypeError):
            made = type.__new__(meta, name, (shield, *resolved), dict(namespace))
            made.__bases__ = resolved
            return made
    raise TypeError(f"cannot make the class {name!r} again without the arguments of its __init_subclass__")


class _Shield:
    """As the first base, hides the `__init_subclass__` of the others."""

    def __init_subclass__(cls, **_: object) -> None:
        pass


class _SlottedShield:
    """The same for classes without a `__dict__`."""

    __slots__ = ()

    def __init_subclass__(cls, **_: object) -> None:
        pass


def fill_class(cls: type, state: tuple[Any, ...]) -> None:
    """Gives a class its attributes, and takes those that it no longer has."""
    set_state, name_in_module, attributes, slots, members = state
    unit = objects_by_id[id(cls)]
    for name in unit.attributes - attributes.keys():
        if name in cls.__dict__:
            delattr(cls, name)
    unit.attributes = set(attributes)
    set_state(cls, (attributes, slots))
    cls.__qualname__ = name_in_module
    for name, values in members.items():
        vars(cls.__dict__["_member_map_"][name]).update(values)


def define_other(key: ObjectKey, make: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """The object of this key, made if there is none."""
    found = _known(key)
    return _add(key, make(*arguments)) if found is MISSING else found


def cache_function(maxsize: int | None, typed: bool, function: Callable[..., Any]) -> Any:
    """A function with a cache of its own, see `functools.lru_cache`."""
    return lru_cache(maxsize, typed)(function)


def make_cached_property(function: Callable[[Any], Any], name: str | None) -> Any:
    """A `functools.cached_property`: the one of 3.11 and before has a lock in it."""
    made = cached_property(function)
    made.attrname = name
    return made


def call(make: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """What `make(*arguments, **options)` returns."""
    return make(*arguments, **options)
