"""From the thread in which futures are settled into an event loop: one wake-up for all that have been."""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias, TypeVar

R = TypeVar("R")

# How often the loop looks by itself while something is pending, in seconds. Ctrl-C needs it: Python handles
# signals between two steps of the main thread, and one that comes after the last step before the loop sleeps
# would wait for whatever wakes it next.
_BOUND = 0.5

Receiver: TypeAlias = Callable[[Future[Any]], object]


class Bridge:
    """Tells an event loop about futures that are done.

    `asyncio.wrap_future` wakes the loop, by a system call, for each of them. Here only the one who finds the
    deque unannounced does. There is no lock: who appends looks at the flag afterwards, and the loop takes the
    flag down before it looks at the deque, so whatever the order, somebody sees the future.

    Args:
        loop: where the receivers are called.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        # Whether no future was ever watched.
        self.unused = True
        self._done: deque[tuple[Receiver, Future[Any]]] = deque()
        self._announced = False
        self._pending = 0  # futures whose receivers have not been called
        self._idlers: list[asyncio.Future[None]] = []
        self._looks = False  # at intervals

    def watch(self, future: "Future[Any]", receiver: Receiver) -> None:
        """Calls `receiver(future)` in the loop when it is done. Call this in the loop."""
        self.unused = False
        self._pending += 1
        if not self._looks:
            self._looks = True
            self.loop.call_later(_BOUND, self._look)
        future.add_done_callback(partial(self._settled, receiver))

    async def idle(self) -> None:
        """Waits until all watched futures are done."""
        while self._pending:
            waiter = self.loop.create_future()
            self._idlers.append(waiter)
            await waiter

    def _settled(self, receiver: Receiver, future: "Future[Any]") -> None:
        """In whatever thread settles the future."""
        self._done.append((receiver, future))
        if not self._announced:
            self._announced = True
            with suppress(RuntimeError):  # The loop has been closed, so nobody waits.
                self.loop.call_soon_threadsafe(self._deliver)

    def _look(self) -> None:
        self._looks = self._pending > 0
        if self._looks:
            self.loop.call_later(_BOUND, self._look)
            self._deliver()

    def _deliver(self) -> None:
        self._announced = False
        # What comes meanwhile is announced again, so that the loop gets to its other work.
        for _ in range(len(self._done)):
            receiver, future = self._done.popleft()
            self._pending -= 1
            receiver(future)
        if not self._pending:
            idlers, self._idlers = self._idlers, []
            for idler in idlers:
                if not idler.done():
                    idler.set_result(None)


def outcome(future: "Future[R]") -> R:
    """The result of a future that is done.

    Raises:
        RuntimeError: the call raised something by which coroutines and loops say that they end.
        BaseException: what it raised otherwise.
    """
    error = future.exception()
    if error is None:
        return future.result()
    try:
        if isinstance(error, (StopIteration, StopAsyncIteration, asyncio.CancelledError)):
            raise RuntimeError(f"the call raised {error!r}, which would mean something else here") from error
        raise error
    finally:
        # Its traceback holds this frame, and would be held by it.
        del error, future
