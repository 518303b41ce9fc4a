"""`forkless.Queue`, `JoinableQueue` and `SimpleQueue`: alone, between processes, inside other queues."""

from __future__ import annotations

import asyncio
import gc
import pickle
import queue as standard
import threading
from collections import Counter, deque
from functools import partial
from typing import Any

import forkless
import jobs
import pytest
from forkless import _forkless
from hypothesis import given
from hypothesis import strategies as st
from support import PATIENCE, run_program


def test_first_in_first_out() -> None:
    queue: forkless.Queue[Any] = forkless.Queue()
    items = [1, "two", None, {"three": [3.0]}, b"four" * 100_000]
    for item in items:
        queue.put(item)
    assert queue.qsize() == len(items)
    assert [queue.get() for _ in items] == items
    assert queue.empty()


def test_empty() -> None:
    queue: forkless.Queue[int] = forkless.Queue()
    with pytest.raises(standard.Empty):
        queue.get_nowait()
    with pytest.raises(standard.Empty):
        queue.get(timeout=0.01)
    with pytest.raises(standard.Empty):
        queue.get(timeout=-1)


def test_full() -> None:
    queue: forkless.Queue[int] = forkless.Queue(2)
    queue.put(1)
    assert not queue.full()
    queue.put_nowait(2)
    assert queue.full()
    for options in ({"timeout": 0.01}, {"timeout": -1}, {"block": False}):
        with pytest.raises(standard.Full):
            queue.put(3, **options)
    with pytest.raises(standard.Full):
        queue.put_nowait(3)
    assert [queue.get(), queue.get()] == [1, 2]
    assert not queue.full()


def test_no_limit() -> None:
    for maxsize in (0, -5):
        queue: forkless.Queue[int] = forkless.Queue(maxsize)
        for number in range(1000):
            queue.put(number)
        assert not queue.full()
        assert [queue.get() for _ in range(1000)] == list(range(1000))


def test_a_negative_timeout_finds_what_is_there() -> None:
    queue: forkless.Queue[int] = forkless.Queue()
    queue.put(1)
    assert queue.get(timeout=-1) == 1


def test_what_was_put_is_there_at_once_and_does_not_change() -> None:
    queue: forkless.Queue[list[int]] = forkless.Queue()
    item = [1]
    queue.put(item)
    item.append(2)
    assert queue.get_nowait() == [1]


def test_what_cannot_be_sent_raises_where_it_is_put() -> None:
    queue: forkless.Queue[Any] = forkless.Queue()
    with pytest.raises((TypeError, pickle.PicklingError), match="lock"):
        queue.put({"key": threading.Lock()})
    assert queue.empty()


def test_closed() -> None:
    queue: forkless.Queue[int] = forkless.Queue()
    queue.put(1)
    queue.close()
    queue.close()
    queue.join_thread()
    queue.cancel_join_thread()
    for call in (queue.get, lambda: queue.put(2)):
        with pytest.raises(ValueError, match="closed"):
            call()


def test_a_closed_queue_is_open_elsewhere() -> None:
    queue: forkless.Queue[int] = forkless.Queue()
    child = forkless.Process(target=jobs.put, args=(queue, 5))
    other: forkless.Queue[int] = pickle.loads(pickle.dumps(queue))
    queue.close()
    child.start()
    child.join()
    assert other.get(timeout=PATIENCE) == 5


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_many_processes(method: str) -> None:
    queue: forkless.Queue[tuple[int, int]] = forkless.Queue(10)
    context = forkless.get_context(method)
    children = [context.Process(target=jobs.put_many, args=(queue, sender, 200)) for sender in range(3)]
    for child in children:
        child.start()
    got = [queue.get(timeout=PATIENCE) for _ in range(600)]
    for child in children:
        child.join()
        assert child.exitcode == 0
    for sender in range(3):
        assert [number for who, number in got if who == sender] == list(range(200)), "each in its order"


