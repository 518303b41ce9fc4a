"""Values and arrays in shared memory: as in the standard library, and beyond it.

The first part runs against `multiprocessing` too; what follows has no counterpart there.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import multiprocessing.sharedctypes
import pickle
import signal
import threading
from collections.abc import Iterator
from multiprocessing.heap import BufferWrapper
from typing import Any

import forkless
import forkless.sharedctypes
import pytest
from support import PATIENCE

BOTH = pytest.mark.parametrize(
    "mp", [multiprocessing.get_context("spawn"), forkless.get_context()], ids=["standard", "forkless"]
)
MODULES = pytest.mark.parametrize(
    "module", [multiprocessing.sharedctypes, forkless.sharedctypes], ids=["standard", "forkless"]
)

CODES = [
    ("c", b"x", b"y"),
    ("u", "x", "\N{SNOWMAN}"),
    ("b", -3, 4),
    ("B", 3, 255),
    ("h", -300, 4),
    ("H", 3, 65535),
    ("i", -3, 1 << 30),
    ("I", 3, 1 << 31),
    ("l", -3, 1 << 62),
    ("L", 3, 1 << 63),
    ("q", -3, 1 << 62),
    ("Q", 3, 1 << 63),
    ("f", 0.5, -1.25),
    ("d", 0.1, 1e300),
]
TYPES = sorted(
    {
        kind
        for kind in vars(ctypes).values()
        if isinstance(kind, type) and ctypes._SimpleCData in kind.__bases__
    }
    - {ctypes.py_object},  # an address of one process means nothing in another
    key=lambda kind: kind.__name__,
)


class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_double)]


class Pixel(Point):
    _fields_ = [("colour", ctypes.c_ubyte * 3)]


class Word(ctypes.Union):
    _fields_ = [("number", ctypes.c_uint32), ("bytes", ctypes.c_ubyte * 4)]


@pytest.fixture(scope="module", autouse=True)
def standard_heap() -> Iterator[None]:
    """Keeps the standard library's memory file open for as long as tests count descriptors."""
    block = BufferWrapper(8)
    yield
    del block


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Lets go of the standard library's semaphores before its tracker of them is stopped."""
    yield
    gc.collect()


def run(mp: Any, target: Any, *args: Any) -> None:
    """Calls a function in a child."""
    process = mp.Process(target=target, args=args)
    process.start()
    process.join(PATIENCE)
    assert process.exitcode == 0
    process.close()


# --- as in the standard library ---


@BOTH
@pytest.mark.parametrize(("code", "first", "second"), CODES)
def test_values_of_each_typecode(mp: Any, code: str, first: Any, second: Any) -> None:
    for value in (mp.Value(code, first), mp.RawValue(code, first), mp.Value(code, first, lock=False)):
        assert value.value == first
        value.value = second
        assert value.value == second
        assert not hasattr(mp.RawValue(code), "get_lock")


@BOTH
@pytest.mark.parametrize("kind", TYPES)
def test_values_of_each_type(mp: Any, kind: Any) -> None:
    value = mp.RawValue(kind)
    assert type(value) is kind
    assert bytes(value) == bytes(ctypes.sizeof(kind))


@BOTH
def test_a_value_and_its_lock(mp: Any) -> None:
    value = mp.Value("i", 5)
    assert value.get_obj().value == 5
    assert isinstance(value.get_obj(), ctypes.c_int)
    with value as entered:
        assert entered is True
        with value.get_lock():
            value.value += 1
    assert value.acquire() is True
    value.release()
    lock = mp.Lock()
    assert mp.Value("i", 5, lock=lock).get_lock() is lock
    assert type(mp.Value("i", lock=None).get_lock()) is type(mp.RLock())
    with pytest.raises(AttributeError, match="acquire"):
        mp.Value("i", 5, lock="no lock")
    assert repr(value) == "<Synchronized wrapper for c_int(6)>"


@BOTH
@pytest.mark.parametrize("raw", [True, False])
def test_arrays(mp: Any, raw: bool) -> None:
    array = (mp.RawArray if raw else mp.Array)("i", [1, 2, 3, 4])
    assert len(array) == 4
    assert list(array) == array[:] == [1, 2, 3, 4]
    array[2:4] = array[1:3]
    assert array[:] == [1, 2, 2, 3]
    array[0] = array[-1]
    assert (array[0], array[1:3], array[::-2]) == (3, [2, 2], [3, 2])
    with pytest.raises(IndexError):
        array[4]
    with pytest.raises(ValueError, match="size"):
        array[:] = [1]
    zeros = (mp.RawArray if raw else mp.Array)(ctypes.c_double, 3)
    assert zeros[:] == [0.0] * 3
    with pytest.raises(TypeError):
        mp.RawArray("i", ["x"])


