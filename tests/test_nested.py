"""Pools and executors in their own tasks, and in other processes: nobody waits for ever."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import os
import pickle
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import forkless
import jobs
import pytest
from forkless.exceptions import BrokenPool, WorkerDied
from support import PATIENCE, PROGRAM_PATIENCE, Outcome, eventually

# Several say how a task ends by itself, and are not to have its worker killed instead.
pytestmark = pytest.mark.usefixtures("unhurried")

Executor = forkless.Executor


@pytest.fixture(params=["forkserver", "spawn"])
def context(request: pytest.FixtureRequest) -> Any:
    return forkless.get_context(request.param)


@pytest.fixture
def executor() -> Iterator[Executor]:
    with Executor(2) as executor:
        yield executor


@pytest.fixture
def single() -> Iterator[Executor]:
    """No two tasks run at a time."""
    with Executor(1) as executor:
        yield executor


# What it is for.


@pytest.mark.parametrize("workers", [1, 2])
def test_a_tree_of_tasks_deeper_than_there_are_workers(context: Any, workers: int) -> None:
    with Executor(workers, context) as executor:
        assert executor.submit(jobs.fibonacci, executor, 7).result(PROGRAM_PATIENCE) == 13


def test_a_function_of_main_that_refers_to_its_executor(run_program: Callable[..., Outcome]) -> None:
    ended = run_program(OF_MAIN)
    assert ended.check() == "21\n[1, 2, 3]\n"


OF_MAIN = """
import forkless

with forkless.Executor(2) as ex:
    def tree(n):
        return n if n < 2 else sum(f.result() for f in [ex.submit(tree, n - 1), ex.submit(tree, n - 2)])
    print(ex.submit(tree, 8).result())
with forkless.Pool(1) as pool:
    print(pool.apply(lambda: pool.map(lambda n: pool.apply(lambda: n + 1), range(3))))
