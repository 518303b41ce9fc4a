"""`forkless.aio`: pools for event loops."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import itertools
import pickle
import signal
import sys
import threading
import traceback
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, TypeVar

import forkless
import jobs
import pytest
from forkless import aio
from forkless._bridge import Bridge
from support import PATIENCE, Program, eventually, run_program

R = TypeVar("R")
Runner = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(scope="session")
def warm() -> None:
    """Lets libuv make the pipe that it keeps for the life of a process, before anybody counts descriptors."""
    pytest.importorskip("uvloop").run(asyncio.sleep(0))


@pytest.fixture(params=["asyncio", "uvloop"])
def drive(warm: None, request: pytest.FixtureRequest) -> Runner:
    """Runs a coroutine in each kind of loop."""
    runner: Runner = pytest.importorskip(request.param).run
    return runner


class Source:
    """An input that counts how far it was read, of both kinds."""

    def __init__(self, count: int, error: BaseException | None = None) -> None:
        self.read = 0
        self._count, self._error = count, error

    def __iter__(self) -> Iterator[int]:
        for number in range(self._count):
            self.read = number + 1
            yield number
        if self._error is not None:
            raise self._error

    async def slowly(self) -> AsyncIterator[int]:
        for number in self:
            await asyncio.sleep(0)
            yield number

    def of_kind(self, kind: str) -> Any:
        return self.slowly() if kind == "async" else iter(self)


async def collect(results: AsyncIterator[R]) -> list[R]:
    return [result async for result in results]


async def started(event: forkless.Event) -> None:
    """Waits for an event without blocking the loop."""
    assert await asyncio.get_running_loop().run_in_executor(None, event.wait, PATIENCE)


both = pytest.mark.parametrize("kind", ["sync", "async"])


# --- calls ---


def test_run(drive: Runner) -> None:
    async def main() -> None:
        async with aio.Pool(2) as pool:
            assert await pool.run(jobs.add, 1, right=2) == 3
            assert await pool.run(lambda: 4) == 4
            assert await pool.run(dict, func=1, self=2) == {"func": 1, "self": 2}
            assert await asyncio.gather(*(pool.run(jobs.double, n) for n in range(9))) == [*range(0, 18, 2)]

    drive(main())


def test_thousands_of_calls(drive: Runner) -> None:
    async def main() -> None:
        async with aio.Pool(2) as pool:
            results = await asyncio.gather(*(pool.run(jobs.double, number) for number in range(5000)))
            assert results == [2 * number for number in range(5000)]

    drive(main())


def test_one_wake_up_for_all_that_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        bridge = Bridge(loop)
        futures: list[concurrent.futures.Future[int]] = [concurrent.futures.Future() for _ in range(100)]
        received: list[concurrent.futures.Future[int]] = []
        for future in futures:
            bridge.watch(future, received.append)

        def settle() -> None:
            for number, future in enumerate(futures):
                future.set_result(number)

        wake_ups = []
        wake_up = loop.call_soon_threadsafe

        def count(*args: Any) -> asyncio.Handle:
            wake_ups.append(args)
            return wake_up(*args)

        monkeypatch.setattr(loop, "call_soon_threadsafe", count)
        thread = threading.Thread(target=settle)
        thread.start()
        thread.join()  # The loop has no time to listen.
        await bridge.idle()
        assert received == futures
        assert len(wake_ups) == 1

    asyncio.run(main())


def test_a_wake_up_that_is_lost_costs_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        bridge = Bridge(loop)
        future: concurrent.futures.Future[int] = concurrent.futures.Future()
        received: list[concurrent.futures.Future[int]] = []
        bridge.watch(future, received.append)
        monkeypatch.setattr(loop, "call_soon_threadsafe", lambda *_: None)
        future.set_result(1)
        await bridge.idle()
        assert received == [future]

    asyncio.run(main())


def test_waiting_takes_no_threads() -> None:
    # One of a test before may just be ending.
    others = set(threading.enumerate())

    async def main() -> None:
        go = forkless.Event()
        async with aio.Pool(2) as pool:
            waiting = [asyncio.create_task(pool.run(jobs.wait_for, go, n)) for n in range(50)]
            await asyncio.sleep(0)
            threads = [thread.name for thread in threading.enumerate() if thread not in others]
            assert threads == ["forkless ExecutorWorker collector"]
            go.set()
            assert await asyncio.gather(*waiting) == list(range(50))

    asyncio.run(main())


def test_an_exception_comes_home_with_its_traceback() -> None:
    async def main() -> None:
        async with aio.Pool(1) as pool:
            with pytest.raises(ValueError, match="no luck") as caught:
                await pool.run(jobs.refuse, "luck")
            assert "refuse" in [entry.name for entry in traceback.extract_tb(caught.value.__traceback__)]
            with pytest.raises(SystemExit):
                await pool.run(jobs.exit_with, 3)
            with pytest.raises((TypeError, pickle.PicklingError)):
                await pool.run(jobs.double, threading.Lock())
            assert await pool.run(jobs.add, 1, 2) == 3

    asyncio.run(main())


@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration, asyncio.CancelledError])
def test_what_would_be_taken_for_an_end(kind: type[BaseException]) -> None:
    async def main() -> None:
        async with aio.Pool(1) as pool:
            with pytest.raises(RuntimeError, match=f"the call raised {kind.__name__}") as caught:
                await pool.run(jobs.throw, kind(1))
            assert isinstance(caught.value.__cause__, kind)
            with pytest.raises(RuntimeError, match=f"the call raised {kind.__name__}"):
                await collect(pool.map(jobs.throw, [kind(1)]))

    asyncio.run(main())


def test_nothing_holds_an_exception_but_its_user() -> None:
    class Refused(Exception):
        pass

    async def raised(call: Callable[[aio.Pool], Coroutine[Any, Any, object]]) -> weakref.ref[Refused]:
        async with aio.Pool(1) as pool:
            try:
                await call(pool)
            except Refused as error:
                return weakref.ref(error)
        raise AssertionError("no exception")

    def run(pool: aio.Pool) -> Coroutine[Any, Any, object]:
        return pool.run(jobs.throw, Refused())

    def map_and_collect(pool: aio.Pool) -> Coroutine[Any, Any, object]:
        return collect(pool.map(jobs.throw, [Refused()]))

    gc.disable()
    try:
        assert asyncio.run(raised(run))() is None
        assert asyncio.run(raised(map_and_collect))() is None
    finally:
        gc.enable()


def test_a_death_is_told() -> None:
    async def main() -> None:
        async with aio.Pool(2) as pool:
            calls = [pool.run(jobs.die_on_three, number) for number in range(6)]
            *results, error = sorted(await asyncio.gather(*calls, return_exceptions=True), key=str)
            assert results == [0, 1, 2, 4, 5]
            assert isinstance(error, forkless.WorkerDied)
            assert (error.exitcode, error.task) == (-signal.SIGKILL, "jobs.die_on_three")
            with pytest.raises(forkless.WorkerDied, match=r"jobs\.die_on_three"):
                await collect(pool.map(jobs.die_on_three, range(6), chunksize=2))
            assert await pool.run(jobs.add, 1, 2) == 3

    asyncio.run(main())


def test_workers_that_cannot_run() -> None:
    async def main() -> None:
        async with aio.Pool(1, initializer=jobs.refuse, initargs=(1,)) as pool:
            with pytest.raises(forkless.BrokenPool):
                await pool.run(jobs.add, 1)
            with pytest.raises(forkless.BrokenPool):
                await collect(pool.map(jobs.add, [1]))

    asyncio.run(main())


def test_options_of_the_executor() -> None:
    async def main() -> None:
        async with aio.Pool(
            1, initializer=jobs.initialize, initargs=("ready",), max_tasks_per_child=1
        ) as pool:
            assert await pool.run(jobs.what_was_initialized) == ["ready"]
            assert await pool.run(jobs.pid) != await pool.run(jobs.pid)
        with pytest.raises(ValueError, match="max_workers"):
            aio.Pool(0)
        with pytest.raises(TypeError, match="colour"):
            aio.Pool(1, colour="red")

    asyncio.run(main())


def test_options_of_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def options(executor: Any, **options: Any) -> Any:
        asked.append(options)
        return executor

    monkeypatch.setattr(forkless.Executor, "options", options, raising=False)

    async def main() -> None:
        async with aio.Pool(1) as pool:
            patient = pool.options(timeout=5).options(name="b")
            assert await patient.run(jobs.add, 1, 2) == 3
            assert await collect(patient.map(jobs.double, [1])) == [2]

    asyncio.run(main())
    assert asked == [{"timeout": 5}, {"name": "b"}]


# --- cancellation ---


def test_cancelling_a_call_that_waits() -> None:
    async def main() -> None:
        go, ran = forkless.Event(), forkless.Event()
        async with aio.Pool(1) as pool:
            first = [asyncio.create_task(pool.run(jobs.wait_for, go)) for _ in range(50)]
            last = asyncio.create_task(pool.run(ran.set))
            await asyncio.sleep(0)
            last.cancel()
            with pytest.raises(asyncio.CancelledError):
                await last
            go.set()
            await asyncio.gather(*first)
        assert not ran.is_set()

    asyncio.run(main())


def test_a_call_that_takes_too_long(drive: Runner) -> None:
    async def main() -> None:
        go = forkless.Event()
        async with aio.Pool(2) as pool:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(pool.run(jobs.wait_for, go), 0.01)
            assert await pool.run(jobs.add, 1, 2) == 3
            go.set()

    drive(main())


def test_cancelling_a_call_that_runs_frees_its_worker() -> None:
    async def main() -> None:
        runs = forkless.Event()
        async with aio.Pool(1) as pool:
            call = asyncio.create_task(pool.run(jobs.set_and_hang, runs))
            await started(runs)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert await asyncio.wait_for(pool.run(jobs.add, 1, 2), PATIENCE) == 3

    asyncio.run(main())


if sys.version_info >= (3, 11):

    def test_a_group_of_tasks_falls_together() -> None:
        async def group(pool: aio.Pool, ran: forkless.Event) -> None:
            async with asyncio.TaskGroup() as group:
                for _ in range(3):
                    group.create_task(pool.run(ran.set))
                group.create_task(pool.run(jobs.double, threading.Lock()))

        async def main() -> None:
            go, ran = forkless.Event(), forkless.Event()
            async with aio.Pool(1) as pool:
                blockers = [asyncio.create_task(pool.run(jobs.wait_for, go)) for _ in range(50)]
                await asyncio.sleep(0)
                with pytest.raises(Exception, match="unhandled errors in a TaskGroup"):
                    await group(pool, ran)
                go.set()
                await asyncio.gather(*blockers)
            assert not ran.is_set()

        asyncio.run(main())

    def test_a_block_with_a_time_limit() -> None:
        async def limited(pool: aio.Pool, go: forkless.Event) -> None:
            async with asyncio.timeout(0.01):
                await pool.run(jobs.wait_for, go)

        async def main() -> None:
            go = forkless.Event()
            async with aio.Pool(2) as pool:
                with pytest.raises(TimeoutError):
                    await limited(pool, go)
                assert await pool.run(jobs.add, 1, 2) == 3
                go.set()

        asyncio.run(main())


# --- maps ---


@both
@pytest.mark.parametrize("chunksize", [1, 3, 100])
def test_map(drive: Runner, kind: str, chunksize: int) -> None:
    async def main() -> None:
        async with aio.Pool(2) as pool:
            options: Any = {"chunksize": chunksize}
            source = Source(10).of_kind(kind)
            assert await collect(pool.map(jobs.double, source, **options)) == [*range(0, 20, 2)]
            pairs = pool.map(jobs.add, Source(5).of_kind(kind), range(9), **options)
            assert await collect(pairs) == [0, 2, 4, 6, 8]
            assert await collect(pool.map(jobs.double, Source(0).of_kind(kind), **options)) == []
            unordered = pool.map(jobs.double, Source(10).of_kind(kind), ordered=False, **options)
            assert sorted(await collect(unordered)) == [*range(0, 20, 2)]

    drive(main())


def test_thousands_of_items(drive: Runner) -> None:
    async def main() -> None:
        async with aio.Pool(2) as pool:
            assert await collect(pool.map(jobs.double, range(5000))) == [*range(0, 10_000, 2)]
            results = pool.map(jobs.double, Source(5000).slowly(), ordered=False, buffersize=100)
            assert sorted(await collect(results)) == [*range(0, 10_000, 2)]

    drive(main())


def test_results_as_they_arrive() -> None:
    async def main() -> None:
        go = forkless.Event()
        async with aio.Pool(2) as pool:
            results = pool.map(jobs.wait_if, [go, None, None], [0, 1, 2], ordered=False)
            assert {await anext(results), await anext(results)} == {1, 2}
            go.set()
            assert await collect(results) == [0]

    asyncio.run(main())


def test_a_queue_as_input() -> None:
    async def main() -> None:
        queue: forkless.Queue[int] = forkless.Queue()
        async with aio.Pool(1) as pool:
            results = pool.map(jobs.double, queue)
            queue.put(4)
            assert await anext(results) == 8
            queue.put(5)
            queue.shutdown()
            assert await collect(results) == [10]

    asyncio.run(main())


@both
def test_input_is_read_ahead_within_bounds(kind: str) -> None:
    async def main() -> None:
        source = Source(100)
        async with aio.Pool(2) as pool:
            results = pool.map(jobs.double, source.of_kind(kind), buffersize=5)
            for taken in range(1, 101):
                assert await anext(results) == 2 * (taken - 1)
                assert source.read <= taken + 5
                if taken == 50:
                    while source.read < taken + 5:  # the reader's turn
                        await asyncio.sleep(0)
            assert await collect(results) == []

    asyncio.run(main())


@both
def test_four_tasks_for_each_worker_by_default(kind: str) -> None:
    async def main() -> None:
        source = Source(100)
        async with aio.Pool(2) as pool:
            results = pool.map(jobs.double, source.of_kind(kind), chunksize=2)
            assert await anext(results) == 0
            while source.read < 18:
                await asyncio.sleep(0)
            for _ in range(10):
                await asyncio.sleep(0)
            assert source.read == 18, "what has been taken, and eight tasks"
            await results.aclose()

    asyncio.run(main())


@both
@pytest.mark.parametrize("chunksize", [1, 4])
def test_an_input_that_raises(kind: str, chunksize: int) -> None:
    async def main() -> None:
        async with aio.Pool(2) as pool:
            source = Source(6, KeyError("enough")).of_kind(kind)
            results = pool.map(jobs.double, source, chunksize=chunksize)
            assert [await anext(results) for _ in range(6)] == [0, 2, 4, 6, 8, 10]
            with pytest.raises(KeyError, match="enough"):
                await anext(results)
            assert await collect(results) == []

    asyncio.run(main())


@both
def test_an_input_that_is_cancelled_is_waited_for_by_nobody(kind: str) -> None:
    async def main() -> None:
        async with aio.Pool(1) as pool:
            source = Source(1, asyncio.CancelledError()).of_kind(kind)
            with pytest.raises(asyncio.CancelledError):
                await collect(pool.map(jobs.double, source))

    asyncio.run(main())


def test_a_call_that_raises_ends_the_iteration() -> None:
    async def main() -> None:
        source = Source(100)
        async with aio.Pool(1) as pool:
            results = pool.map(jobs.refuse_three, source, buffersize=2)
            assert [await anext(results) for _ in range(3)] == [0, 1, 2]
            with pytest.raises(ValueError, match="three"):
                await collect(results)
            assert source.read <= 6
            assert await collect(results) == []

    asyncio.run(main())


@both
@pytest.mark.parametrize("way", ["break", "aclose", "raise", "cancel"])
def test_leaving_early_gives_up_the_rest(kind: str, way: str) -> None:
    async def main() -> None:
        go, one = forkless.Event(), forkless.Event()
        ran = forkless.Semaphore(0)
        async with aio.Pool(1) as pool:

            async def take() -> None:
                source = Source(100).of_kind(kind)
                results = pool.map(jobs.mark, source, [ran] * 100, [go] * 100, buffersize=50)
                async for _ in results:
                    one.set()
                    if way == "aclose":
                        await results.aclose()
                    del results  # Otherwise the exception would keep them, by this frame.
                    if way == "break":
                        break
                    if way == "raise":
                        raise KeyError(way)

            taking = asyncio.create_task(take())
            await started(one)
            if way == "cancel":
                taking.cancel()
            (outcome,) = await asyncio.gather(taking, return_exceptions=True)
            kinds = {"raise": KeyError, "cancel": asyncio.CancelledError}
            assert isinstance(outcome, kinds.get(way, type(None)))
            go.set()
        # The first, and what was on its way to the worker.
        assert ran.get_value() < 30

    asyncio.run(main())


def test_after_leaving_an_input_that_is_being_read_there_is_nothing_more() -> None:
    async def main() -> None:
        async def slow() -> AsyncIterator[int]:
            yield 1
            await asyncio.Event().wait()

        async with aio.Pool(1) as pool:
            results = pool.map(jobs.double, slow())
            assert await anext(results) == 2
            await results.aclose()
            assert await collect(results) == []

    asyncio.run(main())


@both
def test_several_tasks_may_share_the_results(kind: str) -> None:
    async def main() -> None:
        async with aio.Pool(2) as pool:
            results = pool.map(jobs.double, Source(60).of_kind(kind))
            shares = await asyncio.gather(*(collect(results) for _ in range(3)))
            assert sorted(itertools.chain.from_iterable(shares)) == [*range(0, 120, 2)]

    asyncio.run(main())


def test_results_dropped_by_another_thread() -> None:
    async def main() -> None:
        go = forkless.Event()
        async with aio.Pool(1) as pool:
            source = Source(50)
            kept = [pool.map(jobs.wait_for, [go] * 50, source.slowly(), buffersize=20)]
            while source.read < 20:
                await asyncio.sleep(0)
            thread = threading.Thread(target=kept.clear)
            thread.start()
            thread.join()
            go.set()
        assert source.read <= 21

    asyncio.run(main())


def test_progress_of_a_map() -> None:
    async def main() -> None:
        told: list[tuple[int, int | None]] = []

        def tell(done: int, total: int | None) -> None:
            told.append((done, total))

        async with aio.Pool(2) as pool:
            await collect(pool.map(jobs.double, range(5), chunksize=2, progress=tell))
            assert told == [(2, 5), (4, 5), (5, 5)]
            told.clear()
            await collect(pool.map(jobs.double, Source(2).slowly(), progress=tell))
            assert told == [(1, None), (2, None)]

    asyncio.run(main())


def test_nonsense_as_arguments_of_a_map() -> None:
    async def main() -> None:
        nothing: Any = 3
        async with aio.Pool(2) as pool:
            for name in ("buffersize", "chunksize"):
                options: Any = {name: 0}
                with pytest.raises(ValueError, match=f"{name} must be >= 1, not 0"):
                    pool.map(jobs.double, [1], **options)
            with pytest.raises(TypeError, match="at least one iterable"):
                pool.map(jobs.double)
            with pytest.raises(TypeError, match="not iterable"):
                pool.map(jobs.double, nothing)
            with pytest.raises(ValueError, match="curses"):
                pool.map(jobs.double, [1], progress="curses")

    asyncio.run(main())


# --- ends ---


def test_the_end_of_the_block_waits_without_blocking_the_loop(drive: Runner) -> None:
    async def main() -> None:
        go = forkless.Event()
        async with aio.Pool(1) as pool:
            call = asyncio.create_task(pool.run(jobs.wait_for, go, 7))
            await asyncio.sleep(0)
            asyncio.get_running_loop().call_later(0.05, go.set)
        assert call.done()
        assert await call == 7

    drive(main())


def test_a_pool_nobody_used() -> None:
    async def main() -> None:
        async with aio.Pool():
            pass
        pool = aio.Pool()
        await pool.terminate()
        await pool.close()

    asyncio.run(main())


def test_an_exception_ends_the_workers(drive: Runner) -> None:
    async def fail(calls: list[asyncio.Task[None]]) -> None:
        runs = forkless.Event()
        async with aio.Pool(1) as pool:
            calls.append(asyncio.create_task(pool.run(jobs.set_and_hang, runs)))
            await started(runs)
            raise KeyError

    async def main() -> None:
        calls: list[asyncio.Task[None]] = []
        with pytest.raises(KeyError):
            await fail(calls)
        with pytest.raises(forkless.BrokenPool, match="terminated"):
            await calls[0]

    drive(main())


def test_a_cancellation_while_the_block_ends() -> None:
    async def main() -> None:
        runs = forkless.Event()

        async def work() -> None:
            async with aio.Pool(1) as pool:
                calls.append(asyncio.create_task(pool.run(jobs.set_and_hang, runs)))
                await started(runs)

        calls: list[asyncio.Task[None]] = []
        working = asyncio.create_task(work())
        await started(runs)
        for _ in range(10):
            await asyncio.sleep(0)
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
        with pytest.raises(forkless.BrokenPool):
            await calls[0]

    asyncio.run(main())


def test_use_after_the_end() -> None:
    async def main() -> None:
        async with aio.Pool(1) as pool:
            results = pool.map(jobs.double, range(50), buffersize=2)
            assert await anext(results) == 0
        with pytest.raises(RuntimeError, match="closed and accepts no more"):
            await pool.run(jobs.add, 1)
        with pytest.raises(RuntimeError, match="closed and accepts no more"):
            pool.map(jobs.double, [1])
        with pytest.raises(RuntimeError, match="closed and accepts no more"):
            await pool.__aenter__()
        assert [await anext(results), await anext(results)] == [2, 4], "accepted before"
        with pytest.raises(RuntimeError, match="after shutdown"):
            await anext(results)

    asyncio.run(main())


def test_another_loop_or_none() -> None:
    pool = aio.Pool(1)

    async def use() -> int:
        return await pool.run(jobs.add, 1, 2)

    async def end() -> None:
        with pytest.raises(RuntimeError, match="belongs to another event loop"):
            pool.map(jobs.add, [1])
        with pytest.raises(RuntimeError, match="belongs to another event loop"):
            await pool.close()

    assert asyncio.run(use()) == 3
    asyncio.run(end())
    with pytest.raises(RuntimeError, match="running event loop"):
        pool.map(jobs.add, [1])
    with pytest.raises(NotImplementedError):
        pickle.dumps(pool)
    assert repr(pool) == "<forkless.aio.Pool state=RUN max_workers=1>"
    pool._executor.shutdown()


def test_trio_is_told_what_to_do() -> None:
    trio = pytest.importorskip("trio")

    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"this is trio: use `forkless\.Executor`"):
            await aio.Pool(1).run(jobs.add, 1)

    trio.run(main)


def test_a_loop_that_ends_before_its_calls() -> None:
    source = """
