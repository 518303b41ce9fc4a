"""`forkless.Queue`: alone, between processes, inside other queues."""

from __future__ import annotations

import pickle
import queue as standard
import threading
from collections import Counter, deque
from typing import Any

import forkless
import jobs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import run_program

pytestmark = pytest.mark.timeout(60)


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
    assert other.get(timeout=5) == 5


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_many_processes(method: str) -> None:
    queue: forkless.Queue[tuple[int, int]] = forkless.Queue(10)
    context = forkless.get_context(method)
    children = [context.Process(target=jobs.put_many, args=(queue, sender, 200)) for sender in range(3)]
    for child in children:
        child.start()
    got = [queue.get(timeout=30) for _ in range(600)]
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
        threading.Thread(target=lambda: got.extend(queue.get(timeout=30) for _ in range(450)))
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
        outer.get(timeout=20).put("through the inner one")

    child = forkless.Process(target=answer)
    child.start()
    outer.put(inner)
    assert inner.get(timeout=20) == "through the inner one"
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
    child.join(30)
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
for number in range(20_000):
    queue.put(number)
signal.setitimer(signal.ITIMER_REAL, 0)
assert queue.qsize() == 20_000 + handled
print(handled > 10)
"""
    assert run_program(source).check() == "True\n"
