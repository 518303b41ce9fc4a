"""Waiting for another thread without a lock of ours.

`threading.Event` and `threading.Condition` hold a lock inside: a signal handler, a `__del__` or a weakref
callback that comes in between and uses the same object waits for ever. Here every waiter brings its own
latch, and the only shared state is a deque, whose operations are atomic.
"""

import contextlib
import os
import time
from _thread import LockType, allocate_lock
from collections import deque
from collections.abc import Callable
from typing import Any


class Waiters:
    """The threads that wait for something to become true."""

    __slots__ = ("_latches", "_process")

    def __init__(self) -> None:
        self._latches: deque[LockType] = deque()
        self._process = os.getpid()

    def wake(self) -> None:
        """Makes every waiter look again. Call it after what they wait for has changed."""
        while True:
            try:
                latch = self._latches.popleft()
            except IndexError:
                return
            latch.release()

    def wait(self, ready: Callable[[], object], timeout: float | None = None) -> bool:
        """Waits until `ready()` is true.

        Args:
            ready: must not block.
            timeout: how long to wait, in seconds; None waits for ever, and zero or less only looks.

        Returns:
            Whether it is true now.

        Raises:
            ProcessError: this is a copy, made by `os.fork`, of the process in which it would become true.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not ready():
            left = -1.0 if deadline is None else deadline - time.monotonic()
            if deadline is not None and left <= 0:
                # Once more: this process may have been stopped since it looked.
                return bool(ready())
            if os.getpid() != self._process:
                from .exceptions import ProcessError

                raise ProcessError(
                    f"what is waited for happens in process {self._process}, which this one was forked from"
                )
            self._sleep(ready, left)
        return True

    def _sleep(self, ready: Callable[[], object], timeout: float) -> None:
        latch = allocate_lock()
        latch.acquire()
        self._latches.append(latch)
        try:
            # What made it true before the latch was there has not released it.
            if not ready():
                latch.acquire(True, timeout)
        finally:
            with contextlib.suppress(ValueError):  # `wake` may have taken it.
                self._latches.remove(latch)


def wait_until(
    predicate: Callable[[], Any], wait: Callable[[float | None], object], timeout: float | None
) -> Any:
    """Waits until a predicate is true; what it returned last.

    Args:
        predicate: asked before each wait.
        wait: for something that may have changed it, with the seconds that are left, None for no limit.
        timeout: in all, in seconds; None for no limit.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    while not (result := predicate()):
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            break
        wait(left)
    return result
