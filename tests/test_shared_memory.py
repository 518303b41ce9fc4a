"""`forkless.shared_memory`: names, who has what, and what is left when processes are killed."""

from __future__ import annotations

import array
import contextlib
import gc
import multiprocessing.shared_memory as standard
import os
import pickle
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forkless
import numpy as np
import pytest
from forkless import _forkless
from forkless.shared_memory import ShareableList, SharedMemory
from hypothesis import given
from hypothesis import strategies as st
from support import Program, eventually, run_program

FOLDER = Path("/dev/shm")


@pytest.fixture(scope="module", autouse=True)
def template() -> None:
    """Public segments need one: it is not counted as left behind."""
    SharedMemory(create=True, size=1, public=True).close()


@pytest.fixture
def name() -> str:
    """A name that nobody else has."""
    return f"forkless-test-{os.urandom(6).hex()}"


@pytest.fixture(params=[False, True], ids=["in the tree", "public"])
def public(request: pytest.FixtureRequest) -> bool:
    """Both kinds."""
    return bool(request.param)


# As in the standard library.


@pytest.mark.parametrize("size", [1, 5, 512, 4096, 5000, 1_000_000])
def test_it_is_zero_writable_and_as_large_as_asked(size: int, public: bool) -> None:
    segment = SharedMemory(create=True, size=size, public=public)
    assert (segment.size, len(segment.buf), segment.buf.format) == (size, size, "B")
    assert bytes(segment.buf) == bytes(size)
    segment.buf[-1] = 42
    again = SharedMemory(segment.name)
    assert (again.size, again.buf[-1]) == (size, 42)
    again.close()
    segment.close()
    segment.close()
    assert segment.buf is None


