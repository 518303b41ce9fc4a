"""Results one by one, while the input is still being read: `Pool.imap` and `Pool.imap_unordered`.

There are two sides. The *input* reads what the user gave, in the thread that takes results, and submits it, a
few tasks ahead of what was taken. The *iterator* is what the user holds. Who drops the iterator leaves the
input behind: `Pool.join` submits the rest of it, as `multiprocessing` does, but nothing keeps the results.
"""

import weakref
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from ._results import place_of
from ._scheduler import Scheduler
from ._waiters import Waiters
from .exceptions import ProcessError

if TYPE_CHECKING:
    from ._forkless import Function
    from ._options import Options
    from ._progress import Progress
    from .pool import Pool

R = TypeVar("R")

# Parts per worker that may be submitted ahead of what has been taken out.
_WINDOW = 4


class Arrival(NamedTuple):
    """What became of one part of the input."""

    size: int
    done: bool
    value: Any


class Input:
    """What an `imap` has to do: some of it submitted, some not even read.

    Args:
        scheduler: where it is submitted.
        func: called for every item; published.
        parts: the items, cut into tasks.
        iterator: what gets the results.
        options: how to treat the tasks.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        func: "Function",
        parts: Iterator[tuple[Any, ...]],
        iterator: "IMapIterator[Any]",
        options: "Options | None",
    ) -> None:
        self.exhausted = False
        self.error: Exception | None = None
        # One entry for each part that was submitted and not taken out.
        self.outstanding: list[None] = []
        self._scheduler, self._func, self._parts = scheduler, func, parts
        self._iterator, self._options = weakref.ref(iterator), options
        # Taken out by who reads the input; another thread, or a callback in the same one, goes without.
        self._turn = [None]
        self._index = self._item = 0
        scheduler.feeders.add(self)

    def feed(self) -> None:
        """Submits some more, up to a few parts ahead of what has been taken out."""
        self._feed(_WINDOW * self._scheduler.size)

    def feed_all(self) -> None:
        """Submits the rest."""
        self._feed(None)

    def taken(self) -> None:
        """A part was taken out, so there is room for another one."""
        self.outstanding.pop()

    def arrive(self, index: int, arrival: Arrival) -> None:
        """A part is done."""
        iterator = self._iterator()
        if iterator is None:
            self.taken()
        else:
            iterator._arrive(index, arrival)

    def _feed(self, window: int | None) -> None:
        try:
            turn = self._turn.pop()
        except IndexError:
            return
        try:
            while not self.exhausted and (window is None or len(self.outstanding) < window):
                self._feed_one()
        finally:
            self._turn.append(turn)

    def _feed_one(self) -> None:
        try:
            part = next(self._parts)
        except StopIteration:
            self._end(None)
        except Exception as error:
            self._end(error)
        else:
            self._submit(part)

    def _submit(self, part: tuple[Any, ...]) -> None:
        task = _Part(self, self._index, self._item, len(part))
        self._index += 1
        self._item += len(part)
        self.outstanding.append(None)
        try:
            self._scheduler.submit_chunk(task, self._func, part, False, self._options, self)
        except (ValueError, ProcessError) as error:
            # The pool was terminated. What has arrived before can still be taken.
            self.taken()
            self._end(error)

    def _end(self, error: Exception | None) -> None:
        self.error = error
        self.exhausted = True
        self._scheduler.feeders.discard(self)
        self._scheduler.poke()
        iterator = self._iterator()
        if iterator is not None:
            iterator._waiters.wake()


class IMapIterator(Generic[R]):
    """The results of `imap`, in order."""

    def __init__(
        self,
        pool: "Pool",
        func: "Function",
        parts: Iterator[tuple[Any, ...]],
        progress: "Progress | None",
        options: "Options | None" = None,
    ) -> None:
        # Keeps the pool alive as long as somebody wants results.
        self._pool = pool
        self._progress = progress
        self._waiters = Waiters()
        self._arrived: dict[int, Arrival] = {}
        self._items: deque[R] = deque()
        self._next_index = 0
        self._input = Input(pool._scheduler, func, parts, self, options)
        self._input.feed()

    def __iter__(self) -> "IMapIterator[R]":
        return self

    def __next__(self) -> R:
        return self.next()

    def next(self, timeout: float | None = None) -> R:
        """The next result.

        Args:
            timeout: how long to wait, in seconds; None waits for ever.

        Raises:
            StopIteration: there are no more.
            TimeoutError: it is not there in time.
            RuntimeError: the call raised `StopIteration`, which would end the loop over the results; it is
                the cause, as for generators.
            Exception: what else the call raised, as in `AsyncResult.get`. The next call goes on with the
                next result.
        """
        while True:
            try:
                item = self._items.popleft()
            except IndexError:
                self._take_part(timeout)
            else:
                self._show(1)
                return item

    def _take_part(self, timeout: float | None) -> None:
        """Waits for the next part and puts its items where they can be taken."""
        if not self._waiters.wait(self._ready, timeout):
            from .exceptions import TimeoutError

            raise TimeoutError(f"no result within {timeout} s; the calls go on in their workers")
        arrival = self._pop()
        try:
            if arrival is not None:
                self._unpack(arrival)
            elif self._at_end():
                self._finish()
            # Otherwise another thread was faster.
        finally:
            del arrival  # or else an error and this frame would keep each other, and all that they hold

    def _unpack(self, arrival: Arrival) -> None:
        if arrival.done:
            self._items.extend(arrival.value)
        self._input.taken()
        self._waiters.wake()
        self._input.feed()
        if not arrival.done:
            self._show(arrival.size)
            try:
                raise not_the_end(arrival.value)
            finally:
                del arrival  # see `_take_part`

    def _finish(self) -> None:
        if self._progress is not None:
            self._progress.close()
            self._progress = None
        error, self._input.error = self._input.error, None
        if error is not None:
            raise error
        raise StopIteration

    def _ready(self) -> bool:
        return bool(self._items) or self._next_is_there() or self._at_end()

    def _at_end(self) -> bool:
        return self._input.exhausted and not self._input.outstanding and not self._items

    def _next_is_there(self) -> bool:
        return self._next_index in self._arrived

    def _pop(self) -> Arrival | None:
        arrival = self._arrived.pop(self._next_index, None)
        if arrival is not None:
            # Only the thread that got this one comes here, and nobody gets the next one before.
            self._next_index += 1
        return arrival

    def _show(self, count: int) -> None:
        if self._progress is not None:
            self._progress.update(count)

    def _arrive(self, index: int, arrival: Arrival) -> None:
        self._arrived[index] = arrival
        self._waiters.wake()


class IMapUnorderedIterator(IMapIterator[R]):
    """The results of `imap_unordered`, as they arrive."""

    def _next_is_there(self) -> bool:
        return bool(self._arrived)

    def _pop(self) -> Arrival | None:
        # A dictionary keeps the order in which its keys came; copying the keys is atomic.
        for index in list(self._arrived):
            arrival = self._arrived.pop(index, None)
            if arrival is not None:
                return arrival
        return None


def not_the_end(error: BaseException) -> BaseException:
    """An error, made harmless for loops: in one, `StopIteration` would pass for the end of the results."""
    if not isinstance(error, StopIteration):
        return error
    stand_in = RuntimeError("a task raised StopIteration")
    stand_in.__cause__ = error
    return stand_in


class _Part:
    """Some items of the input, from `start` on."""

    __slots__ = ("count", "index", "input", "start")

    def __init__(self, input: Input, index: int, start: int, count: int) -> None:
        self.input, self.index, self.start, self.count = input, index, start, count

    def settle(self, done: bool, value: Any) -> None:
        """Takes the outcome."""
        self.input.arrive(self.index, Arrival(self.count, done, value))

    @property
    def place(self) -> str:
        """Which items these are, for messages."""
        return place_of(self.start, self.count)
