"""`forkless.share` of tables and frames: equal, read-only, of one piece, and read in place everywhere."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import forkless
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from forkless import _gather
from forkless._pickling import dumps, loads
from support import Outcome
from tables import EVERYTHING, FRAME, GAPS, POLARS_FRAME, ROWS, TABLE, TEXT, same
from typing_extensions import assert_type


def buffers_of(obj: Any) -> set[Any]:
    """The handles of the shared buffers that an object is over."""
    return {handle.handle for handle in dumps(obj)[1]}


@pytest.mark.parametrize("kind", EVERYTHING)
def test_they_come_out_equal_and_travel_as_references(kind: str) -> None:
    given = EVERYTHING[kind]()
    shared = forkless.share(given)
    same(shared, given)
    payload, handles = dumps(shared)
    same(loads(payload), given)
    assert len({handle.handle for handle in handles}) <= 1
    queue: forkless.Queue[Any] = forkless.Queue()
    queue.put([shared, given])
    for back in queue.get():
        same(back, given)
    same(pickle.loads(pickle.dumps(shared)), given)


IN_PLACE = [
    *(name for name in EVERYTHING if name.startswith(("pyarrow", "pandas"))),
    # Enumerations and categories are numbered by each process.
    *(f"polars series {name}" for name in POLARS_FRAME.columns if name not in ("category", "enum")),
]


@pytest.mark.parametrize("kind", IN_PLACE)
def test_what_is_shared_is_returned_as_it_is(kind: str) -> None:
    shared = forkless.share(EVERYTHING[kind]())
    assert forkless.share(shared) is shared
    there = loads(dumps(shared)[0])
    assert forkless.share(there) is there


PARTS: dict[str, Callable[[], Iterator[Any]]] = {
    "pyarrow": lambda: _parts_of_arrow(forkless.share(TABLE)),
    "pandas": lambda: _parts_of_pandas(forkless.share(FRAME)),
    "polars": lambda: _parts_of_polars(forkless.share(POLARS_FRAME.drop("category", "enum"))),
}


def _parts_of_arrow(table: pa.Table) -> Iterator[Any]:
    yield from (table[name] for name in table.column_names if name != "nothing")
    yield from (table[name].slice(100, 900).chunk(0) for name in table.column_names if name != "nothing")
    yield from (table.slice(11, 2000), table.to_batches()[0], table.select(["text", "lists"]))
    yield from (
        table["numbers"].to_numpy(),
        table["numbers"].chunk(0).buffers()[1],
        table["structs"].chunk(0).field(1),
    )
    frame: Any = pl.from_arrow(table.select(["numbers", "large text"]))
    yield frame["numbers"]


def _parts_of_pandas(frame: pd.DataFrame) -> Iterator[Any]:
    yield from (frame[name] for name in frame.columns)
    yield from (frame[name].iloc[50:2000] for name in frame.columns if name != "sparse")
    yield from (frame.iloc[10:20], frame["int"].to_numpy()[::3])
    plain = forkless.share(FRAME.iloc[:, :6])
    yield from (plain, plain.iloc[1:], plain.iloc[9::3], plain.iloc[::-1])


def _parts_of_polars(frame: pl.DataFrame) -> Iterator[Any]:
    yield from (frame[name] for name in frame.columns if name != "nothing")
    yield from (frame[10:], frame.select("text", "int"), frame["int"].to_numpy(), frame["text"][5:2000])


@pytest.mark.parametrize("library", PARTS)
def test_columns_and_slices_travel_as_references(library: str) -> None:
    for part in PARTS[library]():
        payload, handles = dumps(part)
        assert len({handle.handle for handle in handles}) == 1, part
        assert len(payload) < 6000, part  # The smallest of the columns has more.
        if not isinstance(part, np.ndarray):
            same(loads(payload), part)


def test_all_of_it_is_in_one_buffer_with_its_pieces_in_line() -> None:
    table = forkless.share(pa.concat_tables([TABLE] * 3))
    assert len(buffers_of(table)) == 1
    addresses = [
        buffer.address
        for chunk in table["numbers"].chunks
        for buffer in chunk.buffers()
        if buffer is not None
    ]
    assert all(address % 64 == 0 for address in addresses)
    assert len(set(addresses)) == 1, "what was one piece of memory is one"


def test_slices_of_one_table_are_copied_once() -> None:
    given = pa.concat_tables([TABLE.slice(start, 10) for start in range(0, ROWS, 10)])
    table = forkless.share(given)
    same(table, given)
    (buffer,) = {id(handle): handle for handle in dumps(table)[1]}.values()
    assert isinstance(buffer, forkless.SharedBuffer)
    assert buffer.nbytes < 1.2 * TABLE.get_total_buffer_size()


def test_a_slice_does_not_take_the_rest_along() -> None:
    large = pa.array(range(1_000_000))
    for given in (
        large.slice(10, 1000),
        pa.chunked_array([large]).slice(10, 1000),
        pa.table([large], ["x"]).slice(5, 9),
    ):
        shared = forkless.share(given)
        same(shared, given)
        assert shared.get_total_buffer_size() < 20_000


def test_what_is_new_is_added_to_what_is_shared() -> None:
    frame = forkless.share(pd.DataFrame({"a": np.arange(ROWS), "s": pd.array(TEXT, dtype="string[pyarrow]")}))
    (first,) = buffers_of(frame)
    more = frame.assign(b=np.ones(ROWS))
    again = forkless.share(more)
    same(again, more)
    assert len(buffers_of(again)) == 2
    assert first in buffers_of(again)
    with pytest.raises(ValueError, match="read-only"):
        again.loc[0, "b"] = 2.0


def test_memory_that_others_can_write_to_is_copied() -> None:
    array = forkless.zeros((ROWS, 3))
    frame = forkless.share(pd.DataFrame(array, copy=False))
    array[0, 0] = 1
    assert frame.iloc[0, 0] == 0
    forkless.seal(array)
    sealed = pd.DataFrame(array, copy=False)
    assert forkless.share(sealed) is sealed


def test_writing_raises() -> None:
    frame = forkless.share(FRAME)
    for number, dtype in enumerate(FRAME.dtypes):
        if dtype.kind in "ifbMm" and not isinstance(dtype, pd.SparseDtype):
            # Of dates, pandas takes it for a value that does not fit, and says so in various ways.
            errors = ValueError if dtype.kind in "ifb" else (ValueError, AssertionError)
            with pytest.raises(errors):
                frame.iloc[5, number] = frame.iloc[6, number]
    same(frame, FRAME)
    array = loads(dumps(frame)[0])["int"].to_numpy()
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.flags.writeable = True
    assert not forkless.share(TABLE)["numbers"].chunk(0).buffers()[1].is_mutable
    numbers = forkless.share(POLARS_FRAME)["int"].to_numpy()
    assert not numbers.flags.writeable
    # Columns of Arrow are not written to: pandas puts another one in place, for this process.
    other = frame["text"].copy()
    other.iloc[0] = "changed"
    assert frame["text"].iloc[0] == TEXT[0]


class Own(pd.DataFrame):  # type: ignore[misc]
    """Of another module, as those of other libraries are."""


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pd.DataFrame({"a": [1], "b": [{}]}), r"column 'b' of type object: .*Python objects.*astype"),
        (lambda: pd.Series([1, "x"], name="s", dtype=object), "series 's' of type object"),
        (lambda: pd.Series([1], index=pd.Index([b""], dtype=object)), "index None of type object"),
        (lambda: pd.Index(["a"], dtype=object, name="i"), "index 'i' of type object"),
        (lambda: pd.Series(["a"], name="s", dtype="string[python]"), "series 's' of type string.*pyarrow"),
        (lambda: Own({"a": [1]}), r"'Own' object: share pandas.DataFrame\(it\)"),
        (lambda: pd.Timestamp(0), "'Timestamp' object: of pandas, share"),
        (lambda: pl.DataFrame({"a": [1], "o": [object()]}), "column 'o' of type Object: .*Python objects"),
        (lambda: pl.Series("o", [object()]), "column 'o' of type Object"),
        (lambda: pl.LazyFrame({"a": [1]}), r"LazyFrame, which is a plan.*lazy.collect\(\)"),
        (lambda: pl.col("a"), "'Expr' object: of polars, share"),
        (lambda: pa.scalar(1), "'Int64Scalar' object: of pyarrow, share"),
        (lambda: TABLE.schema, "'Schema' object: of pyarrow, share"),
    ],
)
def test_what_cannot_be_shared_is_named(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(TypeError, match=f"cannot share .*{message}"):
        forkless.share(make())


def test_frames_of_polars_with_objects_pickle_as_ever() -> None:
    """Which is not at all."""
    with pytest.raises(Exception, match=r"(?i)object|pickle"):
        dumps(pl.DataFrame({"o": [object()]}))


def test_parts_of_pandas_are_found_where_it_keeps_them() -> None:
    """It says so nowhere: should it change that, they travel as copies."""
    frame = forkless.share(FRAME)
    array, (block, *_) = frame["text"].array, frame.iloc[::2]._mgr.blocks
    assert _gather.reduce_part(array) is not NotImplemented
    assert _gather.reduce_part(block) is not NotImplemented
    for other in (pd.array(GAPS, dtype="Int64"), frame._mgr.blocks[0], FRAME.iloc[::2]._mgr.blocks[0]):
        assert _gather.reduce_part(other) is NotImplemented


def test_no_memory_is_an_error_before_any_copy(run_program: Callable[..., Outcome]) -> None:
    run_program("""