def test_attributes_and_repr(name: str, public: bool) -> None:
    segment = SharedMemory(name, create=True, size=512, track=False, public=public)
    assert (segment.name, segment.size) == (name, 512)
    assert repr(segment) == f"SharedMemory({name!r}, size=512)"
    assert SharedMemory(name, size=20 * 512).size == 512, "the size is ignored"
    assert SharedMemory(f"/{name}").name == f"/{name}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"create": True}, "different from zero"),
        ({"create": True, "size": 0}, "different from zero"),
        ({"create": True, "size": -1}, "positive"),
        ({}, "'name' can only be None"),
        ({"name": "x" * 256, "create": True, "size": 1}, "255 bytes, and not 256"),
        ({"name": "a/b", "create": True, "size": 1, "public": True}, "cannot be the name"),
        ({"name": "..", "create": True, "size": 1, "public": True}, "cannot be the name"),
        ({"name": "a\0b", "create": True, "size": 1}, "null"),
        ({"name": "a\0b"}, "null"),
        ({"name": "", "create": True, "size": 1}, "and not 0"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SharedMemory(**arguments)


def test_a_name_is_given_once(name: str, public: bool) -> None:
    segment = SharedMemory(name, create=True, size=1, public=public)
    for other in (False, True):
        with pytest.raises(FileExistsError, match="exists") as caught:
            SharedMemory(name, create=True, size=1, public=other)
        assert caught.value.filename == name
    segment.unlink()
    SharedMemory(name, create=True, size=2, public=public)


def test_a_name_that_nobody_has(name: str) -> None:
    with pytest.raises(FileNotFoundError, match="the last process that had it has closed it") as caught:
        SharedMemory(name)
    assert caught.value.filename == name


def test_no_memory_is_a_memory_error(public: bool) -> None:
    with pytest.raises(MemoryError):
        SharedMemory(create=True, size=1 << 46, public=public)


# Who has what.


def test_unlinking_takes_the_name_and_not_the_memory(name: str, public: bool) -> None:
    segment = SharedMemory(name, create=True, size=5, public=public)
    reader = SharedMemory(name)
    segment.unlink()
    with pytest.raises(FileNotFoundError):
        SharedMemory(name)
    segment.buf[:] = b"still"
    segment.close()
    assert bytes(reader.buf) == b"still"
    for each in (segment, reader):
        with pytest.raises(FileNotFoundError, match="unlinked before"):
            each.unlink()


def test_closed_and_then_unlinked(name: str, public: bool) -> None:
    segment = SharedMemory(name, create=True, size=5, public=public)
    reader = SharedMemory(name)
    segment.close()
    segment.unlink()
    with pytest.raises(FileNotFoundError):
        SharedMemory(name)
    with pytest.raises(FileNotFoundError):
        segment.unlink()
    reader.close()
    alone = SharedMemory(name, create=True, size=5, public=public)
    alone.close()
    alone.unlink()  # the name went with the memory


def test_another_segment_of_that_name_is_not_unlinked(name: str) -> None:
    old = SharedMemory(name, create=True, size=5)
    old.close()
    new = SharedMemory(name, create=True, size=6)
    old.unlink()
    assert SharedMemory(name).size == 6
    del new


def test_the_last_who_lets_go_frees_it(name: str, public: bool) -> None:
    gc.collect()
    before = _forkless.census()
    segment = SharedMemory(name, create=True, size=100_000, public=public)
    view = SharedMemory(name).buf[10:20]
    segment.close()
    assert SharedMemory(name).size == 100_000, "a view keeps it"
    view.release()
    del view, segment
    gc.collect()
    with pytest.raises(FileNotFoundError):
        SharedMemory(name)
    assert not (FOLDER / name).exists()
    assert _forkless.census() == before


@pytest.mark.parametrize(
    "make", [np.frombuffer, lambda buf: np.ndarray(1, float, buf)], ids=["view", "direct"]
)
def test_an_array_over_it_outlives_its_end(make: Callable[[Any], Any], name: str, public: bool) -> None:
    segment = SharedMemory(name, create=True, size=8, public=public)
    array = make(segment.buf)
    segment.close()
    array[0] = 1.5
    again = SharedMemory(name)
    assert bytes(again.buf) == array.tobytes()
    again.close()
    del array
    with pytest.raises(FileNotFoundError):
        SharedMemory(name)


def test_arrays_over_it_are_sent_as_copies() -> None:
    """As with the standard library: only `forkless.empty` makes arrays that several processes write to."""
    segment = SharedMemory(create=True, size=80_000)
    ours = np.ndarray((10_000,), float, segment.buf)
    with forkless.Pool(1) as pool:
        there = pool.apply(abs, (ours,))
    assert not np.shares_memory(ours, there)
    assert pickle.loads(pickle.dumps(ours)).sum() == 0
    del ours
    segment.close()


# Other processes.


def write(segment: SharedMemory | str, data: bytes) -> tuple[int, list[str]]:
    """Returns its size, and the children there are: no tracker."""
    mine = SharedMemory(segment) if isinstance(segment, str) else segment
    mine.buf[: len(data)] = data
    return mine.size, [name for _, name, role in _forkless.processes() if role == "tracker"]


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_processes_find_it_and_get_it(method: str, public: bool) -> None:
    context = forkless.get_context(method)
    segment = SharedMemory(create=True, size=10, public=public)
    with context.Pool(1) as pool:
        assert pool.apply(write, (segment.name, b"name")) == (10, [])
        assert bytes(segment.buf[:4]) == b"name"
        assert pool.apply(write, (segment, b"object")) == (10, [])
        assert bytes(segment.buf[:6]) == b"object"


def test_a_message_keeps_it(name: str) -> None:
    queue: forkless.Queue[SharedMemory] = forkless.Queue()
    segment = SharedMemory(name, create=True, size=5)
    segment.buf[:] = b"hello"
    queue.put(segment)
    segment.unlink()
    segment.close()
    del segment
    arrived = queue.get()
    assert (bytes(arrived.buf), arrived.name) == (b"hello", name)
    arrived.close()


def test_what_a_worker_makes_arrives() -> None:
    def make() -> SharedMemory:
        segment = SharedMemory(create=True, size=5)
        segment.buf[:] = b"there"
        return segment

    with forkless.Pool(1) as pool:
        segment = pool.apply(make)
        pool.terminate()
        pool.join()
    assert bytes(segment.buf) == b"there"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_pickles(protocol: int, public: bool) -> None:
    segment = SharedMemory(create=True, size=5, public=public)
    pickled = pickle.dumps(segment, protocol)
    again = pickle.loads(pickled)
    again.buf[:] = b"hello"
    assert bytes(segment.buf) == b"hello"
    again.close()
    segment.close()
    with pytest.raises(FileNotFoundError, match="gone"):
        pickle.loads(pickled)
    assert len(pickled) == len(pickle.dumps(SharedMemory(create=True, size=500_000, public=public), protocol))


def test_a_program_that_a_process_of_the_tree_has_started_finds_it() -> None:
    segment = SharedMemory(create=True, size=5)
    source = """
import sys
from forkless.shared_memory import SharedMemory
SharedMemory(sys.argv[1]).buf[:] = b"guest"
"""
    subprocess.run([sys.executable, "-c", source, segment.name], check=True)
    assert bytes(segment.buf) == b"guest"


def test_strangers_find_a_public_one_and_no_other(name: str) -> None:
    source = f"""
import mmap, os, _posixshmem
fd = _posixshmem.shm_open("/{name}", os.O_RDWR, mode=0o600)
with mmap.mmap(fd, os.fstat(fd).st_size) as mapping:
    mapping[:8] = b"stranger"
    print(len(mapping))
"""
    segment = SharedMemory(name, create=True, size=10)
    assert not (FOLDER / name).exists()
    segment.close()
    segment = SharedMemory(name, create=True, size=10, public=True)
    found = (FOLDER / name).stat()
    assert (found.st_size, found.st_mode & 0o777) == (10, 0o600)
    assert subprocess.check_output([sys.executable, "-c", source], env={}) == b"10\n"
    assert bytes(segment.buf) == b"stranger\0\0"


def test_segments_of_strangers_are_found_and_left_alone(name: str) -> None:
    (FOLDER / name).write_bytes(b"a stranger's")
    try:
        with pytest.raises(FileExistsError):
            SharedMemory(name, create=True, size=5)
        segment = SharedMemory(name)
        assert (bytes(segment.buf), segment.size) == (b"a stranger's", 12)
        with forkless.Pool(1) as pool:
            assert pool.apply(write, (segment, b"A"))[0] == 12
        assert bytes(segment.buf) == b"A stranger's"
        segment.close()
        assert (FOLDER / name).exists()
        segment.unlink()
        assert not (FOLDER / name).exists()
        with pytest.raises(FileNotFoundError):
            segment.unlink()
    finally:
        (FOLDER / name).unlink(missing_ok=True)


def test_nothing_of_the_tracker_is_started() -> None:
    source = """
import sys
from forkless.shared_memory import ShareableList, SharedMemory
segments = [SharedMemory(create=True, size=5, public=public) for public in (False, True)]
items = ShareableList([1, "a"])
again = [SharedMemory(segment.name) for segment in segments]
segments[0].unlink()
segments[1].unlink()
print([name for name in sys.modules if "resource_tracker" in name])
"""
    assert run_program(source).check() == "[]\n"


def test_a_copy_made_by_fork_has_it_too(name: str) -> None:
    segment = SharedMemory(name, create=True, size=5)
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.read(reader, 1)
        found = SharedMemory(name)
        found.buf[:] = b"child"
        os._exit(0)
    segment.buf[0] = 1
    os.write(writer, b"x")
    assert os.waitpid(pid, 0)[1] == 0
    os.close(reader)
    os.close(writer)
    assert bytes(segment.buf) == b"child"


# Of the standard library, sent through forkless (CPython issue 82300).


def write_standard(segment: Any, items: Any) -> int:
    segment.buf[0] += 1
    items[0] += 1
    segment.close()
    items.shm.close()
    return int(segment.size)


def test_the_standard_librarys_outlives_our_children() -> None:
    segment: Any = standard.SharedMemory(create=True, size=10)
    items: Any = standard.ShareableList([1, "text"])
    try:
        for _ in range(2):
            process = forkless.Process(target=write_standard, args=(segment, items))
            process.start()
            process.join()
            assert process.exitcode == 0
        with forkless.Pool(1) as pool:
            assert pool.apply(write_standard, (segment, items)) >= 10
        assert (segment.buf[0], items[0], items[1]) == (3, 4, "text")
        assert {segment.name, items.shm.name} <= set(os.listdir(FOLDER))
    finally:
        for each in (segment, items.shm):
            each.close()
            each.unlink()


def test_the_standard_librarys_can_be_unlinked_by_our_children() -> None:
    source = """
import forkless, os
from multiprocessing import resource_tracker, shared_memory

def unlink(segment):
    segment.unlink()

segment = shared_memory.SharedMemory(create=True, size=10)
process = forkless.Process(target=unlink, args=(segment,))
process.start()
process.join()
print(process.exitcode, os.path.exists(f"/dev/shm/{segment.name}"))
resource_tracker.unregister(segment._name, "shared_memory")
"""
    outcome = run_program(source)
    assert (outcome.check(), outcome.stderr) == ("0 False\n", "")


# Death.


HOLDER = """
import forkless, os, signal, sys, time
from forkless.shared_memory import SharedMemory

def hold(segment, ready):
    ready.set()
    signal.pause()

name, public, who = sys.argv[1], sys.argv[2] == "True", sys.argv[3]
segment = SharedMemory(name, create=True, size=5000, public=public)
ready = forkless.Event()
child = forkless.Process(target=hold, args=(segment, ready))
child.start()
ready.wait()
if who == "reader":
    child.kill()
    child.join()
    assert SharedMemory(name).size == 5000
    segment.close()
    try:
        SharedMemory(name)
    except FileNotFoundError:
        print("gone", flush=True)
else:
    if who == "owner is done":
        segment.unlink()
        segment.close()
    print("ready", child.pid, flush=True)
    signal.pause()
"""


def test_a_killed_reader_lets_go(name: str, public: bool) -> None:
    assert run_program(HOLDER, name, str(public), "reader").check() == "gone\n"
    assert not (FOLDER / name).exists()


def test_a_killed_owner_leaves_nothing(name: str, public: bool) -> None:
    with Program(HOLDER, name, str(public), "owner") as program:
        program.wait_for("ready")
        assert (FOLDER / name).exists() == public
        program.signal(signal.SIGKILL)
        outcome = program.finish()
    assert (outcome.exit_code, outcome.survivors) == (-signal.SIGKILL, ())
    assert eventually(lambda: not (FOLDER / name).exists())


def test_a_killed_owner_without_children_leaves_nothing(name: str) -> None:
    source = """
import signal, sys
from forkless.shared_memory import SharedMemory
segment = SharedMemory(sys.argv[1], create=True, size=5000, public=True)
print("ready", flush=True)
signal.pause()
"""
    with Program(source, name) as program:
        program.wait_for("ready")
        assert (FOLDER / name).exists()
        program.signal(signal.SIGKILL)
        assert program.finish().exit_code == -signal.SIGKILL
    assert eventually(lambda: not (FOLDER / name).exists())


def test_an_owner_that_ends_leaves_nothing(name: str) -> None:
    source = """
import os, sys
from forkless.shared_memory import SharedMemory
segment = SharedMemory(sys.argv[1], create=True, size=5000, public=True)
keep = [segment]
keep.append(keep)
sys.stdout.flush()
if sys.argv[2] == "at once":
    os._exit(3)
"""
    for how, code in [("at once", 3), ("as usual", 0)]:
        assert run_program(source, name, how).exit_code == code
        assert eventually(lambda: not (FOLDER / name).exists())


SOAK = """
import forkless, os, random, signal, sys
from forkless import _forkless
from forkless.shared_memory import SharedMemory

def make_and_drop(seed, count):
    chance = random.Random(seed)
    kept = []
    for number in range(count):
        public = number % 20 == 0
        segment = SharedMemory(create=True, size=chance.choice((10, 5000, 200_000)), public=public)
        segment.buf[0] = 1
        kept.append(segment)
        other = SharedMemory(segment.name)
        if chance.random() < 0.5:
            segment.unlink()
        if len(kept) > 5:
            kept.pop(chance.randrange(len(kept))).close()

total, killed, round = int(sys.argv[1]), 0, 0
before = None
chance = random.Random(int(sys.argv[2]))
while total > 0:
    children = [forkless.Process(target=make_and_drop, args=(round * 10 + n, 500)) for n in range(2)]
    for child in children:
        child.start()
    if round % 2:
        children[0].join(chance.random() * 0.2)
        for child in children:
            child.kill()
            killed += 1
    for child in children:
        child.join()
        child.close()
    total -= 1000
    round += 1
    del child, children
    if before is None:
        before = _forkless.census()
assert _forkless.census() == before, (_forkless.census(), before)
print([name for name in os.listdir("/dev/shm") if name.startswith("fl_")], killed > 0)
"""


def test_ten_thousand_come_and_go_while_processes_are_killed() -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    assert run_program(SOAK, "10000", str(seed)).check() == "[] True\n"


# Lists.


ITEMS = ["howdy", b"HoWdY", -273.154, 100, None, True, 42, "", b""]


def test_items_come_out_as_they_went_in() -> None:
    items: ShareableList[Any] = ShareableList(ITEMS)
    assert list(items) == ITEMS
    assert [type(item) for item in items] == [type(item) for item in ITEMS]
    assert (len(items), items[-3], items[0]) == (9, 42, "howdy")
    assert items.format == "8s8sdqxxxxxx?xxxxxxxx?q8s8s"
    assert repr(items) == f"ShareableList({ITEMS!r}, name={items.shm.name!r})"
    assert (items.count(42), items.index(None), items.count("nobody")) == (1, 4, 0)
    again: ShareableList[Any] = ShareableList(name=items.shm.name)
    again[3] = 101
    assert items[3] == 101


def test_items_change_in_their_room() -> None:
    items: ShareableList[Any] = ShareableList(["abc", 1, None])
    items[2] = "some"
    items[-2] = 1.5
    items[0] = "encodés"
    assert list(items) == ["encodés", 1.5, "some"]
    with pytest.raises(
        ValueError, match="exceeds available storage: it has 9 bytes, and there is room for 8"
    ):
        items[0] = "encodées"
    with pytest.raises(ValueError, match="exceeds available storage"):
        items[2] = b"far too many"
    with pytest.raises(TypeError, match="and not of list"):
        items[0] = []
    with pytest.raises(struct.error):
        items[0] = 1 << 64
    assert list(items) == ["encodés", 1.5, "some"]
    for position in (3, -4):
        with pytest.raises(IndexError, match="the list has 3 items"):
            items[position]
        with pytest.raises(IndexError):
            items[position] = 1
    with pytest.raises(ValueError, match="'x' is not in this list"):
        items.index("x")


TEXTS = st.text(max_size=40).filter(lambda text: not text.endswith("\0"))
LISTS = st.lists(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.floats(allow_nan=False)
    | TEXTS.filter(lambda text: text.isprintable())
    | st.binary(max_size=40).map(lambda data: data.rstrip(b"\0")),
    max_size=8,
)


@given(LISTS, LISTS)
def test_as_a_list_of_the_standard_library(first: list[Any], second: list[Any]) -> None:
    items: ShareableList[Any] = ShareableList(first)
    assert list(items) == first
    for index, item in enumerate(second[: len(first)]):
        with contextlib.suppress(ValueError):  # larger than the one before
            items[index] = item
            first[index] = item
    assert list(items) == first == list(pickle.loads(pickle.dumps(items)))


def test_either_reads_the_lists_of_the_other(name: str) -> None:
    theirs: Any = standard.ShareableList(ITEMS)
    try:
        found: ShareableList[Any] = ShareableList(name=theirs.shm.name)
        assert list(found) == ITEMS
        found[3] = 7
        assert theirs[3] == 7
        ours: ShareableList[Any] = ShareableList(theirs)
        assert bytes(ours.shm.buf) == bytes(theirs.shm.buf[: ours.shm.size])
        found.shm.close()
    finally:
        theirs.shm.close()
        theirs.shm.unlink()


def test_lists_of_nothing_and_of_too_much() -> None:
    empty: ShareableList[Any] = ShareableList()
    assert (list(empty), empty.format, empty.count("any")) == ([], "", 0)
    with pytest.raises(TypeError, match=r"int, float, bool, str, bytes and None, and not of array"):
        ShareableList([array.array("d")])
    with pytest.raises(ValueError, match="too large"):
        ShareableList([bytes(10_000_000)])


def test_lists_travel() -> None:
    def change(items: ShareableList[Any]) -> int:
        items[0] = "there"
        return len(items)

    items: ShareableList[Any] = ShareableList(["here", 1])
    with forkless.Pool(1) as pool:
        assert pool.apply(change, (items,)) == 2
    assert items[0] == "there"
