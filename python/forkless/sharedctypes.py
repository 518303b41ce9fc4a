"""Values and arrays of ctypes types that every process reads and writes in place.

The counterpart of `multiprocessing.sharedctypes`: the same functions, classes and attributes, over memory in
the arena. What they return works in any process of the tree however it was started, and pickles, also with
the plain `pickle`, to a handle.
"""

import copyreg
import ctypes
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar, overload

from . import _exit, _internals
from ._forkless import RLock, SharedBytes

__all__ = [
    "Array",
    "RawArray",
    "RawValue",
    "Synchronized",
    "SynchronizedArray",
    "SynchronizedBase",
    "SynchronizedString",
    "Value",
    "copy",
    "synchronized",
]

typecode_to_type: dict[str, type[Any]] = {
    "c": ctypes.c_char,
    "u": ctypes.c_wchar,
    "b": ctypes.c_byte,
    "B": ctypes.c_ubyte,
    "h": ctypes.c_short,
    "H": ctypes.c_ushort,
    "i": ctypes.c_int,
    "I": ctypes.c_uint,
    "l": ctypes.c_long,
    "L": ctypes.c_ulong,
    "q": ctypes.c_longlong,
    "Q": ctypes.c_ulonglong,
    "f": ctypes.c_float,
    "d": ctypes.c_double,
}


_T = TypeVar("_T")
_C = TypeVar("_C", bound="ctypes._CDataType")  # any ctypes type

if TYPE_CHECKING:
    _Items = int | Iterable[Any]


class LockLike(Protocol):
    """What guards a shared object: `forkless.Lock`, `forkless.RLock`, or anything used in the same way."""

    def acquire(self, block: bool = ..., timeout: float | None = ...) -> bool:
        """Takes it."""

    def release(self) -> None:
        """Gives it back."""


@overload
def RawValue(typecode_or_type: type[_C], *args: Any) -> _C: ...
@overload
def RawValue(typecode_or_type: str, *args: Any) -> Any: ...
def RawValue(typecode_or_type: str | type[Any], *args: Any) -> Any:  # noqa: N802
    """A ctypes object in shared memory, without a lock.

    Args:
        typecode_or_type: a ctypes type, or a one-letter code as the `array` module uses.
        *args: for the type's constructor; without any, all bytes are zero.

    Example:
        >>> number = RawValue("i", 7)
        >>> number.value
        7
    """
    obj = _new(_type(typecode_or_type))
    obj.__init__(*args)
    return obj


@overload
def RawArray(typecode_or_type: type[_C], size_or_initializer: "_Items") -> "ctypes.Array[_C]": ...
@overload
def RawArray(typecode_or_type: str, size_or_initializer: "_Items") -> Any: ...
def RawArray(typecode_or_type: str | type[Any], size_or_initializer: int | Iterable[Any]) -> Any:  # noqa: N802
    """A ctypes array in shared memory, without a lock.

    Args:
        typecode_or_type: the type of the items; see `RawValue`.
        size_or_initializer: how many items, all zero, or the items.
    """
    item = _type(typecode_or_type)
    if isinstance(size_or_initializer, int):
        return _new(item * size_or_initializer)
    items = tuple(size_or_initializer)
    array = _new(item * len(items))
    array.__init__(*items)
    return array


@overload
def Value(typecode_or_type: type[_C], *args: Any, lock: Literal[False], ctx: object = None) -> _C: ...
@overload
def Value(
    typecode_or_type: "type[ctypes._SimpleCData[_T]]",
    *args: Any,
    lock: Literal[True] | LockLike | None = True,
    ctx: object = None,
) -> "Synchronized[_T]": ...
@overload
def Value(
    typecode_or_type: str,
    *args: Any,
    lock: Literal[True] | LockLike | None = True,
    ctx: object = None,
) -> "Synchronized[Any]": ...
@overload
def Value(typecode_or_type: str | type[Any], *args: Any, lock: Any = True, ctx: object = None) -> Any: ...
def Value(typecode_or_type: str | type[Any], *args: Any, lock: Any = True, ctx: object = None) -> Any:  # noqa: N802
    """A ctypes object in shared memory, with a lock.

    Args:
        typecode_or_type: see `RawValue`.
        *args: for the type's constructor.
        lock: True for a new `RLock`, a lock to use, or False for the bare object.
        ctx: accepted for compatibility.

    Returns:
        What `synchronized` returns; the ctypes object itself if `lock` is False.

    Example:
        >>> counter = Value("i", 0)
        >>> with counter.get_lock():
        ...     counter.value += 1
        >>> counter.value
        1
    """
    return _with_lock(RawValue(typecode_or_type, *args), lock)


