"""Queues."""

from __future__ import annotations

import time
from typing import Any

from jobs import echo, fill
from suite import benchmark


def through(mp: Any, count: int, payload: bytes) -> float:
    """Seconds per message from one producer to this process."""
    queue = mp.Queue()
    producer = mp.Process(target=fill, args=(queue, count, payload))
    producer.start()
    assert queue.get() == payload
    begin = time.perf_counter()
    for _ in range(count - 1):
        queue.get()
    elapsed = time.perf_counter() - begin
    producer.join()
    return elapsed / count


@benchmark(at_most=0.2)
def queue_100_bytes(mp: Any) -> float:
    """Per message of 100 bytes, one producer, one consumer."""
    return through(mp, 50_000, b"x" * 100)


@benchmark(at_most=1 / 6)
def queue_1_mb(mp: Any) -> float:
    """Per message of a megabyte."""
    return through(mp, 300, b"x" * (1 << 20))


@benchmark(at_most=1 / 6)
def queue_8_mb_array(mp: Any) -> float:
    """Per array of 8 MB that its receiver sums."""
    import numpy as np

    queue, count, warm = mp.Queue(2), 60, 10
    array = np.ones(1 << 20)
    producer = mp.Process(target=fill, args=(queue, count + warm, array))
    producer.start()
    for number in range(count + warm):
        if number == warm:
            begin = time.perf_counter()
        assert queue.get().sum() == 1 << 20
    elapsed = time.perf_counter() - begin
    producer.join()
    return elapsed / count


@benchmark()
def queue_ping_pong(mp: Any) -> float:
    """Per round trip through two queues."""
    there, back, count = mp.Queue(), mp.Queue(), 3000
    partner = mp.Process(target=echo, args=(there, back, count + 1))
    partner.start()
    there.put(0)
    back.get()
    begin = time.perf_counter()
    for number in range(count):
        there.put(number)
        assert back.get() == number
    elapsed = time.perf_counter() - begin
    partner.join()
    return elapsed / count
