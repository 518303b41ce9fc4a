"""`forkless.share` of lists, tuples and dicts: they read like the original, and nobody can write."""

from __future__ import annotations

import copy
import hashlib
import math
import operator
import pickle
import threading
from collections import OrderedDict, namedtuple
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from types import MappingProxyType
from typing import Any

import forkless
import numpy as np
import pytest
from forkless._pickling import dumps, loads
from hypothesis import given, settings
from hypothesis import strategies as st
from support import Outcome

NUMBERS = st.one_of(
    st.integers(), st.integers(-(2**64), 2**64), st.sampled_from([2**63, -(2**63), 2**62, 2**30, 256])
)
# Text with halves of surrogate pairs, too.
TEXT = st.text(st.characters(categories=("L", "Cs", "So", "Nd")), max_size=5)
SCALARS = st.one_of(
    st.none(), st.booleans(), NUMBERS, st.floats(allow_nan=False), TEXT, st.binary(max_size=5)
)
KEYS = st.one_of(TEXT, NUMBERS, st.none(), st.binary(max_size=3), st.tuples(NUMBERS, TEXT))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=5).map(tuple),
        st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3),
        st.dictionaries(KEYS, inner, max_size=4),
    ),
    max_leaves=20,
)


def kinds(value: object) -> object:
    """The types of a value and of all that is in it: `1`, `1.0` and `True` are equal."""
    if isinstance(value, dict):
        return {repr(key): kinds(part) for key, part in value.items()}
    return (type(value), [kinds(part) for part in value] if isinstance(value, (list, tuple)) else None)


@given(st.lists(VALUES, max_size=6))
def test_any_list_reads_like_the_original(items: list[Any]) -> None:
    shared = forkless.share(items)
    assert shared.tolist() == items
    assert kinds(shared.tolist()) == kinds(items)
    assert shared == items
    assert items == shared
    assert (shared != items) is False
    assert list(shared) == items
    assert list(reversed(shared)) == items[::-1]
    assert [shared[index] for index in range(-len(items), len(items))] == items * 2
    assert len(shared) == len(items)
    assert all(item in shared for item in items)


@given(st.dictionaries(KEYS, VALUES, max_size=8))
def test_any_dict_reads_like_the_original(original: dict[Any, Any]) -> None:
    shared = forkless.share(original)
    assert shared.todict() == original
    assert kinds(shared.todict()) == kinds(original)
    assert list(shared) == list(shared.keys()) == list(original)
    assert list(shared.values()) == list(original.values())
    assert list(shared.items()) == list(original.items())
    assert shared == original
    assert original == shared
    for key in original:
        assert key in shared
        assert shared[key] == shared.get(key) == original[key]
    assert "no such key" not in shared


@given(st.lists(NUMBERS | st.floats(allow_nan=False)), st.slices(30), st.slices(30))
def test_slices_of_slices(items: list[Any], one: slice, two: slice) -> None:
    shared = forkless.share(items)
    assert list(shared[one][two]) == items[one][two]
    assert sum(shared[one]) == sum(items[one])
    assert loads(dumps(shared[one][two])[0]) == items[one][two]


@given(st.lists(st.integers(-300, 300) | st.integers(-(2**63), 2**63 - 1)))
def test_a_number_stays_what_it_is_while_somebody_has_it(items: list[int]) -> None:
    """Numbers that are given out are made again from those that nobody has any more."""
    shared = forkless.share(items)
    iterator = iter(shared)
    kept = [number for index, number in enumerate(iterator) if index % 3 != 1]
    assert kept == [number for index, number in enumerate(items) if index % 3 != 1]
    assert list(map(operator.neg, shared)) == [-number for number in items]
    assert sorted(shared) == sorted(items)
    assert list(zip(shared, shared, strict=True)) == list(zip(items, items, strict=True))
    assert {number: str(number) for number in shared} == {number: str(number) for number in items}


def test_floats_stay_what_they_are_while_somebody_has_them() -> None:
    items = [math.pi * n for n in range(1000)]
    shared = forkless.share(items)
    kept: list[float] = []
    for number in shared:
        if len(kept) < 500:
            kept.append(number)
    assert kept == items[:500]
    assert sum(shared) == sum(items)


