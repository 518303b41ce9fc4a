"""Large data that many tasks are given: it goes into shared memory once, for as long as it stays the same.

What a message has beside its pickle is its receiver's own, so an array that is an argument of a hundred tasks
would be copied a hundred times, and be there as often as there are tasks on their way. Whoever knows that the
tasks belong together, as those of one call of joblib do, pickles them within `Repeated.in_use`. Then a large
buffer that was sent before, and has the same bytes still, is sent as a reference to the copy that was made
then. Each receiver has it as its own nevertheless: it maps the pages as a copy on write.

What decides is a comparison, not the identity of an object: it costs less than a copy, and what has changed
in between is sent as it is now.
"""

import contextlib
from _thread import get_ident
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ._beside import keepers
from ._forkless import SharedBuffer, address_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Repeated"]

# A buffer of so many bytes is expected to come again, so it is not copied twice to find that out.
_AT_ONCE = 32 << 20
# Copies of so many bytes are kept, however long ago they were sent; of more, those of the last few messages.
_KEPT, _LATELY = 256 << 20, 3
# Buffers that were sent once are remembered, up to so many.
_MOST_SEEN = 1000


class Repeated:
    """The large buffers of messages that belong together.

    Used by one thread at a time, or none is the worse for it than by a copy too many.

    Args:
        least: how many bytes are large; None keeps nothing.
        reduce: has a say in how arrays are pickled: what `__reduce__` would return, or None.
    """

    def __init__(self, least: int | None, reduce: "Callable[[Any], Any] | None" = None) -> None:
        self._least = float("inf") if least is None else least
        self._reduce = reduce
        self._messages = 0
        # By address and size, that which was not sent for longest first: the copy, and by which message.
        self._kept: dict[tuple[int, int], tuple[SharedBuffer, int]] = {}
        self._seen: set[tuple[int, int]] = set()

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """What this thread pickles in here is a message of these."""
        me = get_ident()
        before = keepers.get(me)
        keepers[me] = self
        self._messages += 1
        try:
            yield
        finally:
            if before is None:
                del keepers[me]
            else:
                keepers[me] = before

    def reduce(self, array: Any) -> Any:
        """How an array is pickled, None if as ever."""
        return None if self._reduce is None else self._reduce(array)

    def share(self, memory: memoryview) -> SharedBuffer | None:
        """The shared copy of a buffer, or None if it is to be sent as ever."""
        size = memory.nbytes
        if size < self._least:
            return None
        key = address_of(memory), size
        shared, _ = self._kept.pop(key, (None, 0))
        if shared is None and size < _AT_ONCE and key not in self._seen:
            if len(self._seen) >= _MOST_SEEN:
                self._seen.clear()
            self._seen.add(key)
            return None
        if shared is None or not shared.is_copy_of(memory):
            shared = None  # Its memory is for the next one.
            try:
                shared = SharedBuffer(memory)
            except MemoryError:
                return (
                    None  # It is as large in the message, and whoever sends that says so if there is no room.
                )
        self._kept[key] = shared, self._messages
        self._let_go()
        return shared

    def clear(self) -> None:
        """Keeps nothing any more; what is on its way keeps its copies alive."""
        self._kept.clear()
        self._seen.clear()

    def _let_go(self) -> None:
        size = sum(size for _, size in list(self._kept))
        for key, (_, message) in list(self._kept.items()):
            if size <= _KEPT or message > self._messages - _LATELY:
                return
            self._kept.pop(key, None)
            size -= key[1]
