"""The time limit of a task in a process of its own: broken off, and killed if it does not end by that."""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

from .._interrupted import TaskInterrupted

R = TypeVar("R")

# How long a task that is broken off may take to end, in seconds.
_GRACE = 0.5


def run_for(timeout: float, call: Callable[[], R]) -> R:
    """Calls it in the main thread, of which it has `timeout` seconds.

    Raises:
        TaskInterrupted: it took longer. If it does not end by that, the process is killed.
    """
    killer = threading.Timer(timeout + _GRACE, os.kill, (os.getpid(), signal.SIGKILL))
    killer.daemon = True
    before = signal.signal(signal.SIGALRM, _interrupt)
    try:
        killer.start()
        signal.setitimer(signal.ITIMER_REAL, timeout)
        return call()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        killer.cancel()
        signal.signal(signal.SIGALRM, before)


def _interrupt(number: int, frame: FrameType | None) -> Any:
    raise TaskInterrupted
