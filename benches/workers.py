"""What benchmarks of pools need of any subject: its workers behind one API, and what memory there is."""

from __future__ import annotations

import os
import select
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jobs import meet


def pool_of(mp: Any, size: int = 2) -> Any:
    """A subject's pool, or its executor with a pool's calls."""
    if hasattr(mp, "Pool"):
        return mp.Pool(size)
    from peers import Calling

    return Calling(mp.Executor(size))


def executor_of(mp: Any, size: int = 2) -> Any:
    """A subject's executor, or its pool with an executor's calls."""
    if hasattr(mp, "Executor"):
        return mp.Executor(size)
    from peers import Submitting

    return Submitting(mp.Pool(size))


class Meeting:
    """Where tasks stay, each in a worker of its own, until they are let go.

    By named pipes, as not every subject can hand a lock to a worker.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.path = self._folder.name
        for name in ("arrivals", "departure"):
            os.mkfifo(f"{self.path}/{name}")
        # Opened for both, a pipe is open at once, and stays so while nobody else has it.
        self._arrivals = os.open(f"{self.path}/arrivals", os.O_RDWR)

    def wait(self, count: int) -> list[int]:
        """The processes of the tasks, when so many are there."""
        text = b""
        while text.count(b"\n") < count:
            # Tasks that wait behind others, while workers have none, would wait for ever.
            there, _, _ = select.select([self._arrivals], [], [], 60)
            assert there, f"of {count} tasks only these have begun: {text!r}"
            text += os.read(self._arrivals, 4096)
        pids = [int(line) for line in text.split()]
        assert len(set(pids)) == count
        return pids

    @contextmanager
    def departure(self) -> Iterator[None]:
        """Lets them go; the body waits for their results."""
        departure = os.open(f"{self.path}/departure", os.O_RDWR)
        try:
            yield
        finally:
            os.close(departure)

    def __enter__(self) -> Meeting:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._arrivals)
        self._folder.cleanup()


class Watch:
    """The most memory that this process and its descendants have while the body runs, each page once (PSS).

    Looked at every 10 ms, so a peak that is shorter may be missed.

    Attributes:
        peak: bytes.
    """

    def __init__(self) -> None:
        self.peak = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._over.wait(0.01):
            self.peak = max(self.peak, sum(map(pss, family(os.getpid()))))

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for each in found:
        try:
            for thread in os.listdir(f"/proc/{each}/task"):
                with open(f"/proc/{each}/task/{thread}/children", encoding="ascii") as children:
                    found.extend(map(int, children.read().split()))
        except OSError:
            continue  # It has ended.
    return found


def pss(pid: int) -> int:
    """Bytes that a process has, pages that others have too by its share; 0 if it is gone."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as table:
            return next(int(line.split()[1]) * 1024 for line in table if line.startswith("Pss:"))
    except (OSError, StopIteration):
        return 0


def gather(pool: Any, size: int) -> list[int]:
    """Has all workers of a pool do a task at the same time, and returns their pids."""
    with Meeting() as meeting:
        results = [pool.apply_async(meet, (meeting.path,)) for _ in range(size)]
        pids = meeting.wait(size)
        with meeting.departure():
            for result in results:
                result.get()
    return pids


def own_memory() -> int:
    """Bytes that this process has for itself alone (USS), and the arena, whoever else has it mapped."""
    size, arena = 0, False
    with open("/proc/self/smaps", encoding="utf-8") as table:
        for line in table:
            first, *rest = line.split()
            if not first.endswith(":"):
                arena = "/memfd:" in line
            elif first.startswith("Private_") and not arena:
                size += 1024 * int(rest[0])
    for entry in os.listdir("/proc/self/fd"):
        try:
            if "memfd:" in os.readlink(f"/proc/self/fd/{entry}"):
                size += 512 * os.stat(f"/proc/self/fd/{entry}").st_blocks
        except OSError:
            continue  # The descriptor of the list itself.
    return size
