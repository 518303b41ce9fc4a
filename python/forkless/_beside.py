"""What travels beside a pickle: large buffers, and references to the shared ones.

Libraries that pickle with protocol 5 hand out the memory of their objects. Whatever part of that lies within
a `SharedBuffer` of this process, at an address that some library was given once, is not sent: the message
says which buffer it is, and where in it. So a column of a table, a slice of it, or a view that another
library made of that travel without a copy, and nothing here knows what a table is.

The opcode that asks for the next buffer has no room for more. So a pickle with references is put into another
one, which names its buffers in order: those beside it, and parts of the shared ones, whose handles are in the
outer pickle where the handles of all shared objects are. A message without references is as it always was.

A buffer that is in no `SharedBuffer` yet is one for the thread's *keeper*, if it has one: see `_repeated`.
"""

import pickle
from _thread import get_ident
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ._forkless import SharedBuffer, address_of, find_shared

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from ._repeated import Repeated

__all__ = ["Beside", "Stand", "keepers", "load_enclosed", "own_copy_of", "part_of", "raw"]

# Bytes from which a buffer travels beside the pickle. What does is not copied by its receiver, but the
# message needs a block of its own, which costs as much as copying some kilobytes.
_BESIDE = 1 << 13

# What may have sent the large buffers before that a thread pickles now, by thread.
keepers: "dict[int, Repeated]" = {}


class Stand:
    """Stands in a pickle for something that is to be pickled in another way: as `__reduce__` would say."""

    __slots__ = ("reduced",)

    def __init__(self, *reduced: Any) -> None:
        self.reduced = reduced

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduced


class Beside:
    """Says of each buffer whether it stays in the pickle; collects those that do not.

    Attributes:
        buffers: What travels beside the pickle; None while nothing does.
        slots: Once there is a reference, all that the pickle will ask for, in order.
        leased: Whether what carries the pickle keeps shared buffers alive: if not, they are copied.
    """

    __slots__ = ("buffers", "leased", "slots")

    def __init__(self) -> None:
        self.leased = True
        self.buffers: list[pickle.PickleBuffer] | None = None
        self.slots: list[pickle.PickleBuffer | Stand] | None = None

    def __call__(self, buffer: pickle.PickleBuffer) -> bool:
        memory = buffer.raw()
        size = memory.nbytes
        found = find_shared(address_of(memory), size) if self.leased else None
        if found is not None:
            shared, start = found
            self._refer(Stand(part_of, (shared, start, start + size)))
            return False
        if self.buffers is None or size < _BESIDE:
            return True
        keeper = keepers.get(get_ident()) if keepers and self.leased else None
        kept = None if keeper is None else keeper.share(memory)
        if kept is not None:
            self._refer(Stand(own_copy_of, (kept,)))
            return False
        self.buffers.append(buffer)
        if self.slots is not None:
            self.slots.append(buffer)
        return False

    def _refer(self, stand: Stand) -> None:
        if self.slots is None:
            self.slots = list(self.buffers or ())
        self.slots.append(stand)

    def takes(self, size: int) -> bool:
        """Whether a buffer of this many bytes would travel beside the pickle."""
        return size >= _BESIDE and self.buffers is not None

    def forget(self) -> None:
        """Forgets what it has collected; from now on nothing travels beside."""
        self.buffers = self.slots = None


def raw(source: "Buffer") -> memoryview:
    """The bytes of a contiguous buffer of any format, without a copy."""
    return pickle.PickleBuffer(source).raw()


def part_of(shared: SharedBuffer, start: int, stop: int) -> memoryview:
    """Some bytes of a shared buffer, which they keep alive."""
    return raw(shared)[start:stop]


def own_copy_of(shared: SharedBuffer) -> memoryview:
    """The bytes of a shared buffer, writable: pages that are written to become this process's own."""
    return shared.copy_on_write()


def load_enclosed(pickled: bytes, buffers: "Sequence[Buffer]") -> Any:
    """What a pickle with references stands for."""
    return pickle.loads(pickled, buffers=buffers)
