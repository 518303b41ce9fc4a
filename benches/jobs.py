"""What runs in the subjects' children. It imports next to nothing, as every new child imports it."""

from __future__ import annotations

import time
from typing import Any


def nothing(*_: object) -> None:
    """A task."""


def double(number: int) -> int:
    """A task with an answer."""
    return number * 2


def sleep_until(event: Any) -> None:
    """An idle child."""
    event.wait()


def take(mutex: Any, ready: Any, count: int) -> None:
    """Takes and gives back a lock."""
    ready.wait()
    for _ in range(count):
        with mutex:
            pass


def answer(there: Any, back: Any, count: int) -> None:
    """The other end of a ping-pong of semaphores."""
    for _ in range(count):
        there.acquire()
        back.release()


def note_wakes(event: Any, ready: Any, times: Any, count: int) -> None:
    """Notes when it was woken."""
    for number in range(count):
        ready.release()
        event.wait()
        times[number] = time.clock_gettime(time.CLOCK_MONOTONIC)
        event.clear()


def fill(queue: Any, count: int, payload: Any) -> None:
    """Puts many messages."""
    for _ in range(count):
        queue.put(payload)


def echo(inbox: Any, outbox: Any, count: int) -> None:
    """Sends back what comes."""
    for _ in range(count):
        outbox.put(inbox.get())