def test_many_threads() -> None:
    queue: forkless.Queue[tuple[int, int]] = forkless.Queue(4)
    got: list[tuple[int, int]] = []
    putters = [threading.Thread(target=jobs.put_many, args=(queue, sender, 300)) for sender in range(3)]
    getters = [
        threading.Thread(target=lambda: got.extend(queue.get(timeout=PATIENCE) for _ in range(450)))
        for _ in range(2)
    ]
    for thread in (*putters, *getters):
        thread.start()
    for thread in (*putters, *getters):
        thread.join()
    assert Counter(got) == Counter((sender, number) for sender in range(3) for number in range(300))


def test_a_queue_in_a_queue() -> None:
    outer: forkless.Queue[forkless.Queue[str]] = forkless.Queue()
    inner: forkless.Queue[str] = forkless.Queue()

    def answer() -> None:
        outer.get(timeout=PATIENCE).put("through the inner one")

    child = forkless.Process(target=answer)
    child.start()
    outer.put(inner)
    assert inner.get(timeout=PATIENCE) == "through the inner one"
    child.join()


def test_a_queue_that_only_lives_in_a_message() -> None:
    outer: forkless.Queue[forkless.Queue[str]] = forkless.Queue()
    inner: forkless.Queue[str] = forkless.Queue()
    inner.put("still here")
    outer.put(inner)
    del inner
    assert outer.get().get_nowait() == "still here"


def test_items_outlive_the_process_that_put_them() -> None:
    queue: forkless.Queue[Any] = forkless.Queue()

    def put_and_die() -> None:
        jobs.put_many(queue, 0, 100)
        jobs.die()

    child = forkless.Process(target=put_and_die)
    child.start()
    child.join()
    assert child.exitcode == -9
    assert [queue.get_nowait() for _ in range(100)] == [(0, number) for number in range(100)]


def test_joining_before_draining() -> None:
    queue: forkless.Queue[bytes] = forkless.Queue()
    child = forkless.Process(target=jobs.put, args=(queue, bytes(1_000_000)))
    child.start()
    child.join(PATIENCE)
    assert child.exitcode == 0
    assert len(queue.get_nowait()) == 1_000_000


def test_a_subclass_stays_one() -> None:
    class Logged(forkless.Queue[int]):
        pass

    outer: forkless.Queue[Logged] = forkless.Queue()
    outer.put(Logged(7))
    assert type(outer.get()) is Logged
    assert repr(Logged(7)).endswith("Logged maxsize=7>")


@given(st.lists(st.one_of(st.integers(), st.text(), st.binary(max_size=50_000), st.just("get"))))
def test_it_behaves_like_a_deque(actions: list[Any]) -> None:
    queue: forkless.Queue[Any] = forkless.Queue()
    model: deque[Any] = deque()
    for action in actions:
        if action == "get":
            if model:
                assert queue.get_nowait() == model.popleft()
            else:
                with pytest.raises(standard.Empty):
                    queue.get_nowait()
        else:
            queue.put(action)
            model.append(action)
        assert queue.qsize() == len(model)


def test_putting_from_del_while_putting() -> None:
    source = """
import forkless
queue = forkless.Queue()
class Loop:
    def __init__(self):
        self.me = self
    def __del__(self):
        queue.put("from __del__")
for number in range(20_000):
    Loop()
    queue.put(number)
import gc; gc.collect()
count = 0
while not queue.empty():
    queue.get()
    count += 1
print(count)
"""
    assert run_program(source).check() == "40000\n"


def test_putting_from_a_signal_handler_while_putting() -> None:
    source = """
import forkless, signal
queue = forkless.Queue()
handled = 0
def handle(*_):
    global handled
    handled += 1
    queue.put("from the handler")
signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
number = 0
while number < 20_000 or handled <= 10:
    queue.put(number)
    number += 1
signal.setitimer(signal.ITIMER_REAL, 0)
assert queue.qsize() == number + handled
"""
    run_program(source).check()


