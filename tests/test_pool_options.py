"""What pools and executors can do beyond the standard library's: options of a task, and of the workers."""

from __future__ import annotations

import io
import itertools
import logging
import os
import re
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import FrozenInstanceError
from typing import Any, TypeAlias

import forkless
import jobs
import pytest
from forkless._options import Options
from support import PATIENCE, eventually

Workers: TypeAlias = "forkless.Pool | forkless.Executor"
Call: TypeAlias = "Callable[[Any, Any, Any, dict[str, Any]], Any]"

# How to call `f(x)`, with options of a task: its result, however it comes.
OF_A_POOL: dict[str, Call] = {
    "apply": lambda pool, f, x, o: pool.apply(f, (x,), **o),
    "apply_async": lambda pool, f, x, o: pool.apply_async(f, (x,), **o).get(PATIENCE),
    "map": lambda pool, f, x, o: pool.map(f, [x], 1, **o)[0],
    "map, chunks": lambda pool, f, x, o: pool.map(f, [x], 2, **o)[0],
    "map_async": lambda pool, f, x, o: pool.map_async(f, [x], **o).get(PATIENCE)[0],
    "starmap": lambda pool, f, x, o: pool.starmap(f, [(x,)], **o)[0],
    "starmap_async": lambda pool, f, x, o: pool.starmap_async(f, [(x,)], **o).get(PATIENCE)[0],
    "imap": lambda pool, f, x, o: next(pool.imap(f, [x], **o)),
    "imap_unordered": lambda pool, f, x, o: next(pool.imap_unordered(f, [x], 2, **o)),
}
OF_AN_EXECUTOR: dict[str, Call] = {
    "submit": lambda executor, f, x, o: executor.options(**o).submit(f, x).result(PATIENCE),
    "map": lambda executor, f, x, o: next(executor.options(**o).map(f, [x])),
    "map, chunks": lambda executor, f, x, o: next(executor.options(**o).map(f, [x], chunksize=2)),
}
# The same for an `f` that yields.
STREAMS: dict[str, Call] = {
    "Pool": lambda pool, f, x, o: next(pool.stream(f, (x,), **o)),
    "Executor": lambda executor, f, x, o: next(executor.options(**o).stream(f, x)),
}
MAKERS: dict[str, Callable[..., Workers]] = {"Pool": forkless.Pool, "Executor": forkless.Executor}

WHOLE = [("Pool", call) for call in OF_A_POOL.values()] + [
    ("Executor", call) for call in OF_AN_EXECUTOR.values()
]
NAMES = [f"Pool.{name}" for name in OF_A_POOL] + [f"Executor.{name}" for name in OF_AN_EXECUTOR]
every_call = pytest.mark.parametrize(("kind", "call"), WHOLE, ids=NAMES)
every_call_and_stream = pytest.mark.parametrize(
    ("kind", "call"),
    [*WHOLE, *STREAMS.items()],
    ids=[*NAMES, *(f"{kind}.stream" for kind in STREAMS)],
)
both = pytest.mark.parametrize("kind", MAKERS)


