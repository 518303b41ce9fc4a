"""Copies the memory of an object into shared memory, and makes the same object over it.

An object is pickled with its memory out of band, all of that is copied into one `SharedBuffer`, and what is
loaded again over it is an object of the same type. Nothing more is needed for the journey: what lies within a
shared buffer travels as a reference; see `_beside`.
"""

import _pickle
import io
import pickle
import sys
from typing import Any

from . import _pickling
from ._beside import part_of
from ._forkless import SharedBuffer, SharedBytes, address_of, find_shared

__all__ = ["gather", "reduce_part"]


class _Gatherer(_pickle.Pickler):
    """Pickles for this process: everything is found where it is, only memory is taken out.

    Attributes:
        buffers: All of it, small pieces as well.
    """

    def __init__(self) -> None:
        self.buffers: list[pickle.PickleBuffer] = []
        self._chunks: dict[int, Any] = {}
        self._output = io.BytesIO()
        super().__init__(self._output, 5, buffer_callback=self.buffers.append)

    def take(self) -> bytes:
        """The pickle written."""
        return self._output.getvalue()

    def reducer_override(self, obj: Any) -> Any:
        numpy, arrow = sys.modules.get("numpy"), sys.modules.get("pyarrow")
        if numpy is not None and type(obj) is numpy.ndarray:
            return self._array(numpy, obj)
        if arrow is not None and isinstance(obj, (arrow.Array, arrow.ChunkedArray)):
            return self._column(arrow, obj)
        return reduce_part(obj)

    def _column(self, arrow: Any, column: Any) -> Any:
        """A column of Arrow without the memory around it."""
        if id(column) in self._chunks:
            return NotImplemented
        reduced = _compact(arrow, column).__reduce__()
        if isinstance(column, arrow.ChunkedArray):
            # Each may have more memory than it needs where together they need all of it.
            self._chunks.update((id(chunk), chunk) for chunk in reduced[1][0])
        return reduced

    def _array(self, numpy: Any, array: Any) -> Any:
        """Its memory, or where that is shared; unless somebody may still write there."""
        memory = _pickling.buffer_of(array)
        if memory is not None and (not isinstance(memory, SharedBytes) or memory.sealed):
            return _pickling.reduce_view(array, memory)
        return NotImplemented if array.dtype.hasobject else _pickling.array_beside(numpy, array)


def gather(obj: Any) -> Any:
    """An object over one copy of its memory, except for what is shared already."""
    gatherer = _Gatherer()
    gatherer.dump(obj)
    buffers = [buffer.raw() for buffer in gatherer.buffers]
    # Columns that are parts of one piece of memory, or have one dictionary, are so afterwards.
    pieces = {_extent(buffer): buffer for buffer in buffers}
    places = {extent: find_shared(*extent) for extent in pieces}
    fresh = [extent for extent, place in places.items() if place is None]
    if not any(size for _, size in fresh):
        return obj
    copy, starts = SharedBuffer.gather([pieces[extent] for extent in fresh])
    places.update((extent, (copy, start)) for extent, start in zip(fresh, starts, strict=True))
    return pickle.loads(gatherer.take(), buffers=[_part(places, buffer) for buffer in buffers])


_Extent = tuple[int, int]  # address, bytes


def _extent(buffer: memoryview) -> _Extent:
    return address_of(buffer), buffer.nbytes


def _part(places: dict[_Extent, tuple[SharedBuffer, int] | None], buffer: memoryview) -> memoryview:
    """What is in the place of a buffer."""
    place = places[_extent(buffer)]
    assert place is not None
    shared, start = place
    return part_of(shared, start, start + buffer.nbytes)


def reduce_part(obj: Any) -> Any:
    """What a frame of pandas is made of: its memory, where pandas would make a copy of it first.

    That is the case for columns that are Arrow's, and for rows that are part of others. Neither is
    documented; what pandas keeps in another way some day is pickled as it does it itself.
    """
    if hasattr(obj, "_pa_array"):
        return _reduce_column(obj)
    return _reduce_block(obj) if hasattr(obj, "slice_block_rows") else NotImplemented


def _reduce_column(obj: Any) -> Any:
    column = obj._pa_array
    if "_pa_array" not in vars(obj) or not column.num_chunks or _is_part(column):
        return NotImplemented
    return type(obj).__new__, (type(obj),), {**vars(obj), "_pa_array": column.chunks, "_cache": {}}


def _reduce_block(block: Any) -> Any:
    values = block.values
    numpy = sys.modules["numpy"]
    if type(values) is not numpy.ndarray or values.flags.contiguous or _pickling.buffer_of(values) is None:
        return NotImplemented
    make, (_, *rest) = block.slice_block_rows(slice(0, 0)).__reduce__()  # of no rows: it is a copy
    return make, (values, *rest)


def _compact(arrow: Any, column: Any) -> Any:
    """A column without the memory around it: a slice of a large one would take all of that along."""
    if not _is_part(column):
        return column
    sink = arrow.BufferOutputStream()
    table = arrow.table([column], ["column"])
    with arrow.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    copy = arrow.ipc.open_stream(sink.getvalue()).read_all().column(0)
    if copy.type != column.type:
        return column  # A type that only its own process knows.
    return copy if isinstance(column, arrow.ChunkedArray) else copy.combine_chunks()


_WORTH, _LITTLE = 1.25, 1 << 13  # Bitmaps, offsets and padding are more than what they are for.


def _is_part(column: Any) -> bool:
    """Whether a column of Arrow has memory that is mostly of others, and not shared."""
    if column.get_total_buffer_size() <= _WORTH * column.nbytes + _LITTLE:
        return False
    chunks = getattr(column, "chunks", [column])
    buffers = (buffer for chunk in chunks for buffer in chunk.buffers() if buffer is not None)
    return not any(find_shared(buffer.address, buffer.size) for buffer in buffers)