def test_plain_items_arrive_as_they_are() -> None:
    queue: forkless.Queue[Any] = forkless.Queue()
    text = ("", "text", "\0", "\U0001f40d" * 10_000, "half a pair: \ud800")
    numbers = (0, -1, 2**63 - 1, -(2**63), 2**63, 1.5, float("inf"), -0.0)
    items = [*text, *numbers, True, False, None, b"", b"bytes", bytes(100_000)]
    queue.put_many(items)
    back = queue.get_many()
    assert back == items
    assert list(map(type, back)) == list(map(type, items))


def test_subclasses_of_plain_types_stay_what_they_are() -> None:
    class Text(str):
        note = ""

    class Number(int):
        pass

    queue: forkless.Queue[Any] = forkless.Queue()
    text = Text("text")
    text.note = "kept"
    queue.put_many([text, Number(5)])
    back = queue.get_many()
    assert (type(back[0]), back[0].note, type(back[1]), back[1]) == (Text, "kept", Number, 5)


def test_many_at_once() -> None:
    queue: forkless.Queue[int] = forkless.Queue()
    queue.put_many(iter(range(1000)))
    assert queue.qsize() == 1000
    assert queue.get_many(0) == []
    assert queue.get_many(3) == [0, 1, 2]
    assert queue.get_many(max_items=600, block=False) == list(range(3, 603))
    assert queue.get_many_nowait() == list(range(603, 1000))
    with pytest.raises(standard.Empty):
        queue.get_many_nowait()
    with pytest.raises(standard.Empty):
        queue.get_many(timeout=0.01)
    queue.put_many([])
    assert queue.empty()


def test_many_at_once_are_sent_while_they_are_made() -> None:
    queue: forkless.Queue[int] = forkless.Queue()
    seen = 0

    def numbers() -> Any:
        nonlocal seen
        for number in range(1000):
            seen = queue.qsize()
            yield number

    queue.put_many(numbers())
    assert 0 < seen < 1000


def test_many_at_once_with_room_for_few() -> None:
    queue: forkless.Queue[int] = forkless.Queue(7)
    for options in ({"timeout": 0.01}, {"block": False}):
        with pytest.raises(standard.Full) as caught:
            queue.put_many(range(10), **options)
        assert caught.value.sent == 7  # type: ignore[attr-defined]
        assert queue.get_many() == list(range(7))
    child = forkless.Process(target=jobs.put_range, args=(queue, 100))
    child.start()
    got: list[int] = []
    while len(got) < 100:
        got += queue.get_many(timeout=PATIENCE)
        assert queue.qsize() <= 7
    child.join()
    assert got == list(range(100))


@pytest.mark.parametrize("maxsize", [1, 2, 3, 4, 16, 17])
def test_many_at_once_never_exceed_the_limit(maxsize: int) -> None:
    queue: forkless.Queue[int] = forkless.Queue(maxsize)
    for count in range(1, 40):
        if count <= maxsize:
            queue.put_many(range(count), block=False)
        else:
            with pytest.raises(standard.Full) as caught:
                queue.put_many(range(count), block=False)
            assert caught.value.sent == maxsize  # type: ignore[attr-defined]
        assert queue.get_many() == list(range(min(count, maxsize)))


def test_many_at_once_one_of_which_cannot_be_sent() -> None:
    queue: forkless.Queue[Any] = forkless.Queue()
    items = [*range(300), threading.Lock(), 5]
    with pytest.raises(pickle.PicklingError, match="lock"):
        queue.put_many(items)
    # What was put before is in the queue, as many as were sent together.
    assert queue.get_many() == list(range(256))


def test_many_at_once_one_of_which_cannot_be_rebuilt() -> None:
    queue: forkless.Queue[Any] = forkless.Queue()
    queue.put_many([1, jobs.Unloadable(), 2])
    with pytest.raises(RuntimeError, match="on purpose") as caught:
        queue.get_many()
    assert caught.value.items == [1, 2]  # type: ignore[attr-defined]
    queue.put(jobs.Unloadable())
    queue.put(3)
    with pytest.raises(RuntimeError, match="on purpose"):
        queue.get()
    assert queue.get() == 3


