"""Waiting for queues in an event loop: one descriptor for each loop, and no thread.

Shared words cannot be waited for by an event loop, so whoever puts an item rings a bell, a socket that the
loop watches (see `Bell` in the core). A ring means that it is time to look. Should one be lost, because its
sender was killed between the item and the ring, or because more loops wait for one queue than bells fit on
it, the loop looks after `TICK` seconds by itself.
"""

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from ._forkless import BaseQueue, Bell

if TYPE_CHECKING:
    import asyncio

TICK = 0.05  # seconds


async def get(queue: BaseQueue[Any], timeout: float | None) -> Any:
    """The next item; see `Queue.aget`."""
    return await _until(queue, False, timeout, lambda: queue.get(False))


async def put(queue: BaseQueue[Any], obj: object, timeout: float | None) -> None:
    """Puts an item; see `Queue.aput`."""
    await _until(queue, True, timeout, lambda: queue.put(obj, False))


async def _until(queue: BaseQueue[Any], room: bool, timeout: float | None, attempt: Callable[[], Any]) -> Any:
    """Repeats what raises `Empty` or `Full`, whenever the queue rings and until the time is over."""
    from queue import Empty, Full

    try:
        return attempt()
    except (Empty, Full):
        if timeout is not None and timeout <= 0:
            raise
    deadline = None if timeout is None else time.monotonic() + timeout
    watch = _watch_of_loop()
    watch.begin(queue, room)
    try:
        while True:
            try:
                # What came between the first look and the bell did not ring.
                return attempt()
            except (Empty, Full):
                left = TICK if deadline is None else min(TICK, deadline - time.monotonic())
                if left <= 0:
                    raise
            await watch.wait(left)
    finally:
        watch.end(queue, room)


class _Watch(ABC):
    """The bell of one loop, and which queues ring it."""

    def __init__(self) -> None:
        self.bell = Bell()
        self._waiting: dict[tuple[int, bool], int] = {}

    def begin(self, queue: BaseQueue[Any], room: bool) -> None:
        key = (id(queue), room)
        self._waiting[key] = self._waiting.get(key, 0) + 1
        if self._waiting[key] == 1:
            queue._hang(self.bell.number, room)

    def end(self, queue: BaseQueue[Any], room: bool) -> None:
        key = (id(queue), room)
        self._waiting[key] -= 1
        if not self._waiting[key]:
            del self._waiting[key]
            queue._take_down(self.bell.number, room)
        if not self._waiting:
            self.close()

    def close(self) -> None:
        """Nobody waits any more. Tracebacks may keep this object for longer; its descriptor goes now."""
        del self.bell

    @abstractmethod
    def wait(self, seconds: float) -> Awaitable[None]:
        """Until it rings, `seconds` at most."""


class _AsyncioWatch(_Watch):
    """Rung for all tasks of the loop at once: each looks for itself."""

    def __init__(self, loop: "asyncio.AbstractEventLoop") -> None:
        super().__init__()
        self._loop = loop
        self._futures: set[asyncio.Future[None]] = set()

    def begin(self, queue: BaseQueue[Any], room: bool) -> None:
        if not self._waiting:
            self._loop.add_reader(self.bell.fileno(), self._rang)
        super().begin(queue, room)

    def close(self) -> None:
        self._loop.remove_reader(self.bell.fileno())
        del _watches[self._loop]
        super().close()

    def _rang(self) -> None:
        self.bell.silence()
        for future in self._futures:
            _resolve(future)

    async def wait(self, seconds: float) -> None:
        future = self._loop.create_future()
        timer = self._loop.call_later(seconds, _resolve, future)
        self._futures.add(future)
        try:
            await future
        finally:
            timer.cancel()
            self._futures.discard(future)


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


class _TrioWatch(_Watch):
    """One for each wait: trio has no two tasks wait for one descriptor."""

    async def wait(self, seconds: float) -> None:
        import trio  # type: ignore[import-not-found,unused-ignore]

        with trio.move_on_after(seconds):
            await trio.lowlevel.wait_readable(self.bell.fileno())
        self.bell.silence()


# Of the loops in which somebody waits: no descriptor is left when nobody does.
_watches: "dict[asyncio.AbstractEventLoop, _AsyncioWatch]" = {}


def _watch_of_loop() -> _Watch:
    if _runs_trio():
        return _TrioWatch()
    import asyncio

    loop = asyncio.get_running_loop()
    watch = _watches.get(loop)
    if watch is None:
        watch = _watches[loop] = _AsyncioWatch(loop)
    return watch


def _runs_trio() -> bool:
    trio: Any = sys.modules.get("trio")
    if trio is None:
        return False
    return bool(trio.lowlevel.in_trio_run())
