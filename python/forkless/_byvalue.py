"""Functions and classes that another process cannot import, by value, with the globals they use.

A *namespace* is the globals of a module that cannot be imported elsewhere, `__main__` first of all. In a
child it is a dictionary of its own (for the parent's `__main__`, the child's `__main__`), so functions of one
module share their globals there as well: an initializer's `global lock` is seen by the tasks that follow.

A *unit* is one thing in all processes: a class, a function at the top of its module, or a global variable.
What one process tells another about a unit is a *definition*: a key, a version, and a pickle in which other
units are mere keys. A message carries the definitions of all that it needs, since its sender cannot know who
takes it from a queue. They are pickled again only when something has changed, and the receiver looks into new
versions only:

- A process at home, where the class was made or the variable belongs, takes no definition. So what comes
  back is its own class again, and nothing that a child did to it overwrites anything.
- Any other process takes the first definition that arrives, then each other version from the same sender, its
  parent, or the unit's home. So a child sees what its parent changed, and keeps what it changed itself.

Closures, lambdas and other functions without a name of their own are no units but values, new with each
message.

This module is the sender's half, `_arrival` the receiver's. The making of classes is cloudpickle's.
"""

import copyreg
import sys
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
from types import CellType, CodeType, FunctionType, MethodDescriptorType, ModuleType, WrapperDescriptorType
from typing import Any

from . import _arrival, _pickling
from ._beside import Stand
from ._forkless import Deposit, Shared
from ._units import (
    ATOMS,
    MISSING,
    Closure,
    Definition,
    Key,
    Namespace,
    Object,
    Packed,
    Scan,
    Sent,
    Unit,
    Variable,
    content,
    is_anonymous,
    namespace_of,
    namespace_of_module,
    numbers,
    object_unit,
    objects_by_id,
    same,
    scan,
)

_WARN_ABOVE = 1_000_000  # bytes of definitions with one function
_KEEP_BELOW = 1 << 16  # bytes of a definition that is kept, to be sent again


class LargeGlobalWarning(RuntimeWarning):
    """A function takes much data along, and again with each message."""


class _Definer(_pickling.Pickler):
    """Pickles a definition.

    An object that is also held by a global variable is taken from there, so that it is one object there, too.
    """

    def __init__(self, unit: Unit) -> None:
        super().__init__()
        self._writer = Writer(self, unit)

    def reducer_override(self, obj: Any) -> Any:
        stand = self.writer.slot(obj, self.writer.space)
        return super().reducer_override(obj) if stand is obj else stand.reduced


def _current(unit: Unit) -> Packed:
    """The definition of a unit as of now; a new version if it differs from the last one."""
    subject, sent = unit.subject, unit.sent
    if subject is MISSING:
        return _NOTHING
    if sent is not None and sent.probe is not None and unit.finds(sent.probe, subject):
        return sent.packed
    parts = unit.trace(subject)
    if sent is not None and parts is not None and same(parts, sent.parts):
        return sent.packed
    probe = unit.probe(subject, parts)
    pickler = _Definer(unit)
    writer = pickler.writer
    pickler.dump(writer.slot(subject, writer.space) if isinstance(unit, Variable) else subject)
    pickled, handles = pickler.take(), pickler.handles
    pickler.reset()
    is_small = len(pickled) < _KEEP_BELOW
    fingerprint = pickled if is_small else hash(pickled)
    if sent is not None and sent.packed.definition is not None and pickled == sent.packed.definition[2]:
        packed = sent.packed
    else:
        known, version = unit.version
        if known != fingerprint:
            version = next(numbers)
            unit.version = (fingerprint, version)
        needs = tuple(need for need in (writer.needs | writer.own_name).values() if need is not unit)
        packed = Packed((unit.key, version, pickled), needs, handles)
    unit.sent = Sent(packed, parts, probe) if is_small and not _has_descriptors(handles) else None
    return packed


def _has_descriptors(handles: Sequence[Shared]) -> bool:
    """Whether a definition comes with descriptors: kept to be sent again, it would keep them open."""
    return any(isinstance(handle, Deposit) for handle in handles)


_NOTHING = Packed(None, (), ())


