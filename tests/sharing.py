"""Work with shared memory of every kind, for processes that are killed at it, and the books of what is left.

Whoever makes a segment marks both of its ends. Whoever gets one looks whether they are marked alike.
"""

from __future__ import annotations

import contextlib
import gc
import os
import queue
import random
import re
import time
from pathlib import Path
from typing import Any

import forkless
import numpy as np
from forkless import _forkless
from forkless.shared_memory import ShareableList, SharedMemory
from support import PATIENCE, eventually, named_memory, used_by_others

WORKERS = 3
KEEP = 5  # segments that a worker has at a time, at most
LARGEST = 22  # the logarithm of the largest size


def mark(view: Any, number: int) -> Any:
    """Marks the ends of a segment."""
    view[0] = view[-1] = number % 251
    return view


def make(dice: random.Random, number: int) -> Any:
    """A segment of some kind and size, marked."""
    size = int(2 ** (1 + (LARGEST - 1) * dice.random()))
    kind = dice.choice(["bytes", "array", "empty", "sealed", "segment", "segment", "public", "list"])
    if kind == "bytes":
        return forkless.share(mark(bytearray(size), number))
    if kind == "array":
        return forkless.share(mark(np.zeros(size // 8 + 1), number))
    if kind == "empty":
        return mark(forkless.empty(size, "u1"), number)
    if kind == "sealed":
        return forkless.seal(mark(forkless.zeros(size, "u1"), number))
    if kind == "list":
        return ShareableList([number % 251, "x" * (size % 100_000), number % 251])
    segment = SharedMemory(create=True, size=size, public=kind == "public")
    mark(segment.buf, number)
    # A public one that has lost its name can be opened by nobody who gets it later.
    if kind == "segment" and dice.random() < 0.3:
        segment.unlink()
    return segment


def check(made: Any) -> None:
    """Whether a segment is whole."""
    if isinstance(made, SharedMemory):
        made = made.buf
    elif isinstance(made, forkless.SharedBuffer):
        made = memoryview(made)
    assert made[0] == made[-1], made


def drop(made: Any, dice: random.Random) -> None:
    """Lets a segment go, in one of the ways."""
    if isinstance(made, SharedMemory) and dice.random() < 0.5:
        made.close()


def work(books: Any, index: int, mail: Any, seed: int, count: int) -> None:
    """Makes segments, sends some, takes others from the mail, finds them by name, and drops them."""
    dice = random.Random(seed)
    kept: list[Any] = []
    for number in range(count):
        made = make(dice, number)
        books[index] += 1
        kept.append(made)
        if dice.random() < 0.5:
            mail.put(made)
        if dice.random() < 0.5:
            with contextlib.suppress(queue.Empty):
                kept.append(mail.get_nowait())
                check(kept[-1])
        if isinstance(made, SharedMemory):
            with contextlib.suppress(FileNotFoundError):
                check(SharedMemory(made.name))
        del made
        while len(kept) > KEEP:
            drop(kept.pop(dice.randrange(len(kept))), dice)


def round_of_work(books: Any, dice: random.Random, count: int) -> int:
    """Some processes at work, of which some are killed at random moments; how many were."""
    mail: Any = forkless.Queue()
    for index in range(WORKERS):
        books[index] = 0
    workers = [
        forkless.Process(target=work, args=(books, index, mail, dice.randrange(2**32), count))
        for index in range(WORKERS)
    ]
    for worker in workers:
        worker.start()
    victims = dice.sample(workers, dice.choice([0, 1, 2, WORKERS]))
    for victim in victims:
        victim.join(dice.random() ** 2 * 0.15)
        victim.kill()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0 or worker in victims, worker
        worker.close()
    # What is still in the mail goes with it, half of it unseen.
    with contextlib.suppress(queue.Empty):
        for _ in range(mail.qsize() // 2):
            check(mail.get_nowait())
    return len(victims)


class Stock:
    """What this tree has, when nobody is at work."""

    def __init__(self) -> None:
        gc.collect()
        self.census = _forkless.census()
        _forkless.trim_memory()
        self.pages = self.arena_pages()
        self.memory = {
            role: self.anonymous(pid)
            for pid, _, role in _forkless.processes()
            if role in ("main", "template")
        }
        self.descriptors = {
            role: len(os.listdir(f"/proc/{pid}/fd"))
            for pid, _, role in _forkless.processes()
            if role in ("main", "template")
        }

    @staticmethod
    def arena_pages() -> int:
        """Bytes that the arena takes."""
        for entry in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                if "memfd:" in os.readlink(f"/proc/self/fd/{entry}"):
                    return 512 * os.stat(f"/proc/self/fd/{entry}").st_blocks
        return 0

    @staticmethod
    def anonymous(pid: int) -> int:
        """Bytes of a process's own."""
        match = re.search(r"RssAnon:\s*(\d+)", Path(f"/proc/{pid}/status").read_text())
        assert match is not None
        return int(match[1]) << 10

    def check_growth(self, before: Stock) -> None:
        """Asserts that there is no more than there was."""
        assert self.census == before.census, (self.census, before.census)
        assert self.descriptors == before.descriptors, (self.descriptors, before.descriptors)
        assert self.pages <= before.pages + (1 << 20), (self.pages, before.pages)
        for role, size in self.memory.items():
            assert size <= before.memory[role] * 1.1 + (2 << 20), (role, size, before.memory)


def settle(census: tuple[int, int]) -> None:
    """Waits until what the dead have left is gone."""
    gc.collect()
    assert eventually(lambda: _forkless.census() == census), (_forkless.census(), census)


def left_names(before: set[str]) -> list[str]:
    """Names of public segments that stay, and are nobody else's."""
    left: list[str] = []

    def is_clean() -> bool:
        left[:] = [name for name in set(named_memory()) - before if not used_by_others(name)]
        return not left

    eventually(is_clean)
    return left


def soak(seed: int, total: int) -> str:
    """Has so many segments come and go while processes are killed; nothing may be left, and nothing grow."""
    dice, books = random.Random(seed), forkless.RawArray("Q", WORKERS)
    names = set(named_memory())
    round_of_work(books, dice, 20)
    begin, made, killed, rounds = Stock(), 0, 0, 0
    half: Stock | None = None
    begun = time.monotonic()
    while made < total:
        killed += round_of_work(books, dice, 40)
        made += sum(books)
        rounds += 1
        settle(begin.census)
        if half is None and made >= total / 2:
            half = Stock()
    end = Stock()
    assert half is not None
    end.check_growth(half)
    assert not left_names(names)
    assert killed, "nobody was killed"
    roles = sorted(role for _, _, role in _forkless.processes() if role != "standby")
    assert roles == ["main", "template"], roles
    return (
        f"{made} segments, {killed} processes killed in {rounds} rounds, {time.monotonic() - begun:.1f} s; "
        f"arena {begin.pages}, {half.pages}, {end.pages} bytes; "
        f"memory {begin.memory}, {half.memory}, {end.memory}"
    )


# One of each, by somebody who dies at some step of it.


def one_of_each() -> list[Any]:
    """A segment of every kind, marked."""
    kinds = [
        forkless.share(mark(bytearray(200_000), 1)),
        mark(forkless.empty(30_000, "u1"), 2),
        forkless.seal(mark(forkless.zeros(100_000, "u1"), 3)),
        SharedMemory(create=True, size=100_000),
        SharedMemory(create=True, size=5000, public=True),
        ShareableList([4, "text", 4]),
    ]
    for segment in kinds[3:5]:
        mark(segment.buf, 5)
    return kinds


def live(point: str, passes: int, given: Any, names: list[str], mail: Any) -> None:
    """Reads what others have made, then makes, sends and drops the like; dies at a pass through a point."""
    assert _forkless.arm_crash_point(point, passes)
    kept = [given.get_nowait() for _ in range(6)]
    kept += [SharedMemory(name) for name in names]
    for each in kept:
        check(each)
    forkless.seal(kept[1])
    kept = one_of_each()
    mail.put([np.ones(50_000), bytes(100_000), *kept])
    for segment in kept[3:5]:
        segment.unlink()
    kept = one_of_each()
    kept.clear()
    gc.collect()


def die_at(point: str, start: int = 1, step: int = 1) -> int:
    """Has processes die at passes through a point; the last at which one did. All must be in order then."""
    # What a tree keeps is there once it has had a child.
    first = forkless.Process(target=int)
    first.start()
    first.join()
    first.close()
    del first
    for passes in range(start, 10_000, step):
        gc.collect()
        census, public = _forkless.census(), set(named_memory())
        ours, given, mail = one_of_each(), forkless.Queue(), forkless.Queue()  # type: ignore[var-annotated]
        for each in ours:
            given.put(each)
        names = [segment.name for segment in ours[3:5]]
        doomed = forkless.Process(target=live, args=(point, passes, given, names, mail))
        doomed.start()
        doomed.join(PATIENCE)
        died = doomed.exitcode == -9
        assert died or doomed.exitcode == 0, (point, passes, doomed.exitcode)
        doomed.close()
        for each in ours:
            check(each)
        assert [SharedMemory(name).size for name in names] == [100_000, 5000]
        check_mail(mail, died)
        del ours, given, mail, each, doomed
        settle(census)
        assert not left_names(public), (point, passes)
        if not died:
            return passes - 1
    raise AssertionError(f"no end of {point}")


def check_mail(mail: Any, died: bool) -> None:
    """What the dead has sent is whole, if its names were not taken before."""
    try:
        for each in mail.get_nowait()[2:]:
            check(each)
    except queue.Empty:
        assert died
    except FileNotFoundError:
        pass  # of the public one, which was unlinked
