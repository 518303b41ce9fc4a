"""Tables and frames of every kind that can be shared, and when two of them are the same."""

from __future__ import annotations

import decimal
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

ROWS = 3000
TEXT = [f"text number {number}" for number in range(ROWS)]
GAPS = [None if number % 7 == 0 else number for number in range(ROWS)]


def of_arrow() -> dict[str, Any]:
    return {
        "numbers": pa.array(range(ROWS), pa.int64()),
        "gaps": pa.array(GAPS, pa.int32()),
        "booleans": pa.array([number % 3 == 0 for number in range(ROWS)]),
        "text": pa.array(TEXT),
        "large text": pa.array(TEXT, pa.large_string()),
        "text views": pa.array(TEXT, pa.string_view()),
        "fixed width": pa.array([b"abcd"] * ROWS, pa.binary(4)),
        "dates": pa.array(range(ROWS), pa.timestamp("us", "Europe/Berlin")),
        "decimals": pa.array([decimal.Decimal("1.25")] * ROWS),
        "dictionary": pa.array(["a", "b", "c"] * (ROWS // 3)).dictionary_encode(),
        "lists": pa.array([[1, 2, None], [], None] * (ROWS // 3)),
        "structs": pa.array([{"x": number, "y": str(number)} for number in range(ROWS)]),
        "maps": pa.array([[("a", 1)]] * ROWS, pa.map_(pa.string(), pa.int64())),
        "nothing": pa.nulls(ROWS),
        "run ends": pa.RunEndEncodedArray.from_arrays([ROWS // 2, ROWS], [1, 2]),
        "extension": pa.ExtensionArray.from_storage(
            pa.opaque(pa.binary(), "kind", "vendor"), pa.array([b"x"] * ROWS)
        ),
    }


COLUMNS = of_arrow()
TABLE = pa.table(COLUMNS)


def always(value: Any) -> Callable[[], Any]:
    """For what is made once and not changed."""
    return lambda: value


ARROW: dict[str, Callable[[], Any]] = {
    **{f"array of {name}": always(column) for name, column in COLUMNS.items()},
    **{f"no {name}": always(column.slice(0, 0)) for name, column in COLUMNS.items()},
    "slice": lambda: COLUMNS["structs"].slice(100, 50),
    "chunks": lambda: pa.chunked_array([COLUMNS["text"], COLUMNS["text"].slice(3, 40)]),
    "no chunks": lambda: pa.chunked_array([], pa.int64()),
    "table": lambda: TABLE.replace_schema_metadata({"made": "here"}),
    "table in chunks": lambda: pa.concat_tables([TABLE.slice(start, 100) for start in range(0, ROWS, 100)]),
    "slice of a table": lambda: TABLE.slice(7, 900),
    "no rows": lambda: TABLE.slice(0, 0),
    "no columns": lambda: pa.table({}),
    "batch": lambda: TABLE.to_batches()[0],
    "wide": lambda: pa.table({f"c{number}": np.arange(3) for number in range(2000)}),
    "buffer": lambda: pa.py_buffer(bytes(range(256))),
    "no bytes": lambda: pa.py_buffer(b""),
}


def of_pandas() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "float": np.arange(float(ROWS)),
            "int": np.arange(ROWS),
            "other": np.arange(ROWS)[::-1],
            "bool": np.arange(ROWS) % 2 == 0,
            "date": pd.date_range("2020-01-01", periods=ROWS, freq="min"),
            "zone": pd.date_range("2020-01-01", periods=ROWS, freq="min", tz="Asia/Tokyo"),
            "delta": pd.timedelta_range("1h", periods=ROWS),
            "period": pd.period_range("2020-01", periods=ROWS, freq="D"),
            "kind": pd.Categorical(["a", "b"] * (ROWS // 2), ordered=True),
            "nullable": pd.array(GAPS, dtype="Int64"),
            "nullable bool": pd.array([True, None] * (ROWS // 2), dtype="boolean"),
            "text": pd.array(TEXT, dtype="string[pyarrow]"),
            "arrow": pd.array([[1]] * ROWS, dtype=pd.ArrowDtype(pa.list_(pa.int64()))),
            "interval": pd.interval_range(0, ROWS),
            "sparse": pd.arrays.SparseArray([0, 0, 1] * (ROWS // 3)),
        }
    )


FRAME = of_pandas()
LEVELS = pd.MultiIndex.from_product([["a", "b", "c"], range(ROWS // 3)], names=["x", None])

PANDAS: dict[str, Callable[[], Any]] = {
    "frame": lambda: FRAME,
    "labelled rows": lambda: FRAME.set_index("zone"),
    "rows of text": lambda: FRAME.set_index("text"),
    "several levels": lambda: FRAME.set_axis(LEVELS),
    "levels of columns": lambda: pd.DataFrame(np.ones((4, 6)), columns=LEVELS[:6]),
    "slice of a frame": lambda: FRAME.iloc[100:900:3],
    "some columns": lambda: FRAME[["int", "kind"]],
    "no rows": lambda: FRAME.iloc[:0],
    "no columns": lambda: pd.DataFrame(index=range(5)),
    "nothing": lambda: pd.DataFrame(),
    "wide": lambda: pd.DataFrame({number: [number, 1.5] for number in range(2000)}),
    "transposed": lambda: pd.DataFrame(np.arange(60.0).reshape(3, 20)).T,
    **{f"series {name}": always(FRAME[name]) for name in FRAME.columns},
    "index": lambda: pd.Index(np.arange(ROWS)[::-1], name="x"),
    "range": lambda: pd.RangeIndex(5, name="x"),
    "levels": lambda: LEVELS,
    "dates": lambda: pd.DatetimeIndex(FRAME["zone"]),
    "categories": lambda: pd.CategoricalIndex(FRAME["kind"]),
    "index of text": lambda: pd.Index(FRAME["text"]),
}


def of_polars() -> pl.DataFrame:
    plain = pl.DataFrame(
        {
            "int": np.arange(ROWS),
            "gaps": GAPS,
            "bool": [True, None, False] * (ROWS // 3),
            "text": [None, *TEXT[1:]],
            "short": ["ab", "c"] * (ROWS // 2),
            "bytes": [b"a" * 20, b""] * (ROWS // 2),
            "list": [[1, None], []] * (ROWS // 2),
            "struct": [{"a": 1, "b": "x"}] * ROWS,
            "decimal": [decimal.Decimal("1.25")] * ROWS,
            "nothing": [None] * ROWS,
        }
    )
    minutes = pl.int_range(ROWS, dtype=pl.Int64)
    kinds = pl.Series(["a", "b"] * (ROWS // 2))
    return plain.with_columns(
        date=minutes.cast(pl.Datetime("us", "Europe/Berlin")),
        day=minutes.cast(pl.Int32).cast(pl.Date),
        delta=minutes.cast(pl.Duration("ms")),
        time=minutes.cast(pl.Time),
        category=kinds.cast(pl.Categorical),
        enum=kinds.cast(pl.Enum(["a", "b", "c"])),
        array=pl.Series([[1.0, 2.0]] * ROWS, dtype=pl.Array(pl.Float32, 2)),
    )


POLARS_FRAME = of_polars()

POLARS: dict[str, Callable[[], Any]] = {
    "frame": lambda: POLARS_FRAME,
    "slice": lambda: POLARS_FRAME.slice(13, 700),
    "pieces": lambda: pl.concat([POLARS_FRAME, POLARS_FRAME[5:9]], rechunk=False),
    "no rows": lambda: POLARS_FRAME.clear(),
    "nothing": lambda: pl.DataFrame(),
    "wide": lambda: pl.DataFrame({f"c{number}": [number, 1] for number in range(2000)}),
    **{f"series {name}": always(POLARS_FRAME[name]) for name in POLARS_FRAME.columns},
}

EVERYTHING = {
    **{f"pyarrow {name}": make for name, make in ARROW.items()},
    **{f"pandas {name}": make for name, make in PANDAS.items()},
    **{f"polars {name}": make for name, make in POLARS.items()},
}


def same(one: Any, other: Any) -> None:
    """Asserts that both are equal, and of one type."""
    assert type(one) is type(other)
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other)
    elif isinstance(one, pd.Series):
        pd.testing.assert_series_equal(one, other)
    elif isinstance(one, pd.Index):
        pd.testing.assert_index_equal(one, other)
    elif isinstance(one, (pl.DataFrame, pl.Series)):
        assert one.equals(other)
        if isinstance(one, pl.DataFrame):
            assert one.schema == other.schema
        else:
            assert (one.name, one.dtype) == (other.name, other.dtype)
    else:
        assert one.equals(other)
        if not isinstance(one, pa.Buffer):
            one.validate(full=True)
            other.validate(full=True)
        if isinstance(one, (pa.Table, pa.RecordBatch)):
            assert one.schema.equals(other.schema, check_metadata=True)
