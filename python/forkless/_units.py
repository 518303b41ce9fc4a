"""What is one and the same thing in several processes: namespaces, and the units in them; see `_byvalue`.

Besides the tables of both, here is what tells whether a unit has changed since it was last sent.
"""

import sys
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, lru_cache
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

ObjectKey = tuple[str, int]  # origin, number
SpaceKey = tuple[str, str]  # origin, name of the module
VariableKey = tuple[str, str, str]  # origin, name of the module, name of the variable
Key = ObjectKey | VariableKey
Definition = tuple[Key, int, bytes]  # of what, the version, a pickle

MISSING = object()
numbers = count(1)  # of units and versions; `next` is atomic


class Namespace:
    """The globals of a module that cannot be imported elsewhere.

    Attributes:
        key: What it is called in all processes.
        variables: The dictionary.
        home: Whether it belongs to this process; if not, it is the copy of another's.
        units: Those of its variables that were sent or received.
    """

    __slots__ = ("home", "key", "units", "variables")

    def __init__(self, key: SpaceKey, variables: dict[str, Any], home: bool) -> None:
        self.key = key
        self.variables = variables
        self.home = home
        self.units: dict[str, Variable] = {}

    def unit(self, name: str) -> "Variable":
        """The unit of a variable, which need not exist."""
        found = self.units.get(name)
        return self.units.setdefault(name, Variable(self, name)) if found is None else found

    def aliases(self) -> dict[int, str]:
        """The names of the objects that the variables hold, by `id`, as far as they are known at home."""
        variables = reversed(self.variables.copy().items())
        return {id(value): name for name, value in variables if self.home or self._is_received(name)}

    def _is_received(self, name: str) -> bool:
        return name in self.units and bool(self.units[name].seen)


namespaces: dict[SpaceKey, Namespace] = {}
_namespaces_by_globals: dict[int, Namespace] = {}


def add_namespace(key: SpaceKey, variables: dict[str, Any], home: bool) -> Namespace:
    """Makes a dictionary known as the namespace of this key."""
    space = namespaces.setdefault(key, Namespace(key, variables, home))
    if space.variables is not variables:
        # Two modules of one name, as under a profiler that runs a script as a second `__main__`.
        key = (_pickling.identity, f"{key[1]} {next(numbers)}")
        space = namespaces[key] = Namespace(key, variables, True)
    _namespaces_by_globals[id(variables)] = space
    return space


def namespace_of(variables: dict[str, Any]) -> Namespace | None:
    """The namespace with these globals; None if they belong to no module, or to one that can be imported."""
    space = _namespaces_by_globals.get(id(variables))
    if space is not None:
        return space
    name = variables.get("__name__")
    if not isinstance(name, str) or _pickling.importable(name):
        return None
    if variables is not getattr(sys.modules.get(name), "__dict__", None):
        return add_namespace((_pickling.identity, name), variables, True) if name == "__main__" else None
    if name == "__main__":
        return add_namespace((_pickling.main_origin, name), variables, _pickling.parent is None)
    return add_namespace((_pickling.identity, name), variables, True)


def namespace_of_module(name: str | None) -> Namespace | None:
    """The namespace of a loaded module; None if there is none or it can be imported."""
    module = sys.modules.get(name or "")
    return namespace_of(vars(module)) if isinstance(module, ModuleType) else None


def is_anonymous(variables: dict[str, Any]) -> bool:
    """Whether these globals belong to no module, as those of code that `exec` ran."""
    if id(variables) in _namespaces_by_globals:
        return False
    name = variables.get("__name__")
    return not isinstance(name, str) or variables is not getattr(sys.modules.get(name), "__dict__", None)


class Packed(NamedTuple):
    """A definition, and what must go with it."""

    definition: Definition | None
    needs: "Sequence[Unit]"
    handles: Sequence[Shared]