def test_a_limit_in_bytes() -> None:
    queue: forkless.Queue[bytes] = forkless.Queue(max_bytes=1000)
    queue.put(bytes(400))
    queue.put(bytes(600))
    assert queue.full()
    assert queue.statistics().bytes_waiting == 1000
    with pytest.raises(standard.Full):
        queue.put_nowait(b"x")
    queue.get()
    assert not queue.full()
    with pytest.raises(standard.Full):
        queue.put(bytes(401), timeout=0.01)
    queue.put(bytes(400))
    assert [len(item) for item in queue.get_many()] == [600, 400]
    with pytest.raises(ValueError, match="1001 bytes can never fit into a queue of at most 1000"):
        queue.put(bytes(1001))


@pytest.mark.parametrize("item", [b"12", "12", 5, [1], bytes(100_000)])
def test_a_limit_of_one_byte(item: Any) -> None:
    queue: forkless.Queue[Any] = forkless.Queue(max_bytes=1)
    with pytest.raises(ValueError, match="can never fit"):
        queue.put(item)
    with pytest.raises(ValueError, match="can never fit"):
        queue.put_many([b"", item])
    queue.put(b"1")
    queue.put(None)
    assert queue.get_many() == [b"1", None]


def test_limits_that_are_none() -> None:
    with pytest.raises(ValueError, match="max_bytes is at least 0"):
        forkless.Queue(max_bytes=-1)
    with pytest.raises(OverflowError):
        forkless.Queue(1 << 40)


def test_putting_waits_for_bytes_to_go() -> None:
    queue: forkless.Queue[bytes] = forkless.Queue(max_bytes=100_000)
    child = forkless.Process(target=jobs.put_sizes, args=(queue, [60_000, 60_000, 20_000, 100_000, 0]))
    child.start()
    got = []
    for _ in range(5):
        got.append(len(queue.get(timeout=PATIENCE)))
        assert queue.statistics().bytes_waiting <= 100_000
    child.join()
    assert got == [60_000, 60_000, 20_000, 100_000, 0]


def test_statistics() -> None:
    queue: forkless.Queue[bytes] = forkless.Queue()
    for _ in range(3):
        queue.put(bytes(20_000))
    queue.get()
    statistics = queue.statistics()
    assert (statistics.sent, statistics.received, statistics.waiting) == (3, 1, 2)
    assert (statistics.bytes_waiting, statistics.lost, statistics.lost_by) == (40_000, 0, ())
    with pytest.raises(AttributeError):
        statistics.sent = 5  # type: ignore[misc]


def test_shutdown() -> None:
    queue: forkless.Queue[int] = forkless.Queue()
    queue.put_many([1, 2])
    queue.shutdown()
    queue.shutdown()
    with pytest.raises(forkless.ShutDown):
        queue.put(3)
    with pytest.raises(forkless.ShutDown):
        queue.put_many([3])
    assert queue.get() == 1
    assert list(queue) == [2]
    for _ in range(2):
        with pytest.raises(forkless.ShutDown):
            queue.get()
        with pytest.raises(forkless.ShutDown):
            queue.get_nowait()
        with pytest.raises(forkless.ShutDown):
            queue.get_many()
    if hasattr(standard, "ShutDown"):
        assert issubclass(forkless.ShutDown, standard.ShutDown)


def test_shutdown_at_once() -> None:
    queue: forkless.JoinableQueue[Any] = forkless.JoinableQueue()
    queue.put_many([1, bytes(100_000), [queue]])
    queue.shutdown(immediate=True)
    assert queue.empty()
    assert list(queue) == []
    queue.join()


def test_shutdown_wakes_who_waits() -> None:
    queue: forkless.Queue[int] = forkless.Queue(1)
    started, outcomes = forkless.Semaphore(0), forkless.Queue[str]()
    getters = [
        forkless.Process(target=jobs.report_end, args=(queue.get, started, outcomes)) for _ in range(3)
    ]
    for child in getters:
        child.start()
    for _ in getters:
        assert started.acquire(timeout=PATIENCE)
    queue.shutdown()
    assert [outcomes.get(timeout=PATIENCE) for _ in getters] == ["ShutDown"] * 3
    for child in getters:
        child.join()