@overload
def Array(
    typecode_or_type: type[_C], size_or_initializer: "_Items", *, lock: Literal[False], ctx: object = None
) -> "ctypes.Array[_C]": ...
@overload
def Array(
    typecode_or_type: Literal["c"] | type[ctypes.c_char],
    size_or_initializer: "_Items",
    *,
    lock: Literal[True] | LockLike | None = True,
    ctx: object = None,
) -> "SynchronizedString": ...
@overload
def Array(
    typecode_or_type: "type[ctypes._SimpleCData[_T]]",
    size_or_initializer: "_Items",
    *,
    lock: Literal[True] | LockLike | None = True,
    ctx: object = None,
) -> "SynchronizedArray[_T]": ...
@overload
def Array(
    typecode_or_type: str,
    size_or_initializer: "_Items",
    *,
    lock: Literal[True] | LockLike | None = True,
    ctx: object = None,
) -> "SynchronizedArray[Any]": ...
@overload
def Array(
    typecode_or_type: str | type[Any],
    size_or_initializer: "_Items",
    *,
    lock: Any = True,
    ctx: object = None,
) -> Any: ...
def Array(  # noqa: N802
    typecode_or_type: str | type[Any],
    size_or_initializer: int | Iterable[Any],
    *,
    lock: Any = True,
    ctx: object = None,
) -> Any:
    """A ctypes array in shared memory, with a lock.

    Args:
        typecode_or_type: the type of the items; see `RawValue`.
        size_or_initializer: how many items, all zero, or the items.
        lock: see `Value`.
        ctx: accepted for compatibility.

    Example:
        >>> numbers = Array("d", [1, 2, 3])
        >>> numbers[:]
        [1.0, 2.0, 3.0]
    """
    return _with_lock(RawArray(typecode_or_type, size_or_initializer), lock)


def copy(obj: _C) -> _C:
    """A new ctypes object in shared memory with the contents of another ctypes object."""
    new: _C = _new(type(obj))
    ctypes.pointer(new)[0] = obj
    return new


def synchronized(obj: Any, lock: Any = None, ctx: object = None) -> "SynchronizedBase[Any]":
    """A wrapper around a shared ctypes object that takes a lock for each access.

    Args:
        obj: what `RawValue` or `RawArray` returned.
        lock: the lock; None for a new `RLock`.
        ctx: accepted for compatibility.
    """
    if isinstance(obj, SynchronizedBase):
        raise TypeError("object already synchronized")
    if isinstance(obj, ctypes._SimpleCData):
        return Synchronized(obj, lock)
    if isinstance(obj, ctypes.Array):
        return SynchronizedString(obj, lock) if obj._type_ is ctypes.c_char else SynchronizedArray(obj, lock)
    kind: Any = type(obj)
    return _class_for(kind)(obj, lock)


class SynchronizedBase(Generic[_T]):
    """A shared ctypes object and its lock. As a context manager it holds the lock."""

    def __init__(self, obj: Any, lock: Any = None, ctx: object = None) -> None:
        self._obj = obj
        self._lock: LockLike = lock or RLock()
        self.acquire = self._lock.acquire
        self.release = self._lock.release

    def __reduce__(self) -> tuple[Callable[..., object], tuple[Any, ...]]:
        return synchronized, (self._obj, self._lock)

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def get_obj(self) -> Any:
        """The ctypes object itself, which takes no lock."""
        return self._obj

    def get_lock(self) -> Any:
        """The lock."""
        return self._lock

    @property
    def handle(self) -> tuple[int, int, int]:
        """(arena id, offset in bytes, generation) of the memory; for programs in other languages."""
        memory: SharedBytes = self._obj._wrapper
        return memory.handle

    def __repr__(self) -> str:
        return f"<{type(self).__name__} wrapper for {self._obj}>"


def _guarded(name: str) -> property:
    """An attribute of the object behind, read and written with the lock held."""

    def get(self: SynchronizedBase[Any]) -> Any:
        self.acquire()
        try:
            return getattr(self._obj, name)
        finally:
            self.release()

    def set(self: SynchronizedBase[Any], value: Any) -> None:
        self.acquire()
        try:
            setattr(self._obj, name, value)
        finally:
            self.release()

    return property(get, set, doc=f"`{name}` of the object behind, read and written with the lock held.")


