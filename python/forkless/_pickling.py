"""Pickles for the journey between processes of one tree.

What can be imported travels by reference, as in `pickle`, and at about its cost: the C pickler does the work
and asks `Pickler.reducer_override` only about what is no plain value. Functions and classes that a child
cannot import, those of `__main__` first of all, travel by value; see `_byvalue`, which is loaded when the
first of them is met. Errors name the path to what does not pickle; see `_blame`.

Large data is copied once on its way, into shared memory: buffers (of arrays, tables, tensors) travel beside
the pickle and are used where they arrive, and large `bytes` inside it are not joined with the rest before
they are there. `pack` is for that, `dumps` for a pickle that is one piece of bytes.

Nothing here holds a lock: a finaliser that runs in the middle of `dumps` may call `dumps` itself.
"""

import _pickle
import os
import pickle
import sys
from _thread import get_ident
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from io import TextIOWrapper
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MappingProxyType,
    MethodType,
    ModuleType,
)
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _forks, _stdlib
from ._beside import Beside, Stand, keepers, load_enclosed
from ._forkless import Deposit, Function, Shared, SharedBuffer, SharedBytes, address_of, find_shared

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from ._byvalue import Writer
    from ._forkless import Message

__all__ = ["Packed", "PicklingError", "adopt_main", "dumps", "loads", "main_spec", "pack"]

_KEEP_BELOW = 1 << 16  # bytes of output; a pickler that wrote more holds tables that are better given back
_LOOK_ABOVE = 1_000_000  # bytes of output; was it a function that took them along?


class PicklingError(pickle.PicklingError, TypeError):
    """An object does not pickle; the message names the path to the part that does not, and what to do.

    `pickle` raises its `PicklingError` for some of these objects and `TypeError` for others: this is both.
    What an object itself raises is its cause; `_unpicklable` has classes that are that too.
    """


_SHARED_REDUCE: Any = Shared.__reduce__


class Pickler(_pickle.Pickler):
    """The C pickler, asking about functions, classes, shared objects and a few types that pickle refuses.

    Attributes:
        handles: The shared objects met so far.
        beside: What decides which buffers travel beside the pickle, and has them.
        home: Whether the receiver is the process that started this one.
        stranger: What the receiver is, if it cannot run this Python's code.
        leased: Whether what carries the pickle keeps the shared objects alive.
    """

    def __init__(self) -> None:
        self.parts: list[Buffer] = []
        self.handles: list[Shared] = []
        self.home = False
        self.stranger: str | None = None
        self.leased = True
        self._writer: Writer | None = None
        self._plain: set[type] = set()
        self.beside = Beside()
        super().__init__(_Output(self.parts.append), 5, buffer_callback=self.beside)

    @property
    def writer(self) -> "Writer":
        """What reduces functions and classes by value."""
        if self._writer is None:
            if self.stranger is not None:
                raise TypeError(
                    "functions and classes of __main__, lambdas and closures travel as code of this Python, "
                    f"which {self.stranger} cannot run; put them into a module that it can import"
                )
            self._writer = _make_writer(self)
        return self._writer

    @property
    def uses_writer(self) -> bool:
        """Whether something was reduced by value."""
        return self._writer is not None

    def reducer_override(self, obj: Any) -> Any:
        """Called once for each object, except for numbers, strings and the built-in containers."""
        kind = type(obj)
        if kind is FunctionType:
            return NotImplemented if find(obj) else self.writer.function(obj)
        if kind in self._plain:
            return NotImplemented
        handler = handlers.get(kind)
        if handler is not None:
            return handler(self, obj)
        if issubclass(kind, type):
            return _class(self, obj)
        if issubclass(kind, Shared):
            self.handles.append(obj)
            # Its `__reduce__` is for picklers that keep nothing alive; see `_strangers`.
            return obj._reduce() if kind.__reduce__ is _SHARED_REDUCE else NotImplemented
        extra = _extra_reducers().get(kind)
        handler = _handlers_of_modules.get(kind.__module__)
        # The one for connections starts a thread that serves copies of the descriptor.
        if extra is not None and kind.__module__ != "multiprocessing.connection" and not _is_ours(extra):
            reduced = _tensor(self, obj) if handler is _tensor else NotImplemented
            return _extra(extra, obj) if reduced is NotImplemented else reduced
        if handler is None and is_of_multiprocessing(kind):
            handler = _standard
        if handler is not None:
            return handler(self, obj)
        self._plain.add(kind)
        return NotImplemented

    def take(self) -> bytes:
        """The pickle written, in one piece."""
        self.enclose()
        return b"".join(self.parts)

    def enclose(self) -> None:
        """Where buffers are parts of shared ones: puts what was written into a pickle that says which."""
        slots = self.beside.slots
        if slots is None:
            return
        outer = Pickler()
        outer.beside.buffers = None if self.beside.buffers is None else []
        outer.dump(Stand(load_enclosed, (b"".join(self.parts), slots)))
        # It has met the same buffers beside it, in the same order.
        self.parts[:], self.beside.slots = outer.parts, None
        self.handles += outer.handles

    def forget(self) -> None:
        """Forgets what it has pickled: nothing but plain objects, all of which was taken."""
        self.clear_memo()
        if self._plain:
            self._plain.clear()

    def reset(self) -> None:
        """Makes it as good as new; without it, the collector would have to free what was pickled."""
        self.clear_memo()
        self.parts.clear()
        self.handles = []
        self.beside.forget()
        self._writer = None
        self._plain.clear()