def submit(workers: Workers, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """A task with options: what waits for its result, without arguments."""
    if isinstance(workers, forkless.Pool):
        return workers.apply_async(function, args, **options).get
    return workers.options(**options).submit(function, *args).result


def busy(workers: Workers) -> int:
    """How many workers run a task now."""
    return sum(worker.task is not None for worker in workers.statistics().workers)


def processes(workers: Workers) -> int:
    return len(workers._pool if isinstance(workers, forkless.Pool) else workers._processes)


# --- time limits ---


@pytest.mark.usefixtures("unhurried")
@every_call_and_stream
def test_every_call_takes_a_time_limit_and_a_name(kind: str, call: Call, leap: Callable[[], None]) -> None:
    def think(begun: forkless.Event) -> None:
        begun.set()
        while True:
            pass

    begun = forkless.Event()
    # Not earlier: a worker that is broken off while it imports something does not go on.
    limit = threading.Thread(target=lambda: leap() if begun.wait(PATIENCE) else None)
    limit.start()
    with MAKERS[kind](1) as workers:
        pid = submit(workers, os.getpid)()
        with pytest.raises(
            forkless.TimeoutError, match=r"^thinking.* its time limit of 100 s; it was broken"
        ):
            call(workers, think, begun, {"timeout": 100, "name": "thinking"})
        # Its worker goes on.
        assert submit(workers, os.getpid)() == pid
    limit.join()


@pytest.mark.usefixtures("unhurried")
def test_the_error_is_what_others_call_a_timeout_and_shows_where_the_task_was(
    leap: Callable[[], None],
) -> None:
    def take_for_ever(begun: forkless.Event) -> None:
        begun.set()
        while True:
            pass

    with forkless.Pool(1) as pool:
        begun = forkless.Event()
        late = pool.apply_async(take_for_ever, (begun,), timeout=100)
        assert begun.wait(PATIENCE)
        leap()
        with pytest.raises(TimeoutError) as raised:
            late.get(PATIENCE)
    text = "".join(traceback.format_exception(raised.value))
    assert isinstance(raised.value.__cause__, forkless.exceptions.RemoteTraceback)
    assert "in take_for_ever" in text


@pytest.mark.usefixtures("unhurried")
def test_what_a_task_holds_is_let_go(leap: Callable[[], None]) -> None:
    left, lock = forkless.Event(), forkless.Lock()

    with forkless.Pool(1) as pool:
        late = pool.apply_async(jobs.hold, (lock, left), timeout=100)
        assert eventually(lock.locked)
        leap()
        with pytest.raises(forkless.TimeoutError):
            late.get(PATIENCE)
        assert left.is_set()
        assert lock.acquire(timeout=0)
        lock.release()


@pytest.mark.parametrize("task", [jobs.catch_everything, jobs.ignore_every_signal, jobs.never_leave_c])
@both
def test_a_task_that_does_not_end_is_killed_with_its_worker(kind: str, task: Callable[[Any], None]) -> None:
    with MAKERS[kind](1) as workers:
        pid = submit(workers, jobs.pid)()
        with pytest.raises(forkless.TimeoutError, match="its worker was killed") as raised:
            submit(workers, task, forkless.Event(), timeout=0.2)()
        assert isinstance(raised.value.__cause__, forkless.WorkerDied)
        assert raised.value.__cause__.pid == pid
        assert submit(workers, os.getpid)() != pid


def test_others_are_not_affected() -> None:
    go = forkless.Event()
    with forkless.Pool(2) as pool:
        other = pool.apply_async(jobs.wait_for, (go, "done"))
        with pytest.raises(forkless.TimeoutError):
            pool.apply(jobs.catch_everything, (forkless.Event(),), timeout=0.05)
        go.set()
        assert other.get(PATIENCE) == "done"


def test_the_limit_counts_from_when_a_worker_begins() -> None:
    go = forkless.Event()
    with forkless.Pool(1) as pool:
        pool.apply_async(jobs.wait_for, (go,))
        late = pool.apply_async(jobs.add, (1, 2), timeout=1)
        late.wait(1.2)
        assert not late.ready()
        go.set()
        assert late.get(PATIENCE) == 3


def test_a_task_in_time_has_its_result() -> None:
    with forkless.Pool(2) as pool:
        assert pool.map(jobs.double, range(200), 1, timeout=PATIENCE) == list(range(0, 400, 2))


# --- retries ---


@every_call
def test_every_call_is_tried_again(kind: str, call: Call) -> None:
    with MAKERS[kind](1) as workers:
        count = forkless.Value("i", 0)
        assert call(workers, jobs.fail_at_first, count, {"retries": forkless.Retry(2, delay=0)}) == [3]
        assert workers.statistics().retried == 2
        count.value = 0
        with pytest.raises(ValueError, match="attempt 2") as raised:
            call(workers, jobs.fail_at_first, count, {"retries": forkless.Retry(1, delay=0)})
        if sys.version_info >= (3, 11):
            assert raised.value.__notes__ == ["This was attempt 2 of a task with retries."]


@both
def test_a_number_of_retries(kind: str) -> None:
    with MAKERS[kind](1) as workers:
        count = forkless.Value("i", 0)
        assert submit(workers, jobs.fail_at_first, count, 1, retries=1)() == [2]
        count.value = 0
        with pytest.raises(ValueError, match="attempt 1"):
            submit(workers, jobs.fail_at_first, count, retries=0)()


def test_a_stream_is_not_tried_again() -> None:
    for kind, call in STREAMS.items():
        with MAKERS[kind](1) as workers, pytest.raises(ValueError, match="would come twice"):
            call(workers, iter, [1], {"retries": 1})


@pytest.mark.parametrize("size", [10, 5_000_000])
@pytest.mark.parametrize("how", ["die", "hang"])
def test_deaths_and_time_limits_are_tried_again_with_the_same_arguments(
    how: str, size: int, leap: Callable[[], None]
) -> None:
    with forkless.Pool(1) as pool:
        count, retry = forkless.Value("i", 0), forkless.Retry(1, delay=0)
        task = (count, bytes(size), how)
        result = pool.apply_async(jobs.die_or_hang_at_first, task, retries=retry, timeout=100)
        if how == "hang":
            assert eventually(lambda: count.value == 1)
            leap()
        assert result.get(PATIENCE) == size
        statistics = pool.statistics()
        assert (statistics.retried, statistics.lost) == (1, int(how == "die"))


def test_which_errors_are_tried_again() -> None:
    with forkless.Pool(1) as pool:
        for error, attempts in ((KeyError, 1), (ValueError, 3), ((OSError, ValueError), 3)):
            count = forkless.Value("i", 0)
            retry = forkless.Retry(2, delay=0, on=error)
            with pytest.raises(ValueError, match=f"attempt {attempts}"):
                pool.apply(jobs.fail_at_first, (count, 9), retries=retry)


def test_an_error_that_cannot_travel_is_tried_again_for_what_it_was() -> None:
    def answer(count: Any, times: int) -> int:
        try:
            jobs.fail_at_first(count, times)
        except ValueError as error:
            refused = OSError("refused")
            refused.answer = threading.Lock()  # type: ignore[attr-defined]
            raise refused from error
        return int(count.value)

    with forkless.Pool(1) as pool:
        for kind, times, error in (
            (OSError, 2, None),
            (OSError, 3, "refused"),
            (forkless.RemoteError, 2, None),
            (ValueError, 2, "refused"),
        ):
            call = pool.apply_async(
                answer, (forkless.Value("i", 0), times), retries=forkless.Retry(2, delay=0, on=kind)
            )
            if error is None:
                assert call.get(PATIENCE) == 3
            else:
                with pytest.raises(forkless.RemoteError, match=error):
                    call.get(PATIENCE)


def test_delays_grow() -> None:
    retry = forkless.Retry(9, delay=1, factor=3, max_delay=20, jitter=0.5)
    assert [retry.delay_of(attempt, spread=0) for attempt in (1, 2, 3, 4, 10**6)] == [1, 3, 9, 20, 20]
    assert (retry.delay_of(1, spread=-1), retry.delay_of(1, spread=1)) == (0.5, 1.5)
    assert all(0.5 <= retry.delay_of(1) <= 1.5 for _ in range(100))


def test_a_task_waits_before_it_is_tried_again() -> None:
    with forkless.Pool(1) as pool:
        start = time.monotonic()
        retry = forkless.Retry(2, delay=0.1, factor=2, jitter=0)
        assert pool.apply(jobs.fail_at_first, (forkless.Value("i", 0),), retries=retry) == [3]
        assert time.monotonic() - start >= 0.3


# --- priorities ---


@every_call_and_stream
def test_every_call_has_a_priority(kind: str, call: Call) -> None:
    go, queue = forkless.Event(), forkless.Queue[str]()
    with MAKERS[kind](1) as workers:
        first = submit(workers, jobs.wait_for, go)
        assert eventually(lambda: busy(workers) == 1)
        # The next one is sent at once, so that the worker need not wait for it.
        submit(workers, jobs.note, (queue, "sent"))
        threads = []
        for waiting, (label, priority) in enumerate({"low": -1, "usual": 0, "high": 1}.items(), start=1):
            arguments = workers, jobs.note, (queue, label), {"priority": priority}
            threads.append(threading.Thread(target=call, args=arguments))
            threads[-1].start()
            assert eventually(lambda waiting=waiting: workers.statistics().waiting == waiting)  # type: ignore[misc]
        go.set()
        first()
        for thread in threads:
            thread.join()
    assert queue.get_many() == ["sent", "high", "usual", "low"]


# --- names, and options that make no sense ---


@every_call_and_stream
def test_a_death_names_the_task(kind: str, call: Call) -> None:
    with (
        MAKERS[kind](1) as workers,
        pytest.raises(forkless.WorkerDied, match="SIGKILL while it ran my task") as raised,
    ):
        call(workers, jobs.die, signal.SIGKILL, {"name": "my task"})
    assert raised.value.task.startswith("my task")


BAD_OPTIONS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"timeout": 0}, ValueError, "timeout must be more than 0 seconds, not 0"),
    ({"timeout": -1.5}, ValueError, "timeout must be more than 0 seconds, not -1.5"),
    ({"timeout": float("nan")}, ValueError, "timeout must be more than 0 seconds, not nan"),
    ({"timeout": "1"}, TypeError, "timeout must be a number of seconds, not '1'"),
    ({"timeout": True}, TypeError, "timeout must be a number of seconds, not True"),
    ({"retries": -1}, ValueError, "retries must be 0 or more, not -1"),
    ({"retries": 1.5}, TypeError, "retries must be a number of times, or a Retry, not 1.5"),
    ({"retries": True}, TypeError, "retries must be a number of times, or a Retry, not True"),
    ({"priority": 2**31}, ValueError, "priority must be an int of 32 bits, not 2147483648"),
    ({"priority": "high"}, TypeError, "priority must be an int, not 'high'"),
    ({"name": 7}, TypeError, "name must be a str, not 7"),
    (
        {"chunk_size": 7},
        TypeError,
        "'chunk_size'; the options of a task are: timeout, retries, priority, name",
    ),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD_OPTIONS)