import forkless as mp, numpy as np, os, pandas, pyarrow as pa, resource
from forkless._forkless import memory
data = np.zeros(100_000_000, np.uint8)
table = pa.table({f"c{number}": data[number : number + 99_000_000] for number in range(60)})

resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
before = memory(os.getpid())[0]
for _ in range(2):
    try:
        mp.share(table)
    except mp.SharedMemoryFull as error:
        assert isinstance(error, MemoryError), error
    else:
        raise AssertionError("there is no such memory")
assert memory(os.getpid())[0] < before + (64 << 20)
small = mp.share(table.select([3]).slice(0, 1000))
assert small["c3"][999].as_py() == 0
""").check()


PROGRAM = """
import os, sys
sys.path.insert(0, {tests!r})
import forkless as mp, numpy as np, pandas as pd, polars as pl, pyarrow as pa

def own():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon")) << 10

def look(obj):
    before = own()
    total = float(np.asarray(obj["x"]).sum())
    return total, own() - before

def of_global():
    return look(frame)

rows = 4_000_000
frame = mp.share(pd.DataFrame({{"x": np.arange(rows), "y": np.ones(rows)}}))
table = mp.share(pa.table({{"x": np.arange(rows), "y": np.ones(rows)}}))
lazy = mp.share(pl.DataFrame({{"x": np.arange(rows), "y": np.ones(rows)}}))
expected = float(np.arange(rows).sum())
context = mp.get_context({method!r})
with context.Pool(2) as pool:
    pool.map(look, [{{"x": pa.array([1, 2])}}] * 4)
    for obj in (frame, table, lazy, frame[["x"]], table.select(["x"]), lazy[["x"]], {{"x": table["x"]}}):
        for total, grown in pool.map(look, [obj] * 4):
            assert total == expected and grown < 4_000_000, (type(obj), total, grown)
    calls = pool.apply(of_global), pool.apply(lambda: look(table)), pool.apply(look, ({{"x": lazy["x"]}},))
    for total, grown in calls:
        assert total == expected and grown < 4_000_000, grown
    back = pool.apply(lambda: mp.share(pd.DataFrame({{"x": np.arange(10)}})))
    assert back["x"].sum() == 45 and not back["x"].to_numpy().flags.writeable
