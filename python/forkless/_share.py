"""Large data in shared memory: written once, then read by every process without a copy."""

import sys
from typing import TYPE_CHECKING, Any, TypeVar, overload

from ._forkless import SharedBuffer, SharedBytes

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Buffer

    _Array = TypeVar("_Array", bound=NDArray[Any])

__all__ = ["share"]


@overload
def share(obj: "_Array") -> "_Array": ...


@overload
def share(obj: "Buffer") -> SharedBuffer: ...


def share(obj: Any) -> Any:
    """Copies data into shared memory, read-only: no process that gets it copies it again.

    The result can be sent at any time, to any process, as an argument, through a queue, or as a global
    variable that a task uses; what travels is a few bytes that say where it is. It lives until the last
    process is done with it. `multiprocessing` has no such thing: its `shared_memory` is writable, has to be
    named, closed and unlinked.

    Args:
        obj: A NumPy array of any type except `object`, or anything else whose bytes can be read as one block:
            `bytes`, `bytearray`, `array.array`, a C-contiguous `memoryview`.

    Returns:
        For an array, a read-only array of the same type, shape and order (a strided view becomes
        contiguous). An array of `empty` and its like, all of it, is sealed instead of copied: `array`
        becomes read-only, too. For other data a `SharedBuffer`: `memoryview(shared)` has the format and
        shape of `obj`, and `bytes(shared)` copies it. What is shared already is returned as it is.

    Raises:
        TypeError: The data is not one block of plain bytes: Python objects, or an object without a buffer.
        BufferError: A `memoryview` with gaps, or in Fortran order.

    Example:
        >>> import forkless as mp, numpy
        >>> weights = mp.share(numpy.ones((1000, 1000)))
        >>> with mp.Pool(2) as pool:
        ...     pool.map(weights.__getitem__, [0, 1])
    """
    if isinstance(obj, SharedBuffer):
        return obj
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(obj, getattr(numpy, "ndarray", ())):
        return _share_array(numpy, obj)
    try:
        source = memoryview(obj)
    except TypeError:
        raise TypeError(
            f"cannot share {type(obj).__qualname__!r} object: share() takes NumPy arrays, bytes, bytearray, "
            "array.array and other objects with a buffer; preload or send anything else"
        ) from None
    if isinstance(source.obj, SharedBuffer) and source.nbytes == source.obj.nbytes:
        return source.obj
    if not source.c_contiguous:
        raise BufferError(
            "cannot share a memoryview with gaps: share bytes(view), or a NumPy array made of it"
        )
    return SharedBuffer(source)


def _share_array(numpy: Any, array: Any) -> Any:
    from ._pickling import buffer_of, view

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
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    source = array.T if fortran else numpy.ascontiguousarray(array)
    # As bytes: buffers know fewer types than arrays do, dates for one.
    shared = SharedBuffer(source.reshape(-1).view(numpy.uint8))
    return view(shared, array.dtype, array.shape, array.strides if fortran else None, 0)
