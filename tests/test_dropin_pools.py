"""Pools and executors beside those of the standard library: the same test bodies run against both.

Where the two differ on purpose, a test says how and why: those at the end, `test_differs_...`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import concurrent.futures.process
import gc
import inspect
import logging
import multiprocessing
import multiprocessing.pool
import operator
import os
import pickle
import sys
import threading
import time
from collections.abc import Collection, Iterator
from types import ModuleType
from typing import Any, NamedTuple

import forkless
import forkless.executor
import forkless.pool
import jobs
import pytest
from support import PATIENCE, eventually, run_program

pytestmark = [
    # What the standard library does here; it is not what is tested.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

FIRST_COMPLETED, FIRST_EXCEPTION = concurrent.futures.FIRST_COMPLETED, concurrent.futures.FIRST_EXCEPTION


class Side(NamedTuple):
    """One of the two."""

    context: Any
    pool: ModuleType
    executor: Any
    future: Any

    @property
    def ours(self) -> bool:
        return self is OURS

    def start_pool(self, processes: int = 1, **options: Any) -> Any:
        return self.context.Pool(processes, **options)

    def start_executor(self, max_workers: int | None = 1, **options: Any) -> Any:
        return self.executor(max_workers, **{"mp_context": self.context, **options})


THEIRS = Side(
    # It needs none of the helpers that the standard library starts otherwise, and keeps.
    multiprocessing.get_context("fork"),
    multiprocessing.pool,
    concurrent.futures.ProcessPoolExecutor,
    concurrent.futures.Future,
)
OURS = Side(forkless.get_context("forkserver"), forkless.pool, forkless.Executor, forkless.executor.Future)


@pytest.fixture(autouse=True)
def no_garbage(request: pytest.FixtureRequest) -> Iterator[None]:
    """What is left of theirs, which nobody can close, is gone before anybody looks for leaks."""
    yield
    request.node.funcargs.clear()
    gc.collect()


@pytest.fixture(params=[THEIRS, OURS], ids=["standard", "forkless"])
def side(request: pytest.FixtureRequest) -> Side:
    found: Side = request.param
    return found


@pytest.fixture
def pool(side: Side) -> Iterator[Any]:
    pool = side.start_pool()
    yield pool
    pool.terminate()
    pool.join()


@pytest.fixture
def executor(side: Side) -> Iterator[Any]:
    with side.start_executor() as executor:
        yield executor


@pytest.fixture
def go(side: Side) -> Any:
    """Tasks `jobs.wait_for_kept` wait for it, in a pool or executor that has `keeps(go)`."""
    return side.context.Event()


def keeps(go: Any) -> dict[str, Any]:
    return {"initializer": jobs.keep, "initargs": (go,)}


# --- signatures ---


class Twins(NamedTuple):
    """A class of the standard library and ours."""

    theirs: Any
    ours: Any
    added: Collection[str] = ()  # public attributes that only ours has
    left_out: Collection[str] = ()  # that only theirs has


_FUTURE = {"cancelled", "done", "set_exception", "set_result"}
TWINS = {
    "Pool": Twins(
        multiprocessing.pool.Pool,
        forkless.Pool,
        {"insights", "resize", "statistics", "stream"},
    ),
    "Executor": Twins(
        concurrent.futures.ProcessPoolExecutor,
        forkless.Executor,
        # The last two are there from 3.14 on.
        {"insights", "options", "share", "statistics", "stream", "kill_workers", "terminate_workers"},
    ),
    "Future": Twins(concurrent.futures.Future, forkless.executor.Future, {"give_up"}),
    "AsyncResult": Twins(multiprocessing.pool.AsyncResult, forkless.pool.AsyncResult, _FUTURE),
    "MapResult": Twins(
        multiprocessing.pool.MapResult, forkless.pool.MapResult, {*_FUTURE, "gather", "show", "total"}
    ),
    "IMapIterator": Twins(multiprocessing.pool.IMapIterator, forkless.pool.IMapIterator),
    "IMapUnorderedIterator": Twins(
        multiprocessing.pool.IMapUnorderedIterator, forkless.pool.IMapUnorderedIterator
    ),
}
CONTEXTS = Twins(type(THEIRS.context), type(OURS.context))

# Parameters that only ours have; all of them go by keyword.
_TASK = {"options"}
_WORKERS = {"exit", "worker_state", "env", "cpus", "threads"}
_WORKERS |= {"max_memory_per_child", "idle_timeout", "output"}
ADDED = {
    "Pool": _WORKERS,
    "Pool.apply": _TASK,
    "Pool.apply_async": _TASK,
    "Pool.map": {*_TASK, "progress"},
    "Pool.map_async": _TASK,
    "Pool.starmap": {*_TASK, "progress"},
    "Pool.starmap_async": _TASK,
    "Pool.imap": {*_TASK, "progress", "buffersize"},
    "Pool.imap_unordered": {*_TASK, "progress", "buffersize"},
    "Executor": {*_WORKERS, "connect_timeout"},
    "context.Pool": _TASK,
}
# The same, which newer versions of the standard library have as well.
NEWER = {"Executor": {"max_tasks_per_child"}, "Executor.map": {"buffersize"}}  # 3.11, 3.14


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


METHODS = ["Pool", "Executor", "context.Pool"]
METHODS += [f"{name}.{method}" for name in TWINS for method in sorted(public(TWINS[name].theirs))]


@pytest.mark.parametrize("name", TWINS)
def test_public_names(name: str) -> None:
    theirs, ours, added, left_out = TWINS[name]
    assert public(ours) - public(theirs) <= set(added)
    assert public(theirs) - public(ours) == set(left_out)


def parameters_of(function: Any, of_class: bool) -> list[inspect.Parameter]:
    """Without annotations, and without `self`, which goes by position alone where it is not Python."""
    given = inspect.signature(function).parameters.values()
    found = [each.replace(annotation=inspect.Parameter.empty) for each in given]
    return found if of_class else found[1:]


@pytest.mark.parametrize("name", METHODS)
def test_signatures(name: str) -> None:
    kind, _, method = name.partition(".")
    theirs, ours, _, left_out = CONTEXTS if kind == "context" else TWINS[kind]
    if method in left_out:
        pytest.skip("not there")
    if method:
        theirs, ours = getattr(theirs, method), getattr(ours, method)
    expected, found = (parameters_of(each, of_class=not method) for each in (theirs, ours))
    names = {each.name for each in expected}
    assert [each for each in found if each.name in names] == expected, "names, order, kinds and defaults"
    added = [each for each in found if each.name not in names]
    assert {each.name for each in added} - NEWER.get(name, set()) == ADDED.get(name, set())
    assert all(each.kind in (each.KEYWORD_ONLY, each.VAR_KEYWORD) for each in added)


def test_names_of_the_module_of_pools(side: Side) -> None:
    names = "Pool ThreadPool ApplyResult AsyncResult MapResult IMapIterator MaybeEncodingError TimeoutError"
    for name in names.split():
        assert isinstance(getattr(side.pool, name), type)
    assert (side.pool.RUN, side.pool.CLOSE, side.pool.TERMINATE) == ("RUN", "CLOSE", "TERMINATE")
    with pytest.raises(AttributeError, match="Puul"):
        _ = side.pool.Puul


def test_a_pool_of_threads(side: Side) -> None:
    with side.pool.ThreadPool(2) as pool:
        assert pool.map(jobs.double, range(5)) == [0, 2, 4, 6, 8]
        assert pool.apply(jobs.pid) == os.getpid()


# --- Pool: arguments ---


def test_pools_that_cannot_be(side: Side) -> None:
    for size in (0, -1):
        with pytest.raises(ValueError, match="Number of processes must be at least 1"):
            side.start_pool(size)
    with pytest.raises(TypeError):
        side.start_pool("two")  # type: ignore[arg-type]
    for limit in (0, -1, 1.5, "1"):
        with pytest.raises(ValueError, match="maxtasksperchild must be a positive int or None"):
            side.start_pool(maxtasksperchild=limit)
    with pytest.raises(TypeError, match="initializer must be a callable"):
        side.start_pool(initializer=3)


def test_calls_of_every_kind(pool: Any) -> None:
    assert pool.apply(jobs.add, (1,), {"right": 2}) == 3
    assert pool.apply(dict, [], {"func": 1, "self": 2}) == {"func": 1, "self": 2}
    assert pool.apply(jobs.double, "a") == "aa"  # any iterable
    assert pool.map(jobs.double, (n for n in range(3))) == [0, 2, 4]
    assert sorted(pool.map(jobs.double, {1: None, 2: None})) == [2, 4]
    assert pool.map(jobs.double, "ab", 1) == ["aa", "bb"]
    assert pool.map(jobs.double, []) == []
    assert pool.starmap(jobs.add, [[1, 2], (3,)]) == [3, 3]
    assert pool.starmap_async(jobs.add, [(1, 2)], 1).get(PATIENCE) == [3]
    assert list(pool.imap(jobs.double, range(5), 2)) == [0, 2, 4, 6, 8]
    assert sorted(pool.imap_unordered(jobs.double, range(5), chunksize=2)) == [0, 2, 4, 6, 8]


def test_tasks_that_cannot_be(pool: Any) -> None:
    for call in (
        lambda: pool.apply(3),
        lambda: pool.apply(jobs.double, 3),
        lambda: pool.apply(dict, (), None),
        lambda: pool.apply(dict, (), {1: 2}),
        lambda: pool.map(jobs.double, 3),
        lambda: list(pool.imap(jobs.double, 3)),
        lambda: pool.starmap(jobs.double, [1]),
    ):
        with pytest.raises(TypeError):
            call()
    for size in (0, -1):
        with pytest.raises(ValueError, match=rf"Chunksize must be 1\+, not {size}"):
            pool.imap(jobs.double, [1], size)
        with pytest.raises(ValueError, match=rf"Chunksize must be 1\+, not {size}"):
            pool.imap_unordered(jobs.double, [1], size)


def test_what_does_not_pickle(pool: Any, side: Side) -> None:
    with pytest.raises(RuntimeError, match="not this one"):
        pool.map(jobs.double, [jobs.Refuses()])
    with pytest.raises(TypeError, match="lock"):
        pool.apply(jobs.double, (threading.Lock(),))
    with pytest.raises(side.pool.MaybeEncodingError) as caught:
        pool.apply(threading.Lock)
    assert "lock" in caught.value.value
    assert "cannot pickle" in caught.value.exc
    assert pool.apply(jobs.add, (1, 2)) == 3


def test_the_initializer_and_the_limit_of_tasks(side: Side) -> None:
    with side.start_pool(1, initializer=jobs.initialize, initargs=["ready"], maxtasksperchild=2) as pool:
        assert pool.apply(jobs.what_was_initialized) == ["ready"]
        pids = [pool.apply(jobs.pid) for _ in range(4)]
    assert len(set(pids)) == 3


# --- Pool: results ---


def test_a_result_that_is_not_there(side: Side, go: Any) -> None:
    with side.start_pool(**keeps(go)) as pool:
        result = pool.apply_async(jobs.wait_for_kept, (1,))
        assert not result.ready()
        with pytest.raises(ValueError, match="not ready"):
            result.successful()
        assert result.wait(0.01) is None
        for timeout in (0, -1, 0.01):
            with pytest.raises(multiprocessing.TimeoutError):
                result.get(timeout)
        with pytest.raises(multiprocessing.TimeoutError):
            pool.imap(jobs.wait_for_kept, [1]).next(timeout=0.01)
        with pytest.raises(TypeError):
            result.get("soon")
        go.set()
        assert result.get(timeout=PATIENCE) == 1
        assert result.wait() is None
        assert result.ready()
        assert result.successful()


def test_a_result_that_is_an_error(pool: Any) -> None:
    result = pool.apply_async(jobs.refuse, ("luck",))
    for _ in range(2):
        with pytest.raises(ValueError, match="no luck"):
            result.get(PATIENCE)
    assert result.ready()
    assert not result.successful()
    with pytest.raises(ValueError, match="three"):
        pool.map(jobs.refuse_three, range(6), 1)
    results = pool.imap(jobs.refuse_three, range(2, 5))
    assert next(results) == 2
    with pytest.raises(ValueError, match="three"):
        next(results)
    assert next(results) == 4


def test_the_end_of_an_imap(pool: Any) -> None:
    for results in (pool.imap(jobs.double, [1]), pool.imap_unordered(jobs.double, [1])):
        assert iter(results) is results
        assert results.next() == 2
        for _ in range(2):
            with pytest.raises(StopIteration):
                results.next(PATIENCE)


def test_callbacks_come_before_the_result_is_ready(pool: Any) -> None:
    seen: list[Any] = []

    def slow(value: Any) -> None:
        time.sleep(0.05)  # so that a wait that ends too early would be seen
        seen.append((value, threading.current_thread() is threading.main_thread()))

    pool.apply_async(jobs.add, (1, 2), {}, slow).wait(PATIENCE)
    assert seen.pop() == (3, False)
    pool.map_async(jobs.double, [1, 2], 1, slow, slow).wait(PATIENCE)
    assert seen.pop() == ([2, 4], False)
    pool.apply_async(jobs.refuse, ("luck",), callback=seen.append, error_callback=slow).wait(PATIENCE)
    assert isinstance(seen.pop()[0], ValueError)
    pool.starmap_async(jobs.refuse, [("luck",)], error_callback=slow).wait(PATIENCE)
    assert isinstance(seen.pop()[0], ValueError)
    assert seen == []


# --- Pool: life ---


def test_states(side: Side) -> None:
    pool = side.start_pool(2)
    assert (pool._state, pool._processes, len(pool._pool)) == (side.pool.RUN, 2, 2)
    assert pool._pool[0].is_alive()
    assert repr(pool).endswith("pool.Pool state=RUN pool_size=2>")
    with pytest.raises(ValueError, match="Pool is still running"):
        pool.join()
    for _ in range(2):
        pool.close()
        assert pool._state == side.pool.CLOSE
    assert "state=CLOSE" in repr(pool)
    for call in (pool.join, pool.join, pool.terminate, pool.terminate, pool.join, pool.close):
        call()
        assert "state=" in repr(pool)
    assert pool._state == side.pool.TERMINATE


def test_what_is_not_done_can_be_counted(side: Side, go: Any) -> None:
    with side.start_pool(**keeps(go)) as pool:
        assert not pool._cache
        results = [pool.apply_async(jobs.wait_for_kept) for _ in range(3)]
        assert len(pool._cache) == 3
        go.set()
        for result in results:
            result.wait(PATIENCE)
        assert eventually(lambda: not pool._cache)


def test_a_closed_pool(side: Side) -> None:
    pool = side.start_pool()
    result = pool.map_async(jobs.double, range(10), 1)
    pool.close()
    for method, arguments in (
        (pool.apply, (abs, (1,))),
        (pool.apply_async, (abs, (1,))),
        (pool.map, (abs, [1])),
        (pool.map, (abs, [])),
        (pool.map_async, (abs, [1])),
        (pool.starmap, (abs, [(1,)])),
        (pool.starmap_async, (abs, [(1,)])),
        (pool.imap, (abs, [1])),
        (pool.imap_unordered, (abs, [1])),
        (pool.__enter__, ()),
    ):
        with pytest.raises(ValueError, match="Pool not running"):
            method(*arguments)
    pool.join()
    assert result.get(0) == list(range(0, 20, 2))


def test_the_end_of_a_with_block_terminates(side: Side) -> None:
    with side.start_pool() as pool:
        workers = list(pool._pool)
    assert pool._state == side.pool.TERMINATE
    pool.join()
    assert not any(worker.is_alive() for worker in workers)


def test_a_pool_that_is_dropped_warns(side: Side) -> None:
    pool = side.start_pool()
    workers = list(pool._pool)
    with pytest.warns(ResourceWarning, match="unclosed running multiprocessing pool"):
        del pool
    # Theirs would not end by itself, as long as nobody collects garbage.
    for worker in workers:
        worker.terminate()
        worker.join()


def test_neither_pools_nor_executors_travel(pool: Any, executor: Any) -> None:
    with pytest.raises(NotImplementedError, match="pool objects cannot be passed"):
        pickle.dumps(pool)
    future = executor.submit(abs, 1)
    for each in (executor, future):
        with pytest.raises(TypeError, match=r"pickle|send what its result\(\) returns"):
            pickle.dumps(each)
    assert future.result(PATIENCE) == 1


def test_daemons_of_ones_own(side: Side) -> None:
    """A recipe that many have copied: workers that may have children."""

    class Worker(side.context.Process):  # type: ignore[misc,name-defined]
        @property
        def daemon(self) -> bool:
            return False

        @daemon.setter
        def daemon(self, value: bool) -> None:
            pass

    class Context(type(side.context)):  # type: ignore[misc]
        Process = Worker

    if not side.ours:
        pytest.skip("its processes cannot be local classes; what matters is that ours can be")
    with side.pool.Pool(1, context=Context()) as pool:
        assert isinstance(pool._pool[0], Worker)
        assert pool.apply(jobs.double, (2,)) == 4


# --- Executor: arguments ---


def test_executors_that_cannot_be(side: Side) -> None:
    for size in (0, -1):
        with pytest.raises(ValueError, match="max_workers must be greater than 0"):
            side.start_executor(size)
    # Ours takes a string for the address of a cluster.
    with pytest.raises(ValueError if side.ours else TypeError):
        side.start_executor("two")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="initializer must be a callable"):
        side.start_executor(initializer=3)
    if not side.ours and sys.version_info < (3, 11):
        return
    with pytest.raises(ValueError, match="max_tasks_per_child must be >= 1"):
        side.start_executor(max_tasks_per_child=0)
    with pytest.raises(TypeError, match="max_tasks_per_child must be an integer"):
        side.start_executor(max_tasks_per_child=1.5)


def test_an_executor_of_many_workers(side: Side) -> None:
    with side.start_executor(62) as executor:  # more than Windows allows
        assert executor._max_workers == 62
        assert executor.submit(abs, -1).result(PATIENCE) == 1
    with side.start_executor(None) as executor:
        assert executor._max_workers >= 1


def test_attributes_of_an_executor(side: Side, go: Any) -> None:
    with side.start_executor(2, **keeps(go)) as executor:
        assert (executor._max_workers, executor._mp_context) == (2, side.context)
        assert (executor._processes, executor._pending_work_items) == ({}, {})
        assert (executor._broken, executor._shutdown_thread) == (False, False)
        futures = [executor.submit(jobs.wait_for_kept) for _ in range(9)]
        found = [item.future for item in executor._pending_work_items.values()]
        assert sorted(map(id, found)) == sorted(map(id, futures))
        del found
        assert eventually(lambda: len(executor._processes) == 2)
        assert all(pid == process.pid for pid, process in executor._processes.items())
        go.set()
        concurrent.futures.wait(futures, PATIENCE)
        assert eventually(lambda: not executor._pending_work_items)
    assert executor._shutdown_thread


def test_submitting(executor: Any) -> None:
    assert executor.submit(dict, fn=1, self=2).result(PATIENCE) == {"fn": 1, "self": 2}
    for keywords in ({}, {"fn": abs}):
        with pytest.raises(TypeError, match="fn"):
            executor.submit(**keywords)
    assert isinstance(executor.submit(1).exception(PATIENCE), TypeError)
    assert isinstance(executor.submit(jobs.double, jobs.Refuses()).exception(PATIENCE), RuntimeError)
    assert isinstance(executor.submit(jobs.double, threading.Lock()).exception(PATIENCE), TypeError)
    assert isinstance(executor.submit(threading.Lock).exception(PATIENCE), TypeError)


def test_mapping(executor: Any) -> None:
    assert list(executor.map(pow, range(5), range(9), chunksize=2)) == [n**n for n in range(5)]
    assert list(executor.map(jobs.double)) == []
    for size in (0, -1):
        with pytest.raises(ValueError, match="chunksize must be >= 1"):
            executor.map(jobs.double, [1], chunksize=size)
    for keywords in ({"chunksize": "2"}, {"timeout": "2"}):
        with pytest.raises(TypeError):
            list(executor.map(jobs.double, [1], **keywords))
    with pytest.raises(TypeError, match=r"not iterable|must support iteration"):
        executor.map(jobs.double, 3)
    results = executor.map(jobs.refuse_three, range(2, 5))
    assert next(results) == 2
    with pytest.raises(ValueError, match="three"):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


def test_a_map_that_takes_too_long(side: Side, go: Any) -> None:
    with side.start_executor(**keeps(go)) as executor:
        for timeout in (0, -1, 0.01):
            with pytest.raises(concurrent.futures.TimeoutError):
                list(executor.map(jobs.wait_for_kept, [1], timeout=timeout))
        go.set()


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_the_limit_of_tasks_of_an_executor(side: Side, method: str) -> None:
    if not side.ours and sys.version_info < (3, 11):
        pytest.skip("new in Python 3.11")
    context = side.context.get_context(method)
    with side.start_executor(mp_context=context, max_tasks_per_child=2) as executor:
        pids = [executor.submit(jobs.pid).result(PATIENCE) for _ in range(5)]
    assert len(set(pids)) == 3


# --- Executor: futures ---


def test_states_of_a_future(side: Side, go: Any) -> None:
    with side.start_executor(**keeps(go)) as executor:
        futures = [executor.submit(jobs.wait_for_kept, number) for number in range(9)]
        first, last = futures[0], futures[-1]
        assert isinstance(first, concurrent.futures.Future)
        assert eventually(first.running)
        assert (first._state, first.done(), first.cancelled()) == ("RUNNING", False, False)
        assert "state=running" in repr(first)
        assert (last.running(), last.done(), last._state) == (False, False, "PENDING")
        assert (last.cancel(), last.cancel()) == (True, True)
        assert (last.cancelled(), last.done(), last.running()) == (True, True, False)
        assert "state=cancelled" in repr(last)
        for method in (last.result, last.exception):
            with pytest.raises(concurrent.futures.CancelledError):
                method(0)
        for timeout in (0, -1, 0.01):
            for method in (first.result, first.exception):
                with pytest.raises(concurrent.futures.TimeoutError):
                    method(timeout)
        go.set()
        assert first.result(timeout=PATIENCE) == 0
        assert first.exception(timeout=0) is None
        assert (first.cancel(), first.cancelled(), first.running()) == (False, False, False)
        assert first.done()
        assert "state=finished returned int" in repr(first)


def test_a_future_that_is_done_stays_as_it_is(executor: Any, caplog: pytest.LogCaptureFixture) -> None:
    future = executor.submit(jobs.refuse, "luck")
    assert isinstance(future.exception(PATIENCE), ValueError)
    with pytest.raises(ValueError, match="no luck"):
        future.result()
    assert "state=finished raised ValueError" in repr(future)
    with pytest.raises(concurrent.futures.InvalidStateError):
        future.set_result(1)
    with pytest.raises(concurrent.futures.InvalidStateError):
        future.set_exception(KeyError())
    with pytest.raises(RuntimeError, match="Future in unexpected state"):
        future.set_running_or_notify_cancel()
    assert "in unexpected state: FINISHED" in caplog.text


def test_a_future_without_an_executor(side: Side) -> None:
    future = side.future()
    assert future.set_running_or_notify_cancel()
    assert (future.running(), future.cancel()) == (True, False)
    future.set_result(1)
    assert future.result() == 1
    future = side.future()
    assert future.cancel()
    assert (future._state, future.set_running_or_notify_cancel()) == ("CANCELLED", False)
    assert future._state == "CANCELLED_AND_NOTIFIED"
    assert side.future[int]


def test_callbacks_of_a_future(side: Side, go: Any, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Any] = []
    with side.start_executor(**keeps(go)) as executor:
        future = executor.submit(jobs.wait_for_kept)
        for callback in (lambda _: seen.append(1), lambda _: 1 / 0, lambda _: seen.append(2), seen.append):
            future.add_done_callback(callback)
        go.set()
        assert eventually(lambda: len(seen) == 3)
        assert seen == [1, 2, future]
        future.add_done_callback(lambda _: seen.append(threading.current_thread()))
        assert seen.pop() is threading.current_thread(), "it is done, so at once and here"
        future.add_done_callback(lambda _: operator.getitem({}, "missing"))
    record, second = (each for each in caplog.records if each.name == "concurrent.futures")
    for each, error in ((record, ZeroDivisionError), (second, KeyError)):
        assert each.getMessage().startswith("exception calling callback for <Future at")
        assert each.levelno == logging.ERROR
        assert each.exc_info is not None
        assert each.exc_info[0] is error
    # They hold frames, and those the pipes of an executor.
    del record, second, each
    caplog.clear()


def test_waiting_for_futures(side: Side, go: Any) -> None:
    with side.start_executor(**keeps(go)) as executor:
        done, error = executor.submit(abs, 1), executor.submit(jobs.refuse, "luck")
        blocked = [executor.submit(jobs.wait_for_kept) for _ in range(5)]
        assert concurrent.futures.wait([done, *blocked], PATIENCE, FIRST_COMPLETED) == ({done}, set(blocked))
        assert concurrent.futures.wait([error, *blocked], PATIENCE, FIRST_EXCEPTION) == (
            {error},
            set(blocked),
        )
        assert concurrent.futures.wait(blocked, timeout=0) == (set(), set(blocked))
        completed = concurrent.futures.as_completed([done, done, error, *blocked], timeout=0.05)
        assert {next(completed), next(completed)} == {done, error}
        with pytest.raises(concurrent.futures.TimeoutError, match=r"5 \(of 7\) futures unfinished"):
            next(completed)
        blocked[-1].cancel()
        go.set()
        assert set(concurrent.futures.as_completed([done, *blocked], timeout=PATIENCE)) == {done, *blocked}
        assert concurrent.futures.wait(blocked) == (set(blocked), set())


def test_futures_in_an_event_loop(side: Side, go: Any) -> None:
    async def main(executor: Any) -> None:
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(executor, jobs.double, 2) == 4
        assert await asyncio.wrap_future(executor.submit(jobs.double, 3)) == 6
        with pytest.raises(ValueError, match="no luck"):
            await loop.run_in_executor(executor, jobs.refuse, "luck")
        waiting = [loop.run_in_executor(executor, jobs.wait_for_kept) for _ in range(9)]
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(waiting[-1], 0.01)
        futures = [executor.submit(jobs.wait_for_kept) for _ in range(3)]
        assert asyncio.wrap_future(futures[-1]).cancel()
        await asyncio.sleep(0)
        assert futures[-1].cancelled()
        go.set()
        await asyncio.gather(*waiting[:-1])

    with side.start_executor(**keeps(go)) as executor:
        asyncio.run(main(executor))


# --- Executor: life ---


def test_shutting_down(side: Side) -> None:
    with side.start_executor() as executor:
        future = executor.submit(jobs.double, 1)
        future.add_done_callback(lambda _: executor.shutdown(wait=False))
        assert future.result(PATIENCE) == 2
        executor.shutdown()
        for call in (executor.submit, executor.map):
            with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
                call(abs, [1])
        for keywords in ({}, {"wait": False}, {"wait": True, "cancel_futures": True}):
            executor.shutdown(**keywords)
        assert executor.__enter__() is executor


def test_shutting_down_without_waiting(side: Side, go: Any) -> None:
    executor = side.start_executor(**keeps(go))
    # Theirs must have its worker before.
    assert executor.submit(abs, 1).result(PATIENCE) == 1
    futures = [executor.submit(jobs.wait_for_kept, number) for number in range(5)]
    executor.shutdown(wait=False)
    assert not futures[0].done()
    go.set()
    assert [future.result(PATIENCE) for future in futures] == list(range(5))


def test_shutting_down_and_cancelling(side: Side, go: Any) -> None:
    executor = side.start_executor(**keeps(go))
    futures = [executor.submit(jobs.wait_for_kept) for _ in range(20)]
    assert eventually(futures[0].running)
    executor.shutdown(wait=False, cancel_futures=True)
    assert eventually(futures[-1].cancelled)
    go.set()
    # Not `wait`, which with theirs is not told of those that were cancelled.
    assert eventually(lambda: all(future.done() for future in futures))
    cancelled = [future.cancelled() for future in futures]
    assert cancelled == sorted(cancelled)
    assert not cancelled[0]


def test_an_initializer_that_fails(side: Side) -> None:
    with side.start_executor(initializer=jobs.refuse, initargs=("luck",)) as executor:
        with pytest.raises(concurrent.futures.process.BrokenProcessPool):
            executor.submit(abs, 1).result(PATIENCE)
        assert eventually(lambda: bool(executor._broken))
        for call in (executor.submit, executor.map):
            with pytest.raises(concurrent.futures.BrokenExecutor):
                call(abs, [1])


@pytest.mark.parametrize("name", ["terminate_workers", "kill_workers"])
def test_ending_the_workers(side: Side, go: Any, name: str) -> None:
    if not hasattr(side.executor, name):
        pytest.skip("new in Python 3.14")
    with side.start_executor(2, **keeps(go)) as executor:
        futures = [executor.submit(jobs.wait_for_kept) for _ in range(2)]
        assert eventually(lambda: len(executor._processes) == 2)
        workers = list(executor._processes.values())
        getattr(executor, name)()
        for future in futures:
            with pytest.raises(concurrent.futures.process.BrokenProcessPool):
                future.result(PATIENCE)
        with pytest.raises(RuntimeError):
            executor.submit(abs, 1)
        getattr(executor, name)()
    assert not any(worker.is_alive() for worker in workers)


@pytest.mark.parametrize("name", ["terminate_workers", "kill_workers"])
def test_the_exit_after_the_end_of_the_workers(name: str) -> None:
    source = f"""
