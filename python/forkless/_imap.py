"""Results one by one, while the input is still being read: `Pool.imap` and `Pool.imap_unordered`.

There are two sides. The *input* reads what the user gave, in the thread that takes results, and submits
it, a few tasks ahead of what was taken. The *iterator* is what the user holds. Who drops the iterator
without having taken a result leaves the input behind: `Pool.join` submits the rest of it, as
`multiprocessing` does, but nothing keeps the results. Who has taken some, and leaves early, wants no more
of them: the input ends there, which may well have no other end.
"""

import itertools
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ._forkless import Arrivals
from ._scheduler import Scheduler
from .exceptions import ProcessError

if TYPE_CHECKING:
    from ._forkless import Function
    from ._options import Options
    from ._progress import Progress
    from .pool import Pool

R = TypeVar("R")

# Parts per worker that may be submitted ahead of what has been taken out; and how many in any case, where
# tasks are so short that those would be done in no time.
_WINDOW, _MOST = 4, 1024
# Parts that are submitted at once after `close`.
_BATCH = 256
# What was read is submitted after this time, in seconds.
_SLOW = 1e-3


class Input:
    """What an `imap` has to do: some of it submitted, some not even read.

    Args:
        scheduler: where it is submitted.
        func: called for every item; published.
        parts: the items, cut into tasks.
        chunks: whether the parts are tuples of items.
        arrivals: what gets the results.
        options: how to treat the tasks.
        buffersize: how many parts may be submitted and not taken out; None: as many as keep the workers busy.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        func: "Function",
        parts: Iterator[Any],
        chunks: bool,
        arrivals: Arrivals,
        options: "Options | None",
        buffersize: int | None,
    ) -> None:
        self.exhausted = self.begun = False
        self.error: BaseException | None = None
        self._scheduler, self._func, self._options = scheduler, func, options
        self._parts, self._chunks, self._arrivals = parts, chunks, arrivals
        # Taken out by who reads the input; another thread, or a callback in the same one, goes without.
        self._turn = [None]
        self._read, self._buffersize = 0, buffersize
        scheduler.feeders.add(self)

    def feed(self) -> None:
        """Submits some more, up to a few parts ahead of what has been taken out."""
        if not self.exhausted:
            window = self._window()
            outstanding = self._arrivals.outstanding
            if outstanding <= window // 2:
                self._feed(window - outstanding)

    def feed_all(self) -> None:
        """Submits the rest."""
        while not self.exhausted and self._feed(_BATCH):
            pass

    def abandon(self) -> None:
        """Submits no more: who took results has left early. What nobody began to take is still to be done."""
        if self.begun:
            self._end(None)

    def _window(self) -> int:
        if self._buffersize is not None:
            return self._buffersize
        scheduler = self._scheduler
        return max(_WINDOW * scheduler.size, min(_MOST, 2 * scheduler._ahead()))

    def _feed(self, count: int) -> bool:
        """Submits so many parts; False if somebody else is at it."""
        try:
            turn = self._turn.pop()
        except IndexError:
            return False
        try:
            self._read_and_submit(count)
        except Exception as error:
            self._end(error)
        finally:
            self._turn.append(turn)
        return True

    def _read_and_submit(self, count: int) -> None:
        parts: list[Any] = []
        begun = time.monotonic()
        try:
            for part in itertools.islice(self._parts, count):
                parts.append(part)
                count -= 1
                # Where the input is slow, workers do not wait for more of it, and nor do results that are
                # there.
                now = time.monotonic()
                if now - begun > _SLOW:
                    begun = now
                    self._submit(parts)
                    parts = []
                    if self._arrivals.is_ready:
                        return
        finally:
            # What was read before an error is not lost by it.
            self._submit(parts)
        if count:
            self._end(None)

    def _submit(self, parts: list[Any]) -> None:
        if not parts or self.exhausted:
            return
        start, chunks = self._read, self._chunks
        self._read += sum(map(len, parts)) if chunks else len(parts)
        try:
            self._scheduler.submit_parts(
                self._arrivals, self._func, parts, start, chunks, self._options, self
            )
        except (ValueError, ProcessError) as error:
            # The pool was terminated. What has arrived before can still be taken.
            self._end(error)

    def _end(self, error: BaseException | None) -> None:
        if self.exhausted:
            return
        self.error = error
        self.exhausted = True
        self._scheduler.feeders.discard(self)
        self._scheduler.poke()
        self._arrivals.end()


class IMapIterator(Generic[R]):
    """The results of `imap`, in order."""

    _ordered = True

    def __init__(
        self,
        pool: "Pool",
        func: "Function",
        parts: Iterator[Any],
        chunks: bool,
        progress: "Progress | None",
        options: "Options | None" = None,
        buffersize: int | None = None,
    ) -> None:
        # Keeps the pool alive as long as somebody wants results.
        self._pool = pool
        self._progress = progress
        self._arrivals = Arrivals(self._ordered)
        self._input = Input(pool._scheduler, func, parts, chunks, self._arrivals, options, buffersize)
        self._take = pool._scheduler.take
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
        self._input.begun = True
        self._input.feed()
        try:
            found = self._take(self._arrivals, timeout)
        except StopIteration:
            self._finish()
            raise
        if found is None:
            from .exceptions import TimeoutError

            raise TimeoutError(f"no result within {timeout} s; the calls go on in their workers")
        if self._progress is not None:
            self._progress.update(1)
        done, value = found
        if done:
            return value  # type: ignore[no-any-return]
        try:
            raise not_the_end(value)
        finally:
            # Or else the error and this frame would keep each other, and all that they hold.
            del found, value, self

    def _finish(self) -> None:
        if self._progress is not None:
            self._progress.close()
            self._progress = None
        error, self._input.error = self._input.error, None
        try:
            if error is not None:
                raise error
        finally:
            del error, self

    def __del__(self) -> None:
        if hasattr(self, "_input"):
            self._arrivals.abandon()
            self._input.abandon()


class IMapUnorderedIterator(IMapIterator[R]):
    """The results of `imap_unordered`, as they arrive."""

    _ordered = False


def not_the_end(error: BaseException) -> BaseException:
    """An error, made harmless for loops: in one, `StopIteration` would pass for the end of the results."""
    if not isinstance(error, StopIteration):
        return error
    stand_in = RuntimeError("a task raised StopIteration")
    stand_in.__cause__ = error
    return stand_in
