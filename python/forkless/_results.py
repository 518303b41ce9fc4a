"""What `Pool` gives back for work that is not done yet, and the tasks that bring it about."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ._scheduler import Task, name_of
from ._waiters import Waiters

if TYPE_CHECKING:
    from ._progress import Progress
    from .pool import Pool

R = TypeVar("R")


class AsyncResult(Generic[R]):
    """The result of `apply_async`: there now or later."""

    def __init__(
        self,
        pool: "Pool",
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        # Keeps the pool alive until the result is there.
        self._pool: Pool | None = pool
        self._callback, self._error_callback = callback, error_callback
        self._waiters = Waiters()
        self._outcome: tuple[bool, Any] | None = None

    def ready(self) -> bool:
        """Whether the call is done, with or without success."""
        return self._outcome is not None

    def successful(self) -> bool:
        """Whether the call is done without an exception.

        Raises:
            ValueError: it is not done.
        """
        if self._outcome is None:
            raise ValueError(f"{self!r} not ready")
        return self._outcome[0]

    def wait(self, timeout: float | None = None) -> None:
        """Waits until the call is done, or `timeout` seconds have passed."""
        self._waiters.wait(self.ready, timeout)

    def get(self, timeout: float | None = None) -> R:
        """The result; waits for it.

        Args:
            timeout: how long to wait, in seconds; None waits for ever.

        Raises:
            TimeoutError: it is not there in time.
            WorkerDied: the worker that ran the call has died.
            BrokenPool: the pool was terminated, or its workers cannot run.
            Exception: what the call raised; the worker's frames are the last ones of its traceback.
        """
        self.wait(timeout)
        if self._outcome is None:
            from .exceptions import TimeoutError

            raise TimeoutError(f"no result within {timeout} s; the call goes on in its worker")
        done, value = self._outcome
        if done:
            result: R = value
            return result
        try:
            raise value
        finally:
            del value, self  # or else the error and this frame would keep each other, and all that they hold

    def _set(self, done: bool, value: Any) -> None:
        self._outcome = done, value
        self._pool = None
        self._waiters.wake()
        callback = self._callback if done else self._error_callback
        self._callback = self._error_callback = None
        if callback is not None:
            callback(value)


class MapResult(AsyncResult[list[R]]):
    """The result of `map_async` and `starmap_async`."""

    def __init__(
        self,
        pool: "Pool",
        total: int,
        parts: int,
        callback: Callable[[list[R]], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        super().__init__(pool, callback, error_callback)
        self.total = total
        self._values: list[Any] = [None] * total
        self._error: BaseException | None = None
        self._parts = parts
        # How many items each finished part had. Parts may finish in several threads, so the last one is told
        # by counting, which is atomic.
        self._finished: list[int] = []
        self._numbers = itertools.count(1)
        if not parts:
            self._outcome, self._pool = (True, self._values), None

    def show(self, progress: "Progress") -> None:
        """Waits until everything is done, and shows how far it is."""
        shown: list[int] = []
        try:
            while len(shown) < self._parts:
                self._waiters.wait(partial(self._has_more_than, len(shown)))
                news = self._finished[len(shown) :]
                shown += news
                progress.update(sum(news))
        finally:
            progress.close()

    def _has_more_than(self, parts: int) -> bool:
        return len(self._finished) > parts

    def _set_part(self, start: int, count: int, done: bool, value: Any) -> None:
        if done:
            self._values[start : start + count] = value
        elif self._error is None:
            self._error = value
        self._finished.append(count)
        self._waiters.wake()
        if next(self._numbers) == self._parts:
            self._set(self._error is None, self._values if self._error is None else self._error)


class Single(Task):
    """A call of its own."""

    __slots__ = ("result",)

    def __init__(self, result: AsyncResult[Any], func: Callable[..., Any]) -> None:
        super().__init__(func)
        self.result = result

    def settle(self, done: bool, value: Any) -> None:
        self.result._set(done, value)


class Part(Task):
    """The items of a `map` from `start` on."""

    __slots__ = ("count", "result", "start")

    def __init__(self, result: MapResult[Any], func: Callable[..., Any], start: int, count: int) -> None:
        super().__init__(func)
        self.result, self.start, self.count = result, start, count

    def settle(self, done: bool, value: Any) -> None:
        self.result._set_part(self.start, self.count, done, value)

    def describe(self) -> str:
        return describe_items(self.func, self.start, self.count)


def describe_items(func: object, start: int, count: int) -> str:
    """Some items of the input of a function, for messages."""
    items = f"item {start}" if count == 1 else f"items {start} to {start + count - 1}"
    return f"{name_of(func)} ({items})"