def test_shutdown_wakes_who_waits_for_room() -> None:
    queue: forkless.Queue[int] = forkless.Queue(1)
    queue.put(1)
    started, outcomes = forkless.Semaphore(0), forkless.Queue[str]()
    child = forkless.Process(target=jobs.report_end, args=(partial(queue.put, 2), started, outcomes))
    child.start()
    assert started.acquire(timeout=PATIENCE)
    queue.shutdown()
    assert outcomes.get(timeout=PATIENCE) == "ShutDown"
    child.join()


def test_iterating_in_several_processes() -> None:
    queue, results = forkless.Queue[int](), forkless.Queue[list[int]]()
    children = [forkless.Process(target=jobs.put_list, args=(queue, results)) for _ in range(2)]
    for child in children:
        child.start()
    queue.put_many(range(1000))
    queue.shutdown()
    got = results.get(timeout=PATIENCE) + results.get(timeout=PATIENCE)
    assert sorted(got) == list(range(1000))
    for child in children:
        child.join()


def test_joining_tasks() -> None:
    queue: forkless.JoinableQueue[int] = forkless.JoinableQueue()
    queue.join()
    with pytest.raises(ValueError, match="too many times"):
        queue.task_done()
    children = [forkless.Process(target=jobs.do_tasks, args=(queue,)) for _ in range(2)]
    for child in children:
        child.start()
    queue.put_many(range(200))
    queue.join(timeout=PATIENCE)
    assert queue.empty()
    queue.shutdown()
    for child in children:
        child.join()
        assert child.exitcode == 0
    with pytest.raises(ValueError, match="too many times"):
        queue.task_done()


def test_joining_in_time() -> None:
    queue: forkless.JoinableQueue[int] = forkless.JoinableQueue()
    queue.put(1)
    with pytest.raises(forkless.TimeoutError, match=r"1 items of .* are not done after 0.01 s"):
        queue.join(timeout=0.01)
    queue.get()
    queue.task_done()
    queue.join(timeout=0)


@pytest.mark.parametrize("end", ["killed", "returned"])
def test_tasks_that_die_with_their_worker(end: str) -> None:
    queue: forkless.JoinableQueue[int] = forkless.JoinableQueue()
    queue.put_many(range(5))
    taken = forkless.Event()
    child = forkless.Process(target=jobs.take, args=(queue, 3, taken, end == "killed"), name="careless")
    child.start()
    assert taken.wait(PATIENCE)
    if end == "killed":
        child.kill()
    for _ in range(2):
        queue.get(timeout=PATIENCE)
        queue.task_done()
    with pytest.raises(forkless.WorkerDied, match=r"3 items .* careless \(pid \d+\) with 3") as caught:
        queue.join(timeout=PATIENCE)
    assert (caught.value.worker, caught.value.pid) == ("careless", child.pid)
    child.join()
    statistics = queue.statistics()
    assert statistics.lost == 3
    assert [(loss.name, loss.pid, loss.count) for loss in statistics.lost_by] == [("careless", child.pid, 3)]
    # Told once; from now on the queue is as good as new.
    queue.join()
    queue.put(6)
    queue.get()
    with pytest.raises(forkless.TimeoutError):
        queue.join(timeout=0)
    queue.task_done()
    queue.join()


def test_who_dies_while_others_work_is_told_when_they_are_done() -> None:
    queue: forkless.JoinableQueue[int] = forkless.JoinableQueue()
    queue.put_many([1, 2])
    mine = queue.get()
    taken = forkless.Event()
    child = forkless.Process(target=jobs.take, args=(queue, 1, taken, False))
    child.start()
    child.join()
    with pytest.raises(forkless.TimeoutError):
        queue.join(timeout=0.2)
    assert mine == 1
    queue.task_done()
    with pytest.raises(forkless.WorkerDied):
        queue.join(timeout=PATIENCE)


