"""What may not be done to shared memory, what is no longer there, and what there is no room for."""

from __future__ import annotations

import ctypes
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import forkless
import numpy as np
import pytest
from forkless._pickling import dumps, loads
from forkless.shared_memory import ShareableList, SharedMemory
from support import Outcome

# Writing to what is read-only.

WRITES: dict[str, Callable[[Any], Any]] = {
    "an item": lambda shared: memoryview(shared).__setitem__(0, 1),
    "a slice": lambda shared: memoryview(shared).__setitem__(slice(0, 2), b"ab"),
    "an array": lambda shared: np.asarray(shared).__setitem__(0, 1),
    "an array in place": lambda shared: np.add(np.asarray(shared), 1, out=np.asarray(shared)),
    "ctypes": ctypes.c_char.from_buffer,
    "a file": lambda shared: io.BytesIO(b"ab").readinto(shared),
    "another view": lambda shared: np.frombuffer(shared, np.uint8).setflags(write=True),
}
READ_ONLY: dict[str, Callable[[], Any]] = {
    "share": lambda: forkless.share(b"some bytes"),
    "share of an array": lambda: forkless.share(np.arange(10, dtype="u1")),
    "seal": lambda: forkless.seal(forkless.zeros(10, "u1")),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("make", READ_ONLY.values(), ids=READ_ONLY)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_writing_to_what_is_read_only_is_an_error(
    make: Callable[[], Any], write: Callable[[Any], Any]
) -> None:
    shared = make()
    before = bytes(memoryview(shared))
    with pytest.raises((TypeError, ValueError), match=r"read-only|read-write|writable|writeable|WRITEABLE"):
        write(shared)
    assert bytes(memoryview(shared)) == before


@pytest.mark.parametrize("make", READ_ONLY.values(), ids=READ_ONLY)
def test_a_stray_write_kills_who_does_it_and_changes_nothing(make: Callable[[], Any]) -> None:
    def write(shared: Any) -> None:
        ctypes.memset(np.asarray(shared).__array_interface__["data"][0], 1, 4)

    shared = make()
    before = bytes(memoryview(shared))
    with forkless.Pool(1) as pool:
        with pytest.raises(forkless.WorkerDied) as caught:
            pool.apply(write, (shared,))
        assert caught.value.exitcode == -signal.SIGSEGV
        assert pool.apply(bytes, (memoryview(shared),)) == before


# Handles of what is not there.

KINDS: dict[str, Callable[[], Any]] = {
    "bytes": lambda: forkless.share(b"abc"),
    "an array": lambda: forkless.share(np.arange(3)),
    "empty": lambda: forkless.empty(3),
    "a segment": lambda: SharedMemory(create=True, size=5),
    "a public segment": lambda: SharedMemory(create=True, size=5, public=True),
    "a list": lambda: ShareableList([1, 2]),
}
GONE = "no longer exists|is gone|no shared memory is found"


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_a_handle_of_what_was_let_go_is_an_error_and_never_another_object(make: Callable[[], Any]) -> None:
    payload, handles = dumps(make())
    del handles
    later = [make() for _ in range(20)]
    with pytest.raises((forkless.StaleHandle, FileNotFoundError), match=GONE):
        loads(payload)
    del later


LOAD = """
import sys
from forkless._pickling import loads
try:
    loads(bytes.fromhex(sys.argv[1]))
except Exception as error:
    print(error)
"""


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "a public segment"])
def test_a_handle_of_another_tree_is_an_error_that_says_so(kind: str) -> None:
    made = KINDS[kind]()
    payload, handles = dumps(made)
    environ = {name: value for name, value in os.environ.items() if name != "FORKLESS_TREE"}
    command = [sys.executable, "-c", LOAD, payload.hex()]
    said = subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout
    assert "belongs to a process tree that this process is not part of and cannot reach" in said
    del made, handles


@pytest.mark.parametrize("public", [False, True], ids=["in the tree", "public"])
def test_a_segment_after_its_end(public: bool) -> None:
    segment: Any = SharedMemory(create=True, size=5, public=public)
    segment.close()
    assert segment.buf is None
    with forkless.Pool(1) as pool, pytest.raises(forkless.RemoteError, match="has closed it") as caught:
        pool.apply(id, (segment,))
    assert isinstance(caught.value.__cause__, FileNotFoundError)


# No room.


@pytest.mark.parametrize("how", ["a mapping", "an array", "a memoryview"])
def test_what_no_memory_has_room_for_is_refused_before_it_is_copied(
    run_program: Callable[..., Outcome], how: str
) -> None:
    """Twice the memory there is, that is in no memory itself."""
    run_program(f"""
import forkless, mmap, numpy, os
from forkless._forkless import memory
with open("/proc/meminfo") as file:
    fields = {{line.split(":")[0]: int(line.split()[1]) << 10 for line in file}}
size = 2 * (fields["MemAvailable"] + fields["SwapFree"])
no_reserve = 0x4000
source = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve, mmap.PROT_READ)
if {how!r} != "a mapping":
    source = numpy.frombuffer(source, "u1")
if {how!r} == "a memoryview":
    source = memoryview(source).cast("d")
try:
    forkless.share(source)
except forkless.SharedMemoryFull as error:
    assert isinstance(error, MemoryError)
    assert "available" in str(error) and str(size)[:3] in str(error), error
else:
    raise AssertionError("there is no such memory")
assert memory(os.getpid())[0] < 200 << 20
assert bytes(forkless.share(b"goes on")) == b"goes on"
""").check()


def test_an_arena_that_is_full_says_so_and_how_large_it_is(run_program: Callable[..., Outcome]) -> None:
    run_program("""
import forkless, mmap, os, resource
from forkless._forkless import memory
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
source = mmap.mmap(-1, 1 << 30, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000, mmap.PROT_READ)
for make in (lambda: forkless.share(source), lambda: forkless.empty(1 << 30, "u1")):
    try:
        make()
    except forkless.SharedMemoryFull as error:
        assert isinstance(error, MemoryError) and "10737" in str(error) and "RLIMIT_AS" in str(error), error
    else:
        raise AssertionError("there is no such room")
assert memory(os.getpid())[0] < 200 << 20
assert bytes(forkless.share(b"goes on")) == b"goes on"
""").check()


def test_a_lowered_limit_of_file_sizes_is_no_hindrance(run_program: Callable[..., Outcome]) -> None:
    """New pages are written as a file is, elsewhere than where the limit is."""
    run_program("""
import forkless, numpy, resource
forkless.Event()
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
numbers = numpy.arange(5_000_000)
assert (forkless.share(numbers) == numbers).all()
with forkless.Pool(1) as pool:
    assert pool.apply(numpy.sum, (forkless.share(numbers),)) == numbers.sum()
""").check()