def _make_writer(pickler: Pickler) -> "Writer":
    """Loads what is needed for that, the first time."""
    global _make_writer
    from ._byvalue import Writer

    _make_writer = Writer
    return Writer(pickler)


class _Output:
    """A file for the pickler: making and reading a `BytesIO` would double the cost of a small message."""

    __slots__ = ("write",)

    def __init__(self, write: "Callable[[Buffer], None]") -> None:
        self.write = write


class Packed(NamedTuple):
    """A message: what `Channel.send` wants to have.

    It refers to the memory of the object, where that is large: send it before the object changes.
    """

    payload: "bytes | list[Buffer]"
    """The pickle, or its pieces."""
    handles: list[Shared]
    """The shared objects it refers to: they must be kept until it has been loaded."""
    buffers: list[pickle.PickleBuffer]
    """What travels beside it."""


# Picklers to use again, as making one costs more than a small message. `pop` and `append` are atomic.
_idle: list[Pickler] = []


def _pop(picklers: list[Pickler]) -> Pickler | None:
    """One of them, if there is one. What interrupts the making of another is no error on top of an error."""
    try:
        return picklers.pop()
    except IndexError:
        return None


def dumps(
    obj: object,
    *,
    home: bool = False,
    names: Sequence[str] = (),
    stranger: str | None = None,
    leased: bool = True,
) -> tuple[bytes, list[Shared]]:
    """Pickles an object for another process of this tree.

    Args:
        obj: Anything that pickles; functions and classes may be of `__main__`, local, or without a name.
        home: The receiver is the process that started this one: what came from it goes back as a mere
            reference, without its definition.
        names: What errors call the items of `obj`, a tuple: ("function", "args", "kwargs").
        stranger: The receiver, if it is another version of Python: nothing travels to it by value.
        leased: What carries the pickle keeps the shared objects alive until it has been loaded.

    Returns:
        The pickle, and the shared objects it refers to: they must be kept until it has been loaded.

    Raises:
        PicklingError: Something does not pickle.
    """
    payload, handles, _ = pack(obj, home=home, names=names, stranger=stranger, leased=leased, beside=False)
    return payload if isinstance(payload, bytes) else b"".join(payload), handles