@BOTH
def test_an_array_and_its_lock(mp: Any) -> None:
    array = mp.Array("i", range(3))
    with array.get_lock(), array:
        assert array.get_obj()[:] == [0, 1, 2]
    lock = mp.RLock()
    assert mp.Array("i", 3, lock=lock).get_lock() is lock
    assert not hasattr(mp.Array("i", 3, lock=False), "get_lock")
    with pytest.raises(AttributeError, match="acquire"):
        mp.Array("i", 3, lock="no lock")
    with pytest.raises(TypeError):
        mp.Array("i", 3, mp.Lock())


@BOTH
def test_strings(mp: Any) -> None:
    text = mp.Array("c", 10)
    assert (text.value, text.raw, len(text)) == (b"", bytes(10), 10)
    text.value = b"hello"
    assert (text.value, text[:5], text.raw) == (b"hello", b"hello", b"hello" + bytes(5))
    text.raw = b"0123456789"
    assert text.value == b"0123456789"
    assert mp.RawArray("c", b"abc").value == b"abc"


@BOTH
def test_structures(mp: Any) -> None:
    point = mp.Value(Point, 3, 4.5)
    assert (point.x, point.y) == (3, 4.5)
    point.x += 1
    assert point.get_obj().x == 4
    with pytest.raises(TypeError, match=r"int|integer"):
        point.x = "no number"
    word = mp.Value(Word, 0x01020304)
    assert list(word.bytes) in ([4, 3, 2, 1], [1, 2, 3, 4])
    points = mp.Array(Point, [(1, 2.0), (3, 4.0)])
    assert [(point.x, point.y) for point in points] == [(1, 2.0), (3, 4.0)]


@BOTH
def test_bad_types(mp: Any) -> None:
    for call in (mp.RawValue, mp.Value):
        with pytest.raises((TypeError, AttributeError)):
            call("no such code")
    with pytest.raises((TypeError, AttributeError)):
        mp.Array("no such code", 3)
    with pytest.raises(ValueError, match=r"[Nn]egative|>= 0"):
        mp.RawArray("i", -1)


@MODULES
def test_copy_and_synchronized(module: Any) -> None:
    point = module.RawValue(Point, 1, 2.0)
    other = module.copy(point)
    point.x = 7
    assert (other.x, other.y) == (1, 2.0)
    wrapped = module.synchronized(other)
    wrapped.x = 9
    assert other.x == 9
    kinds = {
        module.Synchronized: module.RawValue("i"),
        module.SynchronizedArray: module.RawArray("i", 2),
        module.SynchronizedString: module.RawArray("c", 2),
    }
    for kind, obj in kinds.items():
        assert type(module.synchronized(obj)) is kind
        assert isinstance(module.synchronized(obj), module.SynchronizedBase)


@BOTH
def test_a_child_writes_and_we_read(mp: Any) -> None:
    objects = (
        mp.Value("i", 1),
        mp.Value(ctypes.c_double, 1.5),
        mp.Value(Point, 1, 2.0),
        mp.Array("d", [1.0, 2.0]),
        mp.Array("c", b"text"),
        mp.RawValue("q", 5),
        mp.RawArray("h", [1, 2, 3]),
    )
    run(mp, double, *objects)
    number, real, point, array, text, raw, raw_array = objects
    assert (number.value, real.value, point.x, point.y, raw.value) == (2, 3.0, 2, 4.0, 10)
    assert (array[:], text.value, raw_array[:]) == ([2.0, 4.0], b"TEXT", [2, 4, 6])


def double(number: Any, real: Any, point: Any, array: Any, text: Any, raw: Any, raw_array: Any) -> None:
    for value in (number, real, raw):
        value.value *= 2
    point.x *= 2
    point.y *= 2
    text.value = text.value.upper()
    for items in (array, raw_array):
        for index in range(len(items)):
            items[index] *= 2


