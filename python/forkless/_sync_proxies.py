"""The proxies of what a `SyncManager` makes."""

from collections.abc import Callable, Iterable, Iterator, MutableMapping, MutableSequence
from types import GenericAlias
from typing import TYPE_CHECKING, Any, ClassVar, Generic, SupportsIndex, TypeVar, overload

from ._proxies import BaseProxy, MakeProxyType
from ._waiters import wait_until

if TYPE_CHECKING:
    from typing_extensions import Self


_T = TypeVar("_T")
_K = TypeVar("_K")
_V = TypeVar("_V")


class IteratorProxy(BaseProxy):
    """Proxy of an iterator or generator."""

    _exposed_ = ("__next__", "send", "throw", "close")

    def __iter__(self) -> "Self":
        return self

    def __next__(self, *args: Any) -> Any:
        return self._callmethod("__next__", args)

    def send(self, *args: Any) -> Any:
        """See `generator.send`."""
        return self._callmethod("send", args)

    def throw(self, *args: Any) -> Any:
        """See `generator.throw`."""
        return self._callmethod("throw", args)

    def close(self, *args: Any) -> Any:
        """See `generator.close`."""
        return self._callmethod("close", args)


class AcquirerProxy(BaseProxy):
    """Proxy of a lock or a semaphore."""

    _exposed_: tuple[str, ...] = ("acquire", "release")

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Acquires it; whether that was possible in time.

        Raises:
            OwnerDied: the process that held the lock has died: what it protects may be half written. Raised
                once, and the lock is free then. Of locks only, not of semaphores.
        """
        args = (blocking,) if timeout is None else (blocking, timeout)
        return bool(self._callmethod("acquire", args))

    def release(self) -> None:
        """Releases it; a lock also if its holder has died."""
        self._callmethod("release")

    def __enter__(self) -> bool:
        return bool(self._callmethod("acquire"))

    def __exit__(self, *error: object) -> None:
        self._callmethod("release")


class ConditionProxy(AcquirerProxy):
    """Proxy of a condition variable."""

    _exposed_ = ("acquire", "release", "wait", "notify", "notify_all")

    def wait(self, timeout: float | None = None) -> bool:
        """Waits for a notification; whether there was one in time."""
        return bool(self._callmethod("wait", (timeout,)))

    def notify(self, n: int = 1) -> None:
        """Wakes up to `n` that wait."""
        self._callmethod("notify", (n,))

    def notify_all(self) -> None:
        """Wakes all that wait."""
        self._callmethod("notify_all")

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        """Waits until the predicate, which is called here, is true; what it returned last."""
        return wait_until(predicate, self.wait, timeout)


class EventProxy(BaseProxy):
    """Proxy of an event."""

    _exposed_ = ("is_set", "set", "clear", "wait")

    def is_set(self) -> bool:
        """Whether it is set."""
        return bool(self._callmethod("is_set"))

    def set(self) -> None:
        """Sets it, and wakes all that wait."""
        self._callmethod("set")

    def clear(self) -> None:
        """Resets it."""
        self._callmethod("clear")

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until it is set; whether it was in time."""
        return bool(self._callmethod("wait", (timeout,)))


class BarrierProxy(BaseProxy):
    """Proxy of a barrier."""

    _exposed_ = ("__getattribute__", "wait", "abort", "reset")

    def wait(self, timeout: float | None = None) -> int:
        """Waits until all are here; which one this is."""
        return int(self._callmethod("wait", (timeout,)))

    def abort(self) -> None:
        """Breaks the barrier."""
        self._callmethod("abort")

    def reset(self) -> None:
        """Empties it; who waits gets a BrokenBarrierError."""
        self._callmethod("reset")

    @property
    def parties(self) -> int:
        """How many it waits for."""
        return int(self._callmethod("__getattribute__", ("parties",)))

    @property
    def n_waiting(self) -> int:
        """How many are here."""
        return int(self._callmethod("__getattribute__", ("n_waiting",)))

    @property
    def broken(self) -> bool:
        """Whether it is broken."""
        return bool(self._callmethod("__getattribute__", ("broken",)))


class NamespaceProxy(BaseProxy):
    """Proxy of a namespace: its attributes are those of the object, but for names with an underscore."""

    _exposed_ = ("__getattribute__", "__setattr__", "__delattr__")

    def __getattr__(self, key: str) -> Any:
        if key[0] == "_":
            return object.__getattribute__(self, key)
        return object.__getattribute__(self, "_callmethod")("__getattribute__", (key,))

    def __setattr__(self, key: str, value: Any) -> None:
        if key[0] == "_":
            object.__setattr__(self, key, value)
        else:
            self._callmethod("__setattr__", (key, value))

    def __delattr__(self, key: str) -> None:
        if key[0] == "_":
            object.__delattr__(self, key)
        else:
            self._callmethod("__delattr__", (key,))


