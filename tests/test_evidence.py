"""What a death is explained with: peak memory, the memory killer, the call that was lost."""

from __future__ import annotations

import copy
import dataclasses
import doctest
import enum
import functools
import os
import pickle
import signal
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import MagicMock

import forkless
import numpy as np
import pytest
from forkless import _evidence, _pickling
from forkless._evidence import MemoryKiller, describe_arguments, describe_call
from hypothesis import given
from hypothesis import strategies as st
from support import PATIENCE, run_program

MIB = 1 << 20
ATTRIBUTES = "task arguments worker pid exitcode stack peak_memory memory_killer".split()


# --- Peak memory ---


def grow(size: int, number: int = 0) -> None:
    block = b"x" * size
    if number:
        os.kill(os.getpid(), number)
    del block


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
@pytest.mark.parametrize("number", [0, signal.SIGKILL])
def test_the_peak_is_known_when_the_end_is(method: str, number: int) -> None:
    peaks: list[int | None] = []
    for size in (1, 200 * MIB):
        process = forkless.get_context(method).Process(target=grow, args=(size, number))
        peaks.append(process.peak_memory)
        process.start()
        process.join(PATIENCE)
        assert process.exitcode == -number
        peaks.append(process.peak_memory)
        process.close()
        with pytest.raises(ValueError, match="closed"):
            _ = process.peak_memory
    before, small, between, large = peaks
    assert (before, between) == (None, None)
    assert MIB < (small or 0) < 200 * MIB <= (large or 0) < 400 * MIB


def test_a_child_that_runs_has_no_peak_yet() -> None:
    event = forkless.Event()
    process = forkless.Process(target=event.wait)
    process.start()
    assert process.peak_memory is None
    event.set()
    process.join(PATIENCE)
    assert process.peak_memory


def test_a_template_that_comes_late_is_waited_for() -> None:
    """Only it knows the peak; its turn may come late on a busy machine."""
    source = f"""
import os, signal, sys, threading
sys.path.insert(0, {str(Path(__file__).parent)!r})
import forkless
from forkless import _forkless
from support import eventually, status_of
go = forkless.Event()
process = forkless.Process(target=go.wait)
process.start()
template, = [pid for pid, _, role in _forkless.processes() if role == "template"]
# It has made what stands by, and holds no lock: who waits for such a one has it go on.
roles = lambda: [role for _, _, role in _forkless.processes()]
assert eventually(lambda: roles().count("standby") == 2 and status_of(template)[0] == "S")
os.kill(template, signal.SIGSTOP)
assert eventually(lambda: status_of(template)[0] == "T")
go.set()
threading.Timer(1.5, os.kill, (template, signal.SIGCONT)).start()
process.join()
print(process.exitcode, process.peak_memory is not None)
"""
    assert run_program(source).check() == "0 True\n"


def test_what_the_template_had_once_is_not_the_child_s(tmp_path: Path) -> None:
    (tmp_path / "fleeting.py").write_text("block = b'x' * (200 << 20)\ndel block\n")
    source = """
import forkless, sys
sys.path.insert(0, sys.argv[1])
forkless.set_forkserver_preload(["fleeting"])
process = forkless.Process(target=int)
process.start()
process.join()
print(0 < process.peak_memory < 200 << 20)
"""
    environ = {"PYTHONPATH": str(tmp_path)}
    assert run_program(source, str(tmp_path), environ=environ).check() == "True\n"


def test_it_is_lost_with_the_template() -> None:
    source = """
import forkless, os, select, signal
from forkless import _forkless

event = forkless.Event()
process = forkless.Process(target=event.wait)
process.start()
template, = [pid for pid, _, role in _forkless.processes() if role == "template"]
descriptor = os.pidfd_open(template)
os.kill(template, signal.SIGKILL)
select.select([descriptor], [], [])
event.set()
process.join()
print(process.peak_memory)
"""
    assert run_program(source).check() == "None\n"


# --- The memory killer ---


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def events(kills: int) -> str:
    return f"low 0\nhigh 7\nmax 9\noom {kills}\noom_kill {kills}\noom_group_kill 0\n"


def control(kills: int) -> str:
    return f"oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n"


def vmstat(kills: int) -> str:
    return f"nr_free_pages 100\noom_kill {kills}\npgfault 17\n"