def test_threads_may_use_one_iterator() -> None:
    shared = forkless.share(list(range(1000, 21_000)))
    iterator = iter(shared)
    found: list[list[int]] = [[], [], []]
    threads = [threading.Thread(target=each.extend, args=(iterator,)) for each in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(number for each in found for number in each) == list(range(1000, 21_000))


def test_what_a_list_has() -> None:
    shared: Any = forkless.share((5, 6, 5, 7))
    assert shared.index(5) == 0
    assert shared.index(5, 1) == 2
    assert shared.index(5, -2, 4) == 2
    assert shared.count(5) == 2
    assert shared.count("5") == 0
    assert 7.0 in shared
    assert "7" not in shared
    with pytest.raises(ValueError, match="8 is not in list"):
        shared.index(8)
    with pytest.raises(ValueError, match="not in list"):
        shared.index(5, 3)
    with pytest.raises(IndexError, match="out of range"):
        shared[4]
    with pytest.raises(IndexError, match="out of range"):
        shared[10**30]
    with pytest.raises(TypeError, match="indices must be integers or slices, not str"):
        shared["a"]
    assert shared != [5, 6, 5]
    assert shared != (5, 6, 5, 8)
    assert shared != "5657"
    assert operator.length_hint(iter(forkless.share(["a", "b"]))) == 2
    assert repr(shared) == "SharedList([5, 6, 5, 7])"
    assert repr(forkless.share(list(range(10)))) == "SharedList([0, 1, 2, 3, 4, 5, ... 10 items])"
    assert isinstance(shared, Sequence)
    assert copy.copy(shared) == copy.deepcopy(shared) == shared
    match shared:
        case [first, *_]:
            assert first == 5


def test_what_a_dict_has() -> None:
    shared: Any = forkless.share({"a": 1, "b": [1, 2]})
    assert isinstance(shared, Mapping)
    assert shared["b"][1] == 2
    assert shared.get("c") is None
    assert shared.get("c", 5) == 5
    with pytest.raises(KeyError, match="'c'"):
        shared["c"]
    with pytest.raises(TypeError, match="unhashable"):
        shared[[]]
    assert 1 not in shared
    assert shared.keys() & {"a", "c"} == {"a"}
    assert ("a", 1) in shared.items()
    assert {**shared} == {"a": 1, "b": [1, 2]}
    assert dict(shared) == {"a": 1, "b": [1, 2]}
    assert repr(shared) == "SharedDict({'a': 1, 'b': SharedList([1, 2])})"
    assert shared != {"a": 1}
    assert shared != {"a": 1, "c": [1, 2]}
    match shared:
        case {"a": value}:
            assert value == 1


class Number(IntEnum):
    SEVEN = 7


class Name(str):
    __slots__ = ()


def test_keys_are_equal_as_in_a_dict() -> None:
    original: dict[Any, int] = {n: n for n in range(2000)}
    original.update({"name": -1, 2.5: -2, 2**70: -3, (1, "a", None): -4, b"x": -5, 1e30: -6})
    shared = forkless.share(original)
    probes = [7, 7.0, True, False, Number.SEVEN, np.int64(7), np.float64(2.5), "name", Name("name")]
    probes += [2**70, float(2**70), (1, "a", None), (True, "a", None), b"x", 1e30, int(1e30), -0.0]
    for probe in probes:
        assert shared[probe] == original[probe], probe
    for probe in [
        "7",
        2000,
        b"name",
        (1, "a"),
        None,
        2.25,
        float("nan"),
        float("inf"),
        frozenset(),
        Name("x"),
    ]:
        assert probe not in shared
        assert probe not in original


ROWS = [{"id": n, "name": f"name {n}", "tags": ["x"] * (n % 3), "at": (n, -n)} for n in range(100)]


def test_rows_are_a_table() -> None:
    shared = forkless.share(ROWS)
    assert shared[5] == ROWS[5]
    assert shared[5]["tags"] == ["x", "x"]
    assert shared[5]["at"] == (5, -5)
    assert type(shared[5]["at"]) is tuple
    assert shared.column("id") == list(range(100))
    assert shared[10:20:2].column("name") == [f"name {n}" for n in range(10, 20, 2)]
    assert shared.column("at").column(1) == [-n for n in range(100)]
    assert shared.column("at").column(-1)[3] == -3
    assert loads(dumps(shared.column("name"))[0]) == shared.column("name")
    with pytest.raises(KeyError, match="'nam'"):
        shared.column("nam")
    with pytest.raises(IndexError):
        shared.column("at").column(2)
    with pytest.raises(TypeError, match="only lists of tuples"):
        shared.column("id").column(0)


def test_rows_may_lack_parts() -> None:
    rows: list[dict[str, Any]] = [{"a": 1}, {"a": 2, "b": None}, {"b": 3}]
    shared = forkless.share(rows)
    assert shared == rows
    assert "b" not in shared[0]
    assert shared[1]["b"] is None
    assert len(shared[2]) == 1
    assert shared.column("b") == [None, None, 3]


def test_numbers_are_arrays_too() -> None:
    ints, floats = forkless.share([3, 1, 2]), forkless.share([0.5, 1.5])
    array = np.asarray(ints[::-1])
    assert array.dtype == np.int64
    assert array.tolist() == [2, 1, 3]
    assert not array.flags.writeable
    assert memoryview(floats).format == "d"
    assert bytes(memoryview(forkless.share([True, False]))) == b"\x01\x00"
    assert np.asarray(forkless.share(ROWS).column("id")).sum() == sum(range(100))
    assert np.asarray(forkless.share([1, 2])[2:]).size == 0
    with pytest.raises(BufferError, match="only a shared list of integers"):
        memoryview(forkless.share(["a"]))
    with pytest.raises(BufferError, match="gaps"):
        hashlib.sha256(ints[::2])
    assert hashlib.sha256(ints).digest() == hashlib.sha256(array[::-1].tobytes()).digest()


@pytest.mark.parametrize("shared", [forkless.share([1, 2]), forkless.share(["a"]), forkless.share({"a": 1})])
def test_nobody_can_write(shared: Any) -> None:
    for change in (
        lambda: shared.__setitem__(0, 5),
        lambda: shared.append(5),
        lambda: shared.update(a=5),
        lambda: operator.delitem(shared, 0),
    ):
        with pytest.raises((TypeError, AttributeError)):
            change()
    with pytest.raises(TypeError, match="unhashable"):
        hash(shared)
    assert forkless.share(shared) is shared


def test_arrays_within() -> None:
    array = np.arange(5)
    parts = forkless.share([array, array * 2])
    assert isinstance(parts, tuple)
    assert not parts[1].flags.writeable
    model: Any = forkless.share({"weights": array, "names": ["a", "b"], "layers": [array], "rate": 0.5})
    assert isinstance(model, MappingProxyType)
    assert model["names"] == ["a", "b"]
    assert model["rate"] == 0.5
    assert type(model["weights"].base) is forkless.SharedBuffer
    assert len(dumps(model)[0]) < 1500
    assert loads(dumps(model)[0])["layers"][0].tolist() == array.tolist()


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, object()], r"cannot share this: \[1\] is a builtins\.object object"),
        ([{"a": [1, {2}]}], r"\[0\]\['a'\]\[1\] is a builtins\.set object"),
        ({"x": {"y": Point(1, 2)}}, r"\['x'\]\['y'\] is a test_share_lists\.Point object"),
        ([np.float64(1)] * 2000, r"\[0\] is a numpy\.float64 object"),
        ({"a": np.array([None])}, r"\['a'\] is a numpy\.ndarray object; its items are Python objects"),
        ([OrderedDict(a=1)], r"\[0\] is a collections\.OrderedDict object"),
        ([{(1, frozenset()): 1}], "a key of a shared dictionary is a number, a string"),
        ({n: object() for n in range(5)}, r"\[0\] is a builtins\.object object; share\(\) takes"),
    ],
    ids=["object", "deep", "namedtuple", "numpy", "objects", "subclass", "key", "dict"],
)
def test_what_cannot_be_shared_is_named(value: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        forkless.share(value)


def test_what_contains_itself_is_refused() -> None:
    items: list[Any] = []
    items += [items, items]
    with pytest.raises(ValueError, match="contains itself"):
        forkless.share(items)
    deep: list[Any] = []
    for _ in range(100):
        deep = [deep]
    with pytest.raises(RecursionError, match="more than 64 deep"):
        forkless.share(deep)
    part = [1, 2]
    assert forkless.share([part, part]) == [part, part]


def test_plain_pickle_takes_them_along() -> None:
    for value in ([1, 2, 3], {"a": [1]}, [("a", 1)]):
        shared: Any = forkless.share(value)
        assert pickle.loads(pickle.dumps(shared)) == value


def test_damaged_places_are_errors() -> None:
    shared: Any = forkless.share([1, 2, 3])
    open_list, (owner, at, *_) = shared.__reduce__()
    for arguments in [(owner, 3, 0, 1, 3), (forkless.share(b"x" * 200), at, 0, 1, 3)]:
        with pytest.raises(forkless.ProcessError, match=r"damaged|no columns"):
            open_list(*arguments)
    for first, step, count in [(0, 1, 4), (-5, 1, 2), (0, 2**61, 2), (2, -1, 4)]:
        strange = open_list(owner, at, first, step, count)
        for use in (list, operator.itemgetter(count - 1), memoryview, operator.methodcaller("tolist")):
            with pytest.raises((forkless.ProcessError, IndexError)):
                use(strange)


PROGRAM = """
import os
import forkless as mp

numbers = mp.share(list(range(2_000_000)))
people = mp.share([{"name": f"name {n}", "born": n} for n in range(100_000)])
index = mp.share({f"name {n}": n for n in range(100_000)})

def private():
    return next(each.private_dirty for each in mp.memory_report().processes if each.pid == os.getpid())

def read(numbers, people, queue):
    before = private()
    total = sum(numbers)
    born = sum(person["born"] for person in people)
    found = index["name 77"]
    queue.put((total, born, found, private() - before, numbers[5:8]))

queue = mp.Queue()
child = mp.Process(target=read, args=(numbers, people, queue))
child.start()
total, born, found, grown, part = queue.get()
child.join()
assert (total, born, found) == (sum(range(2_000_000)), sum(range(100_000)), 77)
assert grown < 3_000_000, grown
assert part == [5, 6, 7] and type(part) is mp.SharedList
with mp.Pool(2) as pool:
    assert pool.map(numbers.__getitem__, [1, -1]) == [1, 1_999_999]
    assert pool.apply(lambda: people[3]["name"]) == "name 3"
    # A part of them that comes back is still where it was.
    assert pool.apply(lambda: people[3:5].column("name")) == ["name 3", "name 4"]
with mp.Executor(1) as executor:
    assert executor.submit(lambda: sum(index.values())).result() == sum(range(100_000))
reader, writer = mp.Pipe()
writer.send(people[1])
assert reader.recv() == {"name": "name 1", "born": 1}
print("same")
"""


def test_other_processes_read_them_without_a_copy(run_program: Callable[..., Outcome]) -> None:
    assert run_program(PROGRAM).check() == "same\n"


def test_what_nobody_has_any_more_is_freed(run_program: Callable[..., Outcome]) -> None:
    run_program("""
import os
import forkless as mp
from forkless._forkless import memory
items = list(range(1_000_000))
for _ in range(5):
    mp.share(items)
high = memory(os.getpid())[0]
for _ in range(40):
    part = mp.share(items)[5:10]
    iterator = iter(part)
    view = memoryview(part)
assert memory(os.getpid())[0] < high + 50_000_000
""").check()


def test_no_space_is_a_memory_error(run_program: Callable[..., Outcome]) -> None:
    """Before anything is copied."""
    run_program("""
import os, resource
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
import forkless as mp
from forkless._forkless import memory
items = [bytes(10_000_000)] * 400
before = memory(os.getpid())[0]
try:
    mp.share(items)
except MemoryError as error:
    assert "40000" in str(error) and "RLIMIT_AS" in str(error), error
else:
    raise AssertionError
assert memory(os.getpid())[0] < before + 10_000_000
assert mp.share(items[:2])[1] == items[0]
""").check()


@settings(max_examples=20)
@given(st.integers(0, 2**32))
def test_text_of_any_length(seed: int) -> None:
    lengths = [seed % 7, seed % 100, 40_000, 0, seed % 70_000]
    items = [chr(0x40 + seed % 0x300) * length for length in lengths]
    assert forkless.share(items).tolist() == items
