"""What becomes of objects of one library in the hands of the other, as a program.

`main` makes one object of each kind with one library and hands it to a place (the arguments of a process, a
task of a pool, a queue) of the other. The child there uses the object, and this process looks whether it can
see that. It prints a line of JSON for each. Each step has a time limit, so that a hang is an outcome like any
other. See test_half_converted.py.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import shared_memory
from typing import Any, NamedTuple

import forkless
import numpy

LIMIT = 60.0  # seconds for a step; only what is broken takes as long


class Kind(NamedTuple):
    """A kind of object.

    Attributes:
        make: makes one, with what belongs to it: (the object, what this process keeps).
        use: what a child does with it.
        saw: whether this process can see that; given what it keeps, or the object.
    """

    make: Callable[[Any], Any]
    use: Callable[[Any], object]
    saw: Callable[[Any], object] = lambda obj: True


def nothing() -> None:
    """A target."""


def taken(lock: Any) -> Any:
    lock.acquire()
    return lock


def released(lock: Any) -> bool:
    return bool(lock.acquire(True, LIMIT))


def take_twice(lock: Any) -> None:
    with lock, lock:
        pass


def notify(condition: Any) -> None:
    with condition:
        condition.notify()


def put(channel: Any) -> None:
    channel.put("hello")
    if hasattr(channel, "join_thread"):
        channel.close()
        channel.join_thread()


def came(channel: Any) -> bool:
    return bool((channel.get(True, LIMIT) if hasattr(channel, "get_nowait") else channel.get()) == "hello")


def write(value: Any) -> None:
    value.value = 42


def write_first(array: Any) -> None:
    array[0] = 42


def began(array: Any) -> bool:
    return bool(array[0] == 42)


def expect(found: object, wanted: object) -> None:
    assert found == wanted, (found, wanted)


# What the objects of a kind need as long as they live: other ends, managers, pools.
kept: list[Any] = []


def keep(obj: Any) -> Any:
    kept.append(obj)
    return obj


def connection_of(mp: Any) -> Any:
    here, there = mp.Pipe()
    keep(here)
    return there


def message_came(_: object) -> bool:
    return bool(kept[-1].poll(LIMIT) and kept[-1].recv() == "hello")


def started(mp: Any) -> Any:
    process = keep(mp.Process(target=nothing))
    process.start()
    return process


def executor_of(mp: Any) -> Any:
    return keep(forkless.Executor(1) if mp is forkless else ProcessPoolExecutor(1, mp_context=mp))


def memory_of(mp: Any, name: str, *arguments: Any, **options: Any) -> Any:
    module = forkless.shared_memory if mp is forkless else shared_memory
    return keep(getattr(module, name)(*arguments, **options))


# As the pages about half-converted programs name them.
KINDS: dict[str, Kind] = {
    "Lock": Kind(lambda mp: taken(mp.Lock()), lambda lock: lock.release(), released),
    "RLock": Kind(lambda mp: mp.RLock(), take_twice, released),
    "Semaphore": Kind(lambda mp: mp.Semaphore(0), lambda semaphore: semaphore.release(), released),
    "BoundedSemaphore": Kind(lambda mp: taken(mp.BoundedSemaphore()), lambda lock: lock.release(), released),
    "Condition": Kind(lambda mp: mp.Condition(), notify),
    "Event": Kind(lambda mp: mp.Event(), lambda event: event.set(), lambda event: event.wait(LIMIT)),
    "Barrier": Kind(
        lambda mp: mp.Barrier(2), lambda barrier: barrier.abort(), lambda barrier: barrier.broken
    ),
    "Queue": Kind(lambda mp: mp.Queue(), put, came),
    "JoinableQueue": Kind(lambda mp: mp.JoinableQueue(), put, came),
    "SimpleQueue": Kind(lambda mp: mp.SimpleQueue(), put, came),
    "Connection": Kind(connection_of, lambda connection: connection.send("hello"), message_came),
    "Value": Kind(lambda mp: mp.Value("i", 0), write, lambda value: value.value == 42),
    "Array": Kind(lambda mp: mp.Array("i", 2), write_first, began),
    "RawValue": Kind(lambda mp: mp.RawValue("i", 0), write, lambda value: value.value == 42),
    "RawArray": Kind(lambda mp: mp.RawArray("i", 2), write_first, began),
    "Manager": Kind(lambda mp: keep(mp.Manager()), lambda manager: manager.list().append(1)),
    "proxy of a list": Kind(
        lambda mp: keep(mp.Manager()).list([1]), lambda proxy: proxy.append(42), lambda proxy: proxy[1] == 42
    ),
    "proxy of a queue": Kind(lambda mp: keep(mp.Manager()).Queue(), put, came),
    "proxy of a lock": Kind(
        lambda mp: taken(keep(mp.Manager()).Lock()), lambda lock: lock.release(), lambda lock: released(lock)
    ),
    "Pool": Kind(
        lambda mp: keep(mp.Pool(1)), lambda pool: expect(pool.apply_async(abs, (-1,)).get(LIMIT), 1)
    ),
    "AsyncResult": Kind(
        lambda mp: keep(mp.Pool(1)).apply_async(abs, (-1,)), lambda result: expect(result.get(LIMIT), 1)
    ),
    "Executor": Kind(executor_of, lambda executor: expect(executor.submit(abs, -1).result(LIMIT), 1)),
    "Future": Kind(
        lambda mp: executor_of(mp).submit(abs, -1), lambda future: expect(future.result(LIMIT), 1)
    ),
    "Process": Kind(lambda mp: mp.Process(target=nothing), lambda process: process.start()),
    "Process, started": Kind(started, lambda process: process.is_alive()),
    "SharedMemory": Kind(
        lambda mp: memory_of(mp, "SharedMemory", create=True, size=16),
        lambda memory: write_first(memory.buf),
        lambda memory: began(memory.buf),
    ),
    "ShareableList": Kind(lambda mp: memory_of(mp, "ShareableList", [1, 2]), write_first, began),
    "context": Kind(lambda mp: mp.get_context(), lambda context: context.Lock()),
    "share(array)": Kind(lambda mp: mp.share(numpy.arange(4)), lambda array: expect(array[3], 3)),
    "share(list)": Kind(lambda mp: mp.share([1, 2]), lambda shared: expect(shared[1], 2)),
    "share(dict)": Kind(lambda mp: mp.share({"a": 1}), lambda shared: expect(shared["a"], 1)),
    "zeros": Kind(lambda mp: mp.zeros(4), write_first, began),
}
OURS_ONLY = {"share(array)", "share(list)", "share(dict)", "zeros"}


def use(kind: str, obj: Any) -> None:
    """What children do."""
    KINDS[kind].use(obj)


class NotThere(Exception):
    """What was put into a queue did not come; what was put in after it did."""


class Hang(Exception):
    """It took too long."""


# --- places -----------------------------------------------------------------------------------------------


def run(
    ctx: Any, target: Callable[..., None], arguments: tuple[Any, ...], then: Callable[[], object]
) -> None:
    """Runs a process, and says how it ended if it did not end well."""
    process = ctx.Process(target=target, args=arguments)
    process.start()
    try:
        then()
        process.join(LIMIT)
        if process.exitcode is None:
            raise Hang("the child did not end")
        if process.exitcode == 3:
            raise NotThere
        if process.exitcode:
            raise ChildProcessError(f"the child ended with {process.exitcode}")
    finally:
        process.kill()
        process.join()
        process.close()


def in_process(ctx: Any, kind: str, obj: Any) -> None:
    run(ctx, use, (kind, obj), nothing)


def in_queue(ctx: Any, kind: str, obj: Any) -> None:
    channel = ctx.Queue()

    def fill() -> None:
        channel.put(obj)
        channel.put(None)  # Comes instead of what does not pickle.

    run(ctx, take_from_queue, (kind, channel), fill)


def take_from_queue(kind: str, channel: Any) -> None:
    obj = channel.get(True, LIMIT)
    if obj is None:
        os._exit(3)
    use(kind, obj)


def in_pipe(ctx: Any, kind: str, obj: Any) -> None:
    here, there = ctx.Pipe()
    with here, there:
        run(ctx, take_from_pipe, (kind, there), lambda: here.send(obj))


def take_from_pipe(kind: str, connection: Any) -> None:
    if not connection.poll(LIMIT):
        raise Hang("nothing came")
    use(kind, connection.recv())


def in_manager(ctx: Any, kind: str, obj: Any) -> None:
    with ctx.Manager() as manager:
        proxy = manager.list()
        proxy.append(obj)
        use(kind, proxy[0])


def in_initializer(ctx: Any, kind: str, obj: Any) -> None:
    with ctx.Pool(1, initializer=use, initargs=(kind, obj)) as pool:
        pool.apply_async(nothing).get(LIMIT)


def in_pool(ctx: Any, kind: str, obj: Any) -> None:
    """One pool for all, whose worker has begun before there are the objects."""
    if ctx not in pools:
        pools[ctx] = ctx.Pool(1)
        pools[ctx].apply(nothing)
    pools[ctx].apply_async(use, (kind, obj)).get(LIMIT)


pools: dict[Any, Any] = {}


def in_executor(ctx: Any, kind: str, obj: Any) -> None:
    if ctx not in executors:
        is_ours = isinstance(ctx, forkless.context.BaseContext)
        executors[ctx] = forkless.Executor(1, ctx) if is_ours else ProcessPoolExecutor(1, ctx)
    executors[ctx].submit(use, kind, obj).result(LIMIT)


executors: dict[Any, Any] = {}

PLACES: dict[str, Callable[[Any, str, Any], None]] = {
    "process": in_process,
    "queue": in_queue,
    "pipe": in_pipe,
    "manager": in_manager,
    "initializer": in_initializer,
    "pool": in_pool,
    "executor": in_executor,
}


# --- the program ------------------------------------------------------------------------------------------


def outcome(place: str, ctx: Any, kind: str, maker: Any) -> str:
    """What became of an object: "works", "not seen" when it only seemed to, or what was raised."""
    try:
        obj = KINDS[kind].make(maker)
        PLACES[place](ctx, kind, obj)
        return "works" if KINDS[kind].saw(obj) else "not seen"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        while kept:
            end(kept.pop())


def end(obj: Any) -> None:
    """Ends what was kept."""
    memory = getattr(obj, "shm", obj)
    for name in "shutdown", "terminate", "join", "close", "unlink":
        if hasattr(memory, name):
            with contextlib.suppress(Exception):
                getattr(memory, name)()


@contextlib.contextmanager
def errors_in(file: Any) -> Iterator[None]:
    """Has standard error, that of children included, written to a file."""
    original = os.dup(2)
    os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(original, 2)
        os.close(original)


def main(library: str, method: str, *places: str) -> None:
    """Hands objects of the other library to places of this one.

    Args:
        library: "forkless" or "multiprocessing".
        method: of starting processes there.
        *places: where.
    """
    ours = library == "forkless"
    ctx = forkless.get_context(method) if ours else multiprocessing.get_context(method)
    maker = multiprocessing.get_context("spawn") if ours else forkless
    for place in places:
        for kind in KINDS:
            if not (ours and kind in OURS_ONLY):
                with tempfile.TemporaryFile("w+") as file:
                    with errors_in(file):
                        result = outcome(place, ctx, kind, maker)
                    file.seek(0)
                    print(json.dumps([place, kind, result, file.read()]), flush=True)
    for pool in pools.values():
        pool.terminate()
        pool.join()
    for executor in executors.values():
        executor.shutdown()
