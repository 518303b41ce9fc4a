"""Which tables and frames can be shared: those of pyarrow, pandas and polars.

How is the same for all of them; see `_gather`. polars does not hand out its memory, so its frames go through
Arrow's columns, which are the same memory.

Values that are Python objects belong to one process, and are refused by name. Labels are not values: the
names of columns, the categories of a categorical column and the levels of an index may be any objects, and
each process has its own.
"""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ._forkless import SharedBuffer, find_shared
from ._gather import gather

if TYPE_CHECKING:
    from ._pickling import Pickler

__all__ = ["frame_of", "reduce_polars", "series_of", "share_table"]


def share_table(obj: Any, library: str) -> Any:
    """A table, frame, column or index over a copy in shared memory; see `forkless.share`.

    Args:
        obj: The object.
        library: "pandas", "polars" or "pyarrow", which its class, or one of the bases of that, is from.

    Returns:
        An object of the same type; `obj` itself, if all its memory is shared already.

    Raises:
        TypeError: It is something else of that library, or has values that are Python objects.
    """
    return _LIBRARIES[library](obj)


# Arrow.


def _share_arrow(obj: Any) -> Any:
    arrow = sys.modules["pyarrow"]
    if isinstance(obj, arrow.Buffer):
        if not obj.is_cpu:
            raise TypeError("cannot share a buffer of a device: copy it to main memory first")
        is_shared = not obj.size or find_shared(obj.address, obj.size) is not None
        return obj if is_shared else arrow.py_buffer(SharedBuffer(obj))
    if isinstance(obj, (arrow.Table, arrow.RecordBatch, arrow.ChunkedArray, arrow.Array)):
        return gather(obj)
    raise _other(obj, "tables, record batches, arrays, chunked arrays and buffers")


# pandas.


def _share_pandas(obj: Any) -> Any:
    pandas = sys.modules["pandas"]
    kind = type(obj)
    if not isinstance(obj, (pandas.DataFrame, pandas.Series, pandas.Index)):
        raise _other(obj, "frames, series and indexes")
    if kind.__module__.partition(".")[0] != "pandas":
        plain = pandas.DataFrame if isinstance(obj, pandas.DataFrame) else pandas.Series
        raise TypeError(f"cannot share {kind.__qualname__!r} object: share pandas.{plain.__name__}(it)")
    for name, dtype in _values_of(pandas, obj):
        reason = _why_not(pandas, dtype)
        if reason:
            raise TypeError(
                f"cannot share {name} of type {dtype}: {reason}; convert it first, strings with "
                '.astype("string[pyarrow]"), or leave it out'
            )
    return gather(obj)


def _values_of(pandas: Any, obj: Any) -> Iterator[tuple[str, Any]]:
    """What has values: what to call it, and its type."""
    if isinstance(obj, pandas.MultiIndex):
        return
    if isinstance(obj, pandas.DataFrame):
        yield from ((f"column {name!r}", dtype) for name, dtype in zip(obj.columns, obj.dtypes, strict=True))
    else:
        kind = "index" if isinstance(obj, pandas.Index) else "series"
        yield f"{kind} {obj.name!r}", obj.dtype
    if not isinstance(obj, pandas.Index):
        yield from _values_of(pandas, obj.index)


_OBJECTS = "its values are Python objects of this process"


def _why_not(pandas: Any, dtype: Any) -> str | None:
    """Why values of a type cannot be shared; None if they can."""
    dtype = getattr(dtype, "subtype", dtype) if isinstance(dtype, pandas.SparseDtype) else dtype
    if not isinstance(dtype, pandas.api.extensions.ExtensionDtype):
        return _OBJECTS if dtype.hasobject else None
    if getattr(dtype, "storage", None) == "python":
        return _OBJECTS
    owner = type(dtype).__module__.partition(".")[0]
    return None if owner == "pandas" else f"a type of {owner}, whose values may be Python objects"


# polars.


def _share_polars(obj: Any) -> Any:
    polars = sys.modules["polars"]
    if isinstance(obj, polars.LazyFrame):
        raise TypeError("cannot share a LazyFrame, which is a plan and has no data: share lazy.collect()")
    if type(obj) not in (polars.DataFrame, polars.Series):
        raise _other(obj, "plain frames and series")
    frame = obj if type(obj) is polars.DataFrame else obj.to_frame()
    for name, dtype in frame.schema.items():
        if _has_objects(polars, dtype):
            raise TypeError(
                f"cannot share column {name!r} of type {dtype}: {_OBJECTS}; "
                "convert it to another type of polars first, or leave it out"
            )
    table = _table_of(frame)
    shared = gather(table)
    if shared is table:
        return obj
    return frame_of(shared) if frame is obj else series_of(shared)


def reduce_polars(pickler: "Pickler", obj: Any) -> Any:
    """A frame or series of polars as columns of Arrow, whose memory travels as that of others.

    By themselves they pickle as a file of Arrow's, which is a copy more at either end. Small ones may.
    """
    polars = sys.modules["polars"]
    kind = type(obj)
    if kind not in (polars.DataFrame, polars.Series):
        return NotImplemented
    frame = obj if kind is polars.DataFrame else obj.to_frame()
    is_known = "pyarrow" in sys.modules or pickler.beside.takes(obj.estimated_size())
    if not is_known or any(_has_objects(polars, dtype) for dtype in frame.schema.values()):
        return NotImplemented
    try:
        table = _table_of(frame)
    except ImportError:
        return NotImplemented
    return (frame_of if kind is polars.DataFrame else series_of), (table,)


def frame_of(table: Any) -> Any:
    """A frame of polars over the memory of a table of Arrow."""
    import polars

    return polars.from_arrow(table, rechunk=False)


def series_of(table: Any) -> Any:
    """A series of polars over the memory of the only column of a table of Arrow."""
    return frame_of(table).to_series()


def _table_of(frame: Any) -> Any:
    level = getattr(sys.modules["polars"], "CompatLevel", None)  # since 1.0; without it strings are copied
    return frame.to_arrow() if level is None else frame.to_arrow(compat_level=level.newest())


def _has_objects(polars: Any, dtype: Any) -> bool:
    """Whether values of a type are Python objects, or have such inside."""
    fields = getattr(dtype, "fields", ())
    inner = [field.dtype for field in fields] if fields else [getattr(dtype, "inner", None)]
    return dtype == polars.Object or any(_has_objects(polars, each) for each in inner if each is not None)


# All of them.

_LIBRARIES = {"pandas": _share_pandas, "polars": _share_polars, "pyarrow": _share_arrow}


def _other(obj: Any, what: str) -> TypeError:
    kind = type(obj)
    library = kind.__module__.partition(".")[0]
    return TypeError(f"cannot share {kind.__qualname__!r} object: of {library}, share() takes {what}")