TREES = {
    "version 2": ("0::/a/b\n", "sys/fs/cgroup/a/b/memory.events", events),
    "version 2, no controller in the innermost": ("0::/a/b\n", "sys/fs/cgroup/a/memory.events", events),
    "version 2, a container's root": ("0::/\n", "sys/fs/cgroup/memory.events", events),
    "version 2, outside of what is mounted": ("0::/../../x\n", "sys/fs/cgroup/memory.events", events),
    "version 1": ("4:cpu:/c\n3:memory:/a/b\n", "sys/fs/cgroup/memory/a/b/memory.oom_control", control),
    "version 1, a container": ("3:memory:/docker/4711\n", "sys/fs/cgroup/memory/memory.oom_control", control),
    "both": ("3:memory:/a\n0::/\n", "sys/fs/cgroup/memory/a/memory.oom_control", control),
    "a name with colons": ("0::/a:b\n", "sys/fs/cgroup/a:b/memory.events", events),
    "the whole machine": ("0::/\n", "proc/vmstat", vmstat),
    "no control groups": ("", "proc/vmstat", vmstat),
}


@pytest.mark.parametrize("name", TREES)
def test_each_kill_is_told_once(tmp_path: Path, name: str) -> None:
    table, counter, text = TREES[name]
    write(tmp_path, {"proc/vmstat": vmstat(1), "proc/self/cgroup": table, counter: text(5)})
    killer = MemoryKiller(str(tmp_path))
    assert killer.struck() is False
    write(tmp_path, {counter: text(6)})
    assert killer.struck() is True
    assert killer.struck() is False
    write(tmp_path, {counter: text(8)})
    assert [killer.struck() for _ in range(3)] == [True, True, False]
    write(tmp_path, {counter: text(0)})
    assert killer.struck() is False, "counted anew"
    write(tmp_path, {counter: text(10**18)})
    assert killer.struck() is True, "and nonsense takes no memory"


def test_the_group_s_own_count_decides(tmp_path: Path) -> None:
    files = {"a/b/memory.events": events(2), "a/memory.events": events(3), "memory.events": events(4)}
    write(tmp_path / "sys/fs/cgroup", files)
    write(tmp_path / "proc", {"self/cgroup": "0::/a/b\n", "vmstat": vmstat(9)})
    killer = MemoryKiller(str(tmp_path))
    # Others around this group, and on this machine, lost a process.
    write(tmp_path, {"proc/vmstat": vmstat(10), "sys/fs/cgroup/a/memory.events": events(4)})
    assert killer.struck() is False


def test_what_cannot_be_known(tmp_path: Path) -> None:
    killer = MemoryKiller(str(tmp_path))
    assert (killer.struck(), killer.limit()) == (None, None)
    old = {
        "proc/self/cgroup": "garbage\n3:memory:/a\n",
        "sys/fs/cgroup/memory/a/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\n",
        "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "nonsense\n",
        "proc/vmstat": "pgfault 17\noom_kill\noom_kill many\n",
    }
    write(tmp_path, old)
    killer = MemoryKiller(str(tmp_path))
    assert (killer.struck(), killer.limit()) == (None, None)


def test_a_change_of_groups(tmp_path: Path) -> None:
    cgroup = tmp_path / "sys/fs/cgroup"
    write(cgroup, {"a/memory.events": events(2), "b/memory.events": events(30)})
    write(tmp_path, {"proc/self/cgroup": "0::/a\n"})
    killer = MemoryKiller(str(tmp_path))
    write(tmp_path, {"proc/self/cgroup": "0::/b\n"})
    assert killer.struck() is None
    write(cgroup, {"b/memory.events": events(31)})
    assert killer.struck() is True


def test_an_old_kill_explains_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"proc/vmstat": vmstat(0)})
    killer = MemoryKiller(str(tmp_path))
    now = 1000.0
    monkeypatch.setattr("forkless._evidence.time", SimpleNamespace(monotonic=lambda: now))
    write(tmp_path, {"proc/vmstat": vmstat(3)})
    assert killer.struck() is True
    now += 5
    assert killer.struck() is True
    now += 6
    assert killer.struck() is False


