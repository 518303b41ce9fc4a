"""`forkless.share`: what it takes, what comes out, and that nothing is copied on the way."""

from __future__ import annotations

import array
import mmap
from collections.abc import Callable
from typing import Any

import forkless
import numpy as np
import pytest
from forkless._pickling import dumps, loads
from hypothesis import given
from hypothesis import strategies as st
from support import Outcome

ARRAYS = {
    "one dimension": np.arange(12.0),
    "C order": np.arange(12).reshape(3, 4),
    "Fortran order": np.asfortranarray(np.arange(12).reshape(3, 4)),
    "both orders": np.arange(5).reshape(1, 5),
    "with gaps": np.arange(20)[::3],
    "backwards": np.arange(20)[::-1],
    "transposed in the middle": np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
    "a single number": np.array(5.0),
    "nothing": np.zeros((0, 3)),
    "dates": np.array(["2020-01-01", "NaT"], "M8[D]"),
    "records": np.array([(1, 2.0)], "i4,f8"),
    "text": np.array(["ab", "c"]),
    "bytes": np.array([b"ab", b"c"]),
    "booleans": np.array([True, False]),
    "complex": np.array([1j]),
    "another byte order": np.arange(3, dtype=">i4"),
    "read-only": np.frombuffer(b"abcd", np.uint8),
}


@pytest.mark.parametrize("given", ARRAYS.values(), ids=ARRAYS)
def test_arrays_come_out_equal_and_read_only(given: Any) -> None:
    shared = forkless.share(given)
    assert type(shared) is np.ndarray
    assert (shared.dtype, shared.shape) == (given.dtype, given.shape)
    np.testing.assert_array_equal(shared, given)
    assert not shared.flags.writeable
    with pytest.raises(ValueError, match=r"read-only|WRITEABLE"):
        shared.setflags(write=True)
    fortran = given.flags.f_contiguous and not given.flags.c_contiguous
    assert shared.flags.f_contiguous if fortran else shared.flags.c_contiguous
    assert forkless.share(shared) is shared


@pytest.mark.parametrize("given", ARRAYS.values(), ids=ARRAYS)
def test_arrays_and_their_views_travel_as_handles(given: Any) -> None:
    shared = forkless.share(given)
    views = [
        shared,
        shared.T,
        shared[..., ::-1] if shared.ndim else shared,
        shared[1:] if shared.ndim else shared,
    ]
    for view in views:
        payload, handles = dumps(view)
        assert len(payload) < 600
        assert len(handles) == 1
        there = loads(payload)
        np.testing.assert_array_equal(there, view)
        assert (there.dtype, there.shape) == (view.dtype, view.shape)
        assert there.strides == view.strides or not view.size
        assert not there.flags.writeable


def test_ordinary_arrays_are_copied() -> None:
    payload, handles = dumps(np.arange(1000)[::2])
    assert len(payload) > 4000
    assert handles == []
    assert loads(payload).flags.writeable


@given(st.binary(max_size=300), st.integers(0, 300), st.integers(0, 300), st.sampled_from([1, 2, 3, -1, -2]))
def test_any_slice_of_a_shared_array_arrives(data: bytes, start: int, stop: int, step: int) -> None:
    view = forkless.share(np.frombuffer(data, np.uint8))[start:stop:step]
    np.testing.assert_array_equal(loads(dumps(view)[0]), view)


BUFFERS: dict[str, Callable[[], Any]] = {
    "bytes": lambda: b"abc",
    "empty": lambda: b"",
    "bytearray": lambda: bytearray(b"xy"),
    "array.array": lambda: array.array("d", [1, 2]),
    "memoryview": lambda: memoryview(b"hello")[1:3],
    "of two dimensions": lambda: memoryview(array.array("i", range(6))).cast("B").cast("i", (2, 3)),
}


@pytest.mark.parametrize("make", BUFFERS.values(), ids=BUFFERS)
def test_buffers_keep_their_format_and_shape(make: Callable[[], Any]) -> None:
    source = memoryview(make())
    shared = forkless.share(make())
    assert isinstance(shared, forkless.SharedBuffer)
    view = memoryview(shared)
    assert (view.format, view.shape, view.tobytes()) == (source.format, source.shape, source.tobytes())
    assert view.readonly
    assert forkless.share(shared) is shared
    assert forkless.share(view) is shared
    payload, handles = dumps(shared)
    assert handles == [shared]
    assert bytes(loads(payload)) == source.tobytes()


def test_the_copy_is_not_the_original() -> None:
    source = bytearray(b"abc")
    shared = forkless.share(source)
    source[0] = 0
    assert bytes(shared) == b"abc"


def test_mapped_files_can_be_shared() -> None:
    with mmap.mmap(-1, 4096) as mapped:
        mapped[:3] = b"abc"
        assert bytes(forkless.share(mapped))[:4] == b"abc\0"


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        ({1, 2}, r"cannot share 'set' object: share\(\) takes NumPy arrays, bytes"),
        ("text", "cannot share 'str' object"),
        (None, "cannot share 'NoneType' object"),
        (np.array([None]), "cannot share an array of type object: its items are Python objects"),
        (np.zeros(2, [("a", "i4"), ("b", "O")]), "its items are Python objects"),
        (np.ma.masked_array([1], [True]), r"cannot share 'MaskedArray' object.*numpy.asarray"),
    ],
    ids=["set", "str", "None", "objects", "records with objects", "masked"],
)
def test_what_cannot_be_shared_is_named(obj: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        forkless.share(obj)


def test_a_memoryview_with_gaps_is_refused() -> None:
    with pytest.raises(BufferError, match="gaps"):
        forkless.share(memoryview(b"abcdef")[::2])


def test_numpy_is_not_imported(run_program: Callable[..., Outcome]) -> None:
    run_program("""
import sys, forkless
forkless.share(b"abc")
assert "numpy" not in sys.modules
""").check()


PROGRAM = """
import os, forkless as mp, numpy as np

matrix = mp.share(np.arange(2_000_000.0).reshape(1000, 2000))
text = mp.share(b"shared " * 100_000)

def of_global(row):
    return matrix[row].sum(), len(bytes(text)), matrix.flags.writeable

def of_argument(view, back):
    def private():
        return next(each.private_dirty for each in mp.memory_report().processes if each.pid == os.getpid())
    before = private()
    total = view.sum()
    back.put((total, private() - before, view[5:10]))

queue = mp.Queue()
child = mp.Process(target=of_argument, args=(matrix[:, 1::2], queue))
child.start()
total, grown, part = queue.get()
child.join()
assert total == matrix[:, 1::2].sum()
assert grown < 4_000_000, grown
assert (part == matrix[5:10, 1::2]).all()
with mp.Pool(2) as pool:
    assert pool.map(of_global, range(4)) == [(matrix[n].sum(), 700_000, False) for n in range(4)]
print("same")
"""


def test_other_processes_read_it_without_a_copy(run_program: Callable[..., Outcome]) -> None:
    assert run_program(PROGRAM).check() == "same\n"


def test_what_the_last_process_drops_is_freed(run_program: Callable[..., Outcome]) -> None:
    """Far more in sum than would be there at once if nothing were freed."""
    run_program("""
import forkless as mp
from forkless._forkless import memory
import os
block = bytes(20_000_000)
for _ in range(5):
    mp.share(block)
high = memory(os.getpid())[0]
for _ in range(40):
    mp.share(block)
assert memory(os.getpid())[0] < high + 100_000_000
""").check()
