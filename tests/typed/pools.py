"""Types through pools, executors and asyncio: each assertion fails when what is inferred gets worse.

Programs of this folder are checked, not run: see test_types.py. A comment that tells mypy to ignore an error
is an assertion, too: that the error is found.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent import futures

import forkless as mp
from forkless.executor import Executor
from forkless.pool import Pool
from typing_extensions import assert_type


def name_of(number: int) -> str:
    return str(number)


def joined(number: int, text: str) -> bytes:
    return f"{number}{text}".encode()


def countdown(start: int) -> Iterator[int]:
    yield from range(start, 0, -1)


def pools() -> None:
    with mp.Pool(2, initializer=print, initargs=("hello",), maxtasksperchild=10) as pool:
        assert_type(pool, Pool)
        assert_type(pool.map(name_of, [1, 2], chunksize=1), list[str])
        assert_type(pool.map(name_of, range(3), progress=True, timeout=30, retries=2), list[str])
        assert_type(pool.starmap(joined, [(1, "a")]), list[bytes])
        assert_type(pool.apply(joined, (1, "a")), bytes)
        assert_type(pool.apply_async(joined, (1,), {"text": "a"}).get(timeout=1), bytes)
        assert_type(pool.map_async(name_of, [1], callback=print).get(), list[str])
        assert_type(pool.starmap_async(joined, [(1, "a")]).get(), list[bytes])
        assert_type(next(pool.imap(name_of, [1])), str)
        assert_type(list(pool.imap_unordered(name_of, [1], timeout=5)), list[str])
        assert_type(list(pool.stream(countdown, (3,))), list[int])
        assert_type(pool.statistics().waiting, int)


def wrong_pools(pool: Pool) -> None:
    pool.map(name_of, 3)  # type: ignore[arg-type]
    pool.map(3, [1])  # type: ignore[arg-type]
    pool.imap(name_of, [1], chunk_size=2)  # type: ignore[call-arg]
    pool.apply(name_of, 1)  # type: ignore[arg-type]
    mp.Pool(processes="two")  # type: ignore[arg-type]
    pool.no_such_method()  # type: ignore[attr-defined]
    text: int = pool.apply(name_of, (1,))  # type: ignore[assignment]
    print(text)


def executors() -> None:
    with mp.Executor(max_workers=2) as executor:
        assert_type(executor, Executor)
        standard: futures.Executor = executor
        print(standard)
        future = executor.submit(joined, 1, text="a")
        also_standard: futures.Future[bytes] = future
        print(also_standard)
        assert_type(future.result(timeout=1), bytes)
        assert_type(list(executor.map(name_of, [1])), list[str])
        assert_type(list(executor.map(joined, [1], ["a"], chunksize=10)), list[bytes])
        assert_type(executor.options(timeout=1.0, retries=mp.Retry(3)).submit(name_of, 1).result(), str)
        assert_type(list(executor.stream(countdown, 3)), list[int])
        for done in futures.as_completed([future]):
            assert_type(done.result(), bytes)


def wrong_executors(executor: Executor) -> None:
    executor.submit(name_of)  # type: ignore[call-arg]
    executor.submit(name_of, "text")  # type: ignore[arg-type]
    executor.submit(joined, 1, texts="a")  # type: ignore[call-arg]
    executor.options(timeouts=1)  # type: ignore[call-arg]
    executor.options(timeout="soon")  # type: ignore[arg-type]
    number: int = executor.submit(name_of, 1).result()  # type: ignore[assignment]
    print(number)


async def with_asyncio(queue: mp.Queue[int]) -> None:
    async with mp.aio.Pool(2) as pool:
        assert_type(pool, mp.aio.Pool)
        assert_type(await pool.run(joined, 1, text="a"), bytes)
        assert_type([each async for each in pool.map(name_of, [1, 2])], list[str])
        assert_type([each async for each in pool.stream(countdown, 3)], list[int])
        await pool.run(name_of, "text")  # type: ignore[arg-type]
    loop = asyncio.get_running_loop()
    with mp.Executor(1) as executor:
        assert_type(await loop.run_in_executor(executor, name_of, 1), str)
    async for item in queue:
        assert_type(item, int)


def contexts() -> None:
    context = mp.get_context("spawn")
    assert_type(context.Pool(2).map(name_of, [1]), list[str])
    assert_type(context.Executor(2).submit(name_of, 1).result(), str)
    assert_type(context.Process(target=name_of, args=(1,)).exitcode, int | None)
    context.Pool("two")  # type: ignore[arg-type]
    mp.set_start_method(1)  # type: ignore[arg-type]