def pack(
    obj: object,
    *,
    home: bool = False,
    names: Sequence[str] = (),
    stranger: str | None = None,
    leased: bool = True,
    beside: bool = True,
) -> Packed:
    """As `dumps`, without a copy of large data: `Channel.send` and `Parcel` make the only one.

    Args:
        obj: See `dumps`.
        home: See `dumps`.
        names: See `dumps`.
        stranger: See `dumps`.
        leased: See `dumps`.
        beside: Whether large buffers travel beside the pickle, rather than in it.

    Raises:
        PicklingError: Something does not pickle.
    """
    pickler = _pop(_idle) or Pickler()
    pickler.home, pickler.stranger = home, stranger
    pickler.leased = pickler.beside.leased = leased
    buffers: list[pickle.PickleBuffer] = []
    if beside:
        pickler.beside.buffers = buffers
    dump(pickler, obj, names)
    packed = _finish(pickler, buffers)
    payload = packed.payload
    if type(payload) is bytes and len(payload) < _KEEP_BELOW:
        _idle.append(pickler)
    return packed


# What stands for objects that the template has, by their id; see `_preload`.
inherited: dict[int, Any] = {}


def refer(obj: Any, depth: int = 3) -> Any:
    """An object, or what stands for it if it was preloaded; also in tuples and dicts, as messages are.

    Asking about each object that a pickle meets would make all of them slower.
    """
    stand = inherited.get(id(obj))
    if stand is not None:
        return stand
    kind = type(obj)
    if depth and kind is tuple:
        return tuple(refer(item, depth - 1) for item in obj)
    if depth and kind is dict and len(obj) < 100:
        return {key: refer(value, depth - 1) for key, value in obj.items()}
    return obj


def dump(pickler: Pickler, obj: object, names: Sequence[str] = ()) -> None:
    """Has a pickler write an object, with errors that say which part of it does not pickle; see `dumps`."""
    if inherited:
        obj = refer(obj)
    try:
        pickler.dump(obj)
    except (TypeError, AttributeError, RuntimeError, pickle.PicklingError) as error:
        from ._blame import explain
        from ._unpicklable import error_of

        raise error_of(error, explain(obj, error, names, type(pickler))) from error


def _finish(pickler: Pickler, buffers: list[pickle.PickleBuffer]) -> Packed:
    """What it has written."""
    pickler.enclose()
    payload: Any = pickler.parts
    payload = payload[0] if len(payload) == 1 else payload.copy()
    packed = _tuple(Packed, (payload, pickler.handles, buffers))
    if pickler.uses_writer and _size(packed) > _LOOK_ABOVE:
        pickler.writer.look_for_large_closures()
    pickler.reset()
    return packed


_tuple = tuple.__new__  # half of what calling the class takes

# Picklers whose buffers travel beside the pickle, with nothing to forget.
_ready: list[Pickler] = []


def pack_item(obj: object) -> bytes | Packed:
    """As `pack`, at half its cost for what queues mostly carry: the pickle, where nothing is beside it."""
    pickler = _pop(_ready)
    if pickler is None:
        pickler = Pickler()
        pickler.beside.buffers = []
    dump(pickler, obj)
    parts = pickler.parts
    beside = pickler.beside
    if len(parts) > 1 or pickler.handles or beside.buffers or beside.slots or pickler.uses_writer:
        return _finish(pickler, beside.buffers or [])
    payload: Any = parts.pop()
    pickler.forget()
    if len(payload) < _KEEP_BELOW:
        _ready.append(pickler)
    return payload  # type: ignore[no-any-return]


def pack_result(obj: object) -> Packed:
    """As `pack`, for the process that started this one."""
    try:
        return pack(obj, home=True)
    except PicklingError as first:
        error = first
    try:
        pack((True, obj), home=True, names=("done", "the result"))  # Says what it is about.
    except PicklingError as second:
        error = second
    from ._unsendable import error_of

    raise error_of(error, obj) from error.__cause__


# What is packed once more when it has failed to: with a name for each part, for the message.