@BOTH
def test_nothing_is_lost_under_the_lock(mp: Any) -> None:
    value = mp.Value("i", 0)
    processes = [mp.Process(target=add, args=(value, 500)) for _ in range(2)]
    for process in processes:
        process.start()
    add(value, 500)
    for process in processes:
        process.join()
        process.close()
    assert value.value == 1500


def add(value: Any, count: int) -> None:
    for _ in range(count):
        with value.get_lock():
            value.value += 1


# --- beyond it ---


def test_everything_pickles_anywhere() -> None:
    with forkless.Pool(1) as pool:
        for obj in (
            forkless.Value("i", 3),
            forkless.RawValue("d", 3),
            forkless.Value(Pixel, 3, 4.0),
            forkless.RawValue(Point, 3),
            forkless.Array("i", [3]),
            forkless.RawArray(Point, [(3, 4.0)]),
            forkless.Value("i", 3, lock=forkless.Lock()),
        ):
            again = pickle.loads(pickle.dumps(obj))
            assert type(again) is type(obj)
            assert pool.apply_async(increment, (again,)).get(PATIENCE) == first(obj) == 4


def first(obj: Any) -> Any:
    if hasattr(obj, "value"):
        return obj.value
    item = obj if hasattr(obj, "x") else obj[0]
    return getattr(item, "x", item)


def increment(obj: Any) -> Any:
    if hasattr(obj, "value"):
        obj.value += 1
    elif hasattr(obj, "x"):
        obj.x += 1
    elif isinstance(obj[0], ctypes.Structure):
        obj[0].x += 1
    else:
        obj[0] += 1
    return first(obj)


def test_private_objects_of_the_same_type_pickle_as_before() -> None:
    forkless.RawValue("i", 1)
    private = ctypes.c_int(5)
    again = pickle.loads(pickle.dumps(private))
    again.value = 6
    assert private.value == 5


def test_shared_objects_of_the_standard_library_are_refused() -> None:
    forkless.RawValue("i", 1)
    theirs = multiprocessing.RawValue("i", 1)
    with pytest.raises(TypeError, match=r"multiprocessing.*forkless\.RawValue"):
        pickle.dumps(theirs)


def test_fields_of_a_base_are_there_too() -> None:
    pixel = forkless.Value(Pixel, 1, 2.0, (7, 8, 9))
    assert (pixel.x, pixel.y, list(pixel.colour)) == (1, 2.0, [7, 8, 9])


def test_memory_is_zero_aligned_and_given_back() -> None:
    for size in (1, 100, 5000, 3_000_000):
        array: Any = forkless.RawArray("B", size)
        assert bytes(array) == bytes(size)
        assert ctypes.addressof(array) % 16 == 0
        ctypes.memset(array, 0xFF, size)
        del array
    with pytest.raises(MemoryError):
        forkless.RawArray("B", 1 << 50)


def test_a_child_keeps_what_its_parent_has_let_go() -> None:
    queue: forkless.Queue[Any] = forkless.Queue()
    queue.put(forkless.RawArray("i", [1, 2, 3]))
    gc.collect()
    assert queue.get()[:] == [1, 2, 3]


def test_the_next_one_is_told_of_a_dead_owner() -> None:
    for make in (forkless.Value, forkless.Array):
        obj, ready = make("i", 3), forkless.Event()
        process = forkless.Process(target=hold_for_ever, args=(obj, ready))
        process.start()
        assert ready.wait(PATIENCE)
        process.kill()
        process.join()
        with pytest.raises(forkless.OwnerDied):
            first(obj)
        assert first(obj) in (0, 3)
        process.close()


def hold_for_ever(obj: Any, ready: Any) -> None:
    with obj:
        ready.set()
        signal.pause()


def test_an_access_waits_for_the_lock() -> None:
    value = forkless.Value("i", 1)
    entered, left = threading.Event(), threading.Event()

    def hold() -> None:
        with value.get_lock():
            entered.set()
            left.wait(PATIENCE)
            value.value = 2

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait(PATIENCE)
    threading.Timer(0.05, left.set).start()
    assert value.value == 2
    thread.join()


def test_the_memory_has_a_handle() -> None:
    value = forkless.Value("i", 5)
    arena, offset, generation = value.handle
    assert value.handle == value.get_obj()._wrapper.handle
    assert arena == value.get_lock().handle[0]
    assert value.handle != forkless.Array("i", 1).handle
    assert all(isinstance(number, int) for number in (arena, offset, generation))
