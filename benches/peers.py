"""Other packages, and what people make by hand, with the API that the benchmarks ask for.

What is not installed is named and left out; `./dev bench` installs what requirements.txt names.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable
from multiprocessing.shared_memory import SharedMemory
from typing import Any

fork = multiprocessing.get_context("fork")


class Billiard:
    """Billiard, with its default start method, which is `fork`."""

    def __init__(self) -> None:
        import billiard

        self.Process, self.Event = billiard.Process, billiard.Event
        self.Queue, self.SimpleQueue = billiard.Queue, billiard.SimpleQueue


class FasterFifo:
    """faster-fifo as it does best with single puts: what has come is taken with `get_many`."""

    Process = staticmethod(fork.Process)
    Event = staticmethod(fork.Event)

    def __init__(self) -> None:
        import faster_fifo

        self._kind = faster_fifo.Queue

    def Queue(self) -> Any:  # noqa: N802
        """A queue that holds dozens of the largest messages; the default of a megabyte holds none."""
        return self._kind(max_size_bytes=64 << 20)

    def receive(self, queue: Any, count: int, check: Any) -> None:
        """Takes messages, all that are there at a time."""
        while count > 0:
            for item in queue.get_many(timeout=60):
                check(item)
                count -= 1


class FasterFifoSingle(FasterFifo):
    """faster-fifo with `put` and `get`."""

    def receive(self, queue: Any, count: int, check: Any) -> None:
        """Takes messages one by one."""
        for _ in range(count):
            check(queue.get(timeout=60))


class Mailbox:
    """Two segments and two semaphores: an array is copied into one while the other is read."""

    def __init__(self, shape: tuple[int, ...], dtype: str, size: int) -> None:
        self.shape, self.dtype = shape, dtype
        self.segments = [SharedMemory(create=True, size=size) for _ in range(2)]
        self.free, self.full = fork.Semaphore(2), fork.Semaphore(0)

    def views(self) -> list[Any]:
        """The segments as arrays."""
        import numpy

        return [numpy.ndarray(self.shape, self.dtype, segment.buf) for segment in self.segments]

    def fill(self, arrays: Iterable[Any]) -> None:
        """Copies arrays in, each when there is room."""
        views = self.views()
        for number, array in enumerate(arrays):
            self.free.acquire()
            views[number % 2][...] = array
            self.full.release()

    def sums(self, count: int) -> list[float]:
        """Sums arrays in place as they come."""
        views, sums = self.views(), []
        for number in range(count):
            self.full.acquire()
            sums.append(float(views[number % 2].sum()))
            self.free.release()
        return sums

    def close(self) -> None:
        """Gives the memory back."""
        for segment in self.segments:
            segment.close()
            segment.unlink()


class Mailboxes:
    """Hand-made mailboxes in place of queues."""

    Process = staticmethod(fork.Process)
    Mailbox = Mailbox


PEERS = {
    "billiard": Billiard,
    "faster-fifo": FasterFifo,
    "faster-fifo-single": FasterFifoSingle,
    "mailboxes": Mailboxes,
}