def pack_named(what: str, obj: Any, function: Any = None, first: int | None = None) -> Packed:
    """As `pack`, once more when that has failed: errors say what is what, and of which call.

    Args:
        what: "call", "argument", "arguments" or "keywords"; see `Call` in the core.
        obj: that.
        function: which one is called, unless that is in the call.
        first: the place of the item in an input, or of the first of several.
    """
    names: Sequence[str] = ("function", "args", "kwargs")
    parts: tuple[Any, ...]
    if first is not None:
        parts = (obj,) if what == "argument" else tuple(obj)
        names = [f"item {first + index}" for index in range(len(parts))]
    elif what == "call":
        parts = obj
    elif what == "argument":
        parts = None, (obj,), {}
    elif what == "arguments":
        parts = None, obj, {}
    else:
        parts = None, *obj
    try:
        pack(parts, names=names)
    except PicklingError as error:
        raise of_call(error, obj[0] if what == "call" else function) from error.__cause__
    return pack(obj)


def of_call(error: BaseException, function: Any) -> BaseException:
    """An error in pickling, with the name of the function whose argument or result it is about."""
    if isinstance(error, PicklingError):
        from ._scheduler import name_of

        error.args = (f"{error} (in a call of {name_of(function)})", *error.args[1:])
    return error


# Functions that many tasks call are pickled once; see `pool/call.rs` in the core.


def publish(function: Callable[..., Any]) -> Function:
    """Pickles a function for many tasks.

    A worker loads it once if that makes no difference: if it has no state in which a task could leave
    something for the next one.

    Raises:
        PicklingError: It cannot be pickled.
    """
    try:
        payload, handles, buffers = pack((function,), names=("function",))
    except PicklingError as error:
        raise of_call(error, function) from error.__cause__
    return Function(function, payload, handles, buffers, _has_no_state(function))


def publish_if_lasting(function: Callable[..., Any]) -> Function | None:
    """The same for a function that is found by its name, now and later; None for others.

    What else it refers to may change from one task to the next.
    """
    return publish(function) if find(function) else None


def _has_no_state(function: Callable[..., Any]) -> bool:
    kind = type(function)
    if kind is not FunctionType and kind is not BuiltinFunctionType:
        return False
    if find(function):
        return True
    if kind is BuiltinFunctionType:
        return False
    from ._units import has_no_state

    return has_no_state(function)  # type: ignore[arg-type]


def _size(packed: Packed) -> int:
    payload = packed.payload
    pieces = [payload] if isinstance(payload, bytes) else payload
    return sum(memoryview(piece).nbytes for piece in (*pieces, *packed.buffers))


def loads(message: "bytes | Message", writable: bool = True) -> Any:
    """Rebuilds what another process has pickled.

    What was large and travelled beside the pickle is used where it arrived, without a copy, and keeps the
    message's memory for as long as it lives. Nobody else has that memory.

    Args:
        message: What a channel has delivered, or a pickle. What shared objects it contains must be alive:
            hold the message until this returns.
        writable: Whether arrays over such memory can be written to, as all other arrays can.
    """
    if isinstance(message, bytes):
        return pickle.loads(message)
    payload = message.payload
    if isinstance(payload, bytes):
        return pickle.loads(payload)
    return pickle.loads(payload, buffers=message.buffers(writable))


# Who is who: definitions that come from another process are taken, or not, by where they come from.

identity = os.urandom(8).hex()  # of this process; a child gets its own from `_child`
parent: str | None = None  # the identity of the process that started it
main_origin = identity  # of the process whose `__main__` is the one of this process


def _renew_identity() -> None:
    global identity
    identity = os.urandom(8).hex()


_forks.in_copy(_renew_identity)


def main_spec() -> dict[str, str | None]:
    """What a child has to know about the `__main__` of this process; see `adopt_main`."""
    main = sys.modules.get("__main__")
    return {
        "origin": main_origin,
        "parent": identity,
        "file": getattr(main, "__file__", None),
        "package": getattr(main, "__package__", None),
    }


