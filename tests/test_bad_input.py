"""What cannot be sent, counts that are none, calls at the wrong time, results that nobody wants, masses.

A clear error or correct work: never a hang, and nothing that stays.
"""

from __future__ import annotations

import functools
import gc
import itertools
import os
import pickle
import re
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

import forkless
import hostile
import jobs
import pytest
from forkless import _forkless
from support import PATIENCE, PROGRAM_PATIENCE, eventually, run_program, started

LOCK = r"cannot pickle '_thread\.lock' object; forkless\.Lock\(\) can be sent to any process at any time"


def lock_in_global() -> Any:
    return a_lock


a_lock = threading.Lock()
# As if it were of `__main__`: it travels by value, and takes its globals along.
unsendable = FunctionType(lock_in_global.__code__, {"__name__": "__main__", "a_lock": a_lock})
unsendable.__module__, unsendable.__qualname__ = "__main__", "unsendable"

Calls = dict[str, Callable[[Any, Any], Any]]


def calls(pool: forkless.Pool, executor: forkless.Executor) -> Calls:
    """Every way to have a function called with an argument, behind good ones where there are several."""
    options = executor.options(retries=1)
    return {
        "apply": lambda function, value: pool.apply(function, (value,)),
        "apply_async": lambda function, value: pool.apply_async(function, (value,)).get(PATIENCE),
        "retries": lambda function, value: pool.apply(function, (value,), retries=1),
        "map": lambda function, value: pool.map(function, [1, value]),
        "map in chunks": lambda function, value: pool.map(function, [1, 1, value], 2),
        "map one by one": lambda function, value: pool.map(function, [1, value], 1),
        "starmap": lambda function, value: pool.starmap(function, [(1,), (value,)]),
        "imap": lambda function, value: list(pool.imap(function, [1, value])),
        "imap in chunks": lambda function, value: list(pool.imap(function, [1, 1, 1, value], 3)),
        "imap_unordered": lambda function, value: list(pool.imap_unordered(function, [1, value])),
        "stream": lambda function, value: list(pool.stream(function, (value,))),
        "submit": lambda function, value: executor.submit(function, value).result(PATIENCE),
        "submit with retries": lambda function, value: options.submit(function, value).result(PATIENCE),
        "Executor.map": lambda function, value: list(executor.map(function, [1, value])),
        "Executor.map in chunks": lambda function, value: list(
            executor.map(function, [1, value], chunksize=2)
        ),
        "Executor.stream": lambda function, value: list(executor.stream(function, value)),
    }


NAMES = list(calls(None, forkless.Executor(1)))  # type: ignore[arg-type]
# Where the bad argument is, in the words of each of them.
PLACES = {
    "map": r"item 1",
    "map in chunks": r"item 2",
    "map one by one": r"item 1",
    "starmap": r"item 1\[0\]",
    "imap": r"item 1",
    "imap in chunks": r"item 3",
    "imap_unordered": r"item 1",
    "Executor.map in chunks": r"args\[1\]\[0\]",
}


@pytest.fixture(scope="module")
def both(started: None) -> Any:
    with forkless.Pool(1) as pool, forkless.Executor(1) as executor:
        # Now, so that no test is the one that has started its worker.
        assert executor.submit(abs, -1).result(PATIENCE) == 1
        yield calls(pool, executor)
        assert pool.apply(abs, (-1,)) == executor.submit(abs, -1).result(PATIENCE) == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_function_that_cannot_be_sent(both: Calls, name: str) -> None:
    with pytest.raises(
        TypeError, match=rf"function.* -> the global 'a_lock': {LOCK} \(in a call of unsendable\)"
    ) as caught:
        both[name](unsendable, 1)
    assert isinstance(caught.value, pickle.PicklingError)