class Writer:
    """Reduces by value what one pickle meets: a message, or the definition of one unit.

    Attributes:
        unit: Whose definition it is; None for a message.
        space: Where that unit belongs.
        needs: The units that the definition refers to.
        own_name: The variable by which the unit is found.
    """

    def __init__(self, pickler: _pickling.Pickler, unit: Unit | None = None) -> None:
        self.unit = unit
        self.space = None if unit is None else unit.namespace
        self.needs: dict[Key, Unit] = {}
        self.own_name: dict[Key, Unit] = {}
        self._pickler = pickler
        self._is_begun = False
        self._values: list[FunctionType] = []
        self._sent: set[Key] = set()
        self._filled: set[int] = set()
        self._stands: dict[int, tuple[object, Stand]] = {}
        self._aliases: dict[int, dict[int, str]] = {}

    # One method for each kind of object.

    def function(self, function: FunctionType) -> Any:
        """A function: by key, as an attribute of its class, or by value."""
        unit = objects_by_id.get(id(function))
        if unit is None:
            owner, name = _place(function)
            if isinstance(owner, type) and (self.unit is None or self.unit.subject is not owner):
                return getattr, (owner, name)
            if not isinstance(owner, ModuleType):
                return self._function(function, _arrival.make_function)
            unit = object_unit(function)
        if self._begins(unit):
            self._need_own_name(function)
            return self._function(function, _arrival.define_function, unit.key)
        return self._refer(unit)

    def klass(self, cls: type) -> Any:
        """A class: by key."""
        if type(cls) in copyreg.dispatch_table:
            return NotImplemented
        if id(cls) not in objects_by_id and _is_native(cls):
            return (getattr, (sys.modules["types"], _TYPES[cls])) if cls in _TYPES else NotImplemented
        unit = object_unit(cls)
        if not self._begins(unit):
            return self._refer(unit)
        self._need_own_name(cls)
        make, arguments, state, _, _, set_state = _reduce_class(cls)
        attributes, slots = state
        if isinstance(arguments[0], type):
            arguments = _correct(cls, attributes, arguments)
        # pickle itself leaves `__slotnames__` in every class of which it has seen an instance.
        attributes = {k: self.slot(v, self.space) for k, v in attributes.items() if k != "__slotnames__"}
        # Made again from its value alone, a member has lost what its `__init__` gave it.
        members = {
            name: {k: v for k, v in vars(member).items() if not k.startswith("__")}
            for name, member in cls.__dict__.get("_member_map_", {}).items()
        }
        state = (set_state, cls.__qualname__, attributes, slots, members)
        return _arrival.define_class, (unit.key, make, arguments), state, None, None, _arrival.fill_class

    def cached_function(self, function: Any) -> Any:
        """The result of `functools.lru_cache`, with an empty cache."""
        parameters = function.cache_parameters()
        arguments = (parameters["maxsize"], parameters["typed"], function.__wrapped__)
        return self._named(function, _arrival.cache_function, arguments)

    def type_variable(self, obj: Any) -> Any:
        """A `TypeVar` and its like."""
        describe = _TYPE_VARIABLES.get(type(obj).__name__)
        if describe is None:
            return NotImplemented
        module = getattr(obj, "__module__", None)
        if _pickling.importable(module) and getattr(sys.modules.get(module or ""), obj.__name__, None) is obj:
            return NotImplemented
        return self._named(obj, _arrival.call, (type(obj), *describe(obj)))

    def instance(self, obj: Any) -> Any:
        """An instance of a class of `__main__`; some reduce to the name of a global variable."""
        kind = type(obj)
        is_standard = kind.__reduce_ex__ is _REDUCE_EX and kind.__reduce__ is _REDUCE
        if is_standard or kind in copyreg.dispatch_table:
            return NotImplemented
        reduced = obj.__reduce_ex__(5)
        space = namespace_of_module("__main__")
        if not isinstance(reduced, str) or space is None:
            return reduced
        unit = space.unit(reduced)
        if unit is self.unit:
            return copyreg.__newobj__, (kind,), vars(obj)  # type: ignore[attr-defined]
        return _arrival.variable, (unit.key, self._link((unit,)))

    def other(self, obj: Any) -> Any:
        """What modules and classes are made of besides functions."""
        kind = type(obj)
        if kind is CodeType and scan(obj).marshalled is not None:
            return _arrival.load_code, (scan(obj).marshalled,)
        if kind is cached_property:
            return _arrival.make_cached_property, (obj.func, obj.attrname)
        if kind is weakref.WeakKeyDictionary or kind is weakref.WeakValueDictionary:
            return kind, (dict(obj),)
        reduce = _cloudpickle().dispatch_table.get(kind)
        return NotImplemented if reduce is None else reduce(obj)

    # Parts of functions.

    def _function(self, function: FunctionType, make: Callable[..., Any], *key: Key) -> Any:
        code, variables, closure = function.__code__, function.__globals__, function.__closure__ or ()
        found, space = scan(code), namespace_of(variables)
        link, own = None, {}
        if space is not None:
            link = self._link([space.unit(name) for name in found.names], function)
        elif is_anonymous(variables):
            own = {name: variables[name] for name in found.names if name in variables}
        cells = tuple(self._stand(cell, _arrival.make_cell) for cell in closure)
        contents = self._contents(closure, cells)
        if not key and self.unit is None:
            self._values.append(function)
        keywords = function.__kwdefaults__ or {}
        state = (
            link,
            cells,
            [(cell, self.slot(value, space)) for cell, value in contents],
            function.__defaults__ and tuple(self.slot(value, space) for value in function.__defaults__),
            {name: self.slot(value, space) for name, value in keywords.items()} or None,
            {name: self.slot(value, space) for name, value in function.__dict__.copy().items()},
            _special_attributes(function),
            own,
            _submodules(found, own if space is None else space.variables, contents),
        )
        arguments = (*key, code, self._globals(variables, space), function.__name__, cells)
        return make, arguments, state, None, None, _arrival.fill_function

    def _globals(self, variables: dict[str, Any], space: Namespace | None) -> Stand:
        if space is not None:
            surroundings = variables.get("__file__"), variables.get("__package__")
            return self._stand(variables, _arrival.namespace_globals, space.key, *surroundings)
        if not is_anonymous(variables):
            return self._stand(variables, _arrival.module_globals, variables["__name__"])
        names = ("__name__", "__file__", "__package__", "__path__")
        base = {name: variables[name] for name in names if name in variables}
        return self._stand(variables, _arrival.anonymous_globals, base)

    def _stand(self, original: object, make: Callable[..., Any], *arguments: Any) -> Stand:
        """The same stand-in for the same original, so that its copy is also only one."""
        known = self._stands.get(id(original))
        if known is None:
            known = self._stands[id(original)] = (original, Stand(make, arguments))
        return known[1]

    def _contents(self, closure: Sequence[CellType], stands: Sequence[Stand]) -> Sequence[tuple[Stand, Any]]:
        """What the cells hold; it goes with the first function that has the cell."""
        pairs = [pair for pair in zip(stands, closure, strict=True) if id(pair[1]) not in self._filled]
        self._filled.update(map(id, closure))
        return [(stand, content(cell)) for stand, cell in pairs if content(cell) is not MISSING]

    def slot(self, value: Any, space: Namespace | None) -> Any:
        """The value, or a reference to the global variable that holds the very same object.

        So a default argument `MISSING` is still the global `MISSING` for the function's `is`.
        """
        stand = _pickling.inherited.get(id(value))
        if stand is not None:
            return stand
        kind = type(value)
        if space is None or kind in _NEVER_ALIASED or issubclass(kind, (type, Shared)):
            return value
        # The receiver of a message takes variables from their home only, and must not use its own instead.
        if self.unit is None and not space.home:
            return value
        aliases = self._aliases.get(id(space))
        if aliases is None:
            aliases = self._aliases[id(space)] = space.aliases()
        name = aliases.get(id(value))
        unit = None if name is None or kind.__module__ == "typing" else space.unit(name)
        if unit is None or unit is self.unit:
            return value
        return self._stand(value, _arrival.variable, unit.key, self._link((unit,)))

    def look_for_large_closures(self) -> None:
        """Warns of functions that took much along by themselves, once for each piece of code."""
        for function in self._values:
            if function.__code__ not in _looked_at:
                _looked_at.add(function.__code__)
                pickler = _pickling.Pickler()
                pickler.dump(([content(cell) for cell in function.__closure__ or ()], function.__defaults__))
                size = len(pickler.take())
                if size > _WARN_ABOVE:
                    _warn(function, size, "in variables of the functions around it or in default arguments")

    # Units.

    def _named(self, obj: Any, make: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        unit = object_unit(obj)
        if not self._begins(unit):
            return self._refer(unit)
        self._need_own_name(obj)
        return _arrival.define_other, (unit.key, make, arguments)

    def _begins(self, unit: Unit) -> bool:
        """Whether this is the unit that is to be defined; from then on it is referred to like others."""
        if unit is not self.unit or self._is_begun:
            return False
        self._is_begun = True
        return True

    def _need_own_name(self, obj: Any) -> None:
        """What is found by name here is to be found by name there: `pickle` looks for it."""
        path: str = getattr(obj, "__qualname__", None) or getattr(obj, "__name__", None) or "<unknown>"
        space = namespace_of_module(getattr(obj, "__module__", None))
        if space is None or "<" in path:
            return
        first, _, rest = path.partition(".")
        found = space.variables.get(first)
        if (_pickling.resolve(found, rest)[1] if rest else found) is obj:
            self.own_name[space.unit(first).key] = space.unit(first)

    def _refer(self, unit: Object) -> Any:
        if self.unit is not None or self._sent or self._pickler.home:
            return _arrival.obj, (unit.key, self._link((unit,), unit.subject))
        closure = unit.closure
        if closure is None or not all(_current(need) is packed for need, packed in closure.units):
            return _arrival.obj, (unit.key, self._link((unit,), unit.subject, unit))
        # Most often nothing has changed since the last message.
        self._sent |= closure.keys
        self._pickler.handles += closure.handles
        return _arrival.obj, (unit.key, Stand(_arrival.receive, (_pickling.identity, closure.definitions)))

    def _link(
        self, units: Iterable[Unit], culprit: object = None, remember: Object | None = None
    ) -> Stand | None:
        """In a definition: notes what it needs. In a message: all definitions that have not gone before."""
        if self.unit is not None:
            self.needs.update((unit.key, unit) for unit in units)
            return None
        found = list(self._walk(units))
        definitions = tuple(packed.definition for _, packed in found if packed.definition is not None)
        if not definitions:
            return None
        if sum(len(pickled) for _, _, pickled in definitions) > _WARN_ABOVE:
            _warn_of_globals(culprit, definitions)
        elif remember is not None:
            handles = [handle for _, packed in found for handle in packed.handles]
            keys = frozenset(unit.key for unit, _ in found)
            kept = not _has_descriptors(handles)
            remember.closure = Closure(found, definitions, keys, handles) if kept else None
        return Stand(_arrival.receive, (_pickling.identity, definitions))

    def _walk(self, units: Iterable[Unit]) -> Iterator[tuple[Unit, Packed]]:
        """Each unit after those it needs, where that is possible: code may run while it is loaded."""
        home = _pickling.parent if self._pickler.home else None
        stack: list[tuple[Unit | None, Packed, Iterator[Unit]]] = [(None, _NOTHING, iter(units))]
        while stack:
            unit, packed, needs = stack[-1]
            need = next(needs, None)
            if need is None:
                stack.pop()
                if unit is not None:
                    yield unit, packed
            elif need.key not in self._sent:
                self._sent.add(need.key)
                if home is None or home not in need.seen:
                    packed = _current(need)
                    self._pickler.handles += packed.handles
                    stack.append((need, packed, iter(packed.needs)))


def _place(function: FunctionType) -> tuple[Any, str]:
    """Where a function is found by name: a module or a class, and its name there; (None, "") if nowhere."""
    module = sys.modules.get(function.__module__ or "")
    path = function.__qualname__
    if module is None or "<" in path:
        return None, ""
    owner, found = _pickling.resolve(module, path)
    return (owner, path.rpartition(".")[2]) if found is function else (None, "")


def _is_native(cls: type) -> bool:
    """Whether a class was made in C: there is nothing in it that could travel by value."""
    return not cls.__flags__ & _HEAP_TYPE or any(
        isinstance(value, (MethodDescriptorType, WrapperDescriptorType)) and value.__objclass__ is cls
        for value in cls.__dict__.copy().values()
    )


def _special_attributes(function: FunctionType) -> dict[str, Any]:
    found = {"__qualname__": function.__qualname__, "__doc__": function.__doc__}
    if function.__module__ != function.__globals__.get("__name__"):
        found["__module__"] = function.__module__
    for name in ("__annotations__", "__type_params__"):
        value = getattr(function, name, None)
        if value:
            found[name] = value
    return found


def _submodules(found: Scan, variables: dict[str, Any], contents: Iterable[tuple[object, Any]]) -> list[str]:
    """Modules that code reaches as attributes of packages, `xml.etree`: someone has to import them there."""
    values = [*map(variables.get, found.names), *(value for _, value in contents)]
    names = [
        value.__name__ for value in values if isinstance(value, ModuleType) and hasattr(value, "__path__")
    ]
    for name in names:  # It grows while it is read.
        names += (
            n for n in (f"{name}.{each}" for each in found.attributes) if n in sys.modules and n not in names
        )
    return sorted(name for name in names if "." in name)


def _warn_of_globals(culprit: object, definitions: Sequence[Definition]) -> None:
    key, _, largest = max(definitions, key=lambda definition: len(definition[2]))
    part = f"the global {key[2]!r}" if len(key) == 3 else "a class or function"
    size = sum(len(pickled) for _, _, pickled in definitions)
    _warn(culprit, size, f"in globals, most of it {part} ({len(largest) / 1e6:.1f} MB)")


def _warn(culprit: object, size: int, where: str) -> None:
    name = getattr(culprit, "__qualname__", "this message")
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(f"{__package__}."):
        level, frame = level + 1, frame.f_back
    warnings.warn(
        f"{name} takes {size / 1e6:.1f} MB along each time it is sent, {where}: make it a share(array), "
        "or set it in an initializer",
        LargeGlobalWarning,
        stacklevel=level,
    )


_looked_at: "weakref.WeakSet[CodeType]" = weakref.WeakSet()
_HEAP_TYPE = 1 << 9
_TYPES: dict[type, str] = {cls: name for name, cls in vars(sys.modules["types"]).items() if type(cls) is type}
_NEVER_ALIASED = (ATOMS - {object}) | {tuple, frozenset, FunctionType, Stand, *_pickling.handlers}
_REDUCE: Any = object.__reduce__
_REDUCE_EX: Any = object.__reduce_ex__


def _describe_type_variable(obj: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    options = {"bound": obj.__bound__, "covariant": obj.__covariant__, "contravariant": obj.__contravariant__}
    if getattr(obj, "__infer_variance__", False):
        options = {"bound": obj.__bound__, "infer_variance": True}
    return (obj.__name__, *getattr(obj, "__constraints__", ())), options | _default(obj)


def _default(obj: Any) -> dict[str, Any]:
    return {"default": obj.__default__} if hasattr(obj, "has_default") and obj.has_default() else {}


_TYPE_VARIABLES: dict[str, Callable[[Any], tuple[tuple[Any, ...], dict[str, Any]]]] = {
    "TypeVar": _describe_type_variable,
    "ParamSpec": _describe_type_variable,
    "TypeVarTuple": lambda obj: ((obj.__name__,), _default(obj)),
    "NewType": lambda obj: ((obj.__name__, obj.__supertype__), {}),
    "TypeAliasType": lambda obj: ((obj.__name__, obj.__value__), {"type_params": obj.__type_params__}),
}


@lru_cache(None)
def _cloudpickle() -> Any:
    """A pickler of cloudpickle that is only asked how to reduce things."""
    from io import BytesIO

    from cloudpickle import Pickler

    return Pickler(BytesIO(), protocol=5)


def _reduce_class(cls: type) -> Any:
    reduced = _cloudpickle().reducer_override(cls)
    if reduced is NotImplemented:
        # Loaded under a name that others cannot import: cloudpickle has to be told.
        from cloudpickle import register_pickle_by_value

        register_pickle_by_value(sys.modules[cls.__module__])
        reduced = _cloudpickle().reducer_override(cls)
    return reduced


def _correct(cls: type, attributes: dict[str, Any], arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments for making a class again, with what cloudpickle leaves out or gets wrong."""
    meta, name, bases, namespace, *more = arguments
    if "__slots__" in attributes:
        # Set on a class that exists already, they would have no effect.
        namespace = namespace | {"__slots__": attributes.pop("__slots__")}
    if "_fields" in attributes and issubclass(cls, tuple):
        # All that `typing.NamedTuple` did to the class is part of its definition.
        bases = cls.__bases__
    return meta, name, bases, namespace, *more
