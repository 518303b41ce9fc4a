"""How an exception travels: what its class and its contents allow.

An exception is rebuilt from what it consists of (class, arguments, attributes), without a call of its class:
what its `__init__` takes, or does, does not matter. A class that says itself how it is pickled is obeyed, as
long as this works. What could run code of the user is tried out by the sender, where it hurts only the task.
"""

import builtins
import copyreg
import pickle
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any, TypeAlias

from . import _pickling
from ._interrupted import TaskInterrupted

# ("plain", name of the class, state), ("state" or "pickle", payload, handles, buffers), or ("lost", reason).
Recipe = tuple[Any, ...]
# Arguments, attributes, and what is kept in slots or by a built-in class.
State = tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]
# A pickle in a message, and the shared objects and large buffers that the message carries for it.
Pickled: TypeAlias = tuple[bytes, list[Any], list[Any]]
Pack: TypeAlias = Callable[[object, Sequence[str]], Pickled]
Load: TypeAlias = Callable[[bytes, list[Any], list[Any]], Any]

Group: Any = getattr(builtins, "BaseExceptionGroup", ())
_HOOKS = ("__reduce__", "__reduce_ex__", "__getstate__", "__setstate__")
_ATOMS = frozenset((bool, bytes, complex, float, int, str, type(None)))
# Of built-in classes: rebuilt by other means, or (`obj`, where an attribute was looked up) not sent at all.
_LEFT_OUT = frozenset(("args", "exceptions", "message", "obj"))


class Lost(Exception):
    """The exception cannot be rebuilt; says why."""


def pack_home(obj: object, names: Sequence[str]) -> Pickled:
    """For the process that has started this one."""
    return _joined(_pickling.pack(obj, home=True, names=names))


def pack_away(obj: object, names: Sequence[str]) -> Pickled:
    """For another process."""
    return _joined(_pickling.pack(obj, names=names))


def find(error: BaseException, pack: Pack = pack_home) -> Recipe:
    """How the other process can rebuild this exception. Members of a group have recipes of their own.

    Args:
        error: the exception.
        pack: pickles for the other process; its argument beside the object is what errors call its parts.
    """
    kind: type = type(error)
    if kind.__module__ == "builtins" and getattr(builtins, kind.__name__, None) is kind:
        state = _state(error)
        if _is_plain(state):
            return "plain", kind.__name__, state
    reason = ""
    attempts = (_by_pickle, _by_state) if _says_how(kind) else (_by_state, _by_pickle)
    for attempt in attempts:
        try:
            return attempt(error, pack)
        except TaskInterrupted:
            raise
        except BaseException as problem:
            if attempt is _by_pickle:
                reason = describe(problem)
    return "lost", reason


def load(payload: bytes, handles: list[Any], buffers: list[Any]) -> Any:
    """What was pickled; the shared objects are alive as long as the message's own list of them is."""
    return pickle.loads(payload, buffers=buffers)


def follow(recipe: Recipe, members: Sequence[BaseException], load: Load = load) -> BaseException:
    """Rebuilds an exception.

    Args:
        recipe: what `find` returned.
        members: those of a group, rebuilt.
        load: reads what its `pack` has made.

    Raises:
        Lost: it cannot be rebuilt.
    """
    way, *rest = recipe
    if way == "lost":
        raise Lost(*rest)
    try:
        loaded = (getattr(builtins, rest[0]), rest[1]) if way == "plain" else load(*rest)
        error = loaded if way == "pickle" else _restore(loaded, members)
    except BaseException as problem:
        raise Lost(describe(problem)) from None
    if isinstance(error, BaseException):
        return error
    raise Lost(f"what its pickle makes is a {name_of(type(error))}")


def members_of(error: BaseException) -> Sequence[BaseException]:
    """The members of a group."""
    members: Sequence[BaseException] = error.exceptions if isinstance(error, Group) else ()
    return members


def set_attributes(error: BaseException, /, **attributes: Any) -> None:
    """Sets attributes, also of an exception that is frozen."""
    for name, value in attributes.items():
        BaseException.__setattr__(error, name, value)


def name_of(kind: type) -> str:
    """The qualified name of a class."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def ancestors_of(kind: type) -> tuple[str, ...]:
    """The qualified names of a class and its base classes, without `object`."""
    return tuple(map(name_of, kind.__mro__[:-1]))


def message_of(error: BaseException) -> str:
    """What an exception says."""
    try:
        return str(error)
    except TaskInterrupted:
        raise
    except BaseException as problem:
        return f"<no message: __str__ raised {type(problem).__name__}>"


def describe(problem: BaseException) -> str:
    """An exception in one line."""
    if isinstance(problem, pickle.PicklingError):
        return message_of(problem)
    return f"{name_of(type(problem))}: {message_of(problem)}"


def _says_how(kind: type) -> bool:
    """Whether somebody has thought of how this class is pickled."""
    return kind in copyreg.dispatch_table or any(
        hook in vars(each) for each in kind.__mro__ if each.__module__ != "builtins" for hook in _HOOKS
    )


def _by_state(error: BaseException, pack: Pack) -> Recipe:
    kind, state = type(error), _state(error)
    _check(_restore((kind, state), members_of(error)), kind)
    packed = pack((kind, state), ("the class", "the exception"))
    if not _is_plain(state):
        _check(_restore(load(*packed), members_of(error)), kind)
    return "state", *packed


def _by_pickle(error: BaseException, pack: Pack) -> Recipe:
    packed = pack(error, ())
    _check(load(*packed), type(error))
    return "pickle", *packed


def _check(again: object, kind: type) -> None:
    if type(again) is not kind:
        raise TypeError(f"what its pickle makes is a {name_of(type(again))}")


def _joined(packed: _pickling.Packed) -> Pickled:
    """The pickle in one piece."""
    payload, handles, buffers = packed
    return payload if isinstance(payload, bytes) else b"".join(payload), handles, buffers


def _state(error: BaseException) -> State:
    args = error.args[:1] if isinstance(error, Group) else error.args
    slots = {name: getattr(error, name, None) for each in type(error).__mro__ for name in _slots(each)}
    attributes: dict[str, Any] = object.__getattribute__(error, "__dict__")
    return args, attributes, {name: value for name, value in slots.items() if value is not None}


def _slots(kind: type) -> Iterable[str]:
    if kind.__module__ == "builtins":
        return _builtin_slots(kind)
    return [name for name, value in vars(kind).items() if type(value) is MemberDescriptorType]


@lru_cache
def _builtin_slots(kind: type) -> list[str]:
    kinds = (MemberDescriptorType, GetSetDescriptorType)
    return [
        name
        for name, value in vars(kind).items()
        if isinstance(value, kinds) and name not in _LEFT_OUT and not name.startswith("__")
    ]


def _is_plain(value: object) -> bool:
    """Whether it pickles, and loads, without a question to anybody."""
    kind = type(value)
    if kind is dict:
        return all(map(_is_plain, value.values()))  # type: ignore[attr-defined]
    return kind in _ATOMS or (kind in (tuple, list) and all(map(_is_plain, value)))  # type: ignore[call-overload]


def _restore(parts: tuple[Any, State], members: Sequence[BaseException]) -> Any:
    """An exception of this class with this state. None of the user's code runs."""
    kind, (args, attributes, slots) = parts
    base = kind
    while base.__module__ != "builtins":
        base = base.__base__
    if members:
        error = base.__new__(kind, *args, list(members))
    else:
        error = base.__new__(kind, *args)
        set_attributes(error, args=args)
    object.__getattribute__(error, "__dict__").update(attributes)
    set_attributes(error, **slots)
    return error
