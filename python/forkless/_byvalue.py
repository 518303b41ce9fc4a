"""Functions and classes that another process cannot import, by value, with the globals they use.

A *namespace* is the globals of a module that cannot be imported elsewhere, `__main__` first of all. In a child it is
a dictionary of its own (for the parent's `__main__`, the child's `__main__`), so functions of one module share
their globals there as well: an initializer's `global lock` is seen by the tasks that follow.

A *unit* is one thing in all processes: a class, a function at the top of its module, or a global variable. What one
process tells another about a unit is a *definition*: a key, a version, and a pickle in which other units are mere keys. A
message carries the definitions of all that it needs, since its sender cannot know who takes it from a queue. They
are pickled again only when something changed, and the receiver looks into the new ones only:

- A process at home, where the class was defined or the variable belongs, takes no definition. So what comes back is
  its own class again, and nothing that a child did to it overwrites anything.
- Any other process takes the first definition that arrives, and later ones from the same sender, its parent, or the
  unit's home, if they are newer. So a child sees what its parent changed, and keeps what it changed itself.

Closures, lambdas and other functions without a name of their own are no units but values, new with each message.
The building of classes is cloudpickle's.
"""

import copyreg
import marshal
import pickle
import sys
import warnings
import weakref
from _thread import _local
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
from importlib import import_module
from itertools import count
from operator import is_
from types import (
    BuiltinFunctionType,
    CellType,
    ClassMethodDescriptorType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any, NamedTuple

from . import _pickling
from ._forkless import Shared

Key = (
    tuple[str, int] | tuple[str, str, str]
)  # (origin, number) of an object; (origin, module, name) of a variable
Definition = tuple[Key, int, bytes]

_WARN_ABOVE = 1_000_000  # bytes of definitions with one function
_CACHE_BELOW = 1 << 16  # bytes of a definition that is kept to be sent again
_MISSING = object()
_numbers = count(1)  # of units and versions; `next` is atomic


class LargeGlobalWarning(RuntimeWarning):
    """A function takes large global variables along, again with each message."""


# --- what both sides know -----------------------------------------------------------------------------------


class Namespace:
    """The globals of a module that cannot be imported elsewhere."""

    __slots__ = ("home", "key", "units", "variables")

    def __init__(self, key: tuple[str, str], variables: dict[str, Any], home: bool) -> None:
        self.key = key
        self.variables = variables
        self.home = home
        self.units: dict[str, Variable] = {}

    def unit(self, name: str) -> "Variable":
        """The unit of one variable, which need not exist."""
        found = self.units.get(name)
        return self.units.setdefault(name, Variable(self, name)) if found is None else found

    def aliases(self) -> dict[int, str]:
        """The names of the objects that the variables hold, by `id`, as far as the namespace's home knows them."""
        known = self.variables.copy()
        return {
            id(value): name
            for name, value in reversed(known.items())
            if self.home or (name in self.units and self.units[name].seen)
        }


_namespaces: dict[tuple[str, str], Namespace] = {}
_namespaces_by_globals: dict[int, Namespace] = {}


def _add_namespace(key: tuple[str, str], variables: dict[str, Any], home: bool) -> Namespace:
    space = _namespaces.setdefault(key, Namespace(key, variables, home))
    if space.variables is not variables:
        # Two modules of one name, as under a profiler that runs a script as a second `__main__`.
        key = (key[0], f"{key[1]} {next(_numbers)}")
        space = _namespaces[key] = Namespace(key, variables, home)
    _namespaces_by_globals[id(variables)] = space
    return space


def _namespace_of(variables: dict[str, Any]) -> Namespace | None:
    """The namespace whose globals these are; None if they belong to no module, or to one that can be imported."""
    space = _namespaces_by_globals.get(id(variables))
    if space is not None:
        return space
    name = variables.get("__name__")
    if not isinstance(name, str) or _pickling.importable(name):
        return None
    is_module = variables is getattr(sys.modules.get(name), "__dict__", None)
    if not is_module and name != "__main__":
        return None
    if is_module and name == "__main__":
        return _add_namespace((_pickling.main_origin, name), variables, _pickling.parent is None)
    return _add_namespace((_pickling.identity, name), variables, True)


def _namespace_of_module(name: str | None) -> Namespace | None:
    module = sys.modules.get(name or "")
    return _namespace_of(vars(module)) if isinstance(module, ModuleType) else None


class Packed(NamedTuple):
    """A definition, with what goes with it."""

    definition: Definition | None
    needs: "Sequence[Unit]"
    handles: Sequence[Shared]
    parts: list[Any] | None  # what it was made from, None if that may have changed unnoticed


_NOTHING = Packed(None, (), (), None)


class Unit:
    """A class, a named function, or a global variable; see the module's text.

    Attributes:
        key: What it is called in all processes.
        home: Whether this process is where it comes from.
        seen: The newest version taken from each sender.
    """

    __slots__ = ("_fingerprint", "_packed", "_version", "home", "key", "seen")

    def __init__(self, key: Key, home: bool) -> None:
        self.key = key
        self.home = home
        self.seen: dict[str, int] = {}
        self._packed: Packed | None = None
        self._fingerprint: bytes | int | None = None
        self._version = 0

    def subject(self) -> Any:
        """The object itself, `_MISSING` if there is none."""
        raise NotImplementedError

    def trace(self, subject: Any, trace: "_Trace") -> bool:
        """Collects what the definition is made from; False if a change of it could go unnoticed."""
        raise NotImplementedError

    def write(self, subject: Any, writer: "Writer") -> Any:
        """What to pickle as the definition."""
        return subject

    @property
    def namespace(self) -> Namespace | None:
        """Where it belongs."""
        raise NotImplementedError

    def takes(self, sender: str, version: int) -> bool:
        """Whether a definition is to be looked into."""
        if self.home:
            return False
        if not self.seen:
            return True
        known = sender in self.seen or sender in (_pickling.parent, self.key[0])
        return known and version > self.seen.get(sender, 0)

    def current(self) -> Packed:
        """The definition as of now; a new version if it differs from the last one."""
        subject = self.subject()
        if subject is _MISSING:
            return _NOTHING
        trace = _Trace()
        settled = self.trace(subject, trace)
        packed = self._packed
        if packed is not None and settled and trace.equals(packed.parts):
            return packed
        return self._pack(subject, trace.parts if settled else None)

    def _pack(self, subject: Any, parts: list[Any] | None) -> Packed:
        pickler = _Definer()
        writer = pickler._writer = Writer(pickler, self)
        pickler.dump(self.write(subject, writer))
        blob = pickler.take()
        small = len(blob) < _CACHE_BELOW
        fingerprint = blob if small else hash(blob)
        if fingerprint != self._fingerprint:
            self._fingerprint, self._version = fingerprint, next(_numbers)
        needs = tuple(unit for unit in (writer.needs | writer.own_name).values() if unit is not self)
        packed = Packed((self.key, self._version, blob), needs, pickler.handles, parts)
        self._packed = packed if small and parts is not None else None
        return packed


class Object(Unit):
    """A class, a function at the top of its module, or something else that has a name there."""

    __slots__ = ("attributes", "ref")

    def __init__(self, key: Key, home: bool, subject: Any) -> None:
        super().__init__(key, home)
        self.attributes: set[str] = set()  # those a class was given by its last definition
        self.point_to(subject)

    def point_to(self, subject: Any) -> None:
        """Makes it the unit of this object."""
        key, place = self.key, id(subject)

        def forget(ref: object) -> None:
            _objects_by_id.pop(place, None)
            if self.ref is ref:
                _objects.pop(key, None)

        self.ref = weakref.ref(subject, forget)
        _objects_by_id[place] = self

    def subject(self) -> Any:
        found = self.ref()
        return _MISSING if found is None else found

    def trace(self, subject: Any, trace: "_Trace") -> bool:
        if isinstance(subject, type):
            return trace.klass(subject)
        if isinstance(subject, FunctionType):
            return trace.function(subject)
        return trace.value(getattr(subject, "__wrapped__", None))

    @property
    def namespace(self) -> Namespace | None:
        subject = self.subject()
        space = _namespace_of(subject.__globals__) if isinstance(subject, FunctionType) else None
        return space or _namespace_of_module(getattr(subject, "__module__", None))


_objects: dict[Key, Object] = {}
_objects_by_id: dict[int, Object] = {}
# What was sent and may come back after its last reference here is gone; no more than this many, not to leak.
_lately_sent: deque[object] = deque(maxlen=256)


def _add_object(key: Key, subject: Any, home: bool) -> Object:
    unit = _objects.get(key)
    if unit is not None:
        unit.point_to(subject)
        return unit
    unit = _objects[key] = Object(key, home, subject)
    return unit


def _object_unit(subject: Any) -> Object:
    unit = _objects_by_id.get(id(subject))
    if unit is None:
        unit = _add_object((_pickling.identity, next(_numbers)), subject, True)
        _lately_sent.append(subject)
    return unit


class Variable(Unit):
    """A global variable of a namespace."""

    __slots__ = ("_space", "name")

    def __init__(self, space: Namespace, name: str) -> None:
        super().__init__((*space.key, name), space.home)
        self._space = space
        self.name = name

    def subject(self) -> Any:
        return self._space.variables.get(self.name, _MISSING)

    def trace(self, subject: Any, trace: "_Trace") -> bool:
        return trace.value(subject)

    def write(self, subject: Any, writer: "Writer") -> Any:
        return writer.slot(subject, self._space)

    @property
    def namespace(self) -> Namespace:
        return self._space


# --- has anything changed? ------------------------------------------------------------------------------------

_ATOMS = frozenset(
    (int, float, complex, bool, str, bytes, range, object, CodeType, ModuleType)
    + (type(None), type(NotImplemented), type(...))
)
# What a class puts into its dictionary by itself, and does not change.
_INERT = frozenset(
    (MemberDescriptorType, GetSetDescriptorType, WrapperDescriptorType)
    + (MethodDescriptorType, ClassMethodDescriptorType)
)
_OF_THE_CLASS = frozenset(
    """__dict__ __weakref__ __annotations__ __dataclass_fields__ __dataclass_params__ __abstractmethods__ _abc_impl
    __slotnames__ __orig_bases__ __parameters__ __slots__ __type_params__ __protocol_attrs__ _field_defaults""".split()
)


class _Trace:
    """What a definition is made from, in a row: the same row twice means that nothing has changed.

    Functions and classes are in it as weak references, or nothing that was ever sent could be freed.
    """

    __slots__ = ("parts", "seen")

    def __init__(self) -> None:
        self.parts: list[Any] = []
        self.seen: set[int] = set()

    def equals(self, parts: list[Any] | None) -> bool:
        return parts is not None and len(parts) == len(self.parts) and all(map(is_, parts, self.parts))

    def value(self, value: Any) -> bool:
        """Adds an object that code refers to; False if it may change and remain the same object."""
        kind = type(value)
        if kind in _ATOMS:
            self.parts.append(value)
            return True
        if kind is FunctionType:
            self.parts.append(weakref.ref(value))
            return _pickling.find(value) or id(value) in _objects_by_id or self.function(value)
        if issubclass(kind, type):
            self.parts.append(weakref.ref(value))
            return True
        if issubclass(kind, Shared):
            self.parts.append(value)
            return True
        if kind is tuple or kind is frozenset:
            self.parts.append(len(value))
            return all(map(self.value, value))
        if kind is BuiltinFunctionType:
            self.parts.append(value)
            return value.__self__ is None or isinstance(value.__self__, ModuleType)
        return self._descriptor(kind, value)

    def _descriptor(self, kind: type, value: Any) -> bool:
        self.parts.append(kind)
        if kind is staticmethod or kind is classmethod:
            return self.value(value.__func__)
        if kind is property:
            return self.value((value.fget, value.fset, value.fdel))
        if kind is cached_property:
            return self.value(value.func)
        if kind is _LruCache:
            return self.value(value.__wrapped__)
        return kind in _INERT or kind.__name__ == "_tuplegetter"

    def function(self, function: FunctionType) -> bool:
        if id(function) in self.seen:
            return True
        self.seen.add(id(function))
        code, variables = function.__code__, function.__globals__
        values: list[Any] = [code, function.__defaults__]
        for more in (function.__kwdefaults__, function.__dict__):
            if more:
                values += more.keys()
                values += more.values()
        if function.__closure__:
            values += map(_content, function.__closure__)
        if "__name__" not in variables or _belongs_to_no_module(variables):
            values += (variables.get(name) for name in _scan(code).names)
        return all(map(self.value, values))

    def klass(self, cls: type) -> bool:
        self.parts += map(weakref.ref, cls.__bases__)
        enum = sys.modules.get("enum")
        final = enum is not None and isinstance(cls, enum.EnumMeta)
        for name, value in cls.__dict__.copy().items():
            if name in _OF_THE_CLASS:
                continue
            self.parts.append(name)
            if not self.value(value) and not final:
                return False
        if "_abc_impl" in cls.__dict__:
            from _abc import _get_dump

            self.parts.append(len(_get_dump(cls)[0]))  # the classes registered with it
        return True


_LruCache = type(lru_cache(len))


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _MISSING


def _belongs_to_no_module(variables: dict[str, Any]) -> bool:
    module = sys.modules.get(variables["__name__"])
    return variables is not getattr(module, "__dict__", None) and id(variables) not in _namespaces_by_globals


class _Scan(NamedTuple):
    code: CodeType
    names: tuple[str, ...]  # of the globals it uses
    attributes: frozenset[str]  # that it looks up
    pickle: tuple[Any, ...]


_scans: dict[int, _Scan] = {}


def _scan(code: CodeType) -> _Scan:
    """What has to be known about a code object; found out once."""
    known = _scans.get(id(code))
    if known is not None:
        return known
    if len(_scans) > 4096:
        _scans.clear()
    names: dict[str, None] = {}
    attributes: set[str] = set()
    for each in _nested(code):
        attributes.update(each.co_names)
        names.update(dict.fromkeys(_globals_used(each)))
    try:
        reduced: tuple[Any, ...] = marshal.loads, (marshal.dumps(code),)
    except ValueError:
        # Some tool has put constants into it that no compiler would.
        reduced = _cloudpickle().dispatch_table[CodeType](code)
    found = _scans[id(code)] = _Scan(code, tuple(names), frozenset(attributes), reduced)
    return found


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)