def adopt_main(spec: dict[str, str | None]) -> None:
    """Gives this child an empty `__main__` in place of its parent's. No line of the parent's program runs.

    Functions and classes of the parent's `__main__` appear in it as they arrive, so that everything that
    looks them up by name finds them: `pickle.dumps(instance)` for one. To be called before anything is
    loaded.

    Args:
        spec: What the parent's `main_spec` returned.
    """
    global parent, main_origin, _first_main
    parent, main_origin = spec["parent"], spec["origin"] or ""
    main = _Main("__main__")
    main.__dict__.update(__builtins__=sys.modules["builtins"], __package__=spec["package"])
    if spec["file"] is not None:
        main.__file__ = spec["file"]
    # Functions of the module that started this process may still run, and need its globals.
    _first_main = sys.modules.get("__main__")
    sys.modules["__main__"] = main


_first_main: object = None


class _Main(ModuleType):
    """The `__main__` of a child: it has what was sent."""

    def __getattr__(self, name: str) -> Any:
        message = f"module '__main__' has no attribute {name!r}"
        if not name.startswith("__"):
            message += (
                ": the program does not run in this child process, so of its names there are those that were "
                "sent. Put what is to be found by its name into a module that can be imported"
            )
        raise AttributeError(message)


# By reference or by value.


def find(obj: Any) -> bool:
    """Whether another process finds this function or class by importing its module."""
    name = obj.__module__
    module = _modules.get(name)
    if module is None or name == "__main__" or (_importable.get(name) is not module and not importable(name)):
        return False
    path = obj.__qualname__
    return getattr(module, path, None) is obj or ("." in path and resolve(module, path)[1] is obj)


_modules = sys.modules


def resolve(module: object, path: str) -> tuple[Any, Any]:
    """What is found under a dotted path, after its owner; (None, None) if nothing is."""
    owner, found = None, module
    for name in path.split("."):
        owner, found = found, getattr(found, name, _importable)
        if found is _importable:
            return None, None
    return owner, found


_importable: dict[str, object] = {}
_strangers: dict[str, object] = {}


def importable(name: object) -> bool:
    """Whether another process can import what this one has loaded under this name."""
    module: Any = sys.modules.get(name) if isinstance(name, str) else None
    if module is None or not isinstance(name, str) or name in ("__main__", "__mp_main__"):
        return False
    if _importable.get(name) is not module and _strangers.get(name) is not module:
        verdict = _importable if _is_importable(module, name) else _strangers
        verdict[name] = module
    return _importable.get(name) is module


def _is_importable(module: object, name: str) -> bool:
    """Whether importing the name elsewhere gives this module, and not another one or none."""
    spec = getattr(module, "__spec__", None)
    package, _, _ = name.rpartition(".")
    if spec is None:
        # Made by hand, or by an extension module for itself: the import of its package makes it again.
        return importable(package)
    if not spec.has_location:
        return True
    path = getattr(sys.modules.get(package), "__path__", None) if package else None
    for finder in sys.meta_path:
        try:
            found = finder.find_spec(name, path)
        except Exception:
            continue
        if found is not None:
            return _same_file(found.origin, spec.origin)
    return False


def _same_file(one: str | None, other: str | None) -> bool:
    try:
        return one == other or (one is not None and other is not None and os.path.samefile(one, other))
    except OSError:
        return False


def _class(pickler: Pickler, obj: type) -> Any:
    return NotImplemented if find(obj) or obj in _SINGLE else pickler.writer.klass(obj)


_SINGLE = (type(None), type(NotImplemented), type(...))  # the pickler knows these classes


def _method(pickler: Pickler, obj: MethodType) -> Any:
    """By its name, as `pickle` does, unless the name leads elsewhere."""
    name = getattr(obj.__func__, "__name__", "")
    if getattr(obj.__self__, name, None) == obj:
        return NotImplemented
    return MethodType, (obj.__func__, obj.__self__)