class Sent(NamedTuple):
    """A definition that was sent; one object, so that threads find what belongs together.

    Attributes:
        packed: The definition.
        parts: What it was made from; None if that may change unnoticed.
        probe: What a quick look has to find again.
    """

    packed: Packed
    parts: list[Any] | None
    probe: Any


class Closure(NamedTuple):
    """All that a unit needs, itself included, as it was last sent."""

    units: "Sequence[tuple[Unit, Packed]]"
    definitions: tuple[Definition, ...]
    keys: frozenset[Key]
    handles: Sequence[Shared]


class Unit:
    """A class, a named function, or a global variable.

    Attributes:
        key: What it is called in all processes.
        home: Whether it was made in this process.
        seen: The version last taken from each sender.
        version: Of the definition last sent, after that definition, or its hash if it is large.
        sent: The same with what goes with it, unless it is large.
    """

    __slots__ = ("home", "key", "seen", "sent", "version")

    def __init__(self, key: Key, home: bool) -> None:
        self.key = key
        self.home = home
        self.seen: dict[str, int] = {}
        self.version: tuple[bytes | int | None, int] = (None, 0)
        self.sent: Sent | None = None

    @property
    def subject(self) -> Any:
        """The object itself, `MISSING` if there is none."""
        raise NotImplementedError

    @property
    def namespace(self) -> Namespace | None:
        """Where it belongs."""
        raise NotImplementedError

    def takes(self, sender: str, version: int) -> bool:
        """Whether a definition is to be looked into.

        Also an older one: then the message was sent before others that are already here, and should find
        things as they were.
        """
        if self.home:
            return False
        if not self.seen:
            return True
        heeded = sender in self.seen or sender in (_pickling.parent, self.key[0])
        return heeded and version != self.seen.get(sender)

    def probe(self, subject: Any, parts: list[Any] | None) -> Any:
        """What `finds` needs to tell quickly that nothing has changed; None if that takes a longer look."""
        raise NotImplementedError

    def finds(self, probe: Any, subject: Any) -> bool:
        """Whether nothing has changed since the probe was taken."""
        raise NotImplementedError

    def trace(self, subject: Any) -> list[Any] | None:
        """What its definition is made from; None if that may change unnoticed."""
        raise NotImplementedError


class Object(Unit):
    """A class, a function at the top of its module, or something else that has a name there.

    Attributes:
        attributes: Those a class was given by its last definition.
        closure: What was sent along with it.
    """

    __slots__ = ("_ref", "attributes", "closure")

    def __init__(self, key: ObjectKey, home: bool, subject: Any) -> None:
        super().__init__(key, home)
        self.attributes: set[str] = set()
        self.closure: Closure | None = None
        self.point_to(subject)

    def point_to(self, subject: Any) -> None:
        """Makes it the unit of this object."""
        key, place = self.key, id(subject)
        # At the end of the interpreter it may be called when the names of this module mean nothing any more.
        by_id, by_key = objects_by_id, objects

        def forget(ref: object) -> None:
            by_id.pop(place, None)
            if self._ref is ref:
                by_key.pop(key, None)  # type: ignore[arg-type]

        try:
            self._ref: Callable[[], Any] = weakref.ref(subject, forget)
        except TypeError:
            self._ref = lambda: subject  # A `type` alias, which lives as long as its module.
        objects_by_id[place] = self

    @property
    def subject(self) -> Any:
        found = self._ref()
        return MISSING if found is None else found

    @property
    def namespace(self) -> Namespace | None:
        subject = self.subject
        space = namespace_of(subject.__globals__) if isinstance(subject, FunctionType) else None
        return space or namespace_of_module(getattr(subject, "__module__", None))

    def probe(self, subject: Any, parts: list[Any] | None) -> Any:
        if parts is None or not isinstance(subject, FunctionType) or not _is_plain(subject):
            return None
        return subject.__code__, subject.__defaults__

    def finds(self, probe: Any, subject: Any) -> bool:
        code, defaults = probe
        return subject.__code__ is code and subject.__defaults__ is defaults and _is_plain(subject)

    def trace(self, subject: Any) -> list[Any] | None:
        trace = _Trace()
        if isinstance(subject, type):
            settled = trace.klass(subject)
        elif isinstance(subject, FunctionType):
            settled = trace.function(subject)
        else:
            settled = trace.value(getattr(subject, "__wrapped__", None))
        return trace.parts if settled else None