@pytest.mark.parametrize("name", NAMES)
def test_an_argument_that_cannot_be_sent(both: Calls, name: str) -> None:
    place = PLACES.get(name, r"args\[0\]")
    with pytest.raises(TypeError, match=rf"^{place}\['a'\]: {LOCK} \(in a call of jobs\.double\)") as caught:
        both[name](jobs.double, {"a": threading.Lock()})
    assert isinstance(caught.value, pickle.PicklingError)


def test_a_keyword_argument_that_cannot_be_sent() -> None:
    message = rf"^kwargs\['right'\]: {LOCK} \(in a call of jobs\.add\)"
    with forkless.Executor(1) as executor, pytest.raises(TypeError, match=message):
        executor.submit(jobs.add, 1, right=threading.Lock()).result(PATIENCE)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [name for name in NAMES if "stream" not in name])
def test_a_result_that_cannot_be_sent(both: Calls, name: str) -> None:
    with pytest.raises(
        TypeError,
        match=rf"the result.*\['lock'\]: {LOCK} \(in a call of hostile\.return_unpicklable\)",
    ) as caught:
        both[name](hostile.return_unpicklable, 1)
    assert isinstance(caught.value, pickle.PicklingError)


@pytest.mark.parametrize("name", NAMES)
def test_an_exception_that_cannot_be_sent(both: Calls, name: str) -> None:
    with pytest.raises(forkless.RemoteError, match=r"^hostile\.Holds\(<unlocked .* was raised in .*lock"):
        both[name](hostile.raise_unpicklable, 1)


# --- counts ---


@pytest.mark.parametrize("kind", ["Pool", "Executor"])
@pytest.mark.parametrize(
    ("count", "error", "message"),
    [
        (0, ValueError, "at least 1|greater than 0"),
        (-1, ValueError, "at least 1|greater than 0"),
        (1.5, TypeError, "must be an int, not 1.5"),
        ("2", (TypeError, ValueError), "must be an int, not '2'|'2' names no backend"),
        (10**9, ValueError, "1000000000 workers"),
    ],
)
def test_counts_of_workers_that_are_none(kind: str, count: Any, error: Any, message: str) -> None:
    before = started()
    with pytest.raises(error, match=message):
        getattr(forkless, kind)(count)
    assert started() == before


# --- after the end ---

POOL_CALLS: dict[str, Callable[[forkless.Pool], Any]] = {
    "apply": lambda pool: pool.apply(abs, (1,)),
    "apply_async": lambda pool: pool.apply_async(abs, (1,)),
    "map": lambda pool: pool.map(abs, [1]),
    "map of nothing": lambda pool: pool.map(abs, []),
    "map_async": lambda pool: pool.map_async(abs, [1]),
    "starmap": lambda pool: pool.starmap(abs, [(1,)]),
    "starmap_async": lambda pool: pool.starmap_async(abs, [(1,)]),
    "imap": lambda pool: pool.imap(abs, [1]),
    "imap_unordered": lambda pool: pool.imap_unordered(abs, [1]),
    "stream": lambda pool: pool.stream(range, (1,)),
    "with": lambda pool: pool.__enter__(),
}
EXECUTOR_CALLS: dict[str, Callable[[forkless.Executor], Any]] = {
    "submit": lambda executor: executor.submit(abs, 1),
    "submit with options": lambda executor: executor.options(timeout=1).submit(abs, 1),
    "map": lambda executor: executor.map(abs, [1]),
    "map of nothing": lambda executor: executor.map(abs, []),
    "map in chunks": lambda executor: executor.map(abs, [1], chunksize=2),
    "stream": lambda executor: executor.stream(range, 1),
}


@pytest.mark.parametrize("end", ["close", "terminate"])
def test_a_pool_after_its_end(end: str) -> None:
    pool = forkless.Pool(1)
    getattr(pool, end)()
    for joined in (False, True):
        for call in POOL_CALLS.values():
            with pytest.raises(ValueError, match=r"^Pool not running$"):
                call(pool)
        if not joined:
            pool.join()