import forkless, time
executor, started = forkless.Executor(2), forkless.Event()
def task():
    started.set()
    time.sleep(600)
futures = [executor.submit(task) for _ in range(6)]
started.wait()
executor.{name}()
"""
    outcome = run_program(source, python=(sys.executable, "-X", "dev"))
    assert (outcome.check(), outcome.stderr) == ("", "")


PRELUDE = {
    "standard": "from concurrent.futures import ProcessPoolExecutor as Executor",
    "forkless": "from forkless import Executor",
}


@pytest.mark.parametrize("prelude", PRELUDE.values(), ids=PRELUDE.keys())
def test_the_exit_of_the_interpreter(prelude: str) -> None:
    source = """
import atexit, time
@atexit.register  # before that of the executor, and so called after it
def late():
    print(sum(future.done() for future in futures))
    try:
        executor.submit(abs, 1)
    except RuntimeError as error:
        print(error)
{prelude}
if __name__ == "__main__":
    executor = Executor(2)
    futures = [executor.submit(time.sleep, 0.01) for _ in range(20)]
"""
    outcome = run_program(source.format(prelude=prelude))
    assert outcome.check().startswith("20\ncannot schedule new futures after ")
    assert outcome.stderr == ""


# --- differences ---


def test_differs_a_chunk_size_below_one_in_map() -> None:
    """Theirs returns a list of None, or hangs if the size is no integer."""
    with forkless.Pool(1) as pool:
        for size in (0, -1, 1.5):
            with pytest.raises(ValueError, match=r"Chunksize|islice"):
                pool.map(jobs.double, [1, 2], size)  # type: ignore[arg-type]


def test_differs_the_callback_of_an_empty_map(pool: Any, side: Side) -> None:
    """Theirs is never called, so whoever waits for it waits for ever."""
    seen: list[Any] = []
    result = pool.map_async(jobs.double, [], callback=seen.append)
    assert (result.ready(), result.get()) == (True, [])
    assert seen == ([[]] if side.ours else [])


def test_differs_what_travels(pool: Any, side: Side) -> None:
    """Lambdas and what else cannot be imported travel by value."""
    if side.ours:
        assert pool.map(lambda value: value + 1, [1]) == [2]
    else:
        with pytest.raises((AttributeError, pickle.PicklingError)):
            pool.map(lambda value: value + 1, [1])


def test_differs_a_callback_that_raises(capfd: pytest.CaptureFixture[str]) -> None:
    """Theirs ends the thread that handles results: nothing is done any more."""

    def fail(_: object) -> None:
        raise KeyError("callback")

    with forkless.Pool(1) as pool:
        assert pool.apply_async(abs, (-1,), callback=fail).get(PATIENCE) == 1
        assert pool.apply(abs, (-2,)) == 2
    assert "KeyError: 'callback'" in capfd.readouterr().err


def test_differs_a_callback_that_asks_for_its_result() -> None:
    """Theirs waits for ever: the result is ready when the callback has returned."""
    seen: list[int] = []
    with forkless.Pool(1) as pool:
        go = forkless.Event()
        result: Any = pool.apply_async(jobs.wait_for, (go, 1), callback=lambda _: seen.append(result.get()))
        go.set()
        assert result.get(PATIENCE) == 1
        assert seen == [1]


def test_differs_cancelling_what_runs(side: Side, go: Any) -> None:
    """Ours ends the task, and its worker if need be; theirs says no."""
    with side.start_executor(**keeps(go)) as executor:
        future = executor.submit(jobs.wait_for_kept)
        assert eventually(future.running)
        assert future.cancel() is side.ours
        go.set()
        assert executor.submit(abs, -1).result(PATIENCE) == 1


def test_differs_the_state_of_what_was_cancelled(side: Side, go: Any) -> None:
    """With ours, who waits for it is told at once; with theirs when its turn has come."""
    with side.start_executor(**keeps(go)) as executor:
        futures = [executor.submit(jobs.wait_for_kept) for _ in range(9)]
        assert futures[-1].cancel()
        assert futures[-1]._state == ("CANCELLED_AND_NOTIFIED" if side.ours else "CANCELLED")
        done, _ = concurrent.futures.wait(futures, 0)
        assert done == ({futures[-1]} if side.ours else set())
        go.set()


def test_differs_the_workers_after_a_shutdown(side: Side) -> None:
    """Theirs has no workers to ask for then: `executor._processes.values()` is an error."""
    with side.start_executor() as executor:
        executor.submit(abs, 1).result(PATIENCE)
    assert executor._processes == ({} if side.ours else None)


def test_differs_what_waits_when_workers_die(side: Side, go: Any) -> None:
    """Theirs is broken by one death; ours loses the task that ran there."""
    with side.start_executor(1, **keeps(go)) as executor:
        future = executor.submit(os._exit, 3)
        with pytest.raises(concurrent.futures.process.BrokenProcessPool):
            future.result(PATIENCE)
        if side.ours:
            assert executor.submit(abs, -1).result(PATIENCE) == 1
        else:
            with pytest.raises(concurrent.futures.process.BrokenProcessPool):
                executor.submit(abs, -1)


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_differs_contexts_of_the_standard_library(method: str) -> None:
    """Their processes are none of ours, and a name is no context for either."""
    replacement = "forkserver" if method == "fork" else method
    for context in (multiprocessing.get_context(method), method):
        match = rf"must be a context of forkless, .*forkless.get_context\('{replacement}'\)"
        with pytest.raises(TypeError, match=f"^mp_context {match}"):
            forkless.Executor(1, mp_context=context)  # type: ignore[call-overload]
        with pytest.raises(TypeError, match=f"^context {match}"):
            forkless.Pool(1, context=context)  # type: ignore[arg-type]


def test_differs_buffersize() -> None:
    """New in Python 3.14, and then the same."""
    with forkless.Executor(1) as executor:
        assert list(executor.map(jobs.double, range(5), buffersize=2)) == [0, 2, 4, 6, 8]
        with pytest.raises(TypeError, match=r"^buffersize must be an integer or None$"):
            executor.map(jobs.double, [1], buffersize=1.5)  # type: ignore[arg-type]
        for size in (0, -1):
            with pytest.raises(ValueError, match=r"^buffersize must be None or > 0$"):
                executor.map(jobs.double, [1], buffersize=size)


def test_differs_accepted_work_is_done_after_a_shutdown_without_waiting() -> None:
    """Theirs may hang at the exit (CPython issue 83386)."""
    source = """
import forkless, os
executor = forkless.Executor(2)
for number in range(5):
    executor.submit(os.write, 1, b"%d\\n" % number)
executor.shutdown(wait=False)
"""
    outcome = run_program(source)
    assert sorted(outcome.check().split()) == ["0", "1", "2", "3", "4"]
    assert outcome.stderr == ""