def test_an_item_is_owed_once_whatever_object_takes_it() -> None:
    queue: forkless.JoinableQueue[int] = forkless.JoinableQueue()
    queue.put_many([1, 2])
    child = forkless.Process(target=jobs.take_by_one_and_finish_by_another, args=(queue,))
    child.start()
    child.join()
    assert child.exitcode == 0
    queue.join()
    assert queue.statistics().lost == 0


def test_a_death_while_an_item_is_rebuilt_is_counted() -> None:
    queue: forkless.Queue[Any] = forkless.Queue()
    queue.put(jobs.Deadly())
    queue.put("next")
    child = forkless.Process(target=queue.get, name="unlucky")
    child.start()
    child.join()
    assert child.exitcode == -9
    assert queue.get(timeout=PATIENCE) == "next"
    statistics = queue.statistics()
    assert (statistics.sent, statistics.received, statistics.lost) == (2, 2, 1)
    assert [(loss.name, loss.count) for loss in statistics.lost_by] == [("unlucky", 1)]


def test_waiting_where_nobody_is_left() -> None:
    source = """
import forkless
queue, tasks = forkless.Queue(1), forkless.JoinableQueue()
child = forkless.Process(target=lambda *queues: None, args=(queue, tasks))
child.start()
child.join()
queue.put(1)
for call in (lambda: queue.put(2), tasks.get, tasks.get_many):
    try:
        call()
    except EOFError as error:
        print(type(error).__name__, "would wait for ever" in str(error))
tasks.put(1)
try:
    tasks.join()
except forkless.QueueAbandoned:
    print("join")
"""
    assert run_program(source).check() == "QueueAbandoned True\n" * 3 + "join\n"


def test_waiting_where_somebody_may_come() -> None:
    source = """
import forkless, signal, sys, threading, time
queue = forkless.Queue()
# Nobody else has had it: then the answer may come from a signal handler.
signal.signal(signal.SIGALRM, lambda *_: queue.put("handler"))
signal.setitimer(signal.ITIMER_REAL, 0.3)
print(queue.get())
child = forkless.Process(target=queue.put, args=("child",))
child.start()
child.join()
print(queue.get())
threading.Timer(0.3, queue.put, ("thread",)).start()
print(queue.get())
"""
    assert run_program(source).check() == "handler\nchild\nthread\n"


def test_simple_queue() -> None:
    queue: forkless.SimpleQueue[str] = forkless.get_context("spawn").SimpleQueue()
    assert queue.empty()
    child = forkless.Process(target=queue.put, args=("simple",))
    child.start()
    assert queue.get() == "simple"
    child.join()
    queue.close()
    for call in (queue.get, queue.empty):
        with pytest.raises(OSError, match="closed"):
            call()


def test_contexts_make_all_kinds() -> None:
    context = forkless.get_context("spawn")
    assert type(context.Queue(3, max_bytes=5)) is forkless.Queue
    assert type(context.JoinableQueue(3)) is forkless.JoinableQueue
    assert type(context.SimpleQueue()) is forkless.SimpleQueue
    # As subclasses of the standard library's queues call it.
    assert forkless.Queue(2, ctx=context).full() is False


def test_a_subclass_that_forgets_to_call_init() -> None:
    class Forgetful(forkless.Queue[int]):
        def __init__(self) -> None:
            self.mine = True

    with pytest.raises(RuntimeError, match="__init__ was not called"):
        Forgetful().put(1)


def test_memory_is_given_back() -> None:
    queue: forkless.Queue[Any] = forkless.Queue()
    queue.put(1)
    queue.get()
    gc.collect()
    before = _forkless.census()
    queue.put_many([bytes(1000)] * 5000)
    queue.put_many([bytes(20_000)] * 50)
    assert _forkless.census() > before
    while not queue.empty():
        queue.get_many()
    assert _forkless.census() == before