def _is_plain(function: FunctionType) -> bool:
    return function.__closure__ is None and not function.__kwdefaults__ and not function.__dict__


objects: dict[ObjectKey, Object] = {}
objects_by_id: dict[int, Object] = {}
# What was sent and may come back after its last reference here is gone; no more than this many, not to leak.
_lately_sent: deque[object] = deque(maxlen=256)


def add_object(key: ObjectKey, subject: Any, home: bool) -> Object:
    """Makes an object known under a key, unless another thread was faster; see the unit's `subject`."""
    made = Object(key, home, subject)
    unit = objects.setdefault(key, made)
    if unit is not made and unit.subject is MISSING:
        unit.point_to(subject)
    return unit


def object_unit(subject: Any) -> Object:
    """The unit of an object, made if there is none."""
    unit = objects_by_id.get(id(subject))
    if unit is None:
        unit = add_object((_pickling.identity, next(numbers)), subject, True)
        _lately_sent.append(subject)
    return unit


class Variable(Unit):
    """A global variable of a namespace."""

    __slots__ = ("_space", "name")

    key: VariableKey

    def __init__(self, space: Namespace, name: str) -> None:
        super().__init__((*space.key, name), space.home)
        self.name = name
        self._space = space

    @property
    def subject(self) -> Any:
        return self._space.variables.get(self.name, MISSING)

    @property
    def namespace(self) -> Namespace:
        return self._space

    def probe(self, subject: Any, parts: list[Any] | None) -> Any:
        return parts[0] if parts is not None and len(parts) == 1 else None

    def finds(self, probe: Any, subject: Any) -> bool:
        return subject is (probe() if type(probe) is weakref.ref else probe)

    def trace(self, subject: Any) -> list[Any] | None:
        trace = _Trace()
        return trace.parts if trace.value(subject) else None


# --- has anything changed? ---------------------------------------------------------------------------------

ATOMS: frozenset[type] = frozenset(
    {int, float, complex, bool, str, bytes, range, object, type(None), type(NotImplemented), type(...)}
    | {CodeType, ModuleType, WrapperDescriptorType, MethodDescriptorType, ClassMethodDescriptorType}
)
_OF_THE_CLASS = frozenset(
    """__dict__ __weakref__ __annotations__ __dataclass_fields__ __dataclass_params__ __abstractmethods__
    _abc_impl __slotnames__ __orig_bases__ __parameters__ __slots__ __type_params__ __protocol_attrs__
    _field_defaults""".split()
)
_LruCache: type = type(lru_cache(len))


def same(parts: list[Any], others: list[Any] | None) -> bool:
    """Whether two traces are equal, object by object."""
    return others is not None and len(parts) == len(others) and all(map(is_, parts, others))