@pytest.mark.parametrize("end", ["shutdown", "kill_workers", "terminate_workers"])
@pytest.mark.parametrize("used", [False, True])
def test_an_executor_after_its_end(end: str, used: bool) -> None:
    executor = forkless.Executor(1)
    if used:
        assert executor.submit(abs, -1).result(PATIENCE) == 1
    getattr(executor, end)()
    for call in EXECUTOR_CALLS.values():
        with pytest.raises(RuntimeError, match=r"^cannot schedule new futures after shutdown$"):
            call(executor)
    executor.shutdown()


@pytest.mark.parametrize("kind", ["Pool", "Executor"])
def test_submitting_while_another_thread_ends_it(kind: str) -> None:
    """What was accepted gets an outcome, whatever the moment."""
    for _ in range(20):
        pool: Any = getattr(forkless, kind)(1)
        submit = pool.apply_async if kind == "Pool" else pool.submit
        accepted: list[Any] = []
        begun = threading.Event()

        def submit_many(submit: Any = submit, accepted: Any = accepted, begun: Any = begun) -> None:
            while True:
                try:
                    accepted.append(submit(abs, (-1,)) if kind == "Pool" else submit(abs, -1))
                except (ValueError, RuntimeError):
                    return
                if len(accepted) == 50:
                    begun.set()

        thread = threading.Thread(target=submit_many)
        thread.start()
        assert begun.wait(PATIENCE)
        pool.close() if kind == "Pool" else pool.shutdown(wait=False)
        thread.join()
        assert {each.get(PATIENCE) if kind == "Pool" else each.result(PATIENCE) for each in accepted} == {1}
        pool.join() if kind == "Pool" else pool.shutdown()


# --- from everywhere ---

FROM_EVERYWHERE = """
import collections, gc, itertools, signal, sys, time, weakref
import forkless
kind, rounds = sys.argv[1], int(sys.argv[2])
pool = getattr(forkless, kind)(2)
counts, wanted = collections.Counter(), []
numbers = itertools.count(1)
depth = 0

def submit(function, number):
    future = pool.apply_async(function, (number,)) if kind == "Pool" else pool.submit(function, number)
    wanted.append((future, abs(number)))
    return future

def outcome(future):
    return future.get(60) if kind == "Pool" else future.result(60)

def interrupt(what):
    global depth
    counts[what] += 1
    # What interrupts is interrupted in turn, but not for ever.
    if depth > 3:
        return
    depth += 1
    try:
        number = next(numbers)
        choice = number % 6
        if choice == 0:
            submit(lambda value: abs(value), -number)
        elif choice == 1:
            pool.map(abs, [-1, -2]) if kind == "Executor" else pool.map_async(abs, [-1, -2])
        elif choice == 2 and kind == "Pool":
            pool.imap_unordered(abs, [-1, -2])
        elif choice == 2:
            pool.submit(abs, -number).cancel()
        elif choice == 3:
            pool.statistics(), repr(pool)
        else:
            submit(abs, -number)
    finally:
        depth -= 1

class Cycle:
    def __init__(self):
        self.me = self

class Loud(Cycle):
    def __del__(self):
        interrupt("del")

references = collections.deque(maxlen=1000)
signal.signal(signal.SIGALRM, lambda *_: interrupt("signal"))
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
threshold = gc.get_threshold()
gc.set_threshold(20)
for number in itertools.count():
    if number >= rounds and all(counts[what] > 100 for what in ("del", "weakref", "signal", "callback")):
        break
    Loud()
    references.append(weakref.ref(Cycle(), lambda _: interrupt("weakref")))
    future = submit(abs, -next(numbers))
    if kind == "Executor":
        future.add_done_callback(lambda _: interrupt("callback"))
    elif number % 3 == 0:
        pool.apply_async(abs, (-1,), callback=lambda _: interrupt("callback"))
    if number % 5 == 0:
        assert outcome(future) == wanted[-1][1] or future is not wanted[-1][0]
    elif number % 5 == 1:
        assert list(pool.map(abs, [-1, -2, -3])) == [1, 2, 3]
    elif number % 5 == 2 and kind == "Pool":
        assert list(pool.imap(abs, [-1, -2, -3])) == [1, 2, 3]
signal.setitimer(signal.ITIMER_REAL, 0)
gc.set_threshold(*threshold)
depth = 100
assert all(outcome(future) == expected for future, expected in wanted)
print(dict(counts))
pool.terminate() if kind == "Pool" else pool.shutdown()
"""


