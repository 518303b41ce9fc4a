"""Large data on its way: copied once, used where it arrives, given back when it is dropped."""

from __future__ import annotations

import array
import dataclasses
import gc
import pickle
from collections.abc import Callable
from typing import Any

import forkless
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from forkless import _forkless
from support import Outcome


@dataclasses.dataclass
class Record:
    """Something with large data inside."""

    name: str
    data: Any


def frame() -> pd.DataFrame:
    """Columns of every kind that pandas keeps in its own way."""
    return pd.DataFrame(
        {
            "float": np.arange(20_000.0),
            "int": np.arange(20_000),
            "other": np.arange(20_000, 0, -1),
            "date": pd.date_range("2020-01-01", periods=20_000, freq="min"),
            "text": [f"row {number}" for number in range(20_000)],
            "kind": pd.Categorical(["a", "b"] * 10_000),
        }
    )


def table() -> pa.Table:
    """Columns of fixed and of variable width, one with gaps, in two pieces."""
    one = pa.table({"x": np.arange(30_000), "y": [None, "text", "more"] * 10_000})
    return pa.concat_tables([one, one.slice(5, 20_000)])


LARGE: dict[str, Callable[[], Any]] = {
    "bytes": lambda: b"large" * 100_000,
    "bytearray": lambda: bytearray(b"large" * 100_000),
    "memoryview of bytes": lambda: memoryview(b"large" * 20_000),
    "memoryview of a bytearray": lambda: memoryview(bytearray(b"large" * 20_000)),
    "memoryview of numbers": lambda: memoryview(array.array("d", range(20_000))),
    "memoryview in two dimensions": lambda: memoryview(bytes(80_000)).cast("i", (100, 200)),
    "memoryview with gaps": lambda: memoryview(b"large" * 20_000)[::3],
    "array.array": lambda: array.array("l", range(20_000)),
    "one dimension": lambda: np.arange(20_000.0),
    "C order": lambda: np.arange(20_000).reshape(100, 200),
    "Fortran order": lambda: np.asfortranarray(np.arange(20_000).reshape(100, 200)),
    "with gaps": lambda: np.arange(60_000)[::3],
    "backwards": lambda: np.arange(20_000)[::-1],
    "three dimensions": lambda: np.arange(24_000).reshape(20, 30, 40).transpose(1, 0, 2),
    "nothing": lambda: np.zeros((0, 5)),
    "a single number": lambda: np.array(5.0),
    "dates": lambda: np.arange("2000-01-01", "2080-01-01", dtype="M8[D]"),
    "records": lambda: np.array([(1, 2.0), (3, 4.0)] * 5000, "i4,f8"),
    "text of fixed width": lambda: np.array(["ab", "c"] * 5000),
    "another byte order": lambda: np.arange(20_000, dtype=">i4"),
    "objects": lambda: np.array([None, "text", 5] * 5000, dtype=object),
    "masked": lambda: np.ma.masked_array(np.arange(20_000), np.arange(20_000) % 2 == 1),
    "DataFrame": frame,
    "Series": lambda: frame()["float"],
    "Table": table,
    "RecordBatch": lambda: table().to_batches()[0],
    "Arrow array": lambda: table()["y"].chunk(1),
}

AROUND: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "by itself": (lambda data: data, lambda back: back),
    "in a dict of lists": (lambda data: {"a": [1, data]}, lambda back: back["a"][1]),
    "in a dataclass": (lambda data: Record("x", (data,)), lambda back: back.data[0]),
    "in an exception": (lambda data: ValueError("x", data), lambda back: back.args[1]),
    "in a closure": (lambda data: lambda: data, lambda back: back()),
}


def same(data: Any, back: Any) -> None:
    """Asserts that both are equal, and of one type."""
    assert type(back) is type(data)
    if isinstance(data, np.ndarray):
        assert (data.dtype, data.shape) == (back.dtype, back.shape)
        np.testing.assert_array_equal(data, back)
    elif isinstance(data, pd.DataFrame):
        pd.testing.assert_frame_equal(data, back)
    elif isinstance(data, pd.Series):
        pd.testing.assert_series_equal(data, back)
    elif isinstance(data, memoryview):
        assert (data.format, data.shape) == (back.format, back.shape)
        assert data.tobytes() == back.tobytes()
    else:
        assert data == back


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("kind", LARGE)
def test_it_comes_out_of_a_queue_as_it_was(kind: str, around: str) -> None:
    data = LARGE[kind]()
    wrap, unwrap = AROUND[around]
    queue: forkless.Queue[Any] = forkless.Queue()
    for writable in (True, False):
        queue.put(wrap(data))
        same(data, unwrap(queue.get(writable=writable)))


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_it_comes_through_arguments_tasks_and_results(
    method: str, run_program: Callable[..., Outcome]
) -> None:
    run_program(
        """
import sys
sys.path.insert(0, {tests!r})
import forkless as mp, test_bigdata

def answer(queue, *args, **kwargs):
    queue.put((args, kwargs))

def twice(data):
    return data, [data]

context = mp.get_context({method!r})
everything = {{kind: make() for kind, make in test_bigdata.LARGE.items()}}
queue = context.Queue()
child = context.Process(target=answer, args=(queue, *everything.values()), kwargs=everything)
child.start()
args, kwargs = queue.get()
child.join()
for data, one, other in zip(everything.values(), args, kwargs.values()):
    test_bigdata.same(data, one)
    test_bigdata.same(data, other)
with context.Pool(2) as pool:
    for data, (one, other) in zip(everything.values(), pool.imap(twice, everything.values())):
        test_bigdata.same(data, one)
        test_bigdata.same(data, other[0])
with mp.Executor(1, mp_context=context) as executor:
    for data in everything.values():
        test_bigdata.same(data, executor.submit(twice, data).result()[0])
""".format(tests=__file__.rpartition("/")[0], method=method)
    ).check()