@pytest.mark.parametrize(
    ("table", "files", "limit"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": "4096\n"}, ("memory.max", 4096)),
        ("0::/a/b\n", {"a/b/memory.max": "1024\n", "a/memory.max": "4096\n"}, ("memory.max", 1024)),
        ("0::/a\n", {"a/memory.max": "max\n"}, None),
        ("3:memory:/a\n", {"memory/a/memory.limit_in_bytes": "77\n"}, ("memory.limit_in_bytes", 77)),
        ("3:memory:/a\n", {"memory/a/memory.limit_in_bytes": "9223372036854771712\n"}, None),
        ("0::/a\n", {"b/memory.max": "1\n"}, None),
    ],
)
def test_the_limit_is_the_lowest(
    tmp_path: Path, table: str, files: dict[str, str], limit: tuple[str, int] | None
) -> None:
    write(tmp_path / "sys/fs/cgroup", files)
    write(tmp_path, {"proc/self/cgroup": table})
    assert MemoryKiller(str(tmp_path)).limit() == limit


def test_one_watches_for_the_whole_process() -> None:
    assert _evidence.memory_killer() is _evidence.memory_killer()
    assert _evidence.memory_killer().struck() in (False, None)


# --- The error ---


class Corpse:
    """Stands in for a child that has ended in a way that is hard to come by."""

    pid = 4711

    def __init__(self, code: int, peak: int | None = None, stack: str | None = None) -> None:
        self.poll, self.peak_memory, self.last_words = (
            lambda value=value: value for value in (code, peak, stack)
        )


class Killer:
    """Stands in for a memory killer."""

    def __init__(self, struck: bool | None, limit: tuple[str, int] | None = None) -> None:
        self.struck, self.limit = (lambda value=value: value for value in (struck, limit))


def died(corpse: Any, killer: Any, arguments: str = "") -> forkless.WorkerDied:
    return forkless.WorkerDied.of("train", arguments, "PoolWorker-3", corpse, killer)


def test_the_memory_killer_is_told_with_its_limit() -> None:
    corpse = Corpse(-9, int(3.1 * (1 << 30)))
    error = died(corpse, Killer(True, ("memory.max", 4 << 30)), "<array 200x30>, rate=0.1")
    assert str(error) == (
        "worker PoolWorker-3 (pid 4711) was killed by SIGKILL while it ran train(<array 200x30>, rate=0.1); "
        "its peak memory was 3.1 GiB; the memory killer of its control group struck (memory.max is 4 GiB): "
        "give it more memory, or run fewer workers; this task is lost, the others go on in a new worker"
    )
    assert (error.task, error.arguments) == ("train", "<array 200x30>, rate=0.1")
    assert (error.peak_memory, error.memory_killer) == (int(3.1 * (1 << 30)), True)
    assert "the kernel's memory killer struck: give" in str(died(corpse, Killer(True)))


@pytest.mark.parametrize("killer", [None, Killer(None)])
def test_what_is_not_known_is_not_told(killer: Any) -> None:
    error = died(Corpse(-9), killer)
    assert "if nobody sent SIGKILL, it was the kernel's memory killer" in str(error)
    assert "peak memory" not in str(error)
    assert (error.peak_memory, error.memory_killer, error.arguments) == (None, None, "")


@pytest.mark.parametrize("code", [3, -11])
def test_other_ends_are_not_the_memory_killer_s(code: int) -> None:
    # A killer that cannot even be asked: to ask it would spend a kill.
    error = died(Corpse(code, 1500, "File ..."), object())
    assert error.memory_killer is False
    assert "memory killer" not in str(error)
    assert ("its peak memory was 1.5 KiB" in str(error)) == (code < 0)
    assert str(error).endswith("a new worker. Its Python stack when it died:\nFile ...")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1 KiB"),
        (MIB - 1, "1 MiB"),
        (210 * MIB, "210 MiB"),
        (5 << 40, "5 TiB"),
        (5000 << 40, "5000 TiB"),
    ],
)
def test_sizes(size: int, text: str) -> None:
    assert f"its peak memory was {text};" in str(died(Corpse(-11, size), None))