def test_options_that_make_no_sense(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Options.of(None, **options)


@every_call_and_stream
def test_every_call_checks_its_options_before_it_does_anything(kind: str, call: Call) -> None:
    with MAKERS[kind](1) as workers:
        for options, error, message in ((BAD_OPTIONS[0]), BAD_OPTIONS[-1]):
            with pytest.raises(error, match=message):
                call(workers, jobs.double, 1, options)
        statistics = workers.statistics()
        assert (statistics.waiting, statistics.sent, statistics.done) == (0, 0, 0)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"times": 1, "delay": -1}, ValueError),
        ({"times": 1, "delay": float("inf")}, ValueError),
        ({"times": 1, "factor": 0.5}, ValueError),
        ({"times": 1, "max_delay": -1}, ValueError),
        ({"times": 1, "jitter": 2}, ValueError),
        ({"times": "1"}, TypeError),
        ({"times": 1, "on": "ValueError"}, TypeError),
        ({"times": 1, "on": (ValueError, 1)}, TypeError),
    ],
)
def test_retries_that_make_no_sense(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        forkless.Retry(**arguments)


def test_options_of_options() -> None:
    with forkless.Executor(1) as executor:
        patient = executor.options(timeout=0.05, name="one")
        with pytest.raises(forkless.TimeoutError, match=r"^two\("):
            patient.options(name="two").submit(jobs.take_for_ever, 0).result()
        with pytest.raises(forkless.TimeoutError, match=r"^one\("):
            patient.submit(jobs.take_for_ever, 0).result()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_memory_per_child": 0}, ValueError, "max_memory_per_child must be at least 1 bytes, not 0"),
        ({"max_memory_per_child": "1G"}, TypeError, "max_memory_per_child must be a number of bytes"),
        ({"idle_timeout": -1}, ValueError, "idle_timeout must be at least 0 seconds, not -1"),
        ({"idle_timeout": float("nan")}, ValueError, "idle_timeout must be at least 0 seconds, not nan"),
        ({"idle_timeout": "1"}, TypeError, "idle_timeout must be a number of seconds, not '1'"),
        ({"output": "loud"}, ValueError, 'output must be "forward", "tagged" or "inherit", not \'loud\''),
        ({"threads": 0}, ValueError, "threads must be at least 1"),
        ({"cpus": [4095]}, ValueError, "and not 4095"),
        ({"env": {"A": 1}}, TypeError, "env must map names to strings"),
        ({"exit": 1}, TypeError, "exit must be a callable, not 1"),
        ({"worker_state": 1}, TypeError, "worker_state must be a callable"),
    ],
)
@both
def test_options_of_workers_that_make_no_sense(
    kind: str, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        MAKERS[kind](1, **options)


# --- cancelling ---


@pytest.mark.usefixtures("unhurried")
def test_cancelling_a_task_that_runs_frees_its_worker() -> None:
    begun, left = forkless.Event(), forkless.Event()

    def wait(begun: forkless.Event, left: forkless.Event) -> None:
        try:
            begun.set()
            jobs.hang()
        finally:
            left.set()

    with forkless.Executor(1) as executor:
        pid = executor.submit(os.getpid).result()
        future = executor.submit(wait, begun, left)
        called: list[Any] = []
        future.add_done_callback(called.append)
        assert begun.wait(PATIENCE)
        assert future.running()
        assert future.cancel()
        assert (future.cancelled(), future.done(), future.running(), called) == (True, True, False, [future])
        assert executor.submit(os.getpid).result() == pid
        assert left.is_set()
        assert future.cancel()


def test_cancelling_a_task_that_will_not_end() -> None:
    with forkless.Executor(1) as executor:
        pid = executor.submit(os.getpid).result()
        begun = forkless.Event()
        future = executor.submit(jobs.catch_everything, begun)
        assert begun.wait(PATIENCE)
        assert future.cancel()
        assert executor.submit(os.getpid).result() != pid


# --- the number of workers ---


def test_workers_that_read_shared_memory_are_kept_and_those_that_grow_are_not() -> None:
    def read(shared: Any) -> int:
        return sum(memoryview(shared)[::4096])

    limit = 64 << 20
    for kind, make in MAKERS.items():
        with make(1, max_memory_per_child=limit) as workers:
            pid = submit(workers, os.getpid)()
            assert submit(workers, read, forkless.share(b"\1" * (2 * limit)))() == 2 * limit // 4096
            assert submit(workers, os.getpid)() == pid, kind
            submit(workers, jobs.grow, 2 * limit)()
            assert submit(workers, os.getpid)() != pid, kind


@both
def test_idle_workers_end_and_come_back(kind: str) -> None:
    with MAKERS[kind](2, idle_timeout=0.05) as workers:
        before: set[int] = set()
        for _ in range(6):
            pid = submit(workers, os.getpid)()
            assert pid not in before
            before.add(pid)
            assert eventually(lambda: processes(workers) == 0)
        assert workers.statistics().done == 6


def test_a_task_that_takes_longer_than_the_idle_timeout_goes_on() -> None:
    go = forkless.Event()
    with forkless.Pool(1, idle_timeout=0) as pool:
        result = pool.apply_async(jobs.wait_for, (go, "done"))
        result.wait(0.3)
        go.set()
        assert result.get(PATIENCE) == "done"


def test_resizing_while_there_is_work() -> None:
    go, queue = forkless.Event(), forkless.Queue[int]()

    def take_part(queue: Any, go: Any) -> None:
        queue.put(os.getpid())
        go.wait(PATIENCE)

    with forkless.Pool(1) as pool:
        results = [pool.apply_async(take_part, (queue, go)) for _ in range(4)]
        pool.resize(4)
        assert len({queue.get(timeout=PATIENCE) for _ in range(4)}) == 4
        # They may have begun before this process has taken notice of their start.
        assert eventually(lambda: busy(pool) == 4)
        pool.resize(1)
        # Nobody is torn away from its task.
        assert (busy(pool), pool.statistics().size) == (4, 1)
        go.set()
        assert [result.get(PATIENCE) for result in results] == [None] * 4
        assert eventually(lambda: len(pool._pool) == 1)
        assert pool.map(jobs.double, range(50), 1) == list(range(0, 100, 2))


def test_resizing_again_and_again_is_no_crash_loop() -> None:
    with forkless.Pool(1) as pool:
        for size in (4, 1) * 6:
            pool.resize(size)
            assert eventually(lambda size=size: len(pool._pool) == size)  # type: ignore[misc]
        assert pool.apply(jobs.add, (1, 2)) == 3


def test_sizes_that_make_no_sense() -> None:
    with forkless.Pool(2) as pool:
        for size in (0, -1, 35):
            with pytest.raises(ValueError, match=f"this pool can have 1 to 34 workers, not {size}"):
                pool.resize(size)
        for size in ("2", 1.5, None, True):  # type: ignore[assignment]
            with pytest.raises(TypeError, match="the number of workers must be an int"):
                pool.resize(size)
        assert pool.statistics().size == 2
        assert pool.apply(jobs.add, (1, 2)) == 3


# --- statistics ---


def test_statistics_are_frozen_and_add_up() -> None:
    start = time.monotonic()
    with forkless.Pool(2) as pool:
        assert pool.map(jobs.double, range(100), 1) == list(range(0, 200, 2))
        assert pool.apply(len, (bytes(1000),)) == 1000
        assert len(pool.apply(bytes, (2000,))) == 2000
        with pytest.raises(ValueError, match="no"):
            pool.apply(jobs.refuse, (1,))
        with pytest.raises(forkless.WorkerDied):
            pool.apply(jobs.die)
        # A worker writes down that it is done after it has sent the result.
        assert eventually(lambda: pool.statistics().done == 103)
        statistics = pool.statistics()
        lived = time.monotonic() - start
    assert (statistics.size, statistics.waiting, statistics.sent) == (2, 0, 0)
    assert (statistics.lost, statistics.retried) == (1, 0)
    assert sum(worker.tasks for worker in statistics.workers) == 103
    assert 1000 < sum(worker.bytes_received for worker in statistics.workers) < 50_000
    assert 2000 < sum(worker.bytes_sent for worker in statistics.workers) < 50_000
    assert statistics.workers[-1].name == "former workers"
    for worker in statistics.workers:
        assert worker.task is None, worker
        assert 0 <= worker.start_up <= lived
        assert 0 <= worker.working + worker.idle <= lived
    with pytest.raises(FrozenInstanceError):
        statistics.done = 0  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        statistics.workers[0].tasks = 0  # type: ignore[misc]


@both
def test_the_slowest_tasks(kind: str) -> None:
    go = forkless.Event()
    with MAKERS[kind](2) as workers:
        # All others come and go while this one runs.
        longest = submit(workers, jobs.wait_for, go)
        assert eventually(lambda: busy(workers) == 1)
        for wait in [submit(workers, jobs.rest, 0.01) for _ in range(7)]:
            wait()
        go.set()
        longest()
        slowest = workers.statistics().slowest
        printed = str(workers.insights())
    assert [task.task for task in slowest] == ["jobs.wait_for", *["jobs.rest"] * 4]
    assert list(slowest) == sorted(slowest, key=lambda task: task.seconds, reverse=True)
    assert all(task.arguments == "0.01" and task.seconds >= 0.01 for task in slowest[1:])
    assert all(task in printed for task in ("jobs.wait_for", "jobs.rest(0.01)"))


def test_statistics_while_a_task_runs() -> None:
    go = forkless.Event()
    with forkless.Pool(1) as pool:
        results = [pool.apply_async(jobs.wait_for, (go,)) for _ in range(3)]
        assert eventually(lambda: busy(pool) == 1)
        statistics = pool.statistics()
        assert (statistics.waiting + statistics.sent, statistics.done) == (3, 0)
        (worker,) = statistics.workers
        assert eventually(lambda: pool.statistics().workers[0].working > worker.working)
        go.set()
        for result in results:
            result.get(PATIENCE)


def test_insights_are_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    with forkless.Pool(2) as pool:
        pool.map(jobs.rest, [0.02] * 4, 1)
        with pytest.raises(forkless.WorkerDied):
            pool.map(jobs.die, [signal.SIGKILL], 1)
        assert eventually(lambda: pool.statistics().done == 4)
        print(pool.insights())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["worker", "tasks", "start-up", "working", "idle", "busy", "received", "sent"]
    total = next(line for line in lines if line.startswith("all"))
    assert total.split()[1] == "4"
    assert "4 tasks done, 0 on their way, 0 waiting, 1 lost with their worker, 0 retries" in lines
    assert re.fullmatch(
        r" +\d+\.\d\d m?s  jobs\.rest\(0\.02\) \(item \d\)", lines[lines.index("slowest tasks:") + 1]
    )
    assert len({len(line) for line in lines[: lines.index(total) + 1]}) == 1, "columns are aligned"


# --- output ---


@pytest.mark.parametrize(("output", "tag"), [("forward", ""), ("tagged", r"[{}] ")])
@both
def test_output_comes_here_before_the_result(
    kind: str, output: Any, tag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with MAKERS[kind](1, output=output) as workers:
        worker = tag.format(submit(workers, lambda: forkless.current_process().name)())
        for number in range(20):
            assert submit(workers, jobs.speak, number)() == number
            said = f"{worker}printed {number}\n", f"{worker}complained {number}\n"
            assert capsys.readouterr() == said
        with pytest.raises(forkless.WorkerDied):
            submit(workers, jobs.speak_and_die, 1)()
        assert capsys.readouterr().out == f"{worker}last words 1\n"


class Screen(io.StringIO):
    """Writes down what is written, and by whom the result was told."""

    def __init__(self, seen: list[str]) -> None:
        super().__init__()
        self.seen = seen

    def write(self, text: str) -> int:
        self.seen.append(text)
        return len(text)


def test_output_comes_before_the_result_also_if_they_come_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(sys, "stdout", Screen(seen))
    go = threading.Event()
    with forkless.Pool(1) as pool:
        # Nothing is taken in while a callback runs.
        pool.apply_async(jobs.pid, callback=lambda _: go.wait(PATIENCE))
        second = pool.apply_async(jobs.speak, (1,), callback=lambda _: seen.append("result"))
        assert eventually(lambda: pool.statistics().done == 2)
        go.set()
        second.get(PATIENCE)
    assert seen == ["printed 1\n", "result"]


@both
def test_output_comes_before_the_result_also_if_who_waits_receives_it(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with MAKERS[kind](1) as workers:
        for _ in range(20):
            # After some of these the thread that waits for a result receives it by itself.
            assert [submit(workers, jobs.add, 1, 1)() for _ in range(5)] == [2] * 5
            assert submit(workers, jobs.speak, 1)() == 1
            assert capsys.readouterr().out == "printed 1\n"


@both
def test_output_that_is_left_to_the_workers(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    with MAKERS[kind](1, output="inherit") as workers:
        submit(workers, jobs.speak, 1)()
        assert capfd.readouterr() == ("printed 1\n", "complained 1\n")


@both
def test_what_was_inherited_is_not_seen_here(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    with MAKERS[kind](1, output="inherit") as workers:
        submit(workers, jobs.speak, 1)()
    assert capsys.readouterr() == ("", "")


@both
def test_records_and_warnings_are_handled_here(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    def report() -> str:
        logging.getLogger("audit").warning("seen %d times", 3)
        warnings.warn("old", stacklevel=1)
        return forkless.current_process().name

    with MAKERS[kind](1) as workers, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        name = submit(workers, report)()
    (record,) = (record for record in caplog.records if record.name == "audit")
    assert (record.getMessage(), record.processName) == ("seen 3 times", name)
    assert [str(warning.message) for warning in warned] == ["old"]


# --- what workers are set up with ---


@both
def test_tasks_find_the_state_and_exit_gets_it(kind: str) -> None:
    closed: forkless.SimpleQueue[Any] = forkless.SimpleQueue()
    with MAKERS[kind](1, worker_state=list, exit=closed.put) as workers:
        assert [submit(workers, jobs.count_up, 0)() for _ in range(3)] == [0, 1, 2]
        if isinstance(workers, forkless.Pool):
            workers.close()
            workers.join()
    assert closed.get(timeout=PATIENCE) == [0, 1, 2]


def test_exit_is_called_when_workers_retire() -> None:
    closed: forkless.Queue[Any] = forkless.Queue()
    with forkless.Pool(1, maxtasksperchild=2, worker_state=list, exit=closed.put) as pool:
        assert [pool.apply(jobs.count_up, (0,)) for _ in range(4)] == [0, 1, 0, 1]
        assert [closed.get(timeout=PATIENCE) for _ in range(2)] == [[0, 1], [0, 1]]
    with forkless.Pool(1, idle_timeout=0, worker_state=list, exit=closed.put) as pool:
        pool.apply(jobs.count_up, (0,))
        assert closed.get(timeout=PATIENCE) == [0]


@both
def test_each_worker_has_its_own_index_and_who_replaces_it_has_it_too(kind: str) -> None:
    def who(meet: forkless.Barrier) -> tuple[int, str]:
        meet.wait(PATIENCE)
        return forkless.current_worker().index, os.environ["FORKLESS_JOB"]

    options: dict[str, Any] = {"env": lambda index: {"FORKLESS_JOB": f"job {index}"}}
    options["maxtasksperchild" if kind == "Pool" else "max_tasks_per_child"] = 1
    with MAKERS[kind](2, **options) as workers:
        for _ in range(3):
            barrier = forkless.Barrier(2)
            waits = [submit(workers, who, barrier) for _ in range(2)]
            assert sorted(wait() for wait in waits) == [(0, "job 0"), (1, "job 1")]


@both
def test_workers_are_bound_to_cpus(kind: str) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    with MAKERS[kind](1, cpus=cpus[:1]) as workers:
        assert submit(workers, os.sched_getaffinity, 0)() == {cpus[0]}
        assert submit(workers, forkless.cpu_count)() == 1


@both
def test_threads_of_libraries(kind: str) -> None:
    with MAKERS[kind](1, threads=3) as workers:
        assert submit(workers, os.getenv, "OMP_NUM_THREADS")() == "3"


@both
def test_pools_in_tasks_share_the_cpus(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORKLESS_CPU_COUNT", "6")

    def inner_workers() -> int:
        with forkless.Pool() as pool:
            return len(pool._pool)

    with MAKERS[kind](3) as workers:
        assert submit(workers, inner_workers)() == 2


@both
def test_a_state_that_cannot_be_made_breaks_the_workers(kind: str) -> None:
    def refuse() -> None:
        raise ValueError("no connection")

    with MAKERS[kind](1, worker_state=refuse) as workers:
        with pytest.raises(forkless.BrokenPool, match=r"worker_state raised ValueError.*no connection"):
            submit(workers, jobs.add, 1, 2)()
        with pytest.raises(forkless.BrokenPool, match="worker_state raised"):
            submit(workers, jobs.add, 1, 2)


# --- streams ---


def stream(workers: Workers, function: Callable[..., Any], *args: Any) -> Any:
    if isinstance(workers, forkless.Pool):
        return workers.stream(function, args)
    return workers.stream(function, *args)


@both
def test_a_stream_gives_what_a_generator_yields(kind: str) -> None:
    def squares(stop: int) -> Iterator[int]:
        for number in range(stop):
            yield number * number

    with MAKERS[kind](1) as workers:
        assert list(stream(workers, squares, 100)) == [number * number for number in range(100)]
        assert list(stream(workers, range, 3)) == [0, 1, 2]
        assert list(stream(workers, squares, 0)) == []
        ended = stream(workers, squares, 1)
        assert [next(ended), next(ended, None), next(ended, None)] == [0, None, None]


def test_a_stream_is_only_a_little_ahead() -> None:
    def numbers(made: Any) -> Iterator[int]:
        while True:
            made.value += 1
            yield made.value

    made = forkless.RawValue("q", 0)
    with forkless.Pool(1) as pool:
        items = pool.stream(numbers, (made,), buffersize=3)
        assert eventually(lambda: made.value >= 3)
        assert [next(items) for _ in range(50)] == list(range(1, 51))
        # Three that wait, and one in its hands.
        assert made.value <= 54


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("how", ["close", "del"])
@both
def test_leaving_a_stream_early_ends_its_generator(kind: str, how: str) -> None:
    closed = forkless.Event()

    def endless(closed: Any) -> Iterator[int]:
        try:
            yield from itertools.count()
        finally:
            closed.set()

    with MAKERS[kind](1) as workers:
        pid = submit(workers, os.getpid)()
        items = stream(workers, endless, closed)
        assert [next(items) for _ in range(3)] == [0, 1, 2]
        if how == "close":
            items.close()
            assert list(items) == []
        del items
        assert closed.wait(PATIENCE)
        assert submit(workers, os.getpid)() == pid


@both
def test_what_was_yielded_comes_before_an_error_or_a_death(kind: str) -> None:
    def fail() -> Iterator[int]:
        yield 1
        raise ValueError("two")

    def die() -> Iterator[int]:
        yield 1
        jobs.die()

    with MAKERS[kind](1) as workers:
        for function, error, message in (
            (fail, ValueError, "two"),
            (die, forkless.WorkerDied, "while it ran .*die"),
        ):
            items = stream(workers, function)
            assert next(items) == 1
            with pytest.raises(error, match=message):
                next(items)


def test_waiting_for_a_stream_with_a_limit() -> None:
    def wait(go: forkless.Event) -> Iterator[str]:
        go.wait(PATIENCE)
        yield "here"

    go = forkless.Event()
    with forkless.Pool(1) as pool:
        items = pool.stream(wait, (go,), name="waiting")
        assert eventually(lambda: busy(pool) == 1)
        with pytest.raises(forkless.TimeoutError, match=r"waiting has not yielded anything for 0.05 s"):
            items.next(0.05)
        go.set()
        assert items.next(PATIENCE) == "here"


def test_a_stream_with_a_buffer_of_nothing() -> None:
    with forkless.Pool(1) as pool, pytest.raises(ValueError, match="buffersize must be at least 1"):
        pool.stream(range, (3,), buffersize=0)
