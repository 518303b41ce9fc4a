"""The time limit of a task of Ray: broken off, and killed with its worker if it does not end by that."""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

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

    def interrupt(number: int, frame: FrameType | None) -> None:
        if not done.is_set():
            raise TaskInterrupted

    me = threading.get_ident()
    killer = threading.Thread(target=_end_late, args=(me, done, timeout, note), daemon=True)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        killer.start()
        try:
            return call()
        finally:
            done.set()
    finally:
        # Once more: the only interruption there is may have come just before.
        done.set()
        killer.join()
        signal.signal(signal.SIGALRM, before)


def _end_late(caller: int, done: threading.Event, timeout: float, note: Callable[[], object]) -> None:
    # One after the other: where all stands still for a while, the task has its grace afterwards.
    if done.wait(timeout):
        return
    # Not by a timer of the process, whose signal another thread may get: the caller would sleep on.
    signal.pthread_kill(caller, signal.SIGALRM)
    if done.wait(_GRACE):
        return
    try:
        note()
    finally:
        os.kill(os.getpid(), signal.SIGKILL)