def test_what_was_pickled_as_a_buffer_arrives_as_one() -> None:
    queue: forkless.Queue[Any] = forkless.Queue()
    for data in (b"few", b"many" * 10_000, bytearray(b"few"), bytearray(b"many" * 10_000)):
        queue.put(pickle.PickleBuffer(data))
        back = queue.get(writable=True)
        assert bytes(back) == data
        assert memoryview(back).readonly == isinstance(data, bytes)


@pytest.mark.parametrize("size", [10, 100_000])
def test_a_bytearray_is_a_bytearray(size: int) -> None:
    queue: forkless.Queue[Any] = forkless.Queue()
    queue.put(bytearray(size))
    back = queue.get(writable=False)
    back += b"more"
    back[0] = 1
    assert type(back) is bytearray
    assert len(back) == size + 4


@pytest.mark.parametrize("size", [10, 100_000])
def test_arrays_can_be_written_to_whatever_their_size(size: int) -> None:
    queue: forkless.Queue[Any] = forkless.Queue()
    source = np.zeros(size)
    for number in (1, 2):
        queue.put(source)
        back = queue.get(writable=True)
        assert not back.any()
        back += number
        assert back.sum() == number * size
    assert not source.any()


def test_views_are_read_only_unless_asked_for() -> None:
    queue: forkless.Queue[Any] = forkless.Queue()
    queue.put([np.zeros(100_000), frame()])
    array, _ = queue.get()
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1
    with pytest.raises(ValueError, match=r"WRITEABLE"):
        array.flags.writeable = True


@pytest.mark.parametrize("size", [10, 100_000])
def test_what_is_read_only_stays_so(size: int) -> None:
    source = np.zeros(size)
    source.flags.writeable = False
    queue: forkless.Queue[Any] = forkless.Queue()
    queue.put((source, memoryview(bytes(size)), memoryview(bytearray(size))))
    array, view, other = queue.get(writable=True)
    assert (array.flags.writeable, view.readonly, other.readonly) == (False, True, False)


def test_extents_begin_in_a_cache_line() -> None:
    queue: forkless.Queue[Any] = forkless.Queue()
    queue.put([np.ones(length, np.uint8) for length in (10_000, 10_001, 10_063, 20_000)])
    for back in queue.get():
        assert back.all()
        assert back.ctypes.data % 64 == 0


def test_views_outlive_the_queue_and_give_memory_back() -> None:
    gc.collect()
    before = _forkless.census()
    queue: forkless.Queue[Any] = forkless.Queue()
    queue.put({"a": np.arange(100_000), "b": memoryview(b"x" * 50_000)})
    back = queue.get()
    del queue
    part, text = back["a"][10:20], back["b"][5:]
    del back
    same(np.arange(10, 20), part)
    assert text == b"x" * 49_995
    del part
    assert _forkless.census() != before, "the other view keeps the message"
    del text
    assert _forkless.census() == before


def test_what_is_sent_on_is_a_copy() -> None:
    there: forkless.Queue[Any] = forkless.Queue()
    there.put(np.zeros(100_000))
    first = there.get(writable=True)
    there.put(first)
    second = there.get(writable=True)
    first += 1
    assert not second.any()


def test_a_pending_task_has_what_was_there_when_it_was_submitted() -> None:
    array, text = np.zeros(100_000), bytearray(200_000)
    with forkless.Executor(1) as executor:
        futures = []
        for number in range(6):
            array[:] = number
            text[:] = bytes([number]) * 200_000
            futures.append(executor.submit(_look, array, text))
        assert [future.result() for future in futures] == [(number, number) for number in range(6)]


def _look(array: Any, text: bytearray) -> tuple[int, int]:
    return int(array.max()), max(text)


def test_channels_take_parts_and_buffers() -> None:
    channel = _forkless.Channel(1)
    assert channel.send([b"one ", bytearray(b"message"), b""])
    assert channel.receive().payload == b"one message"  # type: ignore[union-attr]
    assert channel.send(b"p", buffers=[b"", bytearray(b"abc"), np.arange(5.0).data], tag=7)
    assert not channel.send(_forkless.Parcel(b"q"), block=False)
    message = channel.receive()
    assert message is not None
    assert (message.tag, message.payload) == (7, b"p")
    assert [bytes(view) for view in message.buffers()] == [b"", b"abc", np.arange(5.0).tobytes()]
    assert all(view.readonly for view in message.buffers())
    assert not any(view.readonly for view in message.buffers(writable=True))
    with pytest.raises(BufferError, match="contiguous"):
        channel.send(b"p", buffers=[memoryview(b"abcdef")[::2]])