@pytest.mark.parametrize("kind", ["Pool", "Executor"])
def test_submitting_from_everywhere(kind: str) -> None:
    """In the middle of `submit`, `map`, `imap` and of waits, by what can interrupt them in their thread."""
    rounds = int(float(os.environ.get("FORKLESS_TEST_SECONDS") or 1) * 2000)
    outcome = run_program(FROM_EVERYWHERE, kind, str(rounds), timeout=PROGRAM_PATIENCE + rounds / 100)
    text = outcome.check()
    assert outcome.stderr == "", "what goes wrong in a finaliser or a callback is only printed"
    counts = {name: int(count) for name, count in re.findall(r"'(\w+)': (\d+)", text)}
    for what in ("del", "weakref", "signal", "callback"):
        assert counts.get(what, 0) > 100, counts


@pytest.mark.parametrize("kind", ["Pool", "Executor"])
def test_ctrl_c_in_the_middle_of_map_leaves_it_usable(kind: str) -> None:
    source = """
import forkless, itertools, signal, sys, time
kind = sys.argv[1]
armed, interrupted = False, 0

def interrupt(*_):
    if armed:
        raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
with getattr(forkless, kind)(2) as pool:
    for number in range(200):
        try:
            try:
                armed = True
                # Later and later: while it submits, while it waits, while it collects.
                signal.setitimer(signal.ITIMER_REAL, 1e-4 * (number % 50 + 1))
                list(pool.map(abs, range(-2000, 0), chunksize=1))
            finally:
                armed = False
        except KeyboardInterrupt:
            interrupted += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        if number % 20 == 0:
            assert list(pool.map(abs, [-1, -2])) == [1, 2]
    print(list(pool.map(abs, [-1, -2, -3])), interrupted > 50)
"""
    outcome = run_program(source, kind)
    assert (outcome.check(), outcome.stderr) == ("[1, 2, 3] True\n", "")


def test_ctrl_c_in_the_start_of_the_collector_starts_no_second_one(monkeypatch: pytest.MonkeyPatch) -> None:
    start, others = threading.Thread.start, set(threading.enumerate())

    def start_interrupted(thread: threading.Thread) -> None:
        start(thread)
        raise KeyboardInterrupt

    with forkless.Executor(1) as executor:
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", start_interrupted)
            with pytest.raises(KeyboardInterrupt):
                executor.submit(abs, -1)
        assert executor.submit(abs, -1).result(PATIENCE) == 1
        # The second thread finds that there is a collector, and ends.
        assert eventually(lambda: len({*threading.enumerate()} - others) == 1), threading.enumerate()


# --- results that nobody reads ---


def submit_to(pool: Any, function: Any, *args: Any) -> Any:
    if isinstance(pool, forkless.Executor):
        return pool.submit(function, *args)
    return pool.apply_async(function, args)


def settled(before: tuple[int, int]) -> bool:
    """Whether there are hardly more blocks in shared memory than before.

    Of each of twenty maps one is kept for a while, with a lease or two; of what nobody reads there are 400.
    """
    gc.collect()
    blocks, leases = _forkless.census()
    return blocks <= before[0] + 40 and leases <= before[1] + 80


