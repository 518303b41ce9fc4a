"""Views of shared buffers: whatever made them, they travel as references, and by any way."""

from __future__ import annotations

import array
import gc
import pickle
from collections.abc import Callable
from typing import Any

import forkless
import numpy as np
import pyarrow as pa
import pytest
from forkless import _forkless
from forkless._pickling import dumps, loads, pack
from forkless.connection import Client, Listener
from hypothesis import given
from hypothesis import strategies as st
from support import Outcome

SIZE = 100_000
NUMBERS = bytes(range(256)) * (SIZE // 256 + 1)


def shared() -> forkless.SharedBuffer:
    return forkless.share(NUMBERS)


VIEWS: dict[str, Callable[[Any], Any]] = {
    "memoryview": lambda buffer: memoryview(buffer)[5:90_000],
    "cast": lambda buffer: memoryview(buffer)[:800].cast("d"),
    "pickle's": lambda buffer: pickle.PickleBuffer(memoryview(buffer)[100:]),
    "NumPy's": lambda buffer: np.frombuffer(buffer, np.int32, 1000, 8),
    "of two dimensions": lambda buffer: np.asarray(buffer)[:80_000].reshape(200, 400)[::3, ::-2],
    "Arrow's": lambda buffer: pa.py_buffer(buffer).slice(10, 50_000),
    "NumPy's of Arrow's": lambda buffer: np.frombuffer(pa.py_buffer(buffer), np.int16)[::-5],
    "a column": lambda buffer: pa.Array.from_buffers(
        pa.uint8(), 5000, [None, pa.py_buffer(buffer)], offset=9
    ),
}

AROUND: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "by itself": (lambda view: view, lambda back: back),
    "in a dict": (lambda view: {"a": [view, 1, view]}, lambda back: back["a"][2]),
    "beside others": (lambda view: (np.ones(SIZE), b"x" * SIZE, view, "end"), lambda back: back[2]),
    "beside small ones": (lambda view: (np.ones(3), view, bytearray(5)), lambda back: back[1]),
    "in a closure": (lambda view: lambda: view, lambda back: back()),
}


def content(view: Any) -> list[int]:
    if isinstance(view, pa.Array):
        return view.to_pylist()  # type: ignore[no-any-return]
    return list(np.ascontiguousarray(np.asarray(view)).view(np.uint8).ravel())


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("kind", VIEWS)
def test_views_travel_as_references(kind: str, around: str) -> None:
    buffer = shared()
    view = VIEWS[kind](buffer)
    wrap, unwrap = AROUND[around]
    queue: forkless.Queue[Any] = forkless.Queue()
    queue.put(wrap(view))
    payload, handles = dumps(wrap(view))
    assert {handle.handle for handle in handles} == {buffer.handle}
    assert len(payload) < 2000 + (9 * SIZE if around == "beside others" else 0)
    for back in (unwrap(queue.get(writable=True)), unwrap(loads(payload))):
        assert content(back) == content(view)
        # In place: it is a reference again, and to the same buffer.
        assert {handle.handle for handle in dumps(back)[1]} == {buffer.handle}


def test_what_is_beside_a_reference_is_as_it_always_is() -> None:
    queue: forkless.Queue[Any] = forkless.Queue()
    large, small, text = np.arange(SIZE), np.arange(3), b"t" * SIZE
    queue.put([large, memoryview(shared())[1:4], small, text, large])
    first, part, few, back, second = queue.get(writable=True)
    assert bytes(part) == NUMBERS[1:4]
    assert part.readonly
    assert back == text
    assert first is second
    assert first.flags.writeable
    assert few.flags.writeable
    np.testing.assert_array_equal(first, large)
    np.testing.assert_array_equal(few, small)


@given(st.lists(st.integers(0, SIZE), min_size=4, max_size=4))
def test_any_parts_arrive_in_their_order(bounds: list[int]) -> None:
    first, second = slice(*sorted(bounds[:2])), slice(*sorted(bounds[2:]))
    one, other = memoryview(shared()), memoryview(forkless.share(NUMBERS[::-1]))
    packed = pack((one[first], other[second], one[second]))
    payload = packed.payload if isinstance(packed.payload, bytes) else b"".join(packed.payload)
    back = pickle.loads(payload, buffers=packed.buffers)
    assert list(back) == [one[first], other[second], one[second]]


def test_other_memory_is_copied_as_ever() -> None:
    view = memoryview(shared())
    sources: list[Any] = [bytes(view), bytearray(view), array.array("B", view), np.array(view)]
    for source in sources:
        assert dumps(pickle.PickleBuffer(source))[1] == []
    # What begins in one and ends elsewhere does not exist; what was there is forgotten.
    address, size = _forkless.address_of(view), view.nbytes
    assert _forkless.find_shared(address, size) == (view.obj, 0)
    assert _forkless.find_shared(address + size - 1, 1) == (view.obj, size - 1)
    for place in (
        (address, 0),
        (address, size + 1),
        (address - 1, 2),
        (address + size, 1),
        (0, 1),
        (1, 2**64 - 1),
    ):
        assert _forkless.find_shared(*place) is None
    del view
    assert _forkless.find_shared(address, size) is None