def test_a_parcel_is_sent_once() -> None:
    channel, parcel = _forkless.Channel(1), _forkless.Parcel([b"a", b"b"], buffers=[b"c"])
    channel.send(b"in the way")
    assert not channel.send(parcel, block=False)
    channel.receive()
    assert channel.send(parcel, tag=3)
    with pytest.raises(ValueError, match="has been sent"):
        channel.send(parcel)
    message = channel.receive()
    assert message is not None
    assert (message.tag, bytes(message.payload)) == (3, b"ab")
    assert bytes(message.buffers()[0]) == b"c"


def test_views_in_a_copy_of_the_process_made_by_fork(run_program: Callable[..., Outcome]) -> None:
    """It takes hold of what it finds; the original may drop it."""
    run_program("""
import os, sys, forkless as mp, numpy as np
from forkless import _forkless
queue = mp.Queue()
queue.put(np.arange(1_000_000))
view = queue.get()
(its, go), (mine, there) = os.pipe(), os.pipe()
pid = os.fork()
if not pid:
    os.write(there, b"x")  # From here on the view is its own.
    os.read(its, 1)
    ok = view.sum() == sum(range(1_000_000))
    del view
    queue.put(np.ones(100_000))
    ok = ok and queue.get().sum() == 100_000
    os._exit(0 if ok else 1)
os.read(mine, 1)
del view
for _ in range(5):
    queue.put(np.zeros(1_000_000))
    queue.get()
os.write(go, b"x")
assert os.waitpid(pid, 0)[1] == 0
""").check()


def test_a_killed_receiver_and_a_killed_sender_leave_nothing(run_program: Callable[..., Outcome]) -> None:
    run_program("""
import os, signal, forkless as mp, numpy as np
from forkless import _forkless

def hold(queue, ready):
    views = [queue.get() for _ in range(3)]
    ready.set()
    signal.pause()

def die_sending(queue, point):
    _forkless.arm_crash_point(point, 2)
    for _ in range(3):
        queue.put([np.ones(1_000_000), np.ones(10_000), b"x" * 100_000])

points = ["parcel.extent.copied", "parcel.copied", "channel.send.written"]
queue, ready = mp.Queue(), mp.Event()
def run(target, *args):
    child = mp.Process(target=target, args=args)
    child.start()
    if target is hold:
        for _ in range(3):
            queue.put(np.ones(1_000_000))
        ready.wait()
        ready.clear()
        child.kill()
    child.join()
    assert child.exitcode == -9 or not _forkless.HAS_CRASH_POINTS, child.exitcode
    while not queue.empty():
        queue.get()
    child.close()
run(hold, queue, ready)
before = _forkless.census()
for _ in range(3):
    run(hold, queue, ready)
    for point in points:
        run(die_sending, queue, point)
    # The standbys come and go as they like, and hold a few blocks while they do.
    blocks, leases = _forkless.census()
    assert abs(blocks - before[0]) <= 2 and abs(leases - before[1]) <= 4, (before, blocks, leases)
""").check()


def test_memory_stays_flat(run_program: Callable[..., Outcome]) -> None:
    run_program("""
import os, forkless as mp, numpy as np
from forkless._forkless import memory

def produce(queue, done):
    for size in [100, 10_000, 1_000_000, 3_000_000] * 30:
        queue.put(np.ones(size))
    done.wait()

queue, done = mp.Queue(4), mp.Event()
child = mp.Process(target=produce, args=(queue, done))
child.start()
peak = 0
for number in range(120):
    array = queue.get()
    assert array.all()
    del array
    if number == 40:
        early = memory(os.getpid())[0]
assert memory(os.getpid())[0] < early + 150_000_000, (early, memory(os.getpid()))
done.set()
child.join()
""").check()


HUGE = {
    "arrays": """
array = np.zeros(2_200_000_000, np.uint8)
array[::100_000_000] = 7
queue.put([array, array])
del array
for back in queue.get():
    assert back.nbytes == 2_200_000_000 and (back[::100_000_000] == 7).all() and back[-1] == 0
""",
    "bytes": """
queue.put(bytes(2_200_000_000))
back = queue.get()
assert len(back) == 2_200_000_000 and back[-1] == 0
""",
}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("source", HUGE.values(), ids=HUGE)
def test_more_than_two_and_four_gigabytes(source: str, run_program: Callable[..., Outcome]) -> None:
    """The source is never touched, so it takes no memory; what arrives does."""
    with open("/proc/meminfo", encoding="ascii") as file:
        [available] = [int(line.split()[1]) << 10 for line in file if line.startswith("MemAvailable")]
    if available < 6 << 30:
        pytest.skip("takes 4.4 GB of memory")
    run_program("import forkless as mp, numpy as np\nqueue = mp.Queue()\n" + source, timeout=500).check()
