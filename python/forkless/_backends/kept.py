"""Arrays that an engine has and this process reads where the engine has them, without a copy of its own.

Loaded with the first one, as it needs NumPy.
"""

from collections.abc import Callable
from typing import Any

import numpy

from .._pickling import buffer_of
from .._share import bytes_of
from .blocks import Block

__all__ = ["Kept", "can_be_kept", "keep", "memory_of"]


class Kept(numpy.ndarray[Any, Any]):
    """The bytes of such an array, which a token names. What users have is a view of it.

    A class of its own, because views of a view of a plain array forget that there was one in between.
    """


def can_be_kept(array: Any) -> bool:
    """Whether it is a plain array that is not shared yet."""
    if type(array) is not numpy.ndarray or array.dtype.hasobject or not array.size:
        return False
    return buffer_of(array) is None and memory_of(array) is None


def keep(array: Any, put: Callable[[Block], tuple[memoryview, Any]]) -> tuple[Any, Kept, Any]:
    """Has an engine keep an array; see `engine.Engine.keep`.

    Returns:
        An array to read, the memory that it is a view of, and the engine's reference for that.
    """
    source, strides = bytes_of(array)
    view, reference = put(Block(source))
    memory = Kept(len(view), numpy.uint8, view)
    return numpy.ndarray(array.shape, array.dtype, memory, 0, strides), memory, reference


def memory_of(array: Any) -> Kept | None:
    """What an array is a view of, if that is such memory."""
    base = array.base
    while isinstance(base, numpy.ndarray):
        if type(base) is Kept:
            return base
        base = base.base
    return None
