"""Queues: messages, large arrays, waking up, and what memory they leave behind."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jobs
from suite import NotThere, benchmark

SMALL = b"x" * 100
LARGE = b"x" * (1 << 20)


def receive(mp: Any, queue: Any, count: int, check: Callable[[Any], None]) -> None:
    """Takes so many messages, in the subject's best way."""
    if hasattr(mp, "receive"):
        mp.receive(queue, count, check)
        return
    for _ in range(count):
        check(queue.get())


def through(mp: Any, count: int, payload: object, producers: int = 1) -> float:
    """Seconds per message from some producers to this process; they are all there when the clock starts."""
    queue, go = mp.Queue(), mp.Event()
    children = [
        mp.Process(target=jobs.fill, args=(queue, go, count // producers, payload)) for _ in range(producers)
    ]
    wrong: list[object] = []

    def check(item: object) -> None:
        if item != payload:
            wrong.append(item)

    for child in children:
        child.start()
    receive(mp, queue, producers, lambda _: None)
    begin = time.perf_counter()
    go.set()
    receive(mp, queue, count, check)
    elapsed = time.perf_counter() - begin
    for child in children:
        child.join()
    assert not wrong
    assert queue.empty()
    return elapsed / count


@benchmark("faster-fifo-single", "billiard", at_most={"fork": 0.2, "faster-fifo": 0.5})
def queue_100_bytes(mp: Any) -> float:
    """Per message of 100 bytes, one producer, one consumer."""
    return through(mp, 400_000, SMALL)


@benchmark("fork", at_most={"@queue_100_bytes": 1.0, "faster-fifo": 0.5})
def queue_2_producers(mp: Any) -> float:
    """The same from two producers; not slower than from one."""
    return through(mp, 400_000, SMALL, producers=2)


@benchmark("fork", at_most={"@queue_100_bytes": 1.0, "faster-fifo": 0.5})
def queue_8_producers(mp: Any) -> float:
    """The same from eight."""
    return through(mp, 400_000, SMALL, producers=8)


@benchmark()
def queue_dict(mp: Any) -> float:
    """Per message that is a small dictionary."""
    return through(mp, 50_000, {"id": 12345, "name": "somebody", "score": 0.5, "tags": ["a", "b"]})


@benchmark()
def queue_str(mp: Any) -> float:
    """Per message that is a string of 100 characters."""
    return through(mp, 50_000, "x" * 100)


@benchmark("faster-fifo", at_most={"@queue_100_bytes": 0.5})
def queue_many(mp: Any) -> float:
    """Per message of 100 bytes, put and taken a hundred at a time, or as many as there are."""
    queue, go, batches = mp.Queue(), mp.Event(), 1000
    if not hasattr(queue, "put_many"):
        raise NotThere("put_many")
    producer = mp.Process(target=jobs.fill_many, args=(queue, go, batches, [SMALL] * 100))
    producer.start()
    queue.get(timeout=60)
    begin = time.perf_counter()
    go.set()
    got = 0
    while got < 100 * batches:
        items = queue.get_many(timeout=60)
        assert items.count(SMALL) == len(items)
        got += len(items)
    elapsed = time.perf_counter() - begin
    producer.join()
    return elapsed / got


@benchmark(at_most={"fork": 1 / 6, "faster-fifo": 1 / 1.5})
def queue_1_mb(mp: Any) -> float:
    """Per message of a megabyte."""
    return through(mp, 300, LARGE)


def ping_pong(mp: Any, kind: str) -> float:
    """The median round trip through two queues."""
    make = getattr(mp, kind, mp.Queue)
    there, back, count, trips = make(), make(), 3000, []
    partner = mp.Process(target=jobs.echo, args=(there, back, count + 1))
    partner.start()
    there.put(0)
    back.get()
    for number in range(count):
        begin = time.perf_counter()
        there.put(number)
        answer = back.get()
        trips.append(time.perf_counter() - begin)
        assert answer == number
    partner.join()
    return statistics.median(trips)


@benchmark("fork", "faster-fifo-single")
def queue_ping_pong(mp: Any) -> float:
    """The median round trip through two queues."""
    return ping_pong(mp, "Queue")


@benchmark("fork", at_most={"billiard": 0.6})
def simple_ping_pong(mp: Any) -> float:
    """The median round trip through two simple queues."""
    return ping_pong(mp, "SimpleQueue")


@benchmark(at_most={"mailboxes": 1.0, "fork": 1 / 20})
def queue_8_mb_array(mp: Any) -> float:
    """Per array of a million doubles that the receiver sums."""
    import numpy

    count, items = 60, 1 << 20
    expected = float(numpy.arange(items, dtype="float64").sum())
    if hasattr(mp, "Mailbox"):
        mailbox = mp.Mailbox((items,), "float64", 8 * items)
        producer = mp.Process(target=jobs.fill_mailbox, args=(mailbox, count + 4, items))
        producer.start()
        sums = mailbox.sums(4)
        begin = time.perf_counter()
        sums += mailbox.sums(count)
        elapsed = time.perf_counter() - begin
        producer.join()
        mailbox.close()
    else:
        # As short as the mailboxes: two on the way.
        queue, sums = mp.Queue(2), []
        producer = mp.Process(target=jobs.fill_arrays, args=(queue, count + 4, items))
        producer.start()
        sums += [float(queue.get().sum()) for _ in range(4)]
        begin = time.perf_counter()
        sums += [float(queue.get().sum()) for _ in range(count)]
        elapsed = time.perf_counter() - begin
        producer.join()
    # The first item of each array is its number.
    assert sums == [expected + number for number in range(count + 4)]
    return elapsed / count


@benchmark(limit=200e-6)
def queue_100_mb_shared(mp: Any) -> float:
    """The median way of 100 MB, shared already where that exists, to one that reads both ends."""
    import numpy

    share = getattr(mp, "share", None)
    count, items = (200, 12_500_000) if share else (4, 12_500_000)
    array = numpy.arange(items, dtype="float64")
    item = share(array) if share else array
    there, back, ways = mp.Queue(), mp.Queue(), []
    partner = mp.Process(target=jobs.touch, args=(there, back, count + 1))
    partner.start()
    for _ in range(count + 1):
        begin = time.clock_gettime(time.CLOCK_MONOTONIC)
        there.put(item)
        end, ends = back.get()
        ways.append(end - begin)
        assert ends == (0.0, items - 1.0)
    partner.join()
    return statistics.median(ways[1:])


def tree_memory() -> int:
    """Bytes that this process and its descendants have: PSS, and all pages of the arena."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        try:
            fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            parents[int(entry)] = int(fields[1])
        except (OSError, ValueError):
            continue
    tree = [os.getpid()]
    for parent in tree:
        tree += [pid for pid, its_parent in parents.items() if its_parent == parent]
    return sum(map(jobs.anonymous, tree)) + arena_memory()


def arena_memory() -> int:
    """Bytes of the pages that the arena has, whoever has them mapped."""
    total = 0
    for entry in os.listdir("/proc/self/fd"):
        try:
            if "memfd:" in os.readlink(f"/proc/self/fd/{entry}"):
                total += 512 * os.stat(f"/proc/self/fd/{entry}").st_blocks
        except OSError:
            continue
    return total


@benchmark(limit=1.1, unit="x")
def queue_memory(mp: Any) -> float:
    """Memory after ten parts have passed by that after one: of 1 GB if FORKLESS_BENCH_FULL, else 100 MB."""
    part = (1 << 30) if os.environ.get("FORKLESS_BENCH_FULL") else 100 << 20
    # As much of each size, up to a size that travels apart from its record.
    sizes = [100, 10_000, 100_000, 1 << 20]
    queue, back = mp.Queue(16), mp.Queue()
    # The longest that the queue can be costs what it costs; by chance it would come sooner or later.
    for _ in range(16):
        queue.put(bytes(sizes[-1]))
    partner = mp.Process(target=jobs.count_bytes, args=(queue, back))
    partner.start()
    queue.put(None)
    assert back.get() == 16 * sizes[-1]
    figures = []
    for _ in range(10):
        sent = 0
        for size in sizes:
            payload = bytes(size)
            # The small ones a hundredth: they would take all the time.
            for _ in range(max(1, part // len(sizes) // size // (100 if size == 100 else 1))):
                queue.put(payload)
                sent += size
        queue.put(None)
        assert back.get() == sent
        figures.append(tree_memory())
    queue.put(0)
    partner.join()
    return figures[-1] / figures[0]
