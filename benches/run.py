"""Compares forkless with the standard library, pair by pair, on this machine.

    ./dev bench                       every benchmark, release build
    python benches/run.py --only lock --rounds 9

Each round runs both subjects in fresh interpreters, one after the other, so that both meet the same noise.
Printed are medians over the rounds and the median of the rounds' ratios: above 1, forkless is faster. Each
benchmark checks its own answer.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

# The standard library with its fastest start method, which is the one with the hazards.
SUBJECTS = ("multiprocessing", "forkless")


def subject(name: str) -> Any:
    """The module's API: a context of the standard library, or forkless itself."""
    if name == "forkless":
        import forkless

        return forkless
    import multiprocessing

    return multiprocessing.get_context("fork")


def executor_of(mp: Any) -> Any:
    """Its executor, with two workers."""
    if hasattr(mp, "Executor"):
        return mp.Executor(2)
    from concurrent.futures import ProcessPoolExecutor

    return ProcessPoolExecutor(2, mp_context=mp)


def nothing() -> None:
    """A task."""


def double(number: int) -> int:
    """A task with an answer."""
    return number * 2


def fill(queue: Any, count: int, payload: bytes) -> None:
    """Puts many messages."""
    for _ in range(count):
        queue.put(payload)


def echo(inbox: Any, outbox: Any, count: int) -> None:
    """Sends back what comes."""
    for _ in range(count):
        outbox.put(inbox.get())


def add(lock: Any, count: int) -> None:
    """Takes and gives back a lock."""
    for _ in range(count):
        with lock:
            pass


def start_and_join(mp: Any) -> float:
    """Seconds per process started and joined."""
    mp.Process(target=nothing).start()
    count = 50
    begin = time.perf_counter()
    for _ in range(count):
        process = mp.Process(target=nothing)
        process.start()
        process.join()
        assert process.exitcode == 0
    return (time.perf_counter() - begin) / count


def start_and_join_from_1_gb(mp: Any) -> float:
    """The same, from a parent with a gigabyte of touched memory."""
    ballast = bytearray(1 << 30)
    for offset in range(0, len(ballast), 4096):
        ballast[offset] = 1
    return start_and_join(mp)


def lock(mp: Any) -> float:
    """Seconds per acquire and release of a free lock."""
    mutex, count = mp.Lock(), 200_000
    begin = time.perf_counter()
    for _ in range(count):
        mutex.acquire()
        mutex.release()
    return (time.perf_counter() - begin) / count


def contended_lock(mp: Any) -> float:
    """Seconds per `with lock` of two processes together."""
    mutex, count = mp.Lock(), 100_000
    workers = [mp.Process(target=add, args=(mutex, count)) for _ in range(2)]
    begin = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return (time.perf_counter() - begin) / (2 * count)


def queue_100_bytes(mp: Any) -> float:
    """Seconds per message of 100 bytes, one producer, one consumer."""
    queue, count = mp.Queue(), 50_000
    producer = mp.Process(target=fill, args=(queue, count, b"x" * 100))
    producer.start()
    assert queue.get() == b"x" * 100
    begin = time.perf_counter()
    for _ in range(count - 1):
        queue.get()
    elapsed = time.perf_counter() - begin
    producer.join()
    return elapsed / count


def queue_1_mb(mp: Any) -> float:
    """Seconds per message of a megabyte."""
    queue, count = mp.Queue(), 300
    producer = mp.Process(target=fill, args=(queue, count, b"x" * (1 << 20)))
    producer.start()
    assert len(queue.get()) == 1 << 20
    begin = time.perf_counter()
    for _ in range(count - 1):
        queue.get()
    elapsed = time.perf_counter() - begin
    producer.join()
    return elapsed / count


def queue_ping_pong(mp: Any) -> float:
    """Seconds per round trip through two queues."""
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


def pool_first_result(mp: Any) -> float:
    """Seconds from nothing to a pool's first result and its end."""
    begin = time.perf_counter()
    with mp.Pool(2) as pool:
        assert pool.apply(double, (21,)) == 42
    return time.perf_counter() - begin


def map_chunks_of_1(mp: Any) -> float:
    """Seconds per item of `map` with chunks of one."""
    count = 10_000
    with mp.Pool(2) as pool:
        pool.map(double, range(10), chunksize=1)
        begin = time.perf_counter()
        assert pool.map(double, range(count), chunksize=1)[-1] == 2 * (count - 1)
        return (time.perf_counter() - begin) / count


def map_default_chunks(mp: Any) -> float:
    """Seconds per item of `map` with the chunks it chooses."""
    count = 1_000_000
    with mp.Pool(2) as pool:
        pool.map(double, range(10))
        begin = time.perf_counter()
        assert pool.map(double, range(count))[-1] == 2 * (count - 1)
        return (time.perf_counter() - begin) / count


def executor_submit(mp: Any) -> float:
    """Seconds per task submitted and collected."""
    count = 5000
    with executor_of(mp) as executor:
        executor.submit(double, 1).result()
        begin = time.perf_counter()
        futures = [executor.submit(double, number) for number in range(count)]
        assert sum(future.result() for future in futures) == count * (count - 1)
        return (time.perf_counter() - begin) / count


def executor_round_trip(mp: Any) -> float:
    """Seconds per task on an idle executor."""
    count = 1000
    with executor_of(mp) as executor:
        executor.submit(double, 1).result()
        begin = time.perf_counter()
        for number in range(count):
            assert executor.submit(double, number).result() == 2 * number
        return (time.perf_counter() - begin) / count


BENCHMARKS: dict[str, Callable[[Any], float]] = {
    function.__name__: function
    for function in (
        start_and_join,
        start_and_join_from_1_gb,
        lock,
        contended_lock,
        queue_100_bytes,
        queue_1_mb,
        queue_ping_pong,
        pool_first_result,
        map_chunks_of_1,
        map_default_chunks,
        executor_submit,
        executor_round_trip,
    )
}


def measure(name: str, module: str) -> float:
    """One benchmark of one subject in a fresh interpreter, in seconds."""
    command = [sys.executable, __file__, "--one", name, module]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{name} under {module} failed:\n{done.stderr}")
    return float(json.loads(done.stdout))


def human(seconds: float) -> str:
    """A duration in the unit that suits it."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def main() -> None:
    """Runs and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", action="append", choices=BENCHMARKS, help="this benchmark (may be repeated)"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", nargs=2, metavar=("NAME", "SUBJECT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, module = options.one
        print(json.dumps(BENCHMARKS[name](subject(module))))
        return
    print(f"Python {platform.python_version()}, {platform.machine()}, {options.rounds} rounds, per operation")
    print(f"{'':26}{'multiprocessing':>16}{'forkless':>12}{'ratio':>8}")
    for name in options.only or BENCHMARKS:
        rounds = [[measure(name, module) for module in SUBJECTS] for _ in range(options.rounds)]
        standard, ours = (statistics.median(column) for column in zip(*rounds, strict=True))
        ratio = statistics.median(pair[0] / pair[1] for pair in rounds)
        print(f"{name:26}{human(standard):>16}{human(ours):>12}{ratio:>7.1f}x", flush=True)


# The standard library's children import this module when their start method asks for it.
if __name__ == "__main__":
    main()