def _module(pickler: Pickler, obj: ModuleType) -> Any:
    from importlib import import_module

    name = obj.__name__
    if sys.modules.get(name) is obj and (name == "__main__" or importable(name)):
        return import_module, (name,)
    return pickler.writer.other(obj)


def _cached_function(pickler: Pickler, obj: Any) -> Any:
    return NotImplemented if find(obj) else pickler.writer.cached_function(obj)


def _stream(pickler: Pickler, obj: Any) -> Any:
    """Standard output is the receiver's own; other files are refused."""
    for name in ("stdout", "stderr"):
        if obj is getattr(sys, name):
            return getattr, (sys, name)
    return NotImplemented


def _other(pickler: Pickler, obj: object) -> Any:
    return pickler.writer.other(obj)


def _deposit(pickler: Pickler, obj: Deposit) -> Any:
    """Kept alive by what carries the pickle, unlike in other pickles; see `reduction`."""
    pickler.handles.append(obj)
    return obj._reduce()


def _memoryview(pickler: Pickler, obj: memoryview) -> Any:
    """All of a shared buffer: by handle. Anything else: its bytes, with their format and shape.

    The bytes of a part of one are found to be that; see `_beside`.
    """
    shared = obj.obj
    if (
        pickler.leased
        and isinstance(shared, SharedBuffer)
        and (obj.nbytes, obj.format, obj.shape)
        == (
            shared.nbytes,
            shared.format,
            shared.shape,
        )
    ):
        return memoryview, (shared,)
    if type(shared).__module__ == _FILES:
        from ._files import reduce_view

        reduced = reduce_view(obj)
        if reduced is not None:
            return reduced
    is_plain = obj.format == "B" and obj.ndim == 1
    if not is_plain and (obj.format.lstrip("@") not in _CASTABLE or not obj.nbytes):
        raise TypeError(
            f"cannot pickle a memoryview of shape {obj.shape} with items of format {obj.format!r}"
        )
    if obj.c_contiguous:
        source: Any = pickle.PickleBuffer(obj.cast("B") if obj.nbytes else obj)
    else:
        source = obj.tobytes() if obj.readonly else bytearray(obj.tobytes())
    return (memoryview, (source,)) if is_plain else (cast_view, (source, obj.format, obj.shape))


_FILES = f"{__package__}._files"
_CASTABLE = tuple("cbB?hHiIlLqQnNfdP")  # formats that a memoryview can be given


def cast_view(buffer: "Buffer", format: Any, shape: tuple[int, ...]) -> memoryview:
    """A memoryview of items of this format, in this shape."""
    return memoryview(buffer).cast(format, shape)


handlers: dict[type, Callable[[Pickler, Any], Any]] = {
    type: _class,
    MethodType: _method,
    ModuleType: _module,
    _Main: _module,
    TextIOWrapper: _stream,
    memoryview: _memoryview,
    Deposit: _deposit,
    type(lru_cache(len)): _cached_function,
}
handlers.update(
    dict.fromkeys(
        (
            CellType,
            CodeType,
            GetSetDescriptorType,
            MappingProxyType,
            property,
            classmethod,
            staticmethod,
            cached_property,
            type({}.keys()),
            type({}.values()),
            type({}.items()),
        ),
        _other,
    )
)


# Types of modules that must not be imported for our sake, found by the name of the module.


def _array(pickler: Pickler, obj: Any) -> Any:
    """A view of shared memory, whatever its shape: the memory's handle and the view's place in it.

    Any other large array: its memory, and how to look at it. NumPy itself would do as much for most types and
    contiguous arrays, but neither for dates, which buffers do not know, nor for views with gaps.
    """
    numpy = sys.modules["numpy"]
    if keepers and isinstance(obj, numpy.ndarray) and (keeper := keepers.get(get_ident())) is not None:
        reduced = keeper.reduce(obj)
        if reduced is not None:
            return reduced
    if type(obj) is not numpy.ndarray:
        return NotImplemented
    shared = buffer_of(obj)
    if shared is None or (not pickler.leased and isinstance(shared, SharedBuffer)):
        is_large = pickler.beside.takes(obj.nbytes) and not obj.dtype.hasobject
        return array_beside(numpy, obj) if is_large else NotImplemented
    return reduce_view(obj, shared)