"""


def test_a_chain_of_fifty(single: Executor) -> None:
    assert single.submit(jobs.chain, single, 50).result(PROGRAM_PATIENCE) == 50
    # Those that are too many end.
    assert eventually(lambda: len(single._processes) == 1)
    assert single.submit(jobs.chain, single, 3).result(PATIENCE) == 3


def test_a_closure(executor: Executor) -> None:
    seen = [3]

    def inner(n: int) -> int:
        return n + seen[0]

    def outer(n: int) -> list[int]:
        return [future.result() for future in [executor.submit(inner, k) for k in range(n)]]

    assert executor.submit(outer, 3).result(PATIENCE) == [3, 4, 5]


def test_maps_within_maps(context: Any) -> None:
    with forkless.Pool(2, context=context) as pool:

        def row(n: int) -> list[int]:
            return pool.map(jobs.double, range(n), chunksize=1)

        assert pool.map(row, range(4)) == [[], [0], [0, 2], [0, 2, 4]]
        assert pool.map(lambda n: pool.map(jobs.double, range(n)), range(4)) == pool.map(row, range(4))


def test_all_that_a_pool_can_do() -> None:
    with forkless.Pool(1) as pool:

        def everything() -> list[Any]:
            return [
                pool.apply(jobs.add, (1,), {"right": 2}),
                pool.apply_async(jobs.add, (1, 2)).get(PATIENCE),
                pool.map(jobs.double, range(5), chunksize=2),
                pool.starmap(jobs.add, [(1, 2), (3, 4)], chunksize=1),
                pool.starmap(jobs.add, [(1, 2), (3, 4)], chunksize=2),
                list(pool.imap(jobs.double, range(50))),
                sorted(pool.imap_unordered(jobs.double, range(50), chunksize=7)),
                list(pool.stream(range, (3,))),
                pool.map(jobs.double, []),
            ]

        doubled = [2 * n for n in range(50)]
        wanted = [3, 3, doubled[:5], [3, 7], [3, 7], doubled, doubled, [0, 1, 2], []]
        assert pool.apply_async(everything).get(PATIENCE) == wanted


def test_all_that_an_executor_can_do(single: Executor) -> None:
    def everything() -> list[Any]:
        calls = single.options(timeout=60, retries=2, name="inner")
        return [
            list(single.map(jobs.add, range(3), range(3))),
            list(single.map(jobs.double, range(7), chunksize=3, buffersize=1)),
            list(single.stream(range, 3)),
            calls.submit(jobs.add, 1, 2).result(PATIENCE),
            list(calls.options(retries=0).map(jobs.double, range(3))),
        ]

    wanted = [[0, 2, 4], [2 * n for n in range(7)], [0, 1, 2], 3, [0, 2, 4]]
    assert single.submit(everything).result(PATIENCE) == wanted


def test_futures_are_told_of(single: Executor) -> None:
    def told() -> list[Any]:
        seen: list[int] = []
        futures = [single.submit(jobs.double, n) for n in range(3)]
        futures[0].add_done_callback(lambda future: seen.append(future.result()))
        done, _ = concurrent.futures.wait(futures, timeout=PATIENCE)
        more = [single.submit(jobs.double, n) for n in range(3)]
        completed = sorted(
            future.result() for future in concurrent.futures.as_completed(more, timeout=PATIENCE)
        )

        async def waits() -> list[int]:
            loop = asyncio.get_running_loop()
            asked = [loop.run_in_executor(single, jobs.double, n) for n in range(3)]
            return list(await asyncio.gather(*asked))

        kinds = {type(future) for future in futures}
        return [len(done), completed, seen, asyncio.run(waits()), kinds]

    assert single.submit(told).result(PATIENCE) == [3, [0, 2, 4], [0], [0, 2, 4], {forkless.executor.Future}]
    # The thread that has received them is gone.
    assert eventually(lambda: single.submit(threading.active_count).result(PATIENCE) == 1)


def test_callbacks_of_a_pool() -> None:
    with forkless.Pool(1) as pool:

        def told() -> list[Any]:
            seen: list[Any] = []
            event = threading.Event()

            def last(values: list[int]) -> None:
                seen.append(values)
                event.set()

            result = pool.apply_async(jobs.double, (1,), callback=seen.append)
            pool.map_async(jobs.double, range(3), callback=last)
            assert event.wait(PATIENCE)
            assert result.get(PATIENCE) == 2
            return sorted(seen, key=str)

        assert pool.apply_async(told).get(PATIENCE) == [2, [0, 2, 4]]


def test_polling(single: Executor) -> None:
    def polls() -> int:
        future = single.submit(jobs.add, 4, 4)
        while not future.done():
            time.sleep(0.001)
        return future.result(0)

    assert single.submit(polls).result(PATIENCE) == 8


def test_polling_of_a_pool() -> None:
    with forkless.Pool(1) as pool:

        def polls() -> list[Any]:
            one, several = pool.apply_async(jobs.double, (1,)), pool.map_async(jobs.double, range(3))
            while not (several.ready() and one.ready()):
                time.sleep(0.001)
            return [one.get(0), several.get(0)]

        assert pool.apply_async(polls).get(PATIENCE) == [2, [0, 2, 4]]


def test_several_threads_of_a_task(single: Executor) -> None:
    def in_threads() -> list[int]:
        with concurrent.futures.ThreadPoolExecutor(4) as threads:
            asked = [threads.submit(chain_of, single, n % 3) for n in range(40)]
            return [one.result(PATIENCE) for one in asked]

    assert single.submit(in_threads).result(PATIENCE) == [n % 3 for n in range(40)]


def chain_of(executor: Executor, n: int) -> int:
    return executor.submit(jobs.chain, executor, n).result(PATIENCE)


# How many run.


def test_no_more_tasks_run_than_there_are_workers(executor: Executor) -> None:
    running = forkless.Value("i", 0)
    most = forkless.Value("i", 0)

    def leaf() -> None:
        with running.get_lock():
            running.value += 1
            most.value = max(most.value, running.value)
        time.sleep(0.002)
        with running.get_lock():
            running.value -= 1

    def branch(depth: int) -> None:
        below = [executor.submit(branch, depth - 1) if depth else executor.submit(leaf) for _ in range(3)]
        for future in below:
            future.result(PATIENCE)

    for future in [executor.submit(branch, 2) for _ in range(4)]:
        future.result(PATIENCE)
    assert 1 <= most.value <= 2


def test_what_was_begun_is_finished_first(single: Executor) -> None:
    order: Any = forkless.Queue()

    def outer(n: int) -> None:
        for future in [single.submit(order.put, (n, k)) for k in range(3)]:
            future.result(PATIENCE)

    for future in [single.submit(outer, n) for n in range(5)]:
        future.result(PATIENCE)
    assert [order.get(timeout=PATIENCE) for _ in range(15)] == [(n, k) for n in range(5) for k in range(3)]
    assert len(single._processes) <= 2, "one that waits and one that works; who is too many may have ended"


def test_sub_tasks_have_the_priority_of_their_task(single: Executor) -> None:
    order: Any = forkless.Queue()
    go = forkless.Event()

    def outer(name: str) -> None:
        go.wait(PATIENCE)
        single.submit(order.put, name + " inner").result(PATIENCE)

    urgent = single.options(priority=5).submit(outer, "urgent")
    others = [single.options(priority=3).submit(order.put, "other") for _ in range(3)]
    go.set()
    for future in [urgent, *others]:
        future.result(PATIENCE)
    assert order.get(timeout=PATIENCE) == "urgent inner"


def test_a_limit_is_an_error_and_no_hang(single: Executor) -> None:
    error = single.submit(jobs.chain, single, 500).exception(PROGRAM_PATIENCE)
    assert isinstance(error, RuntimeError)
    assert "66 deep" in str(error)
    assert "places for 66" in str(error)
    assert single.submit(jobs.chain, single, 2).result(PATIENCE) == 2


def test_pools_of_tasks_that_use_the_outer_one(single: Executor) -> None:
    def outer() -> int:
        with Executor(1) as inner:
            return inner.submit(jobs.chain, single, 3).result(PATIENCE)

    assert single.submit(outer).result(PATIENCE) == 3


def test_pools_of_tasks_share_the_budget(executor: Executor) -> None:
    def outer() -> list[int]:
        with Executor() as inner:
            return [inner._max_workers, *inner.map(jobs.double, range(3))]

    assert executor.submit(outer).result(PATIENCE) == [1, 0, 2, 4]


# What goes wrong.


def test_an_exception_comes_through_every_level(executor: Executor) -> None:
    class Odd(Exception):
        pass

    def fail(n: int) -> None:
        if n == 0:
            raise Odd("bottom", n)
        executor.submit(fail, n - 1).result()

    error = executor.submit(fail, 3).exception(PATIENCE)
    assert isinstance(error, Odd)
    assert error.args == ("bottom", 0)

    def caught() -> str:
        try:
            executor.submit(fail, 0).result()
        except Odd as error:
            return f"caught {error.args}"
        return "nothing"

    assert executor.submit(caught).result(PATIENCE) == "caught ('bottom', 0)"


def test_what_cannot_be_pickled(executor: Executor) -> None:
    def tries() -> list[str]:
        futures = [executor.submit(jobs.double, threading.Lock()), executor.submit(jobs.return_unpicklable)]
        return [type(future.exception(PATIENCE)).__name__ for future in futures]

    assert executor.submit(tries).result(PATIENCE) == ["PicklingError", "PicklingError"]


def test_the_death_of_an_inner_task_is_an_error_of_the_outer_one(executor: Executor) -> None:
    def outer() -> tuple[str, bool]:
        error = executor.submit(jobs.die).exception(PATIENCE)
        return str(error), isinstance(error, WorkerDied)

    text, died = executor.submit(outer).result(PATIENCE)
    assert died
    assert "die" in text
    assert "SIGKILL" in text


def test_the_death_of_an_outer_task_ends_the_inner_one(single: Executor) -> None:
    pids: Any = forkless.Queue()
    never = forkless.Event()

    def inner() -> None:
        pids.put(os.getpid())
        never.wait()

    def outer() -> None:
        pids.put(os.getpid())
        single.submit(inner).result()

    future = single.submit(outer)
    first, _ = pids.get(timeout=PATIENCE), pids.get(timeout=PATIENCE)
    os.kill(first, signal.SIGKILL)
    assert isinstance(future.exception(PATIENCE), WorkerDied)
    # The inner one does not hold its worker, nor is it counted.
    assert eventually(lambda: single.statistics().sent == 0)
    assert single.submit(jobs.add, 1, 2).result(PATIENCE) == 3


def test_the_time_limit_of_an_outer_task_ends_the_inner_one(single: Executor) -> None:
    started, ended, never = forkless.Event(), forkless.Event(), forkless.Event()

    def inner() -> None:
        try:
            started.set()
            never.wait()
        finally:
            ended.set()

    def outer() -> None:
        single.submit(inner).result()

    future = single.options(timeout=1).submit(outer)
    error = future.exception(PATIENCE)
    assert isinstance(error, forkless.TimeoutError)
    if started.is_set():
        assert ended.wait(PATIENCE)
    assert eventually(lambda: single.statistics().sent == 0)
    assert single.submit(jobs.chain, single, 3).result(PATIENCE) == 3


def test_the_time_limit_of_an_inner_task(single: Executor) -> None:
    never = forkless.Event()

    def outer() -> str:
        try:
            single.options(timeout=0.2, name="slow").submit(never.wait).result()
        except forkless.TimeoutError as error:
            return str(error)
        return ""

    assert "slow took longer than its time limit of 0.2 s" in single.submit(outer).result(PATIENCE)


def test_retries_of_an_inner_task(single: Executor) -> None:
    attempts = forkless.Value("i", 0)

    class Flaky(Exception):
        pass

    def flaky(data: bytes) -> int:
        with attempts.get_lock():
            attempts.value += 1
            if attempts.value % 3:
                raise Flaky
        return len(data)

    def outer() -> list[Any]:
        calls = single.options(retries=forkless.Retry(5, delay=0.01, on=(Flaky,)))
        small, large = calls.submit(flaky, b"1").result(), calls.submit(flaky, bytes(100_000)).result()
        never = single.options(retries=forkless.Retry(1, delay=0.01)).submit(jobs.refuse, "x").exception()
        return [small, large, type(never)]

    assert single.submit(outer).result(PATIENCE) == [1, 100_000, ValueError]
    assert attempts.value == 6


def test_retries_upon_an_error_that_the_owner_cannot_import(single: Executor, tmp_path: Path) -> None:
    (tmp_path / "only_in_the_worker.py").write_text("class Odd(Exception): pass")

    def outer() -> str:
        import sys

        sys.path.insert(0, str(tmp_path))
        import only_in_the_worker  # type: ignore[import-not-found]

        retry = forkless.Retry(1, on=only_in_the_worker.Odd)
        return repr(single.options(retries=retry).submit(jobs.add, 1, 2).exception(PATIENCE))

    assert "only_in_the_worker" in single.submit(outer).result(PATIENCE)
    assert single.submit(jobs.add, 1, 2).result(PATIENCE) == 3


def test_workers_that_do_one_task_each() -> None:
    with Executor(2, max_tasks_per_child=1) as executor:
        assert executor.submit(jobs.fibonacci, executor, 5).result(PATIENCE) == 5


def test_what_was_left_alone_outlives_its_worker() -> None:
    done: Any = forkless.Queue()
    go = forkless.Event()

    def later(n: int) -> None:
        go.wait(PATIENCE)
        done.put(n)

    with Executor(1, max_tasks_per_child=1) as executor:

        def outer() -> int:
            list(map(executor.submit, [later] * 3, range(3)))
            return os.getpid()

        pid = executor.submit(outer).result(PATIENCE)
        assert eventually(lambda: pid not in executor._processes)
        go.set()
    assert [done.get(timeout=PATIENCE) for _ in range(3)] == [0, 1, 2]


def test_cancelling_an_inner_task(single: Executor) -> None:
    started, ended, never = forkless.Event(), forkless.Event(), forkless.Event()

    def inner() -> None:
        try:
            started.set()
            never.wait()
        finally:
            ended.set()

    def outer() -> list[bool]:
        first, second = single.submit(inner), single.submit(inner)
        concurrent.futures.wait([first], timeout=0.01)
        third = single.submit(jobs.double, 1)
        cancelled = [second.cancel(), second.cancelled()]
        first.add_done_callback(lambda future: None)  # Counts as a wait.
        assert started.wait(PATIENCE), first
        cancelled += [first.cancel(), first.cancelled()]
        return [*cancelled, third.result(PATIENCE) == 2]

    assert single.submit(outer).result(PATIENCE) == [True] * 5
    assert ended.wait(PATIENCE)


def test_cancelling_an_outer_task(single: Executor) -> None:
    started, ended, never = forkless.Event(), forkless.Event(), forkless.Event()

    def inner() -> None:
        try:
            started.set()
            never.wait()
        finally:
            ended.set()

    future = single.submit(lambda: single.submit(lambda: single.submit(inner).result()).result())
    assert started.wait(PATIENCE), future
    assert future.cancel()
    assert ended.wait(PATIENCE)
    assert single.submit(jobs.add, 1, 2).result(PATIENCE) == 3


def test_results_that_nobody_takes(single: Executor) -> None:
    def outer() -> None:
        for _ in range(100):
            single.submit(jobs.double, bytes(1_000_000))

    single.submit(outer).result(PATIENCE)
    assert eventually(lambda: single.statistics().waiting == 0 == single.statistics().sent)
    assert single.submit(jobs.add, 1, 2).result(PATIENCE) == 3


def test_a_loop_over_results_that_ends_early(single: Executor) -> None:
    def outer() -> int:
        for result in single.map(jobs.add, range(1, 200), range(1, 200)):
            return result
        return 0

    assert single.submit(outer).result(PATIENCE) == 2
    assert single.submit(jobs.add, 1, 2).result(PATIENCE) == 3


# Ends.


def test_shutting_down_waits_for_tasks_within_tasks() -> None:
    with Executor(1) as executor:
        future = executor.submit(jobs.fibonacci, executor, 5)
    assert future.result(0) == 5


def test_closing_a_pool_waits_for_tasks_within_tasks() -> None:
    pool = forkless.Pool(1)
    result = pool.apply_async(jobs.fibonacci_of_pool, (pool, 5))
    pool.close()
    pool.join()
    assert result.get(0) == 5


def test_terminating_a_pool_with_tasks_that_wait() -> None:
    started, never = forkless.Event(), forkless.Event()
    pool = forkless.Pool(1)

    def inner() -> None:
        started.set()
        never.wait()

    result = pool.apply_async(lambda: pool.apply(inner))
    assert started.wait(PATIENCE)
    pool.terminate()
    pool.join()
    with pytest.raises(BrokenPool):
        result.get(PATIENCE)


def test_only_the_owner_ends_a_pool(executor: Executor) -> None:
    def tries() -> list[str]:
        found = []
        for action in (executor.shutdown, executor.terminate_workers, executor.statistics):
            with pytest.raises(RuntimeError) as caught:
                action()
            found.append(str(caught.value))
        return found

    texts = executor.submit(tries).result(PATIENCE)
    assert all(f"belongs to process {os.getpid()}" in text for text in texts)


# Other processes.


def ask(executor: Executor, answers: Any) -> None:
    try:
        answers.put(executor.submit(jobs.add, 1, 2).result(PATIENCE))
    except BaseException as error:
        answers.put(repr(error))


def test_a_plain_process(context: Any) -> None:
    answers = context.Queue()
    with Executor(1) as executor:
        # Before the executor has had any task.
        process = context.Process(target=ask, args=(executor, answers))
        process.start()
        assert answers.get(timeout=PATIENCE) == 3
        process.join()


def test_an_executor_comes_home_as_itself(executor: Executor) -> None:
    assert executor.submit(lambda: executor).result(PATIENCE) is executor
    queue: Any = forkless.Queue()
    queue.put(executor)
    assert queue.get(timeout=PATIENCE) is executor
    assert repr(executor.submit(lambda: repr(executor)).result(PATIENCE)) == repr(repr(executor))


def test_an_executor_goes_from_hand_to_hand(executor: Executor) -> None:
    def outer() -> int:
        answers: Any = forkless.Queue()
        process = forkless.Process(target=ask, args=(executor, answers))
        process.start()
        process.join()  # This is no wait for a task: one worker less.
        return int(answers.get(timeout=PATIENCE))

    assert executor.submit(outer).result(PATIENCE) == 3


def test_a_subclass_and_its_attributes() -> None:
    class Named(Executor):
        name = "none"

        def twice(self, n: int) -> int:
            return self.submit(jobs.add, n, n).result(PATIENCE)

    with Named(1) as executor:
        executor.name = "mine"
        assert executor.submit(lambda: (executor.name, executor.twice(2), type(executor).__name__)).result(
            PATIENCE
        ) == ("mine", 4, "Named")


def test_bound_methods_and_calls_with_options(single: Executor) -> None:
    submit, calls = single.submit, single.options(name="other", timeout=PATIENCE)
    assert single.submit(lambda: submit(jobs.double, 2).result(PATIENCE)).result(PATIENCE) == 4
    assert single.submit(lambda: calls.submit(jobs.double, 2).result(PATIENCE)).result(PATIENCE) == 4


def test_when_the_executor_was_shut_down_a_process_is_told() -> None:
    answers: Any = forkless.Queue()
    go = forkless.Event()

    def late(executor: Executor) -> None:
        go.wait(PATIENCE)
        ask(executor, answers)

    with Executor(1) as executor:
        process = forkless.Process(target=late, args=(executor,))
        process.start()
        executor.submit(jobs.add, 1).result(PATIENCE)
    go.set()
    assert "BrokenPool" in answers.get(timeout=PATIENCE)
    process.join()


def test_when_the_owner_dies_who_waits_is_told() -> None:
    links: Any = forkless.Queue()
    never = forkless.Event()

    def own() -> None:
        with Executor(1) as executor:
            links.put(executor)
            never.wait()

    owner = forkless.Process(target=own)
    owner.start()
    executor = links.get(timeout=PATIENCE)
    future, watched = executor.submit(never.wait), executor.submit(never.wait)
    told = threading.Event()
    watched.add_done_callback(lambda future: told.set())
    assert executor.submit(jobs.add, 1, 2).cancel()
    assert owner.pid is not None
    os.kill(owner.pid, signal.SIGKILL)
    assert isinstance(future.exception(PATIENCE), BrokenPool)
    assert told.wait(PATIENCE)
    with pytest.raises(BrokenPool, match=f"process {owner.pid}"):
        executor.submit(jobs.add, 1, 2)
    owner.join()


def test_when_a_process_that_asked_dies_its_tasks_end(single: Executor) -> None:
    started, ended, never = forkless.Event(), forkless.Event(), forkless.Event()

    def inner() -> None:
        try:
            started.set()
            never.wait()
        finally:
            ended.set()

    process = forkless.Process(target=lambda: single.submit(inner).result())
    process.start()
    assert started.wait(PATIENCE), process
    process.kill()
    process.join()
    assert ended.wait(PATIENCE)
    assert single.submit(jobs.add, 1, 2).result(PATIENCE) == 3


def test_a_copy_made_by_a_fork(single: Executor) -> None:
    def forks() -> int:
        single.submit(jobs.add, 1).result(PATIENCE)
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(write, b"%d" % single.submit(jobs.add, 1, 2).result(PATIENCE))
            os._exit(0)
        # The copy is a process of its own: it is no task, and needs this worker's place.
        concurrent.futures.wait([single.submit(jobs.add, 1)], timeout=PATIENCE)
        os.waitpid(pid, 0)
        return int(os.read(read, 10))

    with Executor(2) as single:
        assert single.submit(forks).result(PATIENCE) == 3


def test_others_do_not_pickle_it(executor: Executor) -> None:
    with pytest.raises(TypeError, match="by others than forkless"):
        pickle.dumps(executor)
    with forkless.Pool(1) as pool, pytest.raises(NotImplementedError, match="by others than forkless"):
        pickle.dumps(pool)


def test_what_does_not_belong_here_says_so(run_program: Callable[..., Outcome]) -> None:
    assert "belongs to a process tree that this process is not part of" in run_program(STRANGER).check()


STRANGER = """
import subprocess, sys
import forkless
from forkless import _pickling

