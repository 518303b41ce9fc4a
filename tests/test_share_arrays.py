"""`forkless.empty` and its like, `seal`, and `share_file`: written and read in place by several processes."""

from __future__ import annotations

import errno
import gc
import mmap
import os
import pickle
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forkless
import numpy as np
import pytest
from forkless import _forkless
from forkless._pickling import dumps, loads
from hypothesis import given
from hypothesis import strategies as st
from support import Outcome

# Arrays.


@pytest.mark.parametrize("dtype", ["f8", "i4", "?", "M8[D]", "U5", "c16", "i4,f8", ">u2"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [5, (3, 4), (2, 3, 4), (0, 3), ()])
def test_they_are_as_numpy_makes_them(shape: Any, order: Any, dtype: str) -> None:
    ours, theirs = forkless.zeros(shape, dtype, order), np.zeros(shape, dtype, order)
    assert type(ours) is np.ndarray
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    assert ours.strides == theirs.strides or not ours.size
    assert ours.flags.writeable
    assert ours.flags.aligned
    assert ours.tobytes() == bytes(ours.nbytes)
    assert forkless.empty(shape, dtype, order).strides == ours.strides


def test_full_and_like() -> None:
    assert forkless.full((2, 3), 7).tolist() == [[7] * 3] * 2
    assert forkless.full(3, 7).dtype == np.asarray(7).dtype
    assert forkless.full(2, [1.5, 2], "f4").tolist() == [1.5, 2]
    model = np.asfortranarray(np.arange(6, dtype="i2").reshape(2, 3))
    for like in (forkless.empty_like(model), forkless.zeros_like(model), forkless.full_like(model, 3)):
        assert (like.dtype, like.shape, like.strides) == (model.dtype, model.shape, model.strides)
    assert forkless.full_like(model, 3).sum() == 18
    assert forkless.zeros_like([[1, 2]], "f4").tolist() == [[0, 0]]
    assert forkless.zeros_like(model.T[::2]).flags.c_contiguous


def test_zeros_are_zero_where_something_was() -> None:
    for _ in range(3):
        full = forkless.full(100_000, -1.0)
        del full
        assert not forkless.zeros(99_000).any()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: forkless.empty(3, object), TypeError, "items would be Python objects"),
        (lambda: forkless.empty(-1), ValueError, "negative dimensions"),
        (lambda: forkless.empty((2, 1.5)), TypeError, "integer"),  # type: ignore[arg-type]
        (lambda: forkless.zeros(3, order="K"), ValueError, "order is 'C' or 'F'"),  # type: ignore[arg-type]
        (lambda: forkless.empty(1 << 44), MemoryError, "no room for"),
        (lambda: forkless.empty((1 << 62, 8)), MemoryError, "no machine has"),
        (lambda: forkless.seal(np.zeros(3)), TypeError, "forkless.share copies"),
    ],
)
def test_bad_arguments(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_too_much_is_refused_before_a_page_is_touched(run_program: Callable[..., Outcome]) -> None:
    run_program("""
import forkless, os, resource
from forkless._forkless import memory
with open("/proc/meminfo") as file:
    total = next(int(line.split()[1]) for line in file if line.startswith("MemTotal")) << 10
for make in (forkless.empty, forkless.zeros):
    try:
        make(total, "u1")
    except forkless.SharedMemoryFull as error:
        assert "available" in str(error), error
    else:
        raise AssertionError("there is no such memory")
assert memory(os.getpid())[0] < 200 << 20
assert forkless.zeros(10).sum() == 0
""").check()


def views(array: Any) -> list[Any]:
    return [array, array.T, array[..., ::-1], array[1:], array[::2, 1::2], array.reshape(-1)[3:7]]


def test_they_and_their_views_travel_as_handles() -> None:
    array = forkless.zeros((20, 30))
    for number, view in enumerate(views(array)):
        payload, handles = dumps(view)
        assert len(payload) < 600
        assert len(handles) == 1
        there = loads(payload)
        assert (there.dtype, there.shape, there.strides) == (view.dtype, view.shape, view.strides)
        there[...] = number + 1
        assert (view == number + 1).all()
    read_only = array[2:]
    read_only.flags.writeable = False
    assert not loads(dumps(read_only)[0]).flags.writeable
    assert loads(dumps(array)[0]).flags.writeable


@given(st.integers(0, 60), st.integers(0, 300), st.integers(0, 300), st.sampled_from([1, 2, 3, -1, -2]))
def test_any_slice_arrives(size: int, start: int, stop: int, step: int) -> None:
    array = forkless.empty(size, "i8")
    array[:] = np.arange(size)
    view = array[start:stop:step]
    np.testing.assert_array_equal(loads(dumps(view)[0]), view)
    np.testing.assert_array_equal(loads(dumps(forkless.seal(array)[start:stop:step])[0]), view)


def test_plain_pickles_are_copies() -> None:
    array = forkless.zeros(1000)
    copy = pickle.loads(pickle.dumps(array))
    copy[0] = 1
    assert array[0] == 0


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_all_processes_write_to_the_same(method: str) -> None:
    def add(array: Any, amount: int) -> int:
        array += amount
        return os.getpid()

    def of_global(row: int) -> None:
        table[row] = row

    array, table = forkless.zeros((4, 1000), int), forkless.zeros((4, 5), int)
    with forkless.get_context(method).Pool(2) as pool:
        pids = pool.starmap(add, [(array[row], row) for row in range(4)])
        pool.map(of_global, range(4))
    assert os.getpid() not in pids
    assert array.sum(axis=1).tolist() == [0, 1000, 2000, 3000]
    assert table.sum(axis=1).tolist() == [0, 5, 10, 15]


def test_no_process_copies_it(run_program: Callable[..., Outcome]) -> None:
    run_program("""
import forkless, re

def own():
    with open("/proc/self/status") as status:
        return int(re.search(r"RssAnon:\\s*(\\d+)", status.read())[1]) << 10

def fill(array, part):
    before = own()
    array[part::2] = part
    return own() - before

array = forkless.empty(4_000_000)
before = own()
with forkless.Pool(2) as pool:
    grown = pool.starmap(fill, [(array, part) for part in range(2)])
    shared = forkless.share(array)
    assert pool.map(len, [array, shared]) == [4_000_000] * 2
assert max(*grown, own() - before) < 8_000_000, grown
assert shared.sum() == 2_000_000
""").check()


def test_what_a_worker_makes_comes_home_without_a_copy() -> None:
    def make() -> Any:
        array = forkless.empty(10_000)
        array[:] = 3
        return array

    before = _forkless.census()
    with forkless.Pool(1) as pool:
        array = pool.apply(make)
    assert isinstance(array.base, _forkless.SharedBytes)
    assert array.sum() == 30_000
    del array
    gc.collect()
    assert _forkless.census()[0] <= before[0] + 8


def test_the_last_who_has_it_frees_it() -> None:
    gc.collect()
    before = _forkless.census()
    array = forkless.empty(100_000)
    view = array[10:]
    del array
    view[0] = 1
    del view
    assert _forkless.census() == before


def test_a_killed_writer_leaves_it_to_the_others() -> None:
    def write_and_die(array: Any) -> None:
        array[:10] = 1
        os.kill(os.getpid(), signal.SIGKILL)

    before = _forkless.census()
    array = forkless.zeros(10_000)
    child = forkless.Process(target=write_and_die, args=(array,))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    child.close()
    del child
    assert array.sum() == 10
    del array
    gc.collect()
    assert _forkless.census()[0] <= before[0] + 1


def test_a_killed_maker_leaves_it_to_who_has_it() -> None:
    def make(queue: Any) -> None:
        queue.put(forkless.full(10_000, 2))
        os.kill(os.getpid(), signal.SIGKILL)

    queue: Any = forkless.Queue()
    child = forkless.Process(target=make, args=(queue,))
    child.start()
    array = queue.get()
    child.join()
    assert (child.exitcode, array.sum()) == (-signal.SIGKILL, 20_000)


# Sealing.


@pytest.mark.parametrize("seal", [forkless.seal, forkless.share])
@pytest.mark.parametrize("order", ["C", "F"])
def test_sealed_arrays_are_read_only_everywhere(seal: Callable[[Any], Any], order: Any) -> None:
    array = forkless.full((30, 40), 1.5, order=order)
    early = dumps(array)[0]
    sealed = seal(array)
    assert (sealed.dtype, sealed.shape, sealed.strides) == (array.dtype, array.shape, array.strides)
    np.testing.assert_array_equal(sealed, array)
    for each in (array, sealed, loads(early), loads(dumps(array)[0]), loads(dumps(sealed[1:])[0])):
        assert not each.flags.writeable
        with pytest.raises(ValueError, match=r"read-only|WRITEABLE"):
            each[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        sealed.setflags(write=True)
    assert seal(sealed) is sealed or seal is forkless.seal
    assert forkless.share(sealed) is sealed
    assert not np.shares_memory(sealed, array), "another mapping, without permission to write"
    np.testing.assert_array_equal(seal(array), array)


def test_share_copies_a_view_of_what_is_not_sealed() -> None:
    array = forkless.zeros(1000)
    part = forkless.share(array[10:20])
    array[:] = 1
    assert part.sum() == 0
    assert array.flags.writeable


def test_workers_that_have_a_view_see_the_seal() -> None:
    def is_writeable(array: Any) -> bool:
        return bool(array.flags.writeable)

    array = forkless.zeros(10)
    with forkless.Pool(1) as pool:
        assert pool.apply(is_writeable, (array,))
        sealed = forkless.seal(array)
        assert not pool.apply(is_writeable, (array,))
        assert not pool.apply(is_writeable, (sealed,))


def test_a_stray_write_to_what_is_sealed_is_a_fault() -> None:
    def write(array: Any) -> None:
        import ctypes

        ctypes.memset(array.__array_interface__["data"][0], 1, 8)

    sealed = forkless.seal(forkless.zeros(10))
    with forkless.Pool(1) as pool, pytest.raises(forkless.WorkerDied, match="SIGSEGV"):
        pool.apply(write, (sealed,))
    assert sealed.sum() == 0


# Files.


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of 1000 numbers."""
    path = tmp_path / "numbers"
    path.write_bytes(np.arange(1000, dtype="i4").tobytes())
    return path


def test_files_as_bytes(path: Path) -> None:
    view = forkless.share_file(path)
    assert (type(view), view.readonly, view.nbytes, view.format) == (memoryview, True, 4000, "B")
    assert view == path.read_bytes()
    for offset, length in [(0, 4), (5, 100), (3999, 1), (4000, 0), (10, None), (4000, None)]:
        end = None if length is None else offset + length
        assert forkless.share_file(path, offset=offset, length=length) == path.read_bytes()[offset:end]
    assert forkless.share_file(str(path)) == forkless.share_file(os.fsencode(path)) == view


def test_files_as_arrays(path: Path) -> None:
    numbers = np.arange(1000, dtype="i4")
    array = forkless.share_file(path, dtype="i4")
    assert type(array) is np.ndarray
    assert not array.flags.writeable
    np.testing.assert_array_equal(array, numbers)
    np.testing.assert_array_equal(forkless.share_file(path, dtype="i4", offset=40), numbers[10:])
    np.testing.assert_array_equal(forkless.share_file(path, dtype="i4", length=40), numbers[:10])
    table = forkless.share_file(path, dtype="i4", shape=(10, 20), offset=400)
    np.testing.assert_array_equal(table, numbers[100:300].reshape(10, 20))
    assert forkless.share_file(path, dtype="i4", shape=(0, 5)).shape == (0, 5)
    assert forkless.share_file(path, dtype="i4", shape=()) == 0


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"offset": 4001}, ValueError, "has 4000 bytes"),
        ({"length": 4001}, ValueError, "4001 from byte 0 on are more than there are"),
        ({"offset": -1}, ValueError, "negative"),
        ({"length": -1}, ValueError, "negative"),
        ({"shape": 3}, ValueError, "give dtype, too"),
        ({"dtype": "i4", "offset": 1}, ValueError, "no whole number of items of 4 bytes"),
        ({"dtype": "i4", "shape": (1001,)}, ValueError, "more than there are"),
        ({"dtype": "i4", "shape": (-1,)}, ValueError, "negative"),
        ({"dtype": object}, TypeError, "Python objects"),
    ],
)
def test_bad_arguments_of_files(
    path: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        forkless.share_file(path, **options)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        forkless.share_file(tmp_path / "none")
    with pytest.raises(ValueError, match="no regular file"):
        forkless.share_file(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="no regular file"):
        forkless.share_file(tmp_path / "pipe")
    (tmp_path / "empty").touch()
    assert bytes(forkless.share_file(tmp_path / "empty")) == b""
    assert forkless.share_file(tmp_path / "empty", dtype="f8").shape == (0,)
    assert loads(dumps(forkless.share_file(tmp_path / "empty"))[0]) == b""


def test_a_file_is_mapped_once(path: Path) -> None:
    first: Any = forkless.share_file(path)
    second: Any = forkless.share_file(path, offset=10)
    array: Any = forkless.share_file(path, dtype="i4")
    assert first.obj is second.obj is array.base is loads(dumps(array[5:])[0]).base
    assert isinstance(first.obj, mmap.mmap)


def test_views_of_files_travel_by_reference(path: Path) -> None:
    array = forkless.share_file(path, dtype="i4", shape=(50, 20))
    for view in views(array):
        payload, handles = dumps(view)
        assert (len(payload) < 700, handles) == (True, [])
        there = loads(payload)
        np.testing.assert_array_equal(there, view)
        assert there.strides == view.strides
        assert not there.flags.writeable
    whole = forkless.share_file(path)
    for part in (
        whole,
        whole[10:500],
        whole[8:88].cast("i"),
        whole[:0],
        whole[::7],
        whole[4:52].cast("B", (6, 8)),
    ):
        payload, _ = dumps(part)
        assert len(payload) < 1000
        there = loads(payload)
        assert (there.tobytes(), there.format, there.shape) == (part.tobytes(), part.format, part.shape)


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_other_processes_read_the_file(path: Path, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(array: Any, part: memoryview) -> tuple[int, bytes, bool]:
        return int(array.sum()), bytes(part), isinstance(array.base, mmap.mmap)

    monkeypatch.chdir(path.parent)
    array, part = forkless.share_file(path.name, dtype="i4"), forkless.share_file(path.name)[4:9]
    monkeypatch.chdir("/")
    with forkless.get_context(method).Pool(1) as pool:
        assert pool.apply(read, (array[::2], part)) == (249_500, b"\1\0\0\0\2", True)
        # By its descriptor, now that the path leads to another one.
        other = path.with_name("other")
        other.write_bytes(bytes(4000))
        other.rename(path)
        assert pool.apply(read, (array[::2], part)) == (249_500, b"\1\0\0\0\2", True)
        path.unlink()
        assert pool.apply(read, (array[::2], part)) == (249_500, b"\1\0\0\0\2", True)
        assert forkless.share(array).sum() == 499_500


def test_a_file_that_was_replaced_or_changed_on_the_way_is_an_error(path: Path) -> None:
    payload, _ = dumps(forkless.share_file(path, dtype="i4"))
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(0, path.stat().st_mtime_ns))
    other.rename(path)
    with pytest.raises(OSError, match="replaced by another one, since") as caught:
        loads(payload)
    assert (caught.value.errno, caught.value.filename) == (errno.ESTALE, str(path))
    payload, _ = dumps(forkless.share_file(path, dtype="i4"))
    os.utime(path, ns=(0, 0))
    with pytest.raises(OSError, match="changed"):
        loads(payload)
    payload, _ = dumps(forkless.share_file(path, dtype="i4"))
    path.unlink()
    with pytest.raises(OSError, match="removed since"):
        loads(payload)


def test_a_file_that_was_cut_off_is_an_error(path: Path) -> None:
    array = forkless.share_file(path, dtype="i4")
    os.truncate(path, 400)
    with pytest.raises(OSError, match="had 4000 bytes when it was mapped and has been cut to 400") as caught:
        dumps(array)
    assert caught.value.errno == errno.ESTALE
    assert forkless.share_file(path, dtype="i4").sum() == 4950


def test_a_file_that_is_cut_off_on_its_way_is_an_error(path: Path) -> None:
    def read(array: Any) -> int:
        return int(array.sum())

    array = forkless.share_file(path, dtype="i4")
    payload, _ = dumps(array)
    held = path.open("r+b")
    with held, forkless.Pool(1) as pool:
        assert pool.apply(read, (array,)) == 499_500
        held.truncate(400)
        with pytest.raises(OSError, match="cut to 400"):
            pool.apply(read, (array,))
        assert pool.apply(read, (forkless.share_file(path, dtype="i4"),)) == 4950
    with pytest.raises(OSError, match=r"cut to 400|has been changed|replaced"):
        loads(payload)


def test_a_file_that_has_grown_is_the_same(path: Path) -> None:
    array = forkless.share_file(path, dtype="i4")
    with path.open("ab") as file:
        file.write(bytes(4))
    np.testing.assert_array_equal(loads(dumps(array)[0]), array)
    assert forkless.share_file(path, dtype="i4").shape == (1001,)


def test_reading_what_was_cut_off_is_a_death_that_says_so(path: Path) -> None:
    def read(array: Any, path: str) -> int:
        os.truncate(path, 0)
        return int(array.sum())

    array = forkless.share_file(path, dtype="i4")
    with (
        forkless.Pool(1) as pool,
        pytest.raises(forkless.WorkerDied, match=r"SIGBUS.* that had been cut off"),
    ):
        pool.apply(read, (array, str(path)))


def test_numpy_is_not_imported_for_bytes(run_program: Callable[..., Outcome], path: Path) -> None:
    source = """
import sys, forkless
from forkless._pickling import dumps, loads
view = forkless.share_file(sys.argv[1])[5:50]
assert loads(dumps(view)[0]) == view
assert "numpy" not in sys.modules
"""
    run_program(source, str(path)).check()
