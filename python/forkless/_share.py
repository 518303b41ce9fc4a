"""Large data in shared memory: written once, then read by every process without a copy."""

import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

from ._forkless import SharedBuffer, SharedBytes, SharedDict, SharedList, share_columns

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Buffer

    # Told by a method that only they have, so that type checkers need none of the libraries.

    class _OfPandas(Protocol):
        @property
        def memory_usage(self) -> Any: ...

    class _OfPolars(Protocol):
        @property
        def estimated_size(self) -> Any: ...

    class _OfArrow(Protocol):
        @property
        def get_total_buffer_size(self) -> Any: ...

    class _ArrowBuffer(Protocol):
        @property
        def to_pybytes(self) -> Any: ...

    class _OfTorch(Protocol):
        @property
        def data_ptr(self) -> Any: ...

    _Data = TypeVar("_Data", bound=NDArray[Any] | _OfPandas | _OfPolars | _OfArrow | _ArrowBuffer | _OfTorch)
    _Key = TypeVar("_Key")
    _Plain = TypeVar("_Plain", bound=int | float | str | bytes | None)

__all__ = ["share"]


@overload
def share(obj: "_Data") -> "_Data": ...


@overload
def share(obj: "list[_Data] | tuple[_Data, ...]") -> "tuple[_Data, ...]": ...


@overload
def share(obj: "dict[_Key, _Data]") -> "Mapping[_Key, _Data]": ...


# What is a `SharedList` has a buffer, too, if it is one of numbers; it comes first.
@overload
def share(  # type: ignore[overload-overlap]
    obj: "list[_Plain] | tuple[_Plain, ...] | SharedList[_Plain]",
) -> "SharedList[_Plain]": ...


@overload
def share(  # type: ignore[overload-overlap]
    obj: "list[Any] | tuple[Any, ...] | SharedList[Any]",
) -> "SharedList[Any]": ...


@overload
def share(obj: "dict[_Key, Any] | SharedDict[_Key, Any]") -> "SharedDict[_Key, Any]": ...


@overload
def share(obj: "Buffer") -> SharedBuffer: ...


def share(obj: Any) -> Any:
    """Copies data into shared memory, read-only: no process that gets it copies it again.

    The result can be sent at any time, to any process, as an argument, through a queue, or as a global
    variable that a task uses; what travels is a few bytes that say where it is. It lives until the last
    process is done with it. `multiprocessing` has no such thing: its `shared_memory` is writable, has to be
    named, closed and unlinked.

    Python's own objects cannot be shared as they are, since looking at one writes its reference count, and so
    copies the page that it is in. So lists, tuples and dicts become columns, arrays of their numbers and the
    bytes of their strings, which read like the original: each item is made when it is asked for.

    Args:
        obj: One of

            - a NumPy array of any type except `object`;
            - a table, record batch, array, chunked array or buffer of pyarrow; a frame or series of pandas or
              polars, an index of pandas; a tensor of torch in main memory;
            - anything else whose bytes can be read as one block: `bytes`, `bytearray`, `array.array`, a
              C-contiguous `memoryview`;
            - a list, a tuple or a dict of numbers, strings, bytes, None, and of lists, tuples and dicts of
              those. Keys are numbers, strings, bytes, None, or tuples of them. Plain types only: a subclass
              may be more than its value;
            - a list, a tuple or a dict of up to 1000 parts of any kind named here, arrays for one.

    Returns:
        For an array, a read-only array of the same type, shape and order (a strided view becomes
        contiguous). An array of `empty` and its like, all of it, is sealed instead of copied: `array`
        becomes read-only, too.

        For a table or frame, or part of one, an object of the same type that is equal to it, with all data
        that was not shared before in one block. Columns and slices are views of that, and travel as it does.
        For a tensor, a tensor. torch knows none that is read-only: a write to it is a fault (SIGSEGV).

        For bytes and the like, a `SharedBuffer`: `memoryview(shared)` has the format and shape of `obj`, and
        `bytes(shared)` copies it.

        For a list or a tuple, a `SharedList`; for a dict, a `SharedDict`. Lists and dicts within them are
        such, too, tuples are tuples. Dicts with much the same keys are rows of one table, and their keys
        come in the order in which they first appear in it. `tolist()` and `todict()` make ordinary ones.

        For a list, a tuple or a dict with arrays in it, a tuple or a read-only mapping of what `share` makes
        of each part.

        What is shared already is returned as it is, and not copied again where it is part of something else.

    Raises:
        TypeError: The data is not plain: it has other objects in it, or is an object without a buffer. The
            message says which part or column, and what to do.
        ValueError: A list or dict that contains itself.
        BufferError: A `memoryview` with gaps, or in Fortran order.
        SharedMemoryFull: There is no memory for it, a `MemoryError`; nothing has been copied.

    Example:
        >>> import forkless as mp, numpy
        >>> weights = mp.share(numpy.ones((1000, 1000)))
        >>> with mp.Pool(2) as pool:
        ...     rows = pool.map(weights.__getitem__, [0, 1])
        >>> people = mp.share([{"name": "Ada", "born": 1815}, {"name": "Alan", "born": 1912}])
        >>> people[1]["name"], sum(people.column("born"))
        ('Alan', 3727)
    """
    if isinstance(obj, (SharedBuffer, SharedList, SharedDict)):
        return obj
    if type(obj) in _CONTAINERS:
        return _share_container(obj, "")
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(obj, getattr(numpy, "ndarray", ())):
        return _share_array(numpy, obj)
    library = _library_of(type(obj))
    if library == "torch":
        from ._tensors import share_tensor

        return share_tensor(obj)
    if library is not None:
        from ._tables import share_table

        return share_table(obj, library)
    try:
        source = memoryview(obj)
    except TypeError:
        raise TypeError(f"cannot share {type(obj).__qualname__!r} object: {_TAKEN}") from None
    if isinstance(source.obj, SharedBuffer) and source.nbytes == source.obj.nbytes:
        return source.obj
    if source.ndim == 0:
        raise TypeError(
            f"cannot share {type(obj).__qualname__!r} object: it is a single value; send it as it is, or "
            "make it a forkless.Value, which all processes can write"
        )
    if not source.c_contiguous:
        raise BufferError(
            "cannot share a memoryview with gaps: share bytes(view), or a NumPy array made of it"
        )
    return SharedBuffer(source)


