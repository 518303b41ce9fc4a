"""Large data that many messages have: there once, and each receiver's own."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from forkless import _pickling
from forkless._beside import keepers
from forkless._repeated import Repeated

LARGE = 1 << 20


def pack(repeated: Repeated, obj: object) -> Any:
    with repeated.in_use():
        return _pickling.pack(obj)


def buffer(size: int = LARGE, value: int = 1) -> pickle.PickleBuffer:
    return pickle.PickleBuffer(bytearray([value]) * size)


def read(packed: Any) -> Any:
    payload = packed.payload if isinstance(packed.payload, bytes) else b"".join(packed.payload)
    return pickle.loads(payload, buffers=packed.buffers)


def test_the_second_time_it_is_copied_and_from_then_on_referred_to() -> None:
    repeated, data = Repeated(1000), buffer()
    first, *others = [pack(repeated, data) for _ in range(4)]
    assert (len(first.buffers), first.handles) == (1, [])
    assert [len(other.buffers) for other in others] == [0, 0, 0]
    handles = [other.handles for other in others]
    assert len(handles[0]) == 1
    assert handles[1] == handles[2] == handles[0]


def test_what_is_so_large_that_two_copies_matter_is_referred_to_at_once() -> None:
    repeated, data = Repeated(1000), buffer(33 << 20)
    assert pack(repeated, data).handles == pack(repeated, data).handles != []


def test_each_receiver_has_it_as_its_own() -> None:
    repeated, source = Repeated(1000), bytearray(b"abc") * LARGE
    data = pickle.PickleBuffer(source)
    pack(repeated, data)
    packed = pack(repeated, data)
    one, other = read(packed), read(packed)
    one[:3] = b"xyz"
    assert (bytes(one[:6]), bytes(other[:6]), bytes(source[:6])) == (b"xyzabc", b"abcabc", b"abcabc")
    assert bytes(read(pack(repeated, data))[:6]) == b"abcabc"
    del packed
    repeated.clear()
    assert (bytes(one[:6]), bytes(other[-3:])) == (b"xyzabc", b"abc")


def test_what_is_read_only_stays_so() -> None:
    repeated, data = Repeated(1000), pickle.PickleBuffer(bytes(LARGE))
    assert [memoryview(read(pack(repeated, data))).readonly for _ in range(3)] == [True] * 3


def test_what_has_changed_is_sent_as_it_is_now() -> None:
    repeated, source = Repeated(1000), bytearray(LARGE)
    for value in (0, 0, 1, 1, 2):
        source[-1] = value
        assert memoryview(read(pack(repeated, pickle.PickleBuffer(source))))[-1] == value


def test_what_is_small_or_not_to_be_kept_is_sent_as_ever() -> None:
    for repeated, size in ((Repeated(LARGE + 1), LARGE), (Repeated(None), 33 << 20)):
        data = buffer(size)
        assert [pack(repeated, data).handles for _ in range(3)] == [[]] * 3


def test_only_so_much_is_kept_that_is_not_sent_any_more() -> None:
    repeated = Repeated(1000)
    size = 100 << 20
    first, *others = [buffer(size, value) for value in range(5)]
    before = pack(repeated, first).handles
    assert pack(repeated, first).handles == before
    for other in others:
        pack(repeated, other)
    assert pack(repeated, first).handles != before


def test_messages_before_and_after_have_no_part_in_it() -> None:
    repeated, data = Repeated(1000), buffer(33 << 20)
    with repeated.in_use():
        with Repeated(None).in_use():
            assert _pickling.pack(data).handles == []
        assert _pickling.pack(data).handles != []
    with pytest.raises(LookupError), repeated.in_use():
        raise LookupError
    assert _pickling.pack(data).handles == []
    assert keepers == {}


def test_who_uses_it_may_say_how_arrays_are_pickled() -> None:
    numpy = pytest.importorskip("numpy")
    repeated = Repeated(None, lambda array: (str, ("an array",)) if len(array) == 3 else None)
    assert read(pack(repeated, [numpy.zeros(3), 1])) == ["an array", 1]
    assert read(pack(repeated, numpy.zeros(4))).tolist() == [0.0] * 4