def reduce_view(array: Any, memory: Any) -> Any:
    """A view of shared memory: its handle, and how to look at it."""
    make = view if array.flags.writeable or not isinstance(memory, SharedBytes) else read_only_view
    strides = array.strides if array.size else None
    return make, (memory, array.dtype, array.shape, strides, place_of(array, memory))


def array_beside(numpy: Any, array: Any) -> Any:
    """An array of numbers: its memory, beside the pickle."""
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    source = array.T if fortran else numpy.ascontiguousarray(array)
    flat = source.reshape(-1).view(numpy.uint8)
    flat.flags.writeable = array.flags.writeable
    return view, (pickle.PickleBuffer(flat), array.dtype, array.shape, array.strides if fortran else None, 0)


def buffer_of(array: Any) -> Any:
    """The shared memory that an array is a view of: `SharedBuffer`, `SharedBytes`, or a mapped file; or None.

    Of a `SharedBuffer` also if it is a view of a view that is another library's.

    An array over a memoryview of `SharedBytes` has none: it may be one of `sharedctypes`, which is expected
    to be copied.
    """
    base, kind = array.base, type(array)
    while type(base) is kind:
        base = base.base
    if isinstance(base, SharedBytes):
        return base
    if isinstance(base, memoryview):
        base = base.obj
    if base is None or isinstance(base, SharedBuffer) or type(base).__module__ == _FILES:
        return base
    found = find_shared(*_extent(array))
    return None if found is None else found[0]


def _extent(array: Any) -> tuple[int, int]:
    """The lowest address of an array's items, and the bytes from there to the end of the highest."""
    if not array.size:
        return 0, 0
    spans = [(count - 1) * step for count, step in zip(array.shape, array.strides, strict=True)]
    return _address(array) + sum(min(span, 0) for span in spans), array.itemsize + sum(map(abs, spans))


def place_of(array: Any, memory: Any) -> int:
    """Where in the memory an array begins."""
    if not array.size:
        return 0
    if isinstance(memory, SharedBytes):
        return memory.place_of(_address(array))
    return _address(array) - address_of(memory)


def _address(array: Any) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def view(
    buffer: "Buffer", dtype: Any, shape: tuple[int, ...], strides: tuple[int, ...] | None, offset: int
) -> Any:
    """An array over a buffer, without a copy."""
    import numpy

    memory: Any = buffer
    return numpy.ndarray(shape, dtype, memory, offset, strides)


def read_only_view(*arguments: Any) -> Any:
    """The same, not to be written to."""
    array = view(*arguments)
    array.flags.writeable = False
    return array


def _numbers(pickler: Pickler, obj: Any) -> Any:
    """A large `array.array`: its memory, which it would make a copy of by itself."""
    if type(obj) is not sys.modules["array"].array or not pickler.beside.takes(len(obj) * obj.itemsize):
        return NotImplemented
    return numbers_of, (obj.typecode, pickle.PickleBuffer(obj))


def numbers_of(typecode: Any, buffer: "Buffer") -> Any:
    """An `array.array` with a copy of these bytes."""
    from array import array

    numbers = array(typecode)
    numbers.frombytes(buffer)
    return numbers


def _tensor(pickler: Pickler, obj: Any) -> Any:
    """A tensor of torch, or a storage: its memory, if that is in this process."""
    from ._tensors import reduce_tensor

    return reduce_tensor(pickler, obj)


def _part_of_frame(pickler: Pickler, obj: Any) -> Any:
    """A column or block of pandas, some of which would be copied first."""
    from ._gather import reduce_part

    return reduce_part(obj)


