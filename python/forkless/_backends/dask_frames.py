"""How Dask sends a `Block`: as it is, like an array of NumPy.

A scheduler speaks an old pickle protocol, in which bytes are copied into the pickle and out of it again.
"""

from typing import Any

from distributed.protocol import dask_deserialize, dask_serialize

from .blocks import Block


def _to_frames(block: Block) -> tuple[dict[str, Any], list[memoryview]]:
    return {}, [block.view]


def _of_frames(header: dict[str, Any], frames: list[Any]) -> Block:
    (frame,) = frames
    return Block(frame)


dask_serialize.register(Block, _to_frames)
dask_deserialize.register(Block, _of_frames)