with forkless.Executor(1) as executor:
    pickled, _ = _pickling.dumps(executor)
    load = [sys.executable, "-c", "import pickle, sys; pickle.loads(sys.stdin.buffer.read())"]
    environ = {"PYTHONPATH": ":".join(sys.path)}
    print(subprocess.run(load, input=pickled, stderr=subprocess.PIPE, env=environ).stderr.decode())
"""


# Data.


def test_large_arrays_travel_both_ways(single: Executor) -> None:
    numpy = pytest.importorskip("numpy")

    def outer(n: int) -> float:
        array = numpy.arange(float(n))
        shared = forkless.share(array)
        result = single.submit(lambda a, b: a + b, array, shared).result(PATIENCE)
        result[0] = 5
        return float(result.sum())

    assert single.submit(outer, 1_000_000).result(PATIENCE) == 999_999_000_000 + 5


def test_shared_objects_travel(single: Executor) -> None:
    def outer() -> str:
        queue: Any = forkless.Queue()
        single.submit(queue.put, "x" * 100_000).result(PATIENCE)
        back = single.submit(lambda: queue).result(PATIENCE)
        return str(back.get(timeout=PATIENCE))

    assert single.submit(outer).result(PATIENCE) == "x" * 100_000


# At random.


@pytest.mark.parametrize("seed", range(3))
def test_random_trees(seed: int) -> None:
    with Executor(2) as executor:

        def grow(seed: int, depth: int) -> int:
            chance = random.Random(seed)
            if depth == 0:
                return 1
            seeds = [chance.randrange(10**9) for _ in range(chance.randrange(4))]
            futures: list[Any] = [executor.submit(grow, seed, depth - 1) for seed in seeds]
            if chance.random() < 0.3:
                futures = list(concurrent.futures.as_completed(futures))
            return 1 + int(sum(future.result() for future in futures))

        def count(seed: int, depth: int) -> int:
            chance = random.Random(seed)
            if depth == 0:
                return 1
            return 1 + sum(
                count(seed, depth - 1)
                for seed in [chance.randrange(10**9) for _ in range(chance.randrange(4))]
            )

        futures = {n: executor.submit(grow, seed * 100 + n, 5) for n in range(10)}
        for n, future in futures.items():
            assert future.result(PROGRAM_PATIENCE) == count(seed * 100 + n, 5)


def test_random_deaths() -> None:
    chance = random.Random(1)

    with Executor(2) as executor:

        def grow(depth: int) -> int:
            futures = [executor.submit(grow, depth - 1) for _ in range(2)] if depth else []
            return 1 + sum(0 if future.exception() else future.result() for future in futures)

        futures = [executor.submit(grow, 4) for _ in range(6)]
        while not all(future.done() for future in futures):
            # Not those that are about to start: too many such deaths in a row are an error of their own.
            with suppress(ProcessLookupError, IndexError):
                at_work = [worker.pid for worker in executor.statistics().workers if worker.task]
                os.kill(chance.choice(at_work), signal.SIGKILL)
            concurrent.futures.wait(futures, timeout=0.05)
        for future in futures:
            error = future.exception(PATIENCE)
            assert error is None or isinstance(error, WorkerDied)
        assert executor.submit(grow, 2).result(PATIENCE) == 7


def test_nothing_is_left_of_many_requests(single: Executor) -> None:
    def memory(n: int) -> int:
        for _ in range(n):
            list(single.map(jobs.double, [bytes(50_000)] * 20))
        gc.collect()
        return forkless._forkless.census()[1]

    first = single.submit(memory, 1).result(PATIENCE)
    assert single.submit(memory, 10).result(PATIENCE) <= first + 20