@pytest.mark.parametrize("kind", ["Pool", "Executor"])
def test_results_that_nobody_reads_leave_nothing(kind: str) -> None:
    with getattr(forkless, kind)(2) as pool:
        submit = (lambda *call: pool.apply_async(call[0], call[1:])) if kind == "Pool" else pool.submit
        for _ in range(20):
            assert list(pool.map(bytes, [100_000] * 5, chunksize=1))
        gc.collect()
        before = _forkless.census()
        gone = []
        for _ in range(300):
            gone.append(weakref.ref(submit(bytes, 100_000)))
        for _ in range(20):
            pool.map_async(bytes, [100_000] * 5, 1) if kind == "Pool" else pool.map(bytes, [100_000] * 5)
        assert list(pool.map(abs, [-1])) == [1]
        assert eventually(lambda: settled(before)), (_forkless.census(), before)
        assert eventually(lambda: not any(reference() for reference in gone))


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_leaving_an_imap_early_ends_its_input(method: str) -> None:
    """It is not read to its end when the pool is joined: it may have none."""
    with forkless.Pool(2) as pool:
        for _ in range(100):
            results = getattr(pool, method)(bytes, itertools.repeat(10_000))
            assert len(next(results)) == 10_000
            gone = weakref.ref(results)
            del results
            assert gone() is None
        assert not pool._scheduler.feeders
        pool.close()
        pool.join()


@pytest.mark.filterwarnings("ignore:unclosed")
@pytest.mark.parametrize("kind", ["Pool", "Executor"])
def test_a_callback_may_drop_the_pool(kind: str) -> None:
    pools: list[Any] = [getattr(forkless, kind)(1)]
    gone, dropped, others = weakref.ref(pools[0]), threading.Event(), forkless.active_children()

    def drop(_: object) -> None:
        pools.clear()
        gc.collect()
        dropped.set()

    if kind == "Pool":
        pools[0].apply_async(abs, (-1,), callback=drop)
    else:
        go = forkless.Event()
        pools[0].submit(jobs.wait_for, go).add_done_callback(drop)
        go.set()
    assert dropped.wait(PATIENCE)
    assert eventually(lambda: gc.collect() >= 0 and gone() is None)
    assert eventually(lambda: not {*forkless.active_children()} - {*others})


@pytest.mark.filterwarnings("ignore:unclosed")
@pytest.mark.parametrize("kind", ["Pool", "Executor"])
def test_a_pool_that_is_dropped_does_what_was_submitted_and_ends(kind: str) -> None:
    go, queue, others = forkless.Event(), forkless.Queue[int](), forkless.active_children()
    pool: Any = getattr(forkless, kind)(1)
    submit = functools.partial(submit_to, pool)
    submit(jobs.wait_for, go)
    for number in range(5):
        submit(jobs.put, queue, number)
    del pool, submit
    gc.collect()
    go.set()
    assert [queue.get(timeout=PATIENCE) for _ in range(5)] == [0, 1, 2, 3, 4]
    assert eventually(lambda: gc.collect() >= 0 and not {*forkless.active_children()} - {*others})


# --- masses ---

MASSES = """
import gc, os, sys, time
import forkless
from forkless._forkless import memory
kind, how, count = sys.argv[1], sys.argv[2], int(sys.argv[3])

def resident():
    gc.collect()
    return memory(os.getpid())[0]

with getattr(forkless, kind)(2) as pool:
    def run(count):
        if how == "map":
            assert sum(pool.map(abs, range(-count, 0), chunksize=1)) == count * (count + 1) // 2
        elif how == "imap":
            assert sum(pool.imap(abs, range(-count, 0))) == count * (count + 1) // 2
        elif kind == "Pool":
            results = [pool.apply_async(abs, (number,)) for number in range(count)]
            assert all(result.get() == number for number, result in enumerate(results))
        else:
            futures = [pool.submit(abs, number) for number in range(count)]
            assert all(future.result() == number for number, future in enumerate(futures))
    run(20_000)
    before = resident()
    run(count)
    for _ in range(600):
        after = resident()
        if after < 1.5 * before:
            break
        time.sleep(0.1)
    print(before >> 20, after >> 20, after < 1.5 * before)
"""


