"""Arrays that are born in shared memory: each process that has one writes to the same, until it is sealed."""

import math
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

from ._forkless import SharedBuffer, SharedBytes

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray

__all__ = ["empty", "empty_like", "full", "full_like", "seal", "zeros", "zeros_like"]

_Shape = SupportsIndex | Sequence[SupportsIndex]
_MOST = 1 << 62  # bytes; more than any address space


def empty(shape: _Shape, dtype: "DTypeLike" = float, order: Literal["C", "F"] = "C") -> "NDArray[Any]":
    """A new array in shared memory, with whatever values its memory has.

    It can be sent at any time, to any process, as an argument, through a queue, or as a global variable
    that a task uses, and so can views of it. What travels is a few bytes that say where it is, and what one
    process writes the others read: use a lock, or let each write to its own part. It lives until the last
    process is done with it. `multiprocessing` has `shared_memory` for this, which has to be named, closed
    and unlinked.

    Args:
        shape: Items in each dimension, or their number.
        dtype: Any type except `object`.
        order: Which dimension is contiguous: "C" for the last, "F" for the first.

    Returns:
        A plain NumPy array, writable in every process until somebody calls `seal` or `share` for it.

    Raises:
        SharedMemoryFull: There is no memory for it, a `MemoryError`.
        TypeError: The items would be Python objects.

    Example:
        >>> squares = empty(10, int)
        >>> def fill(array, start):
        ...     array[start : start + 5] = numpy.arange(start, start + 5) ** 2
        >>> with forkless.Pool(2) as pool:
        ...     results = pool.starmap(fill, [(squares, 0), (squares, 5)])
        >>> squares.tolist()
        [0, 1, 4, 9, 16, 25, 36, 49, 64, 81]
    """
    return _new(shape, dtype, order, zero=False)


def zeros(shape: _Shape, dtype: "DTypeLike" = float, order: Literal["C", "F"] = "C") -> "NDArray[Any]":
    """A new array in shared memory, all zero; see `empty`."""
    return _new(shape, dtype, order, zero=True)


def full(
    shape: _Shape, fill_value: "ArrayLike", dtype: "DTypeLike | None" = None, order: Literal["C", "F"] = "C"
) -> "NDArray[Any]":
    """A new array in shared memory, filled with a value; see `empty`.

    Args:
        shape: See `empty`.
        fill_value: The value, or an array that is broadcast.
        dtype: None for that of the value.
        order: See `empty`.
    """
    import numpy

    array = empty(shape, numpy.asarray(fill_value).dtype if dtype is None else dtype, order)
    array[...] = fill_value
    return array


def empty_like(prototype: "ArrayLike", dtype: "DTypeLike | None" = None) -> "NDArray[Any]":
    """As `empty`, with the shape, the type and the order of an array; it is contiguous."""
    return _new(*_traits(prototype, dtype), zero=False)


def zeros_like(prototype: "ArrayLike", dtype: "DTypeLike | None" = None) -> "NDArray[Any]":
    """As `zeros`, with the shape, the type and the order of an array; it is contiguous."""
    return _new(*_traits(prototype, dtype), zero=True)


def full_like(
    prototype: "ArrayLike", fill_value: "ArrayLike", dtype: "DTypeLike | None" = None
) -> "NDArray[Any]":
    """As `full`, with the shape, the type and the order of an array; it is contiguous."""
    array = empty_like(prototype, dtype)
    array[...] = fill_value
    return array


def seal(array: "NDArray[Any]") -> "NDArray[Any]":
    """Ends the time in which an array of `empty` and its like can be written to, without a copy.

    From now on every process that gets it, in messages that are on their way too, gets it read-only, mapped
    without permission to write. `array` itself becomes read-only. Other views that this process or others
    already have could still be written to: seal it when those who fill it are done.

    Args:
        array: An array of `empty` and its like, or a view of one. All of it is sealed.

    Returns:
        The same array, read-only: a stray write to it, by whatever code, is a fault and changes nothing.

    Raises:
        TypeError: It is another array: `share` makes a read-only copy of that.
    """
    from ._pickling import buffer_of, place_of, view

    memory = buffer_of(array)
    if isinstance(memory, SharedBuffer):
        return array
    if not isinstance(memory, SharedBytes):
        raise TypeError(
            "only arrays made by forkless.empty and its like can be sealed; forkless.share copies others"
        )
    memory.seal()
    each: Any = array
    while type(each) is type(array):
        each.flags.writeable = False
        each = each.base
    sealed: NDArray[Any] = view(memory, array.dtype, array.shape, array.strides, place_of(array, memory))
    return sealed


def _traits(prototype: Any, dtype: Any) -> tuple[Any, Any, Literal["C", "F"]]:
    import numpy

    like = numpy.asarray(prototype)
    fortran = like.flags.f_contiguous and not like.flags.c_contiguous
    return like.shape, like.dtype if dtype is None else dtype, "F" if fortran else "C"


def _new(shape: Any, dtype: Any, order: Literal["C", "F"], *, zero: bool) -> "NDArray[Any]":
    import numpy

    kind = numpy.dtype(dtype)
    if kind.hasobject:
        raise TypeError(
            f"cannot share an array of type {kind}: its items would be Python objects of one process"
        )
    sizes = tuple(map(operator.index, shape)) if isinstance(shape, Sequence) else (operator.index(shape),)
    if any(size < 0 for size in sizes):
        raise ValueError(f"negative dimensions are not allowed: {sizes}")
    if order not in ("C", "F"):
        raise ValueError(f"order is 'C' or 'F', and not {order!r}")
    size_bytes = math.prod(sizes) * kind.itemsize
    if size_bytes > _MOST:
        from .exceptions import SharedMemoryFull

        raise SharedMemoryFull(f"no machine has memory for an array of {size_bytes} bytes")
    from ._strangers import teach_arrays

    teach_arrays()
    memory: Any = SharedBytes(size_bytes, zero=zero)
    array: NDArray[Any] = numpy.ndarray(sizes, kind, memory, order=order)
    return array