@pytest.mark.parametrize(
    ("target", "args", "code", "peak"),
    [
        (grow, (200 * MIB, signal.SIGKILL), -9, 200 * MIB),
        (grow, (200 * MIB, signal.SIGSEGV), -11, 200 * MIB),
        (os._exit, (3,), 3, MIB),
    ],
)
def test_a_worker_s_death_tells_everything(
    target: Callable[..., object], args: Any, code: int, peak: int
) -> None:
    with forkless.Pool(1) as pool:
        with pytest.raises(forkless.WorkerDied) as caught:
            pool.apply(target, args)
        assert pool.apply(abs, (-1,)) == 1
    error = caught.value
    assert (error.exitcode, error.worker) == (code, caught.value.worker)
    assert peak <= (error.peak_memory or 0) < 2 * max(peak, 100 * MIB)
    assert ("in grow" in (error.stack or "")) == (code == -11)
    # Known wherever the kernel counts.
    assert error.memory_killer == (MemoryKiller().struck() if code == -9 else False)
    if error.memory_killer is False:
        assert ("no memory killer struck: somebody sent SIGKILL" in str(error)) == (code == -9)
    same(error, pickle.loads(pickle.dumps(error)))
    same(error, copy.copy(error))
    same(error, _pickling.loads(_pickling.dumps(error)[0]))


def same(error: BaseException, other: BaseException) -> None:
    assert type(other) is type(error)
    assert str(other) == str(error)
    for name in ATTRIBUTES:
        assert getattr(other, name) == getattr(error, name), name


def complete() -> forkless.WorkerDied:
    return forkless.WorkerDied(
        "m", "t", "w", 7, -9, "s", arguments="a", peak_memory=1 << 40, memory_killer=True
    )


def fail() -> None:
    raise complete()


def test_it_comes_home_from_a_worker_whole() -> None:
    with forkless.Pool(1) as pool:
        with pytest.raises(forkless.WorkerDied) as caught:
            pool.apply(fail)
        same(caught.value, complete())
        same(pickle.loads(pool.apply(pickle.dumps, (complete(),))), complete())


# --- The call ---


@dataclasses.dataclass
class Point:
    x: int
    name: str = "here"
    secret: str = dataclasses.field(default="hunter2", repr=False)

    def moved(self) -> Point:
        return self


@dataclasses.dataclass
class Discreet:
    secret: str

    def __repr__(self) -> str:
        return "Discreet()"


class Colour(enum.Enum):
    RED = 1


class Pair(NamedTuple):
    a: object
    b: object


class Frame:
    """As a data frame: a shape, and no one type of elements."""

    shape = (100, 3)


class Hostile:
    """Raises at, or lies about, everything."""

    def __getattribute__(self, name: str) -> object:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise RuntimeError("repr")

    __str__ = __len__ = __iter__ = __hash__ = __eq__ = __bool__ = __repr__  # type: ignore[assignment]


class Slow:
    """Would take long to describe itself; so it is not asked to."""

    asked = 0

    def __repr__(self) -> str:
        Slow.asked += 1
        return "Slow()"


class BadShape:
    @property
    def shape(self) -> object:
        raise ValueError("no shape")


class OddShape:
    shape = ("a", "b")
    dtype = "two\nlines"


class Unreadable(list[int]):
    def __iter__(self) -> Any:
        raise RuntimeError("iter")

    def __repr__(self) -> str:
        raise RuntimeError("repr")


def loop() -> list[object]:
    items: list[object] = [1]
    items.append(items)
    return items


def example(*args: object, **kwargs: object) -> None:
    """Something to call."""


