"""The time limit of a task of Ray: broken off, and killed with its worker if it does not end by that."""

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
    from .ray import note_late

    killer = threading.Timer(timeout + _GRACE, _kill, (note_late(),))
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


def _kill(note: Callable[[], object]) -> None:
    try:
        note()
    finally:
        os.kill(os.getpid(), signal.SIGKILL)


def _interrupt(number: int, frame: FrameType | None) -> Any:
    raise TaskInterrupted
