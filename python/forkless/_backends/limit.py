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

    done, note = threading.Event(), note_late()
    killer = threading.Thread(target=_kill_late, args=(done, timeout, note), daemon=True)
    before = signal.signal(signal.SIGALRM, _interrupt)
    try:
        killer.start()
        signal.setitimer(signal.ITIMER_REAL, timeout)
        return call()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        done.set()
        signal.signal(signal.SIGALRM, before)


def _kill_late(done: threading.Event, timeout: float, note: Callable[[], object]) -> None:
    # One after the other: where all stands still for a while, the task has its grace afterwards.
    if done.wait(timeout) or done.wait(_GRACE):
        return
    try:
        note()
    finally:
        os.kill(os.getpid(), signal.SIGKILL)


def _interrupt(number: int, frame: FrameType | None) -> Any:
    raise TaskInterrupted