"""


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_other_processes_read_them_without_a_copy(method: str, run_program: Callable[..., Outcome]) -> None:
    run_program(PROGRAM.format(tests=__file__.rpartition("/")[0], method=method)).check()


def test_type_checkers_know_the_type() -> None:
    """Mypy checks what the functions named so say; at run time they do nothing."""
    assert_type(forkless.share(POLARS_FRAME), pl.DataFrame)
    assert_type(forkless.share(POLARS_FRAME["int"]), pl.Series)
    assert_type(forkless.share([POLARS_FRAME]), "tuple[pl.DataFrame, ...]")
    frames = assert_type(
        forkless.share({"a": POLARS_FRAME, "b": POLARS_FRAME[:3]}), Mapping[str, pl.DataFrame]
    )
    same(frames["a"], POLARS_FRAME)
    same(frames["b"], POLARS_FRAME[:3])


def test_nothing_is_imported_for_other_things(run_program: Callable[..., Outcome]) -> None:
    run_program("""
import forkless, sys
forkless.share(b"abc")
queue = forkless.Queue()
queue.put([forkless.share(b"abc"), memoryview(forkless.share(b"abc"))[1:]])
queue.get()
assert not {"numpy", "pandas", "polars", "pyarrow", "torch", "forkless._tables"} & set(sys.modules)
""").check()
