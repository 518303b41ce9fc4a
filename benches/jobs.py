"""What runs in the subjects' children. It imports next to nothing, as every new child imports it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any


def nothing(*_: object) -> None:
    """A task."""


def nap(seconds: float) -> float:
    """A task that takes its time, and says how long that was."""
    begin = time.perf_counter()
    if seconds:
        time.sleep(seconds)
    return time.perf_counter() - begin


def nested(seconds: float) -> float:
    """A task that has tasks, and is all overhead."""
    import joblib

    joblib.Parallel(n_jobs=2)(joblib.delayed(nap)(seconds) for _ in range(5))
    return 0.0


def double(number: int) -> int:
    """A task with an answer."""
    return number * 2


def same(thing: object) -> object:
    """A task that gives back what it got."""
    return thing


def total(array: Any) -> float:
    """A task that reads all of a large argument."""
    return float(array.sum())


def records(count: int) -> list[dict[str, Any]]:
    """A task whose answer has many parts."""
    return [{"id": number, "name": "somebody", "score": 0.5, "tags": ["a", "b"]} for number in range(count)]


def meet(folder: str) -> None:
    """Says which process this is, then stays until all may go: see `pools.Meeting`."""
    with open(f"{folder}/arrivals", "w", encoding="ascii") as arrivals:
        arrivals.write(f"{os.getpid()}\n")
    with open(f"{folder}/departure", encoding="ascii"):
        pass


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


def fill(queue: Any, go: Any, count: int, payload: object) -> None:
    """Says that it is there, then puts many messages."""
    queue.put(None)
    go.wait()
    for _ in range(count):
        queue.put(payload)


def fill_many(queue: Any, go: Any, batches: int, batch: list[object]) -> None:
    """The same, many at a time."""
    queue.put(None)
    go.wait()
    for _ in range(batches):
        queue.put_many(batch)


def arrays(count: int, items: int) -> Iterator[Any]:
    """Numbered arrays of doubles, in four places by turns: more than may be on their way unpickled."""
    import numpy

    places = [numpy.arange(items, dtype="float64") for _ in range(4)]
    for number in range(count):
        array = places[number % 4]
        array[0] = number
        yield array


def fill_arrays(queue: Any, count: int, items: int) -> None:
    """Puts arrays."""
    for array in arrays(count, items):
        queue.put(array)


def fill_mailbox(mailbox: Any, count: int, items: int) -> None:
    """Copies arrays into a mailbox."""
    mailbox.fill(arrays(count, items))


def touch(inbox: Any, outbox: Any, count: int) -> None:
    """Reads both ends of arrays and says when."""
    import numpy

    for _ in range(count):
        array = numpy.asarray(inbox.get())
        ends = float(array[0]), float(array[-1])
        outbox.put((time.clock_gettime(time.CLOCK_MONOTONIC), ends))


def count_bytes(inbox: Any, outbox: Any) -> None:
    """Says how much has come whenever it gets None; ends with anything that has no length."""
    total = 0
    while (item := inbox.get()) != 0:
        if item is None:
            outbox.put(total)
            total = 0
        else:
            total += len(item)


def echo(inbox: Any, outbox: Any, count: int) -> None:
    """Sends back what comes."""
    for _ in range(count):
        outbox.put(inbox.get())


def private_dirty() -> int:
    """Bytes that are this process's own, as it has written to them."""
    with open("/proc/self/smaps_rollup", encoding="ascii") as table:
        return next(int(line.split()[1]) * 1024 for line in table if line.startswith("Private_Dirty:"))


def read_and_tell(queue: Any, data: list[Any], read: Any, few: list[Any]) -> None:
    """Puts what reading gave, and how many bytes of this process's own that has made."""
    import gc

    # What it takes to read at all is not the data's.
    read(few)
    private_dirty()
    before = private_dirty()
    total = read(data)
    gc.collect()
    queue.put((total, private_dirty() - before))


def anonymous(pid: int | None = None) -> int:
    """Bytes of a process that are in no file and no shared memory, and its part of what it has in common."""
    with open(f"/proc/{pid or 'self'}/smaps_rollup", encoding="ascii") as table:
        return next(int(line.split()[1]) * 1024 for line in table if line.startswith("Pss_Anon:"))


def own_memory(array: Any) -> tuple[int, int]:
    """Which process this is, and how many bytes of its own it has with an array that it has read."""
    array.sum()
    if len(array) < 100:
        time.sleep(0.01)  # so that the others get one, too
    return os.getpid(), anonymous()


def ends(array: Any) -> tuple[float, float]:
    """The first item and the last one."""
    return float(array[0]), float(array[-1])
