"""What `Pool` gives back for work that is not done yet, and the tasks that bring it about."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from ._forkless import BaseFuture, Gather

if TYPE_CHECKING:
    from ._progress import Progress
    from .pool import Pool

R = TypeVar("R")

_LOOK = 0.1  # seconds between two looks at how far a map is


class AsyncResult(BaseFuture, Generic[R]):
    """The result of `apply_async`: there now or later."""

    # While the callback runs: (whether it is a result, the result or the error), and in which thread.
    _told: tuple[bool, Any] = (False, None)
    _teller: int | None = None

    def __init__(
        self,
        pool: "Pool",
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        self._keep(pool)  # until the result is there
        self._callback, self._error_callback = callback, error_callback
        if callback is not None or error_callback is not None:
            # So that `set_result` or `set_exception` is called then.
            self._watch()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__} stays in the process of its pool: send what its get() returns"
        )

    @property
    def _has_callbacks(self) -> bool:
        """Whether somebody is to be told."""
        return self._callback is not None or self._error_callback is not None

    def ready(self) -> bool:
        """Whether the call is done, with or without success."""
        return self.done()

    def successful(self) -> bool:
        """Whether the call is done without an exception.

        Raises:
            ValueError: it is not done.
        """
        if not self.done():
            raise ValueError(f"{self!r} not ready")
        return self._exception is None

    def wait(self, timeout: float | None = None) -> None:
        """Waits until the call is done and its callback has returned, or `timeout` seconds have passed."""
        if not self._is_in_callback():
            self._wait(timeout)

    def get(self, timeout: float | None = None) -> R:
        """The result; waits for it, and for its callback.

        Args:
            timeout: how long to wait, in seconds; None waits for ever.

        Raises:
            TimeoutError: it is not there in time.
            WorkerDied: the worker that ran the call has died.
            BrokenPool: the pool was terminated, or its workers cannot run.
            Exception: what the call raised; the worker's frames are the last ones of its traceback.
        """
        if self._is_in_callback():
            if self._told[0]:
                return self._told[1]  # type: ignore[no-any-return]
            error = self._told[1]
        elif not self._wait(timeout):
            from .exceptions import TimeoutError

            raise TimeoutError(f"no result within {timeout} s; the call goes on in its worker")
        else:
            error = self._exception
        if error is None:
            return self._result  # type: ignore[no-any-return]
        try:
            raise error
        finally:
            del error, self  # or else the error and this frame would keep each other, and all that they hold

    def set_result(self, value: R) -> None:
        """For the pool alone."""
        self._set(True, value, self._callback)

    def set_exception(self, error: BaseException) -> None:
        """For the pool alone."""
        self._set(False, error, self._error_callback)

    def _set(self, done: bool, value: Any, callback: Callable[[Any], object] | None) -> None:
        # Who gets the result can rely on what the callback has done, as in the standard library.
        self._callback = self._error_callback = None
        if callback is None or self.done():
            self._store(done, value)
            return
        self._told, self._teller = (done, value), threading.get_ident()
        try:
            callback(value)
        finally:
            self._store(done, value)
            del self._told, self._teller

    def _is_in_callback(self) -> bool:
        # The callback may ask for the result, which is not ready before it has returned.
        return self._teller is not None and self._teller == threading.get_ident()


class MapResult(AsyncResult[list[R]]):
    """The result of `map_async` and `starmap_async`."""

    def __init__(
        self,
        pool: "Pool",
        total: int,
        chunksize: int,
        callback: Callable[[list[R]], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        super().__init__(pool, callback, error_callback)
        self.total = total
        self._chunksize = chunksize
        self.gather = Gather(total, self)

    @property
    def _number_left(self) -> int:
        """How many chunks are not done: private in `multiprocessing`, but many programs show it."""
        return -(-self.gather.left // self._chunksize)

    def show(self, progress: "Progress") -> None:
        """Waits until everything is done, and shows how far it is."""
        shown = 0
        try:
            while True:
                done = self._wait(_LOOK)
                news = self.total - self.gather.left - shown
                if news:
                    progress.update(news)
                    shown += news
                if done:
                    return
        finally:
            progress.close()


class Part:
    """The items of a `map` from `start` on."""

    __slots__ = ("_gather", "count", "start")

    def __init__(self, gather: Gather, start: int, count: int) -> None:
        self._gather, self.start, self.count = gather, start, count

    def settle(self, done: bool, value: Any) -> None:
        """Takes the outcome."""
        self._gather.put_chunk(self.start, self.count, done, value)

    @property
    def items(self) -> tuple[int, int, bool]:
        """Which items these are, for messages: the first, how many, that they are of one task."""
        return self.start, self.count, True