# Event loops.


def test_waiting_in_asyncio() -> None:
    async def main() -> list[str]:
        there, back = forkless.Queue[str](), forkless.Queue[str]()
        child = forkless.Process(target=jobs.echo_all, args=(there, back))
        child.start()
        waiting = [asyncio.create_task(back.aget()) for _ in range(3)]
        await asyncio.sleep(0)
        threads = set(threading.enumerate())
        for text in "abc":
            await there.aput(text)
        got = sorted(await asyncio.gather(*waiting))
        assert set(threading.enumerate()) <= threads
        there.put_many(["x", "y"])
        there.shutdown()
        got += [item async for item in back]
        child.join()
        return got

    assert asyncio.run(main()) == ["a", "b", "c", "x", "y"]


def test_waiting_for_room_in_asyncio() -> None:
    async def main() -> None:
        queue: forkless.Queue[int] = forkless.Queue(1)
        await queue.aput(0)
        with pytest.raises(standard.Full):
            await queue.aput(1, timeout=0.01)
        putting = asyncio.create_task(put_all(queue))
        assert [await queue.aget(timeout=PATIENCE) for _ in range(10)] == list(range(10))
        await putting
        with pytest.raises(standard.Empty):
            await queue.aget(timeout=0.01)

    async def put_all(queue: forkless.Queue[int]) -> None:
        for number in range(1, 10):
            await queue.aput(number)

    asyncio.run(main())


def test_a_cancelled_wait_has_taken_nothing() -> None:
    async def main() -> None:
        queue: forkless.Queue[int] = forkless.Queue()
        waiting = asyncio.create_task(queue.aget())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        queue.put(1)
        assert await queue.aget() == 1

    asyncio.run(main())


def test_a_ring_wakes_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    # Without the look that the loop takes by itself.
    monkeypatch.setattr("forkless._aio.TICK", 3600)

    async def main() -> list[int]:
        queue: forkless.Queue[int] = forkless.Queue()
        child = forkless.Process(target=jobs.put_range_slowly, args=(queue, 20))
        child.start()
        got = [await queue.aget() for _ in range(20)]
        child.join()
        return got

    assert asyncio.run(main()) == list(range(20))


def test_more_loops_than_bells() -> None:
    queue: forkless.Queue[int] = forkless.Queue()
    threads = [threading.Thread(target=lambda: asyncio.run(queue.aget())) for _ in range(8)]
    for thread in threads:
        thread.start()
    queue.put_many(range(8))
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_a_loop_that_died_leaves_its_place_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forkless._aio.TICK", 3600)
    queue: forkless.Queue[int] = forkless.Queue()
    for _ in range(4):
        started = forkless.Semaphore(0)
        child = forkless.Process(target=jobs.wait_in_loop, args=(queue, started), daemon=True)
        child.start()
        assert started.acquire(timeout=PATIENCE)
        child.kill()
        child.join()
    queue.put(0)  # rings, and nobody hears
    assert queue.get() == 0

    async def main() -> int:
        got, _ = await asyncio.wait_for(asyncio.gather(queue.aget(), later()), PATIENCE)
        return got

    async def later() -> None:
        await asyncio.sleep(0)
        queue.put(1)

    assert asyncio.run(main()) == 1


def test_waiting_in_trio() -> None:
    trio = pytest.importorskip("trio")

    async def main() -> list[str]:
        there, back = forkless.Queue[str](), forkless.Queue[str]()
        child = forkless.Process(target=jobs.echo_all, args=(there, back))
        child.start()
        got: list[str] = []

        async def get() -> None:
            got.append(await back.aget())

        async with trio.open_nursery() as nursery:
            for text in "abc":
                nursery.start_soon(get)
                await there.aput(text)
        with pytest.raises(standard.Empty):
            await back.aget(timeout=0.01)
        there.shutdown()
        got += [item async for item in back]
        child.join()
        return sorted(got)

    assert trio.run(main) == ["a", "b", "c"]
