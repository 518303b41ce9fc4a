"""Blocks of shared memory, by the names of `multiprocessing.heap`.

There is no heap behind them as there: each block is a piece of the arena of its own, which all processes of
the tree allocate from. So there is no lock that a collection of garbage could meet while it is held.
"""

import operator
from typing import TYPE_CHECKING

from . import _exit, _internals
from ._forkless import SharedBytes

__all__ = ["BufferWrapper"]


class BufferWrapper:
    """A block of shared memory, all zero at first. It can be sent to any process at any time.

    It is gone when the last process has dropped it, and all views of it.

    Args:
        size: in bytes.

    Raises:
        ValueError: the size is negative.
        SharedMemoryFull: there is no memory for it.

    Example:
        >>> block = BufferWrapper(100)
        >>> block.create_memoryview()[:2] = b"ab"
    """

    def __init__(self, size: int) -> None:
        size = operator.index(size)
        if size < 0:
            raise ValueError(f"a block has 0 or more bytes, not {size}")
        self._memory = SharedBytes(size)

    def create_memoryview(self) -> memoryview:
        """The bytes, which every process reads and writes in place."""
        return memoryview(self._memory)


# Where `multiprocessing` registers its handler: those that programs register from now on run before it.
_exit.register()


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        return _internals.find(__name__, name)