import asyncio, forkless
from forkless import aio
async def main():
    pool = aio.Pool(1)
    calls = [asyncio.create_task(pool.run(go.wait, 60)) for _ in range(3)]
    results = pool.map(abs, numbers())
    await asyncio.sleep(0.05)
    return pool, results
async def numbers():
    for number in range(10):
        yield number
go = forkless.Event()
pool, results = asyncio.run(main(), debug=True)
go.set()
pool._executor.shutdown()
del results
print("over")
"""
    outcome = run_program(source)
    assert outcome.check() == "over\n"
    assert outcome.stderr == ""


@pytest.mark.parametrize("wait", ["pool.run(hang)", "collect(pool.map(hang, range(9)))", "asyncio.sleep(60)"])
def test_interrupt(wait: str) -> None:
    source = f"""
import asyncio, forkless, signal
from forkless import aio
def hang(*_):
    runs.set()
    signal.pause()
async def collect(results):
    return [result async for result in results]
async def main():
    async with aio.Pool(2) as pool:
        first = asyncio.create_task(pool.run(hang))
        while not runs.is_set():
            await asyncio.sleep(0.01)
        print("ready", flush=True)
        await {wait}
runs = forkless.Event()
try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted")
"""
    with Program(source) as program:
        program.wait_for("ready")
        program.interrupt()
        outcome = program.finish()
    assert outcome.check() == "ready\ninterrupted\n"


def test_it_is_loaded_when_it_is_named() -> None:
    source = """
