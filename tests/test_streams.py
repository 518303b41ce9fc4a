"""Generator tasks: their ends, early and late, and how far they are ahead; see `test_pool_options` too."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import forkless
import hostile
import jobs
import pytest
from forkless._stream import AHEAD
from support import PATIENCE, eventually

Stream = Callable[..., Any]


@pytest.fixture(params=["Pool", "Executor"])
def stream(request: pytest.FixtureRequest) -> Iterator[Stream]:
    """Starts a stream in the only worker of a pool; options are keywords."""
    if request.param == "Pool":
        with forkless.Pool(1) as pool:
            yield lambda function, *args, **options: pool.stream(function, args, **options)
    else:
        with forkless.Executor(1) as executor:
            yield lambda function, *args, **options: executor.options(**options).stream(function, *args)


@pytest.fixture
def progress() -> Any:
    return forkless.RawValue("q", 0)


@pytest.fixture
def closed() -> forkless.Queue[str]:
    return forkless.Queue()


@pytest.mark.usefixtures("unhurried")
def test_it_is_bounded(stream: Stream, progress: Any, closed: forkless.Queue[str]) -> None:
    numbers = stream(hostile.count, progress, closed)
    for taken in range(1, 200):
        assert next(numbers) == taken - 1
        # The next one is made before there is room for it, and one may have been taken meanwhile.
        assert progress.value <= taken + AHEAD + 1
    assert eventually(lambda: progress.value == 199 + AHEAD + 1)
    numbers.close()
    assert closed.get(timeout=PATIENCE) == "closed"


@pytest.mark.usefixtures("unhurried")
def test_leaving_early_ends_the_generator(stream: Stream, progress: Any, closed: forkless.Queue[str]) -> None:
    numbers = stream(hostile.count, progress, closed)
    for number in numbers:
        if number == 5:
            break
    numbers.close()
    assert closed.get(timeout=PATIENCE) == "closed"
    assert list(numbers) == []
    assert list(stream(range, 3)) == [0, 1, 2]


def test_what_was_never_begun_can_be_dropped(
    stream: Stream, progress: Any, closed: forkless.Queue[str]
) -> None:
    first = stream(hostile.count, progress, closed)
    assert next(first) == 0
    ran = forkless.Queue[str]()
    for _ in range(5):
        stream(hostile.count, progress, ran)
    gc.collect()
    first.close()
    assert list(stream(range, 3)) == [0, 1, 2]
    assert ran.empty() or set(ran.get_many()) == {"closed"}


def test_what_a_dead_worker_has_yielded_comes_first(stream: Stream) -> None:
    items = stream(hostile.yield_and_die, 40)
    assert [next(items) for _ in range(40)] == list(range(40))
    for _ in range(2):
        with pytest.raises(forkless.WorkerDied, match=r"killed by SIGKILL while it ran .*yield_and_die"):
            next(items)
    assert list(stream(range, 3)) == [0, 1, 2]


def test_what_a_generator_that_raises_has_yielded_comes_first(stream: Stream) -> None:
    items = stream(hostile.yield_and_raise, 40)
    assert [next(items) for _ in range(40)] == list(range(40))
    for _ in range(2):
        with pytest.raises(ValueError, match="after the last one"):
            next(items)


def test_errors_that_would_pass_for_the_end(stream: Stream) -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        list(stream(hostile.raise_stop_iteration))


@pytest.mark.parametrize("function", [abs, jobs.double])
def test_what_is_no_iterable_is_told_by_name(stream: Stream, function: Any) -> None:
    with pytest.raises(TypeError, match=rf"{function.__name__} has returned .* not iterable: 'int'"):
        list(stream(function, -1))


def test_what_is_no_function(stream: Stream) -> None:
    with pytest.raises(TypeError, match="not callable"):
        list(stream(3))


def test_an_item_that_does_not_pickle_is_told_by_number(stream: Stream) -> None:
    items = stream(hostile.yield_lock)
    assert next(items) == 1
    with pytest.raises(TypeError, match=r"item 1 of .*yield_lock: \[0\]: cannot pickle '_thread.lock'"):
        next(items)


def test_retries_and_sizes_are_refused(stream: Stream) -> None:
    with pytest.raises(ValueError, match="retried"):
        stream(range, 3, retries=1)
    with forkless.Pool(1) as pool, pytest.raises(ValueError, match="buffersize"):
        pool.stream(range, (3,), buffersize=0)


@pytest.mark.usefixtures("unhurried")
def test_a_time_limit(
    stream: Stream, progress: Any, closed: forkless.Queue[str], leap: Callable[[], None]
) -> None:
    items = stream(hostile.count, progress, closed, timeout=100, name="the count")
    assert next(items) == 0
    leap()
    with pytest.raises(forkless.TimeoutError, match=r"the count.* took longer than its time limit"):
        list(items)
    assert closed.get(timeout=PATIENCE) == "closed"


def test_two_at_once_with_one_worker(stream: Stream) -> None:
    """One waits until the other is done with, or until there is room in its buffer for all."""
    one, other = stream(range, 1000), stream(range, 1000)
    assert sum(one) == sum(other) == 499500


def test_a_second_one_waits_for_the_first_and_says_so(stream: Stream, progress: Any) -> None:
    first, second = stream(hostile.count, progress), stream(range, 5)
    assert next(first) == 0
    with pytest.raises(
        forkless.TimeoutError, match=r"range has not begun within 0.05 s, as no worker is free"
    ):
        second.next(timeout=0.05)
    first.close()
    assert list(second) == [0, 1, 2, 3, 4]


@pytest.mark.filterwarnings("ignore:unclosed")
def test_the_end_of_the_pool() -> None:
    progress = forkless.RawValue("q", 0)
    pool = forkless.Pool(1)
    numbers = pool.stream(hostile.count, (progress,))
    assert next(numbers) == 0
    pool.terminate()
    with pytest.raises(forkless.BrokenPool, match="terminated"):
        list(numbers)
    with pytest.raises(ValueError, match="not running"):
        pool.stream(range, (3,))
    assert list(forkless.Pool(1).stream(range, (30,))) == list(range(30)), "it keeps its pool"


def test_the_end_of_an_executor_does_not_wait_for_the_thread_that_waits_for_it(progress: Any) -> None:
    with forkless.Executor(2) as executor:
        numbers, few = executor.stream(hostile.count, progress), executor.stream(range, 3)
        assert next(numbers) == 0
    assert list(few) == [0, 1, 2]
    with pytest.raises(forkless.BrokenPool, match=r"count was ended early.* or close the stream"):
        list(numbers)


def test_the_end_of_an_executor_waits_for_other_threads_that_take_items() -> None:
    got: list[int] = []
    taken = threading.Semaphore(0)

    def take() -> None:
        for number in numbers:
            got.append(number)
            taken.release()

    with forkless.Executor(1) as executor:
        numbers = executor.stream(range, 2000)
        thread = threading.Thread(target=take)
        thread.start()
        taken.acquire()
    thread.join()
    assert got == list(range(2000))


@pytest.mark.usefixtures("unhurried")
def test_async_for(stream: Stream, progress: Any, closed: forkless.Queue[str]) -> None:
    async def collect(items: Any, most: int | None = None) -> list[Any]:
        got = []
        try:
            async for item in items:
                got.append(item)
                if len(got) == most:
                    break
        except (ValueError, forkless.WorkerDied) as error:
            got.append(type(error).__name__)
        await items.aclose()
        return got

    async def main() -> None:
        assert await collect(stream(range, 50)) == list(range(50))
        assert await collect(stream(hostile.count, progress, closed), 5) == [0, 1, 2, 3, 4]
        assert closed.get(timeout=PATIENCE) == "closed"
        assert await collect(stream(hostile.yield_and_die, 2)) == [0, 1, "WorkerDied"]
        assert await collect(stream(hostile.yield_and_raise, 2)) == [0, 1, "ValueError"]

    asyncio.run(main())


def test_ctrl_c_in_a_wait_leaves_the_stream_usable(stream: Stream, progress: Any) -> None:
    go = forkless.Event()
    items = stream(jobs.wait_for, go, "ab")
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - it may come at once
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            next(items)
    finally:
        signal.signal(signal.SIGALRM, before)
    go.set()
    assert list(items) == ["a", "b"]


@pytest.mark.usefixtures("unhurried")
def test_a_generator_that_ends_by_itself_is_not_interrupted_too(stream: Stream, progress: Any) -> None:
    """Closing a stream tells it that nobody wants more, and cancels its task: it cleans up in peace."""
    cleaned: forkless.Queue[str] = forkless.Queue()
    for _ in range(10):
        progress.value = 0
        items = stream(hostile.count_and_clean_up, progress, cleaned)
        assert next(items) == 0
        # It waits for somebody to take the next one.
        assert eventually(lambda: progress.value == AHEAD + 1)
        items.close()
        assert cleaned.get(timeout=PATIENCE) == "cleaned up"