class ValueProxy(BaseProxy, Generic[_T]):
    """Proxy of a value."""

    _exposed_ = ("get", "set")

    def get(self) -> _T:
        """The value."""
        value: _T = self._callmethod("get")
        return value

    def set(self, value: _T) -> None:
        """Sets the value."""
        self._callmethod("set", (value,))

    if TYPE_CHECKING:
        value: _T
    else:
        value = property(get, set)


if TYPE_CHECKING:

    class _ListMethods(BaseProxy, MutableSequence[_T]):
        def __len__(self) -> int: ...
        def __iter__(self) -> Iterator[_T]: ...
        def __contains__(self, value: object) -> bool: ...
        @overload
        def __getitem__(self, index: SupportsIndex) -> _T: ...
        @overload
        def __getitem__(self, index: slice) -> list[_T]: ...
        def __getitem__(self, index: Any) -> Any: ...
        @overload
        def __setitem__(self, index: SupportsIndex, value: _T) -> None: ...
        @overload
        def __setitem__(self, index: slice, value: Iterable[_T]) -> None: ...
        def __setitem__(self, index: Any, value: Any) -> None: ...
        def __delitem__(self, index: SupportsIndex | slice) -> None: ...
        def __add__(self, other: list[_T]) -> list[_T]: ...
        def __mul__(self, times: SupportsIndex) -> list[_T]: ...
        def __rmul__(self, times: SupportsIndex) -> list[_T]: ...
        def insert(self, index: SupportsIndex, value: _T) -> None: ...
        def copy(self) -> list[_T]: ...
        def sort(self, *, key: Callable[[_T], Any] | None = None, reverse: bool = False) -> None: ...

    class _DictMethods(BaseProxy, MutableMapping[_K, _V]):
        def __len__(self) -> int: ...
        def __iter__(self) -> Iterator[_K]: ...
        def __contains__(self, key: object) -> bool: ...
        def __getitem__(self, key: _K) -> _V: ...
        def __setitem__(self, key: _K, value: _V) -> None: ...
        def __delitem__(self, key: _K) -> None: ...
        def copy(self) -> dict[_K, _V]: ...
        def keys(self) -> list[_K]: ...  # type: ignore[override]
        def values(self) -> list[_V]: ...  # type: ignore[override]
        def items(self) -> list[tuple[_K, _V]]: ...  # type: ignore[override]

    class _PoolMethods(BaseProxy):
        def __getattr__(self, name: str) -> Any: ...

else:
    _ListMethods = MakeProxyType(
        "_ListMethods",
        (
            "__add__ __contains__ __delitem__ __getitem__ __imul__ __len__ __mul__ __reversed__ __rmul__ "
            "__setitem__ append clear copy count extend index insert pop remove reverse sort"
        ).split(),
    )
    _DictMethods = MakeProxyType(
        "_DictMethods",
        (
            "__contains__ __delitem__ __getitem__ __iter__ __len__ __setitem__ clear copy get items keys pop "
            "popitem setdefault update values"
        ).split(),
    )
    _PoolMethods = MakeProxyType(
        "_PoolMethods",
        (
            "apply apply_async close imap imap_unordered join map map_async starmap starmap_async terminate"
        ).split(),
    )

    for _kind in _ListMethods, _DictMethods:
        # What they are of is for type checkers.
        _kind.__class_getitem__ = classmethod(lambda cls, _: cls)


BaseListProxy, BasePoolProxy = _ListMethods, _PoolMethods
BaseListProxy.__doc__ = (
    "What a `ListProxy` is derived from: the methods of a list, each a call to the manager."
)
BasePoolProxy.__doc__ = (
    "What a `PoolProxy` is derived from: the methods of a pool, each a call to the manager."
)


class ListProxy(_ListMethods[_T]):
    """Proxy of a list."""

    def __iadd__(self, value: Iterable[_T]) -> "Self":  # type: ignore[override]
        self._callmethod("extend", (value,))
        return self

    def __imul__(self, value: SupportsIndex) -> "Self":  # type: ignore[override]
        self._callmethod("__imul__", (value,))
        return self

    if not TYPE_CHECKING:
        __class_getitem__ = classmethod(GenericAlias)


class DictProxy(_DictMethods[_K, _V]):
    """Proxy of a dict."""

    _method_to_typeid_: ClassVar = {"__iter__": "Iterator"}

    if not TYPE_CHECKING:
        __class_getitem__ = classmethod(GenericAlias)


ArrayProxy = MakeProxyType("ArrayProxy", ("__len__", "__getitem__", "__setitem__"))
ArrayProxy.__doc__ = "Proxy of an array."


class PoolProxy(_PoolMethods):
    """Proxy of a pool, whose workers are children of the server."""

    _method_to_typeid_: ClassVar = {
        "apply_async": "AsyncResult",
        "map_async": "AsyncResult",
        "starmap_async": "AsyncResult",
        "imap": "Iterator",
        "imap_unordered": "Iterator",
    }

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *error: object) -> None:
        self.terminate()