import sys, forkless
assert "asyncio" not in sys.modules
print(forkless.aio.Pool.__module__, "aio" in dir(forkless), "aio" in forkless.__all__)
"""
    assert run_program(source).check() == "forkless.aio True False\n"


def test_statistics() -> None:
    aio.Pool(1).statistics()


def test_the_waiting_is_over_when_results_are_dropped() -> None:
    """A flow is held by its futures, and must not hold what the user holds."""

    async def main() -> None:
        go = forkless.Event()
        async with aio.Pool(1) as pool:
            results = pool.map(jobs.wait_for, [go] * 9)
            dropped = weakref.ref(results)
            del results
            assert eventually(lambda: dropped() is None, 0)
            go.set()

    asyncio.run(main())


def test_a_stream(drive: Runner) -> None:
    async def main() -> None:
        async with aio.Pool(1) as pool:
            assert [item async for item in pool.stream(range, 50)] == list(range(50))
            numbers = pool.stream(jobs.count_down, 3)
            assert [await numbers.__anext__() for _ in range(3)] == [3, 2, 1]
            with pytest.raises(ZeroDivisionError):
                await numbers.__anext__()
            stream = pool.stream(jobs.count_for_ever)
            assert await stream.__anext__() == 0
            await stream.aclose()
            # Its worker is free again.
            assert await asyncio.wait_for(pool.run(jobs.double, 21), PATIENCE) == 42

    drive(main())