class _Trace:
    """What a definition is made from, in a row: the same row twice means that nothing has changed.

    Functions and classes are in it as weak references, or nothing that was ever sent could be freed.
    """

    __slots__ = ("parts", "seen")

    def __init__(self) -> None:
        self.parts: list[Any] = []
        self.seen: set[int] = set()

    def value(self, value: Any) -> bool:
        """Adds an object that code refers to; False if it may change and remain the same object."""
        kind = type(value)
        if kind in ATOMS:
            self.parts.append(value)
            return True
        if kind is FunctionType:
            self.parts.append(weakref.ref(value))
            return id(value) in objects_by_id or _pickling.find(value) or self.function(value)
        if issubclass(kind, type):
            self.parts.append(weakref.ref(value))
            return True
        if issubclass(kind, Shared):
            self.parts.append(value)
            return True
        if kind is tuple or kind is frozenset:
            self.parts += (kind, len(value))
            return all(map(self.value, value))
        if kind is BuiltinFunctionType:
            self.parts.append(value)
            return value.__self__ is None or isinstance(value.__self__, ModuleType)
        return self._descriptor(kind, value)

    def _descriptor(self, kind: type, value: Any) -> bool:
        self.parts += (kind, None)
        if kind is staticmethod or kind is classmethod:
            return self.value(value.__func__)
        if kind is property:
            return self.value((value.fget, value.fset, value.fdel))
        if kind is cached_property:
            return self.value(value.func)
        if kind is _LruCache:
            return self.value(value.__wrapped__)
        # What a class makes for its slots and fields; holding on to it would hold on to the class.
        return kind in (MemberDescriptorType, GetSetDescriptorType) or kind.__name__ == "_tuplegetter"

    def function(self, function: FunctionType) -> bool:
        if id(function) in self.seen:
            return True
        self.seen.add(id(function))
        self.parts.append(function.__code__)
        values: list[Any] = [function.__defaults__]
        for more in (function.__kwdefaults__, function.__dict__):
            if more:
                values += more.keys()
                values += more.values()
        if function.__closure__:
            values += map(content, function.__closure__)
        if is_anonymous(function.__globals__):
            values += (function.__globals__.get(name) for name in scan(function.__code__).names)
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
            import abc

            registered = abc._get_dump(cls)[0]  # type: ignore[attr-defined]
            self.parts.append(len(registered))
        return True


def has_no_state(function: FunctionType) -> bool:
    """Whether calling it can leave nothing behind in it: all that it is made of is immutable."""
    return _Trace().function(function)


def content(cell: CellType) -> Any:
    """What a cell of a closure holds; `MISSING` if it is empty."""
    try:
        return cell.cell_contents
    except ValueError:
        return MISSING


# --- what code uses ---------------------------------------------------------------------------------------


class Scan(NamedTuple):
    """What has to be known about a code object and those within it.

    Attributes:
        code: The code object; holding it keeps its `id` its own.
        names: Of the global variables it uses, except those that every module has.
        attributes: That it looks up.
        marshalled: It as bytes, for this version of Python; None if it cannot be. Always the same bytes,
        whereas
            `marshal.dumps` depends on reference counts.
    """

    code: CodeType
    names: tuple[str, ...]
    attributes: frozenset[str]
    marshalled: bytes | None


_scans: dict[int, Scan] = {}


def scan(code: CodeType) -> Scan:
    """Looks through a code object, once."""
    found = _scans.get(id(code))
    if found is None:
        if len(_scans) > 4096:
            _scans.clear()
        found = _scans[id(code)] = _scan(code)
    return found


def _scan(code: CodeType) -> Scan:
    import marshal

    names: dict[str, None] = {}
    attributes: set[str] = set()
    for each in _nested(code):
        attributes.update(each.co_names)
        names.update(dict.fromkeys(_globals_used(each)))
    try:
        marshalled = marshal.dumps(code)
    except ValueError:
        marshalled = None  # Some tool has put constants into it that no compiler would.
    return Scan(code, tuple(names), frozenset(attributes), marshalled)


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)


# The body of a class looks names up in the class first, then in the globals.
_GLOBAL_OPERATIONS = frozenset(
    ("LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
)
_OF_THE_MODULE = frozenset(
    """__name__ __file__ __package__ __spec__ __loader__ __builtins__ __doc__ __annotations__
    __cached__""".split()
)


def _globals_used(code: CodeType) -> Iterator[str]:
    from dis import get_instructions

    for instruction in get_instructions(code):
        if instruction.opname in _GLOBAL_OPERATIONS and instruction.argval not in _OF_THE_MODULE:
            yield instruction.argval