VALUES: list[tuple[object, str]] = [
    (None, "None"),
    (0.1, "0.1"),
    (10**20, "100000000000000000000"),
    (10**10_000, "<int of 33220 bits>"),
    ("a\nb", r"'a\nb'"),
    ("x" * 10**6, f"'{'x' * 40}'..."),
    (b"x" * 10**6, f"b'{'x' * 40}'..."),
    (memoryview(b"abc"), "<memoryview of 3 bytes>"),
    ([], "[]"),
    (list(range(10**6)), "[0, 1, 2, 3, ...]"),
    ((1,), "(1,)"),
    (set(), "set()"),
    ({1}, "{1}"),
    (frozenset({1}), "frozenset({1})"),
    ({"a": 1, "b": [2, (3,)]}, "{'a': 1, 'b': [2, (...)]}"),
    (dict.fromkeys(range(9)), "{0: None, 1: None, 2: None, 3: None, ...}"),
    ([[[[1]]]], "[[[...]]]"),
    (slice(1, None), "slice(1, None, None)"),
    (range(3), "range(0, 3)"),
    (deque([1, 2]), "<deque of 2>"),
    (len, "len"),
    (example, "example"),
    (Point, "Point"),
    (Point(1).moved, "Point.moved"),
    (Point(1), "Point(x=1, name='here')"),
    (Discreet("hunter2"), "<Discreet>"),
    (Colour.RED, "Colour.RED"),
    (Pair(1, [2]), "Pair(a=1, b=[2])"),
    (Path("/tmp"), "PosixPath('/tmp')"),
    (np.zeros((200, 30)), "<ndarray (200, 30) float64>"),
    (np.array(3), "<ndarray () int64>"),
    (np.str_("x" * 10**6), "<str_ () <U1000000>"),
    (Frame(), "<Frame (100, 3)>"),
    (Hostile(), "<Hostile>"),
    (Slow(), "<Slow>"),
    (BadShape(), "<BadShape>"),
    (OddShape(), "<OddShape>"),
    (Unreadable([1]), "<Unreadable>"),
    (MagicMock(), "<MagicMock>"),
    (loop(), "[1, [1, [...]]]"),
    (type("two\nlines", (), {})(), "<two?lines>"),
    (type("n" * 1000, (), {})(), "<" + "n" * 56 + "..."),
    (functools.partial(len), "<partial>"),
]


# By number: a test's name is made from what it is given.
@pytest.mark.parametrize("number", range(len(VALUES)))
def test_values(number: int) -> None:
    value, text = VALUES[number]
    assert describe_arguments((value,), {}) == text
    assert describe_arguments((), {"key": value}) == f"key={text}"


def test_numbers_of_numpy_are_numbers() -> None:
    assert (
        describe_arguments((np.float32(0.5), np.bool_(True)), {})
        == f"{np.float32(0.5)!r}, {np.bool_(True)!r}"
    )


def test_the_examples() -> None:
    assert doctest.testmod(_evidence) == (0, 3)


def test_calls() -> None:
    assert describe_call(sorted, ([2, 1],), {"reverse": True}) == "sorted([2, 1], reverse=True)"
    assert describe_call(len, (), {}) == "len()"
    assert describe_call(Hostile(), (1,), {}) == "<Hostile>(1)"
    assert describe_call(len, range(10**9), {}, 30) == "len(0, 1, 2, 3, 4, 5, 6, ...)"
    assert describe_call(len, ("abc", 1), {}, 13) == "len('abc', 1)"
    assert describe_call(len, ("abc", 1), {}, 12) == "len(...)"
    assert describe_call(type("f" * 200, (), {}), ("abcdef",), {}, 40).endswith("fff...(...)")
    assert describe_call(len, (1,), None) == "len(...)"  # type: ignore[arg-type]


kinds = (Hostile, Slow, BadShape, OddShape, Unreadable, MagicMock, loop, Frame)
hostile = st.one_of(*map(st.builds, kinds)) | st.builds(np.zeros, st.just((2, 3)))
plain = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers() | st.text() | st.binary()
)
dates = st.datetimes() | st.decimals() | st.fractions() | st.uuids() | st.timedeltas()
keys = st.none() | st.integers() | st.text()
values = st.recursive(
    plain | dates | hostile,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(keys, inner)
        | st.sets(keys)
        | st.builds(Pair, inner, inner)
        | st.builds(slice, inner, inner)
    ),
    max_leaves=30,
)


@given(st.lists(values), st.dictionaries(st.text(), values), st.integers(0, 200))
def test_any_call_is_one_line_of_the_length_wanted(
    args: list[Any], kwargs: dict[str, Any], limit: int
) -> None:
    for func in (example, Hostile(), Colour, functools.partial(example, 1)):
        text = describe_call(func, args, kwargs, limit)
        assert len(text) <= limit
        assert text.isprintable()
        assert describe_call(func, args, kwargs, limit) == text
    assert len(describe_arguments(args, kwargs, limit)) <= limit
    assert Slow.asked == 0


@given(st.lists(plain, max_size=4))
def test_what_has_room_is_whole(args: list[Any]) -> None:
    text = describe_call(example, args, {}, 10_000)
    if all(not isinstance(arg, str | bytes | int) or len(repr(arg)) <= 30 for arg in args):
        assert text == f"{example.__module__}.example({', '.join(map(repr, args))})"
