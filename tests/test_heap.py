"""`forkless.heap`: blocks of shared memory."""

from __future__ import annotations

import random

import forkless
import pytest
from forkless import _forkless
from forkless.heap import BufferWrapper


def fill(block: BufferWrapper, text: bytes) -> None:
    block.create_memoryview()[: len(text)] = text


def test_every_process_writes_to_the_same_block() -> None:
    block = BufferWrapper(100)
    assert bytes(block.create_memoryview()) == bytes(100)
    child = forkless.Process(target=fill, args=(block, b"from a child"))
    child.start()
    child.join()
    assert bytes(block.create_memoryview()[:12]) == b"from a child"


def test_blocks_come_and_go() -> None:
    """What the standard library's test does to its heap; here the arena's accounts must come out even."""
    before = _forkless.census()
    chance, blocks = random.Random(7), []
    for number in range(2000):
        size = int(chance.lognormvariate(0, 1) * 1000)
        block = BufferWrapper(size)
        view = block.create_memoryview()
        assert len(view) == size
        assert not any(view[:100])
        view[:] = bytes([number % 256]) * size
        blocks.append(view)
        if len(blocks) > 50:
            del blocks[chance.randrange(50)]
    assert _forkless.census()[0] == before[0] + len(blocks) == before[0] + 50
    del block, view
    blocks.clear()
    assert _forkless.census() == before


def test_a_view_keeps_its_block() -> None:
    view = BufferWrapper(10).create_memoryview()
    others = [BufferWrapper(10).create_memoryview() for _ in range(100)]
    for each in others:
        each[:] = b"x" * 10
    assert bytes(view) == bytes(10)


def test_sizes_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="0 or more bytes, not -1"):
        BufferWrapper(-1)
    with pytest.raises(TypeError):
        BufferWrapper("1")  # type: ignore[arg-type]
    with pytest.raises(forkless.SharedMemoryFull):
        BufferWrapper(2**60)
    assert BufferWrapper(0).create_memoryview().nbytes == 0
