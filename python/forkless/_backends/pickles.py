"""Pickles for other machines.

Functions and classes that a node cannot import travel by value, as cloudpickle has it. Large buffers travel
beside the pickle, so that an engine can send them without a copy. What is in forkless's shared memory stays
out of the pickle altogether: a *token* stands for it, and the engine's own object for that memory comes with
the task; see `blocks`. Everything else that lives in shared memory (locks, queues, events) means nothing on
another machine, and is refused.
"""

import functools
import io
import pickle
import sys
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import cloudpickle
from cloudpickle import cloudpickle as _cloudpickle

from .. import _pickling
from .._forkless import Shared, SharedBuffer, SharedBytes, SharedDict, SharedList, address_of, find_shared
from .blocks import Block, token_of

__all__ = ["LocalObject", "Packed", "kept_memory", "load_report", "loads", "pack", "size_of"]

# Buffers from this size on travel beside the pickle, in bytes.
_BESIDE = 1 << 14


class Packed(NamedTuple):
    """A pickle, and what belongs to it.

    Attributes:
        payload: the pickle itself.
        buffers: what travels beside it: a `Block`, or (token, offset, length) for a part of shared memory.
        writable: which of them may be written to where they arrive.
        memory: the shared memory that it refers to, by token. It stays here.
    """

    payload: bytes
    buffers: list[Any]
    writable: list[bool]
    memory: dict[str, Any]

    @property
    def parts(self) -> tuple[Any, ...]:
        """What is sent of it."""
        return self.payload, self.buffers, self.writable

    @property
    def size_bytes(self) -> int:
        """How much that is, in bytes."""
        return size_of(self.parts)


def size_of(parts: Sequence[Any]) -> int:
    """How many bytes are sent of these parts of a `Packed`."""
    payload, buffers, _ = parts
    return len(payload) + sum(each.view.nbytes for each in buffers if isinstance(each, Block))


class Beside:
    """What belongs to a pickle that is being written; an object of its own, or the pickler would be a cycle.

    Attributes:
        buffers: see `Packed`.
        writable: see `Packed`.
        memory: see `Packed`.
    """

    def __init__(self) -> None:
        self.buffers: list[Any] = []
        self.writable: list[bool] = []
        self.memory: dict[str, Any] = {}

    def take(self, buffer: pickle.PickleBuffer) -> bool:
        """Whether a buffer is to be in the pickle itself."""
        source = buffer.raw()
        found = find_shared(address_of(source), source.nbytes) if source.nbytes else None
        if found is not None:
            shared, offset = found
            self.buffers.append((self.name(shared), offset, source.nbytes))
            self.writable.append(False)
            return False
        if source.nbytes < _BESIDE:
            return True
        self.buffers.append(Block(source))
        self.writable.append(not source.readonly)
        return False

    def name(self, memory: Any) -> str:
        """The token of a piece of shared memory, which belongs to the pickle from now on."""
        token = token_of(memory)
        self.memory[token] = memory
        return token


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # which has no types
    """cloudpickle's, which asks about what is in shared memory first.

    Attributes:
        output: what was written.
        beside: what belongs to it.
        leased: for `_pickling`: that the pickle does not keep shared objects alive.
    """

    leased = False

    def __init__(self) -> None:
        self.output = io.BytesIO()
        self.beside = Beside()
        super().__init__(self.output, 5, buffer_callback=self.beside.take)

    def reducer_override(self, obj: Any) -> Any:
        """Called once for each object, except for numbers, strings and the built-in containers."""
        kind: Any = type(obj)
        if kind is SharedBuffer:
            return _pickling.cast_view, (self._token(obj), obj.format, obj.shape)
        if kind is SharedList or kind is SharedDict:
            return _given, (self.beside.name(obj),)
        if kind is memoryview:
            return _pickling._memoryview(self, obj)
        if kind.__module__ == "numpy":
            reduced = self._array(obj)
            if reduced is not NotImplemented:
                return reduced
        if _is_local(kind):
            return self.local(obj)
        return super().reducer_override(obj)

    def local(self, obj: Any) -> Any:
        """For what lives on one machine.

        Raises:
            LocalObject: always.
        """
        raise LocalObject(obj)

    def _array(self, array: Any) -> Any:
        """An array over shared memory: that memory, and how to look at it."""
        if type(array) is not sys.modules["numpy"].ndarray:
            return NotImplemented
        memory = _memory_of(array)
        if isinstance(memory, SharedBytes) and not memory.sealed:
            raise TypeError(
                "an array of forkless.empty() is writable memory of this machine, which a task elsewhere "
                "cannot write to: seal it first (forkless.seal(array), or forkless.share(array), copies "
                "nothing), or send a copy (array.copy())"
            )
        if memory is None:
            return NotImplemented
        strides = array.strides if array.size else None
        place = _pickling.place_of(array, memory)
        return _pickling.view, (self._token(memory), array.dtype, array.shape, strides, place)

    def _token(self, memory: Any) -> "_Given":
        return _Given(self.beside.name(memory))


def _memory_of(array: Any) -> Any:
    """The memory that an array is a view of, if that has a token, or can get one."""
    memory = kept_memory(array)
    if memory is None:
        memory = _pickling.buffer_of(array)
        if not isinstance(memory, (SharedBuffer, SharedBytes)):
            return None
    return memory


