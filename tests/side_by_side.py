"""Both libraries in one program: each function is a row of the third table in docs/half-converted.md."""

from __future__ import annotations

import concurrent.futures as cf
import multiprocessing
import multiprocessing.connection
import multiprocessing.managers
import multiprocessing.pool
import multiprocessing.queues
import multiprocessing.shared_memory
import os
from collections.abc import Callable
from typing import Any

import forkless
import forkless.connection
import forkless.managers
import forkless.shared_memory

LIMIT = 60.0
SPAWN = multiprocessing.get_context("spawn")
ROWS: dict[str, Callable[[], object]] = {}


def row(name: str) -> Callable[[Callable[[], object]], Callable[[], object]]:
    """Names what a function shows, as the page does. The function returns whether it works."""

    def add(function: Callable[[], object]) -> Callable[[], object]:
        ROWS[name] = function
        return function

    return add


def square(x: int) -> int:
    return x * x


def expect_item(shared: Any, item: object) -> None:
    assert shared[0] == item


@row("`ProcessPoolExecutor(mp_context=forkless.get_context())`")
def executor_with_context() -> object:
    context: Any = forkless.get_context()
    with cf.ProcessPoolExecutor(1, mp_context=context) as executor:
        return executor.submit(square, 3).result(LIMIT) == 9


@row("`multiprocessing.pool.Pool(context=forkless.get_context())`")
def pool_with_context() -> object:
    with multiprocessing.pool.Pool(1, context=forkless.get_context()) as pool:
        return pool.apply_async(square, (3,)).get(LIMIT) == 9


@row("`multiprocessing.managers.SyncManager(ctx=forkless.get_context())`")
def manager_with_context() -> object:
    manager: Any = multiprocessing.managers.SyncManager(ctx=forkless.get_context())
    manager.start()
    with manager:
        proxy = manager.list([1])
        process = forkless.Process(target=proxy.append, args=(2,))
        process.start()
        process.join()
        return list(proxy) == [1, 2]


@row("`multiprocessing.queues.Queue(ctx=forkless.get_context())`")
def queue_with_context() -> object:
    queue: Any = multiprocessing.queues.Queue(ctx=forkless.get_context())
    queue.put("hello")
    return queue.get(True, LIMIT) == "hello"


@row('`forkless.Pool(context=multiprocessing.get_context("fork"))`')
def our_pool_with_their_context() -> object:
    context: Any = multiprocessing.get_context("fork")
    return forkless.Pool(1, context=context)


@row('`forkless.Executor(mp_context=multiprocessing.get_context("spawn"))`')
def our_executor_with_their_context() -> object:
    context: Any = SPAWN
    return forkless.Executor(1, mp_context=context)


@row('`forkless.managers.SyncManager(ctx=multiprocessing.get_context("spawn"))`')
def our_manager_with_their_context() -> object:
    context: Any = SPAWN
    return forkless.managers.SyncManager(ctx=context)


@row("`forkless.Condition(multiprocessing.Lock())`")
def our_condition_with_their_lock() -> object:
    lock: Any = SPAWN.Lock()
    return forkless.Condition(lock)


@row("`multiprocessing.Pool in a worker of forkless.Pool`")
def their_pool_in_ours() -> object:
    with forkless.Pool(1) as pool:
        return pool.apply_async(by_their_pool, (3,)).get(LIMIT) == 9


def by_their_pool(x: int) -> int:
    with SPAWN.Pool(1) as pool:
        return pool.apply_async(square, (x,)).get(LIMIT)


@row("`forkless.Pool in a worker of multiprocessing.Pool`")
def our_pool_in_theirs() -> object:
    for method in "spawn", "fork", "forkserver":
        with multiprocessing.get_context(method).Pool(1) as pool:
            assert pool.apply_async(by_our_pool, (3,)).get(LIMIT) == 9
    return True


def by_our_pool(x: int) -> int:
    with forkless.Pool(1) as pool:
        return pool.apply_async(square, (x,)).get(LIMIT)


@row('`multiprocessing.set_start_method("fork"), then forkless.Pool`')
def their_start_method() -> object:
    multiprocessing.set_start_method("fork", force=True)
    with forkless.Pool(1) as pool:
        return (pool.apply(square, (3,)), forkless.get_start_method()) == (9, "forkserver")


@row("`forkless.connection.wait of both libraries' connections and sentinels`")
def our_wait() -> object:
    return waits(forkless.connection.wait)


@row("`multiprocessing.connection.wait of both libraries' connections and sentinels`")
def their_wait() -> object:
    return waits(multiprocessing.connection.wait)


def waits(wait: Callable[..., list[Any]]) -> bool:
    processes: list[Any] = [SPAWN.Process(target=int), forkless.Process(target=int)]
    for process in processes:
        process.start()
        process.join()
    (here, there), (near, far) = multiprocessing.Pipe(), forkless.Pipe()
    there.send(1)
    far.send(2)
    objects = [here, near, *(process.sentinel for process in processes)]
    return len(wait(objects, LIMIT)) == len(objects)


@row("`forkless.connection.wait([process])`")
def wait_for_a_process() -> object:
    process = SPAWN.Process(target=int)
    process.start()
    process.join()
    return forkless.connection.wait([process], LIMIT)


@row("`concurrent.futures.wait and as_completed of both libraries' futures`")
def futures() -> object:
    with cf.ProcessPoolExecutor(1, mp_context=SPAWN) as theirs, forkless.Executor(1) as ours:
        both = [theirs.submit(square, 2), ours.submit(square, 3)]
        results = sorted(future.result() for future in cf.as_completed(both, LIMIT))
        return (results, len(cf.wait(both, LIMIT).done)) == ([4, 9], 2)


@row("`forkless.shared_memory.SharedMemory(name of a segment of multiprocessing)`")
def their_segment() -> object:
    return found(multiprocessing.shared_memory, forkless.shared_memory)


@row("`multiprocessing.shared_memory.SharedMemory(name of a segment of forkless)`")
def our_segment() -> object:
    return found(forkless.shared_memory, multiprocessing.shared_memory)


@row("`multiprocessing.shared_memory.SharedMemory(name of a public segment of forkless)`")
def our_public_segment() -> object:
    return found(forkless.shared_memory, multiprocessing.shared_memory, public=True)


def found(made_by: Any, found_by: Any, **options: Any) -> bool:
    memory = made_by.SharedMemory(create=True, size=8, **options)
    try:
        other = found_by.SharedMemory(memory.name)
        other.buf[0] = 42
        other.close()
        return bool(memory.buf[0] == 42)
    finally:
        memory.close()
        memory.unlink()


@row("`queue.put(forkless.Lock()) into a multiprocessing.Queue, and no other reference`")
def lock_in_a_queue() -> object:
    queue: Any = SPAWN.Queue()
    queue.put(forkless.Lock())
    return queue.get(True, LIMIT).acquire()


@row("`multiprocessing.Process(args=(forkless.share(...),)), and no other reference`")
def list_in_a_process() -> object:
    process = SPAWN.Process(target=expect_item, args=(forkless.share([42, "more than a number"]), 42))
    process.start()
    process.join(LIMIT)
    return process.exitcode == 0


def main(name: str) -> None:
    """Prints what becomes of a row."""
    try:
        print("works" if ROWS[name]() else "does not")
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
        os._exit(0)  # What is half-made is not ended in order.
