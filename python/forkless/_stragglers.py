"""Threads that tasks have left in a worker that is to end: it waits for them, but not for ever.

Python waits at its exit for threads that are no daemons. In a worker nobody sees that: the tasks are done,
the pool is closed, and `join` does not return. So a worker says at once that it takes no more tasks, has
another one take its place if there is to be one, and ends after a while without the threads, which it names.
"""

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import NoReturn

# How long the threads may take, in seconds. Each is counted by itself: when the machine stands still, the
# threads do not get on.
_PATIENCE = 10
_ticks = 0


def left() -> list[threading.Thread]:
    """The threads that Python would wait for."""
    return [
        thread
        for thread in threading.enumerate()
        if not thread.daemon and thread is not threading.main_thread()
    ]


def wait_bounded(name: str, flush: Callable[[], object]) -> None:
    """From now on, this process ends after a while, if threads are still there that keep it.

    There is no further thread for that: what tasks have set up here is done with, so a signal is free.

    Args:
        name: of this worker.
        flush: sends what it has written.
    """
    signal.signal(signal.SIGALRM, partial(_tick, name, flush))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    signal.setitimer(signal.ITIMER_REAL, 1, 1)


def _tick(name: str, flush: Callable[[], object], number: int, frame: FrameType | None) -> None:
    global _ticks
    _ticks += 1
    threads = left()
    if threads and _ticks >= _PATIENCE:
        _end_without(threads, name, flush)


def _end_without(threads: list[threading.Thread], name: str, flush: Callable[[], object]) -> NoReturn:
    try:
        names = ", ".join(repr(thread.name) for thread in threads)
        print(
            f"forkless: {name} ends without waiting any longer for threads that its tasks have started "
            f"({names}); a task has to join its threads, or make them daemons",
            file=sys.stderr,
        )
        atexit._run_exitfuncs()
        flush()
    finally:
        os._exit(0)