_TAKEN = (
    "share() takes NumPy arrays, bytes, bytearray, array.array and other objects with a buffer, tables of "
    "pyarrow, frames of pandas and polars, tensors of torch, and lists, tuples and dicts of numbers, "
    "strings, bytes and None; preload or send anything else"
)
_CONTAINERS = (list, tuple, dict)
_SCALARS = (type(None), bool, int, float, str, bytes)
# A container of more parts than this is meant to be columns: if it is not, that is an error.
_MOST_PARTS = 1000


def _share_container(obj: Any, path: str) -> Any:
    """Columns of a container; if something in it is no plain value, its parts one by one."""
    shared = share_columns(obj)
    if shared is not None:
        return shared
    parts = obj.items() if isinstance(obj, dict) else enumerate(obj)
    shared = {key: _share_part(value, f"{path}[{key!r}]", len(obj)) for key, value in parts}
    return MappingProxyType(shared) if isinstance(obj, dict) else tuple(shared.values())


def _share_part(part: Any, path: str, count: int) -> Any:
    kind = type(part)
    if kind in _SCALARS:
        return part
    if kind in _CONTAINERS:
        return _share_container(part, path)
    why = _TAKEN
    if count <= _MOST_PARTS:
        try:
            return share(part)
        except TypeError as error:
            why = str(error).partition(": ")[2] or why
    raise TypeError(f"cannot share this: {path} is a {kind.__module__}.{kind.__qualname__} object; {why}")


def _library_of(kind: type) -> str | None:
    """Which library's table or tensor it may be: that of its class, or of a base of it."""
    roots = (base.__module__.partition(".")[0] for base in kind.__mro__)
    return next((root for root in roots if root in ("pandas", "polars", "pyarrow", "torch")), None)


def _share_array(numpy: Any, array: Any) -> Any:
    from ._pickling import buffer_of, view
    from ._strangers import teach_arrays

    teach_arrays()
    memory = buffer_of(array)
    if isinstance(memory, SharedBuffer):
        return array
    if isinstance(memory, SharedBytes) and (memory.sealed or array.nbytes == len(memory)):
        from ._arrays import seal

        return array if memory.sealed and not array.flags.writeable else seal(array)
    if array.dtype.hasobject:
        raise TypeError(
            f"cannot share an array of type {array.dtype}: its items are Python objects of this process; "
            "convert it to a type of numbers or fixed-width strings"
        )
    if type(array) is not numpy.ndarray:
        raise TypeError(
            f"cannot share {type(array).__qualname__!r} object: only plain arrays; share numpy.asarray(it)"
        )
    # Not array.copy(): it is copied only once, unless it has gaps.
    source, strides = bytes_of(array)
    return view(SharedBuffer(source), array.dtype, array.shape, strides, 0)


def bytes_of(array: Any) -> tuple[Any, tuple[int, ...] | None]:
    """The bytes of an array, without gaps, and its strides over them, or None if its items are in C order."""
    numpy = sys.modules["numpy"]
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    source = array.T if fortran else numpy.ascontiguousarray(array)
    # As bytes: buffers know fewer types than arrays do, dates for one.
    return source.reshape(-1).view(numpy.uint8), array.strides if fortran else None