def test_plain_pickles_are_copies() -> None:
    column = VIEWS["a column"](shared())
    pickled = pickle.dumps(column, 5)
    assert len(pickled) > 5000
    assert pickle.loads(pickled) == column


def test_where_nothing_would_keep_it_alive_it_is_copied() -> None:
    """As through a connection to a process outside of the tree."""
    buffer = shared()
    for make in VIEWS.values():
        view = make(buffer)
        payload, handles = dumps([view], leased=False)
        assert handles == []
        assert content(loads(payload)[0]) == content(view)
    assert dumps(VIEWS["a column"](buffer))[1]
    with Listener() as listener, Client(listener.address) as here, listener.accept() as there:
        here.send([memoryview(buffer), np.asarray(buffer)])
        whole, array = there.recv()
    assert bytes(whole) == bytes(array) == NUMBERS


def test_a_message_keeps_what_it_refers_to_and_a_view_does() -> None:
    gc.collect()
    before = _forkless.census()
    queue: forkless.Queue[Any] = forkless.Queue()
    queue.put({"a": pa.py_buffer(shared()).slice(7), "b": np.ones(SIZE)})
    gc.collect()
    back = queue.get()["a"]
    del queue
    assert back.to_pybytes() == NUMBERS[7:]
    del back
    gc.collect()
    assert _forkless.census() == before


def test_a_definition_keeps_what_it_refers_to(run_program: Callable[..., Outcome]) -> None:
    run_program("""
import forkless as mp, pyarrow as pa
column = pa.array(range(1000)).cast(pa.int64())
buffer = mp.share(column.buffers()[1])
class Holder:
    part = buffer.slice(80)
    def first(self):
        return memoryview(self.part).cast("q")[0], self.part.size
def use():
    return Holder().first(), buffer.size
with mp.Pool(2) as pool:
    assert pool.starmap(use, [()] * 20) == [((10, 7920), 8000)] * 20
    assert pool.apply(Holder().first) == (10, 7920)
""").check()


WAYS = """
import forkless as mp, pyarrow as pa, os
parts = pa.py_buffer(mp.share(bytes(range(256)) * 40_000))
part = parts.slice(300, 10_000_000)

def own():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon")) << 10

def look(part, before=None):
    return part.size, part.to_pybytes()[:2], part.address % 64

def of_global():
    return look(part)

def child(part, queue, connection):
    queue.put(look(part))
    queue.put(look(connection.recv()))
    connection.send([part])
    queue.put(part.slice(5))

expected = (10_000_000, bytes([44, 45]), 44)
context = mp.get_context({method!r})
queue, (here, there) = context.Queue(), context.Pipe()
process = context.Process(target=child, args=(part, queue, there))
process.start()
here.send(part)
assert queue.get() == queue.get() == expected
back = here.recv()[0]
assert look(back) == expected
assert look(queue.get())[:2] == (9_999_995, bytes([49, 50]))
process.join()
with context.Pool(2) as pool:
    assert pool.map(look, [part] * 4) == [expected] * 4
    assert pool.apply(of_global) == pool.apply(lambda: look(part)) == expected
    assert pool.apply(lambda: part) == part
with mp.Executor(1, mp_context=context) as executor:
    assert executor.submit(look, part=part).result() == expected
"""


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_by_any_way(method: str, run_program: Callable[..., Outcome]) -> None:
    run_program(WAYS.format(method=method)).check()


def test_a_killed_sender_and_killed_receivers(run_program: Callable[..., Outcome]) -> None:
    run_program("""
import forkless as mp, pyarrow as pa, os, signal
from forkless import _forkless

def send(queue):
    queue.put([pa.py_buffer(mp.share(bytes(1_000_000))).slice(1)])
    os.kill(os.getpid(), signal.SIGKILL)

def hold(queue, ready):
    views = queue.get()
    ready.put(len(views))
    signal.pause()

def run():
    queue, ready = mp.Queue(), mp.Queue()
    sender = mp.Process(target=send, args=(queue,))
    sender.start()
    sender.join()
    assert sender.exitcode == -signal.SIGKILL
    buffers = queue.get()
    assert buffers[0].size == 999_999 and not any(buffers[0].to_pybytes())
    holders = [mp.Process(target=hold, args=(queue, ready)) for _ in range(2)]
    for holder in holders:
        holder.start()
        queue.put(buffers)
        assert ready.get() == 1
    del buffers
    for holder in holders:
        holder.kill()
        holder.join()
        holder.close()
    sender.close()

run()
before = _forkless.census()
for _ in range(3):
    run()
blocks, leases = _forkless.census()
assert abs(blocks - before[0]) <= 2 and abs(leases - before[1]) <= 4, (before, blocks, leases)
""").check()


def test_in_a_copy_of_the_process_made_by_fork(run_program: Callable[..., Outcome]) -> None:
    run_program("""
import forkless as mp, pyarrow as pa, os
queue, back = mp.Queue(), mp.Queue()
part = pa.py_buffer(mp.share(bytes(range(200)) * 100)).slice(10)
pid = os.fork()
if not pid:
    queue.put(part)
    ok = back.get() == part
    os._exit(0 if ok else 1)
there = queue.get()
assert there == part
back.put(there)
assert os.waitpid(pid, 0)[1] == 0
""").check()