def _polars(pickler: Pickler, obj: Any) -> Any:
    """A frame or series of polars: its columns."""
    from ._tables import reduce_polars

    return reduce_polars(pickler, obj)


def _dataclass_constant(pickler: Pickler, obj: Any) -> Any:
    """`MISSING` and its like, which are compared by identity, by their names."""
    for name, value in vars(sys.modules["dataclasses"]).items():
        if value is obj:
            return name
    return NotImplemented


def _instance_of_main(pickler: Pickler, obj: Any) -> Any:
    return pickler.writer.instance(obj)


def _typing(pickler: Pickler, obj: Any) -> Any:
    return pickler.writer.type_variable(obj)


def _standard(pickler: Pickler, obj: Any) -> Any:
    """Of the standard library's multiprocessing: taken along, or refused."""
    from . import _standard

    return _standard.reduce(obj)


def _socket(pickler: Pickler, obj: Any) -> Any:
    """A plain socket, with a copy of its descriptor."""
    if type(obj) is not sys.modules["socket"].socket:
        return NotImplemented
    from . import reduction

    return reduction.reduce_socket(obj)


def is_of_multiprocessing(kind: type) -> bool:
    """Whether it is a proxy of a manager or a process, whose classes may be of any module."""
    # Without them while another thread imports the module: then there are no objects of theirs yet.
    for module, name in ("managers", "BaseProxy"), ("process", "BaseProcess"):
        base = getattr(_stdlib.loaded(module), name, None)
        if base is not None and issubclass(kind, base):
            return True
    return False


_handlers_of_modules: dict[str, Callable[[Pickler, Any], Any]] = {
    "__main__": _instance_of_main,
    "array": _numbers,
    "dataclasses": _dataclass_constant,
    "numpy": _array,
    **dict.fromkeys(
        (
            "pandas.arrays",
            "pandas.core.arrays.arrow.array",
            "pandas.core.arrays.string_arrow",
            "pandas.core.internals.blocks",
        ),
        _part_of_frame,
    ),
    "polars.dataframe.frame": _polars,
    "polars.series.series": _polars,
    "socket": _socket,
    "torch": _tensor,
    "torch.nn.parameter": _tensor,
    "torch.storage": _tensor,
    "typing": _typing,
    "weakref": _other,
    **dict.fromkeys(
        (
            "concurrent.futures._base",
            "concurrent.futures.process",
            "multiprocessing.connection",
            "multiprocessing.context",
            "multiprocessing.managers",
            "multiprocessing.pool",
            "multiprocessing.process",
            "multiprocessing.queues",
            "multiprocessing.shared_memory",
            "multiprocessing.sharedctypes",
            "multiprocessing.synchronize",
        ),
        _standard,
    ),
}


def _extra_reducers() -> dict[type, Callable[[Any], Any]]:
    """What libraries (torch for one) have registered for the pickles of `multiprocessing`."""
    # Without it while another thread imports the module: then nobody has registered anything yet.
    pickler = getattr(_stdlib.loaded("reduction"), "ForkingPickler", None)
    return {} if pickler is None else pickler._extra_reducers


def _is_ours(reducer: Callable[[Any], Any]) -> bool:
    """Whether it is the one for arrays that forkless has registered, for others."""
    return getattr(reducer, "__module__", None) == f"{__package__}._strangers"


def _extra(reducer: Callable[[Any], Any], obj: object) -> Any:
    name = getattr(reducer, "__name__", "")
    if getattr(reducer, "__module__", "").startswith("multiprocessing."):
        if name == "_reduce_socket":
            from . import reduction

            return reduction.reduce_socket(obj)  # type: ignore[arg-type]
        if name == "reduce_ctype" and type(obj) in sys.modules["copyreg"].dispatch_table:
            return NotImplemented  # `sharedctypes` tells its own objects from theirs
        if name.startswith("_reduce"):
            return NotImplemented  # what the C pickler does by itself
    return reducer(obj)