def kept_memory(array: Any) -> Any:
    """The memory that an array is a view of, if an engine has that; see `kept`."""
    kept = sys.modules.get(f"{__package__}.kept")
    return None if kept is None else kept.memory_of(array)


# Classes that live on one machine, by the module of ours that they, or a base of theirs, are of.
_LOCAL_MODULES = frozenset(
    f"{__package__.partition('.')[0]}.{name}"
    for name in (
        "aio",
        "connection",
        "context",
        "executor",
        "heap",
        "managers",
        "pool",
        "process",
        "queues",
        "shared_memory",
        "sharedctypes",
        "_proxies",
        "_results",
        "_stream",
        "_sync_proxies",
    )
)


@functools.lru_cache(1024)
def _is_local(kind: type) -> bool:
    """Whether objects of this class live on one machine."""
    if issubclass(kind, type):
        return False
    return issubclass(kind, Shared) or any(each.__module__ in _LOCAL_MODULES for each in kind.__mro__)


_OTHERWISE = "return results instead, or use the engine's own (ray.util.queue, distributed.Lock, ...)"
_INSTEAD = {
    "Executor": "let the task return what is next to be done, and submit that here",
    "ClusterExecutor": "let the task return what is next to be done, and submit that here",
    "Queue": "return the items as the result, or use ray.util.queue.Queue or distributed.Queue",
    "Lock": "do what it protects here, with the results, or use distributed.Lock",
}


class LocalObject(TypeError):
    """An object lives on one machine. Its parts do, too, but they are not what users know.

    Attributes:
        culprit: the object.
    """

    def __init__(self, culprit: Any) -> None:
        name = type(culprit).__name__
        super().__init__(
            f"a {name} of forkless lives in the shared memory of one machine, and the tasks of a cluster run "
            f"on others: {_INSTEAD.get(name, _OTHERWISE)}"
        )
        self.culprit = culprit


class _Searching(Pickler):
    """For the search for the way to such an object, which is to end there."""

    def __init__(self, culprit: Any) -> None:
        super().__init__()
        self._culprit = culprit

    def local(self, obj: Any) -> Any:
        if obj is self._culprit:
            raise LocalObject(obj)
        return int, ()


class _Given:
    """Stands for shared memory in a pickle: what came with the task for this token."""

    def __init__(self, token: str) -> None:
        self.token = token

    def __reduce__(self) -> tuple[Any, ...]:
        return _given, (self.token,)


_table = threading.local()


def _given(token: str) -> Any:
    return _table.memory[token]


def pack(obj: object, names: Sequence[str] = ()) -> Packed:
    """Pickles an object for another machine.

    Args:
        obj: anything that pickles; functions and classes may be of `__main__`, local, or without a name.
        names: what errors call the items of `obj`, a tuple.

    Raises:
        PicklingError: something does not pickle, or belongs to this machine; the message says which part.
    """
    pickler = Pickler()
    try:
        pickler.dump(obj)
    except (TypeError, AttributeError, RuntimeError, pickle.PicklingError) as error:
        from .._blame import explain
        from .._unpicklable import error_of

        culprit = getattr(error, "culprit", error)
        text = explain(obj, error, names, functools.partial(_Searching, culprit))  # type: ignore[arg-type]
        raise error_of(error, text) from error
    beside = pickler.beside
    return Packed(pickler.output.getvalue(), beside.buffers, beside.writable, beside.memory)


class _Unpickler(pickle.Unpickler):
    """Where classes come home: what nodes did to them overwrites nothing."""

    def __init__(self, payload: bytes, buffers: Sequence[Any]) -> None:
        super().__init__(io.BytesIO(payload), buffers=buffers)
        self._known: set[type] | None = None

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        if module.startswith("cloudpickle"):
            if name == "_class_setstate":
                return self._set_state
            if self._known is None and name.startswith("_make_skeleton"):
                self._known = set(_cloudpickle._DYNAMIC_CLASS_TRACKER_BY_CLASS)
        return found

    def _set_state(self, cls: type, state: Any) -> type:
        if self._known is not None and cls in self._known:
            return cls
        made: type = _cloudpickle._class_setstate(cls, state)
        return made


def loads(parts: Sequence[Any], memory: dict[str, Any] | None = None) -> Any:
    """Rebuilds what another machine has pickled.

    Args:
        parts: those of `Packed`.
        memory: what came with the task, by token; None at home.
    """
    payload, buffers, writable = parts
    _table.memory = {} if memory is None else memory
    try:
        arrived = [_arrived(buffer, may) for buffer, may in zip(buffers, writable, strict=True)]
        if memory is None:
            return _Unpickler(payload, arrived).load()
        return pickle.loads(payload, buffers=arrived)
    finally:
        del _table.memory


def _arrived(buffer: Any, writable: bool) -> Any:
    """A buffer where it has arrived. Engines may give views of memory that is read-only."""
    if isinstance(buffer, tuple):
        token, offset, length = buffer
        return _given(token)[offset : offset + length]
    return buffer.own() if writable else buffer.view.toreadonly()


def load_report(payload: bytes, handles: list[Any], buffers: list[Any]) -> Any:
    """What was pickled of an exception; for `_errors.rebuild`."""
    return _Unpickler(payload, buffers).load()