# The body of a class looks names up in the class first, then in the globals.
_GLOBAL_OPERATIONS = frozenset(
    ("LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
)
# Every module has its own of these.
_OF_THE_MODULE = frozenset(
    "__name__ __file__ __package__ __spec__ __loader__ __builtins__ __doc__ __annotations__ __cached__".split()
)


def _globals_used(code: CodeType) -> Iterator[str]:
    from dis import get_instructions

    for instruction in get_instructions(code):
        if instruction.opname in _GLOBAL_OPERATIONS and instruction.argval not in _OF_THE_MODULE:
            yield instruction.argval


# --- sending ------------------------------------------------------------------------------------------------


class _Stand:
    """Stands in a pickle for something that is to be pickled in another way."""

    __slots__ = ("reduced",)

    def __init__(self, *reduced: Any) -> None:
        self.reduced = reduced

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduced


class _Definer(_pickling.Pickler):
    """Pickles a definition: an object that a global variable holds is taken from there, to remain the same object."""

    def reducer_override(self, obj: Any) -> Any:
        stand = self.writer.slot(obj, self.writer.space)
        return super().reducer_override(obj) if stand is obj else stand.reduced


class Writer:
    """Reduces by value what one pickle meets: a message, or the definition of one unit.

    Attributes:
        unit: Whose definition it is.
        space: Where that unit belongs.
        needs: The units that the definition refers to.
        own_name: The variable by which it is found.
    """

    def __init__(self, pickler: _pickling.Pickler, unit: Unit | None = None) -> None:
        self.unit = unit
        self.space = None if unit is None else unit.namespace
        self.needs: dict[Key, Unit] = {}
        self.own_name: dict[Key, Unit] = {}
        self._pickler = pickler
        self._begun = False
        self._sent: set[Key] = set()
        self._filled: set[int] = set()
        self._stands: dict[int, tuple[object, _Stand]] = {}
        self._aliases: dict[int, dict[int, str]] = {}

    # One method for each kind of object.

    def function(self, function: FunctionType) -> Any:
        """A function: by key, as an attribute of its class, or by value."""
        unit = _objects_by_id.get(id(function))
        if unit is None:
            owner, name = _place(function)
            if isinstance(owner, type) and not (self.unit and self.unit.subject() is owner):
                return getattr, (owner, name)
            if isinstance(owner, ModuleType):
                unit = _object_unit(function)
        if unit is None:
            return self._function(function, _make_function)
        if self._begins(unit):
            return self._function(function, _define_function, unit.key)
        return self._refer(unit)

    def klass(self, cls: type) -> Any:
        """A class: always by key."""
        if not cls.__flags__ & _HEAP_TYPE:
            name = _TYPES.get(cls)
            return (getattr, (sys.modules["types"], name)) if name else NotImplemented
        unit = _object_unit(cls)
        if not self._begins(unit):
            return self._refer(unit)
        self._need_own_name(cls)
        make, arguments, state, _, _, set_state = _reduce_class(cls)
        members = {}
        if "_member_map_" in cls.__dict__:
            # Made again from its value alone, a member has lost what its `__init__` gave it.
            for name, member in cls.__dict__["_member_map_"].items():
                members[name] = {k: v for k, v in vars(member).items() if not k.startswith("__")}
        if type(state) is tuple and type(state[0]) is dict:
            # pickle itself leaves `__slotnames__` in every class of which it has seen an instance.
            items = ((name, value) for name, value in state[0].items() if name != "__slotnames__")
            attributes = {name: self.slot(value, self.space) for name, value in items}
            state = (attributes, *state[1:])
        return (
            _define_class,
            (unit.key, make, arguments),
            (set_state, state, members),
            None,
            None,
            _fill_class,
        )

    def cached_function(self, function: Any) -> Any:
        """The result of `functools.lru_cache`, with an empty cache."""
        parameters = function.cache_parameters()
        wrapped = (parameters["maxsize"], parameters["typed"], function.__wrapped__)
        return self._named(function, _cache_function, wrapped)

    def type_variable(self, obj: Any) -> Any:
        """A `TypeVar` and its like."""
        kind = type(obj)
        describe = _TYPE_VARIABLES.get(kind.__name__)
        if describe is None:
            return NotImplemented
        module = getattr(obj, "__module__", None)
        if _pickling.importable(module) and getattr(sys.modules[module], obj.__name__, None) is obj:
            return NotImplemented
        arguments, options = describe(obj)
        return self._named(obj, _call, (kind, arguments, options))

    def instance(self, obj: Any) -> Any:
        """An instance of a class of `__main__`; some reduce to the name of a global variable."""
        kind = type(obj)
        standard = kind.__reduce_ex__ is object.__reduce_ex__ and kind.__reduce__ is object.__reduce__
        if standard or kind in copyreg.dispatch_table:
            return NotImplemented
        reduced = obj.__reduce_ex__(5)
        space = _namespace_of_module("__main__")
        if not isinstance(reduced, str) or space is None:
            return reduced
        unit = space.unit(reduced)
        if unit is self.unit:
            return copyreg.__newobj__, (kind,), vars(obj)  # type: ignore[attr-defined]
        return _variable, (unit.key, self._link((unit,)))

    def other(self, obj: Any) -> Any:
        """What modules and classes are made of besides functions."""
        kind = type(obj)
        if kind is CodeType:
            return _scan(obj).pickle
        if kind is cached_property:
            return _make_cached_property, (obj.func, obj.attrname)
        if kind is weakref.WeakKeyDictionary or kind is weakref.WeakValueDictionary:
            return kind, (dict(obj),)
        reduce = _cloudpickle().dispatch_table.get(kind)
        return NotImplemented if reduce is None else reduce(obj)

    # Parts of functions.

    def _function(self, function: FunctionType, make: Callable[..., Any], *key: Key) -> Any:
        code, variables, closure = function.__code__, function.__globals__, function.__closure__
        scan, space = _scan(code), _namespace_of(variables)
        link, own = None, {}
        if space is not None:
            link = self._link([space.unit(name) for name in scan.names], function)
        elif _is_anonymous(variables):
            own = {name: variables[name] for name in scan.names if name in variables}
        if key:
            self._need_own_name(function)
        cells = tuple(self._stand(cell, _make_cell) for cell in closure or ())
        contents = self._contents(closure or (), cells)
        state = (
            link,
            cells,
            [(stand, self.slot(value, space)) for stand, value in contents],
            self._slots(function.__defaults__, space),
            function.__kwdefaults__ and {k: self.slot(v, space) for k, v in function.__kwdefaults__.items()},
            {name: self.slot(value, space) for name, value in function.__dict__.items()},
            _attributes(function),
            own,
            _submodules(scan, space, own, [value for _, value in contents]),
        )
        arguments = (*key, code, self._globals(variables, space), function.__name__, cells)
        return make, arguments, state, None, None, _fill_function

    def _globals(self, variables: dict[str, Any], space: Namespace | None) -> _Stand:
        if space is not None:
            surroundings = variables.get("__file__"), variables.get("__package__")
            return self._stand(variables, _namespace_globals, space.key, *surroundings)
        if not _is_anonymous(variables):
            return self._stand(variables, _module_globals, variables["__name__"])
        base = {
            k: variables[k] for k in ("__name__", "__file__", "__package__", "__path__") if k in variables
        }
        return self._stand(variables, _anonymous_globals, base)

    def _stand(self, original: object, make: Callable[..., Any], *arguments: Any) -> _Stand:
        """The same stand-in for the same original, so that its copy is also only one."""
        known = self._stands.get(id(original))
        if known is None:
            known = self._stands[id(original)] = (original, _Stand(make, arguments))
        return known[1]

    def _contents(self, closure: Sequence[CellType], cells: Sequence[_Stand]) -> list[tuple[_Stand, Any]]:
        """What the cells hold; it goes with the first function that has the cell."""
        new = [
            (stand, cell) for stand, cell in zip(cells, closure, strict=True) if id(cell) not in self._filled
        ]
        self._filled.update(id(cell) for _, cell in new)
        pairs = [(stand, _content(cell)) for stand, cell in new]
        return [(stand, value) for stand, value in pairs if value is not _MISSING]

    def _slots(self, values: tuple[Any, ...] | None, space: Namespace | None) -> tuple[Any, ...] | None:
        return values and tuple(self.slot(value, space) for value in values)

    def slot(self, value: Any, space: Namespace | None) -> Any:
        """The value, or a reference to the global variable that holds the very same object.

        So a default argument `MISSING` is still the global `MISSING` for the function's `is`.
        """
        kind = type(value)
        if space is None or kind in _NEVER_ALIASED or issubclass(kind, (type, Shared)):
            return value
        aliases = self._aliases.get(id(space))
        if aliases is None:
            aliases = self._aliases[id(space)] = space.aliases()
        name = aliases.get(id(value))
        if name is None or kind.__module__ == "typing":
            return value
        unit = space.unit(name)
        return value if unit is self.unit else self._stand(value, _variable, unit.key, self._link((unit,)))

    # Units.

    def _named(self, obj: Any, make: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        unit = _object_unit(obj)
        if not self._begins(unit):
            return self._refer(unit)
        self._need_own_name(obj)
        return _define_other, (unit.key, make, arguments)

    def _begins(self, unit: Unit) -> bool:
        """Whether this is the unit that is to be defined; from then on it is referred to like others."""
        if unit is not self.unit or self._begun:
            return False
        self._begun = True
        return True

    def _need_own_name(self, obj: Any) -> None:
        """What is found by name here will be found by name there: `pickle` looks for it."""
        path = getattr(obj, "__qualname__", None) or getattr(obj, "__name__", "")
        space = _namespace_of_module(getattr(obj, "__module__", None))
        if space is not None and "<" not in path and _found_as(path, space) is obj:
            unit = space.unit(path.partition(".")[0])
            self.own_name[unit.key] = unit

    def _refer(self, unit: Unit) -> Any:
        return _object, (unit.key, self._link((unit,), unit.subject()))

    def _link(self, units: Iterable[Unit], culprit: object = None) -> _Stand | None:
        """In a definition: notes what it needs. In a message: all definitions that have not gone before."""
        if self.unit is not None:
            self.needs.update((unit.key, unit) for unit in units)
            return None
        definitions = tuple(self._definitions(units))
        if not definitions:
            return None
        if sum(len(blob) for _, _, blob in definitions) > _WARN_ABOVE:
            _warn(culprit, definitions)
        return _Stand(_receive, (_pickling.identity, definitions))

    def _definitions(self, units: Iterable[Unit]) -> Iterator[Definition]:
        """Each after those it needs, where that is possible: code may run while a definition is loaded."""
        home = _pickling.parent if self._pickler.home else None
        walk: list[tuple[Definition | None, Iterator[Unit]]] = [(None, iter(units))]
        while walk:
            definition, needs = walk[-1]
            unit = next(needs, None)
            if unit is None:
                walk.pop()
                if definition is not None:
                    yield definition
            elif unit.key not in self._sent:
                self._sent.add(unit.key)
                if home is None or home not in unit.seen:
                    packed = unit.current()
                    self._pickler.handles += packed.handles
                    walk.append((packed.definition, iter(packed.needs)))


def _found_as(path: str, space: Namespace) -> Any:
    first, _, rest = path.partition(".")
    found = space.variables.get(first)
    return _pickling.resolve(found, rest)[1] if rest else found


def _place(function: FunctionType) -> tuple[Any, str]:
    """Where a function is found by name: its owner, a module or a class, and its name there; (None, "") if nowhere."""
    module = sys.modules.get(function.__module__ or "")
    path = function.__qualname__
    if module is None or "<" in path:
        return None, ""
    owner, found = _pickling.resolve(module, path)
    return (owner, path.rpartition(".")[2]) if found is function else (None, "")


def _is_anonymous(variables: dict[str, Any]) -> bool:
    name = variables.get("__name__")
    return not isinstance(name, str) or variables is not getattr(sys.modules.get(name), "__dict__", None)


def _attributes(function: FunctionType) -> dict[str, Any]:
    found = {"__qualname__": function.__qualname__, "__doc__": function.__doc__}
    if function.__module__ != function.__globals__.get("__name__"):
        found["__module__"] = function.__module__
    for name in ("__annotations__", "__type_params__"):
        value = getattr(function, name, None)
        if value:
            found[name] = value
    return found


def _submodules(scan: _Scan, space: Namespace | None, own: dict[str, Any], values: list[Any]) -> list[str]:
    """Modules that a function reaches as attributes of packages, `xml.etree`: someone has to import them there."""
    variables = own if space is None else space.variables
    values = [*(variables.get(name) for name in scan.names), *values]
    names = [
        value.__name__ for value in values if isinstance(value, ModuleType) and hasattr(value, "__path__")
    ]
    for name in names:  # grows while it is read
        names += (
            n for n in (f"{name}.{each}" for each in scan.attributes) if n in sys.modules and n not in names
        )
    return [name for name in names if "." in name]


def _warn(culprit: object, definitions: Sequence[Definition]) -> None:
    size = sum(len(blob) for _, _, blob in definitions)
    largest = max(definitions, key=lambda definition: len(definition[2]))
    part = f"the global {largest[0][2]!r}" if len(largest[0]) == 3 else "a class or function"
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(f"{__package__}."):
        level, frame = level + 1, frame.f_back
    warnings.warn(
        f"{getattr(culprit, '__qualname__', 'this message')} takes {size / 1e6:.1f} MB of globals along each time it "
        f"is sent, most of it {part} ({len(largest[2]) / 1e6:.1f} MB): make it a share(array), "
        "or set it in an initializer, once in each worker",
        LargeGlobalWarning,
        stacklevel=level,
    )


_HEAP_TYPE = 1 << 9
_TYPES = {cls: name for name, cls in vars(sys.modules["types"]).items() if type(cls) is type}
_NEVER_ALIASED = (_ATOMS - {object}) | {tuple, frozenset, _Stand, *_pickling._handlers}


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
        # Loaded under a name that others cannot import; cloudpickle has to be told.
        from cloudpickle import register_pickle_by_value

        register_pickle_by_value(sys.modules[cls.__module__])
        reduced = _cloudpickle().reducer_override(cls)
    return reduced


# --- receiving: what pickles call ------------------------------------------------------------------------------

# .pending: the definitions received and not yet looked into, by key; .begun: the pickles of those that are being loaded.
_loading = _local()


def _receive(sender: str, definitions: Sequence[Definition]) -> list[object]:
    """Takes definitions; returns the objects, as nobody else may hold some of them until the message is loaded."""
    outer = _loading.__dict__.copy()
    pending = _loading.pending = dict(outer.get("pending", ()))
    _loading.begun = dict(outer.get("begun", ()))
    kept, fresh = [], []
    for key, version, blob in definitions:
        unit = _objects.get(key) if len(key) == 2 else _receive_namespace(key[:2]).unit(key[2])  # type: ignore[misc]
        subject = _MISSING if unit is None else unit.subject()
        if unit is None or unit.takes(sender, version):
            pending[key] = (sender, version, blob)
            fresh.append(key)
        kept.append(subject)
    try:
        kept += [_take(key) for key in fresh if key in pending]
    finally:
        _loading.__dict__.clear()
        _loading.__dict__.update(outer)
    return kept


def _take(key: Key) -> Any:
    sender, version, blob = _loading.pending.pop(key)
    _loading.begun[key] = blob
    found = pickle.loads(blob)
    del _loading.begun[key]
    if len(key) == 2:
        unit: Unit = _objects[key]
    else:
        space = _namespaces[key[:2]]
        unit = space.unit(key[2])
        space.variables[key[2]] = found
    # Not before: until then, another thread has to take the definition as well, and does no harm by it.
    unit.seen[sender] = version
    return found


def _object(key: Key, link: object = None) -> Any:
    if key in _loading.__dict__.get("pending", ()):
        return _take(key)
    unit = _objects.get(key)
    found = _MISSING if unit is None else unit.subject()
    if found is _MISSING and key in _loading.__dict__.get("begun", ()):
        # A base class that lists its subclasses: in order to make this one, it was loaded first.
        found = pickle.loads(_loading.begun[key])
    if found is _MISSING:
        raise pickle.UnpicklingError("a class or function came back to a process that no longer has it")
    return found


def _variable(key: tuple[str, str, str], link: object = None) -> Any:
    if key in _loading.__dict__.get("pending", ()):
        return _take(key)
    try:
        return _receive_namespace(key[:2]).variables[key[2]]
    except KeyError:
        raise pickle.UnpicklingError(
            f"the global variable {key[2]!r} of {key[1]} is no longer there"
        ) from None


def _receive_namespace(key: tuple[str, str]) -> Namespace:
    """The namespace of this key, made if it is met for the first time."""
    space = _namespaces.get(key)
    if space is None:
        if key == (_pickling.main_origin, "__main__"):
            return _add_namespace(key, vars(sys.modules["__main__"]), _pickling.parent is None)
        name = key[1].partition(" ")[0]
        variables = {"__name__": name, "__builtins__": sys.modules["builtins"]}
        space = _add_namespace(key, variables, False)
    return space


def _namespace_globals(
    key: tuple[str, str], file: str | None = None, package: str | None = None
) -> dict[str, Any]:
    variables = _receive_namespace(key).variables
    if file is not None:
        variables.setdefault("__file__", file)
    variables.setdefault("__package__", package)
    return variables


def _module_globals(name: str) -> dict[str, Any]:
    return import_module(name).__dict__


def _anonymous_globals(base: dict[str, Any]) -> dict[str, Any]:
    return base | {"__builtins__": sys.modules["builtins"]}


def _make_cell() -> CellType:
    return CellType()


def _make_function(
    code: CodeType, variables: dict[str, Any], name: str, cells: tuple[CellType, ...]
) -> FunctionType:
    return FunctionType(code, variables, name, None, cells)


def _define_function(
    key: Key, code: CodeType, variables: dict[str, Any], name: str, cells: tuple[CellType, ...]
) -> FunctionType:
    unit = _objects.get(key)
    function = None if unit is None else unit.subject()
    if isinstance(function, FunctionType) and len(function.__closure__ or ()) == len(cells):
        function.__code__ = code
    else:
        function = _make_function(code, variables, name, cells)
        _add_object(key, function, False)
    return function


def _fill_function(function: FunctionType, state: tuple[Any, ...]) -> None:
    _, cells, contents, defaults, kwdefaults, attributes, special, own, submodules = state
    for name in submodules:
        import_module(name)
    for cell, value in contents:
        cell.cell_contents = value
    for mine, new in zip(function.__closure__ or (), cells, strict=True):
        if mine is not new and _content(new) is not _MISSING:
            mine.cell_contents = new.cell_contents
    function.__globals__.update(own)
    function.__defaults__ = defaults
    function.__kwdefaults__ = kwdefaults
    function.__dict__.clear()
    function.__dict__.update(attributes)
    for name, value in special.items():
        setattr(function, name, value)


def _define_class(key: Key, make: Callable[..., type], arguments: tuple[Any, ...]) -> type:
    unit = _objects.get(key)
    cls = None if unit is None else unit.subject()
    if not isinstance(cls, type):
        try:
            cls = make(*arguments)
        except TypeError:
            cls = _make_quietly(*arguments)
        _add_object(key, cls, False)
    return cls


def _make_quietly(
    meta: type, name: str, bases: tuple[Any, ...], namespace: dict[str, Any], *_: object
) -> type:
    """Makes a class when its metaclass or `__init_subclass__` wants arguments that nobody remembers: without them."""
    from types import resolve_bases

    class Shield:
        __slots__ = ()

        def __init_subclass__(cls, **_: object) -> None:
            """Stops here; the attributes it would set are part of the definition."""

    resolved = resolve_bases(bases)
    cls = type.__new__(meta, name, (Shield, *resolved), dict(namespace))  # type: ignore[type-var]
    cls.__bases__ = resolved
    return cls


def _fill_class(cls: type, state: tuple[Any, ...]) -> None:
    set_state, class_state, members = state
    unit = _objects_by_id[id(cls)]
    if type(class_state) is tuple and type(class_state[0]) is dict:
        for name in unit.attributes - class_state[0].keys():
            if name in cls.__dict__:
                delattr(cls, name)
        unit.attributes = set(class_state[0])
    set_state(cls, class_state)
    for name, attributes in members.items():
        vars(cls.__members__[name]).update(attributes)  # type: ignore[attr-defined]


def _define_other(key: Key, make: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    unit = _objects.get(key)
    found = _MISSING if unit is None else unit.subject()
    if found is _MISSING:
        found = make(*arguments)
        _add_object(key, found, False)
    return found


def _cache_function(maxsize: int | None, typed: bool, function: Callable[..., Any]) -> Any:
    return lru_cache(maxsize, typed)(function)


def _make_cached_property(function: Callable[[Any], Any], name: str | None) -> Any:
    made = cached_property(function)
    made.attrname = name
    return made


def _call(kind: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    return kind(*arguments, **options)