class Synchronized(SynchronizedBase[_T]):
    """A shared number, character or pointer; `value` takes the lock.

    `counter.value += 1` reads and writes, with the lock given back in between: hold it (`with counter:`) for
    that.
    """

    if TYPE_CHECKING:
        value: _T
    else:
        value = _guarded("value")


class SynchronizedArray(SynchronizedBase[_T]):
    """A shared array; each access takes the lock."""

    def __len__(self) -> int:
        return len(self._obj)

    @overload
    def __getitem__(self, i: int) -> _T: ...
    @overload
    def __getitem__(self, i: slice) -> list[_T]: ...
    def __getitem__(self, i: int | slice) -> Any:
        with self:
            return self._obj[i]

    @overload
    def __setitem__(self, i: int, value: _T) -> None: ...
    @overload
    def __setitem__(self, i: slice, value: Iterable[_T]) -> None: ...
    def __setitem__(self, i: int | slice, value: Any) -> None:
        with self:
            self._obj[i] = value

    def __getslice__(self, start: int, stop: int) -> Any:
        """`self[start:stop]`, kept from long ago as `multiprocessing` keeps it."""
        with self:
            return self._obj[start:stop]

    def __setslice__(self, start: int, stop: int, values: Any) -> None:
        """`self[start:stop] = values`."""
        with self:
            self._obj[start:stop] = values

    def __iter__(self) -> Iterator[_T]:
        return (self[i] for i in range(len(self)))


class SynchronizedString(SynchronizedArray[bytes]):
    """A shared array of characters; `value` ends at the first zero byte, `raw` does not."""

    if TYPE_CHECKING:
        value: bytes
        raw: bytes

        # A slice of it is bytes, not a list of bytes of length one.
        def __getitem__(self, i: int | slice) -> bytes: ...  # type: ignore[override]
        def __setitem__(self, i: int | slice, value: bytes) -> None: ...  # type: ignore[override]
    else:
        value = _guarded("value")
        raw = _guarded("raw")


def _type(typecode_or_type: str | type[Any]) -> type[Any]:
    if isinstance(typecode_or_type, str):
        return typecode_to_type.get(typecode_or_type, typecode_or_type)  # type: ignore[arg-type]
    return typecode_or_type


def _new(kind: Any) -> Any:
    """An object of a ctypes type over new memory, all zero."""
    return _attach(kind, SharedBytes(ctypes.sizeof(kind)))


def _attach(kind: Any, memory: SharedBytes, length: int | None = None) -> Any:
    """An object of a ctypes type over the memory; `length` makes it an array of that type.

    It is of exactly that type, as in `multiprocessing`, so the pickling of the whole type is taken over;
    `_reduce` leaves other objects of the type alone.
    """
    if length is not None:
        kind = kind * length
    copyreg.pickle(kind, _reduce)
    obj = kind.from_buffer(memory)
    obj._wrapper = memory
    return obj


def _reduce(obj: Any) -> Any:
    memory = getattr(obj, "_wrapper", None)
    if not isinstance(memory, SharedBytes):
        if memory is not None:
            raise TypeError(
                f"cannot pickle {type(obj).__name__!r} in memory of multiprocessing: it is known to its own "
                "children only; use forkless.RawValue or forkless.RawArray"
            )
        return obj.__reduce__()
    if isinstance(obj, ctypes.Array):
        # The class of an array has no name to be found under.
        return _attach, (obj._type_, memory, obj._length_)
    return _attach, (type(obj), memory)


def _with_lock(obj: Any, lock: Any) -> Any:
    if lock is False:
        return obj
    if lock is True or lock is None:
        lock = RLock()
    if not hasattr(lock, "acquire"):
        raise AttributeError(f"{lock!r} has no method 'acquire'")
    return synchronized(obj, lock)


@cache
def _class_for(kind: Any) -> type[SynchronizedBase[Any]]:
    """The wrapper of a structure or union: a property for each field."""
    fields = {name: _guarded(name) for base in kind.__mro__ for name, *_ in vars(base).get("_fields_", ())}
    return type(f"Synchronized{kind.__name__}", (SynchronizedBase,), fields)


# Where `multiprocessing` registers its handler: those that programs register from now on run before it.
_exit.register()


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        return _internals.find(__name__, name)