@pytest.mark.parametrize(
    ("kind", "how"),
    [("Pool", "submit"), ("Pool", "map"), ("Pool", "imap"), ("Executor", "submit"), ("Executor", "map")],
)
@pytest.mark.parametrize("count", [100_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
@pytest.mark.timeout(600)
def test_very_many_tasks(kind: str, how: str, count: int) -> None:
    if count > 100_000 and not os.environ.get("FORKLESS_TEST_MASSES"):
        pytest.skip("takes a minute; set FORKLESS_TEST_MASSES=1 to run it")
    text = run_program(MASSES, kind, how, str(count), timeout=500).check()
    assert text.endswith("True\n"), text


HUGE = """
import forkless, sys
size = 2_200_000_000
with forkless.Executor(1) as executor:
    if sys.argv[1] == "bytes":
        result = executor.submit(bytes, size).result()
        assert len(result) == size and result[-1] == 0
        assert executor.submit(len, result).result() == size
    else:
        import numpy as np
        result = executor.submit(np.full, size, 7, np.uint8).result()
        assert result.nbytes == size and (result[:: 10**8] == 7).all() and result[-1] == 7
        def look(array):
            return array.nbytes, int(array[0]), int(array[-1])
        assert executor.submit(look, result).result() == (size, 7, 7)
    del result
    assert executor.submit(abs, -1).result() == 1
print("done")
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("what", ["bytes", "numpy"])
def test_more_than_two_gigabytes(what: str) -> None:
    """As a result, and as an argument."""
    if not os.environ.get("FORKLESS_TEST_MASSES"):
        pytest.skip("takes 9 GB; set FORKLESS_TEST_MASSES=1 to run it")
    [line] = [
        each for each in Path("/proc/meminfo").read_text().splitlines() if each.startswith("MemAvailable")
    ]
    if int(line.split()[1]) < 10 << 20:
        pytest.skip("takes 9 GB of memory")
    assert run_program(HUGE, what, timeout=500).check() == "done\n"


# --- copies of the parent ---


@pytest.mark.parametrize("kind", ["Pool", "Executor"])
def test_a_copy_of_the_parent_is_told_whose_the_workers_are(kind: str) -> None:
    """Each call, and each wait for what the original has submitted."""
    source = """
import forkless, os, sys
kind = sys.argv[1]
pool = getattr(forkless, kind)(1)
submit = (lambda *call: pool.apply_async(call[0], call[1:])) if kind == "Pool" else pool.submit
go = forkless.Event()
pending, stream = submit(go.wait), pool.stream(range, (100,) if kind == "Pool" else 100)
calls = {
    "submit": lambda: submit(abs, -1),
    "map": lambda: pool.map(abs, [-1]),
    "stream": lambda: pool.stream(range, (3,) if kind == "Pool" else 3),
    "wait": lambda: pending.get() if kind == "Pool" else pending.result(),
    "imap": lambda: pool.imap(abs, [-1]) if kind == "Pool" else submit(abs, -1),
}
if os.fork() == 0:
    for name, call in calls.items():
        try:
            print(name, "returned", call(), flush=True)
        except forkless.ProcessError as error:
            print(name, str(os.getppid()) in str(error), "forked" in str(error), flush=True)
    (pool.terminate if kind == "Pool" else pool.shutdown)()
    sys.exit()
os.wait()
go.set()
print(sum(stream), list(pool.map(abs, [-1])))
"""
    outcome = run_program(source, kind, environ={"PYTHONWARNINGS": "ignore"})
    names = ("submit", "map", "stream", "wait", "imap")
    assert outcome.check() == "".join(f"{name} True True\n" for name in names) + "4950 [1]\n"
