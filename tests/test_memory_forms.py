"""The forms of a memory report: table, plain data, JSON, pictures."""

from __future__ import annotations

import dataclasses
import json
import re
import struct
import sys
import xml.etree.ElementTree
from pathlib import Path
from typing import Any

import pytest
from forkless._memory_report import (
    ArenaMemory,
    HolderMemory,
    KindMemory,
    MemoryReport,
    MissingProcess,
    ProcessMemory,
)


def process(pid: int, name: str, role: str, uss: int, common: int, *, swap: int = 0) -> ProcessMemory:
    return ProcessMemory(
        pid, name, role, uss + 4 * common, uss + common, uss, uss - 1_000_000, 4 * common, swap, 2 * common
    )


ARENA = ArenaMemory(
    "00000000000000ff",
    64_300_000,
    53_000_000,
    50_000_000,
    (
        KindMemory("shared objects", 1, 50_000_000),
        KindMemory("kept warm", 2, 11_200_000),
        KindMemory("messages on their way", 3, 3_000_000),
        KindMemory("locks", 12, 99_000),
        KindMemory("tables", 0, 1_000),
    ),
    (
        HolderMemory(4711, "MainProcess", "main", True, 12, 53_000_000, 50_000_000),
        HolderMemory(4713, "worker-1", "child", True, 1, 50_000_000, 50_000_000),
    ),
    True,
)
REPORT = MemoryReport(
    (
        process(4711, "MainProcess", "main", 112_000_000, 8_000_000),
        process(4712, "template", "template", 1_200_000, 8_000_000),
        process(4713, "worker-1", "child", 5_000_000, 8_000_000, swap=2_500_000),
        process(4714, "python -c from multiprocessing.resource_tracker", "other", 5_000_000, 1_000_000),
    ),
    (MissingProcess(4715, "worker-2", "child", "it has ended"),),
    (ARENA,),
    ("the shared memory of process 4716 cannot be read: not an arena",),
)
NOTHING = MemoryReport(())

TABLE = """\
PID   NAME                          ROLE       RSS   PSS   USS  DIRTY  SHARED  SWAP  HOLDS
4711  MainProcess                   main       144   120   112    111    32.0   0.0   53.0
4712  template                      template  33.2   9.2   1.2    0.2    32.0   0.0    0.0
4713  worker-1                      child     37.0  13.0   5.0    4.0    32.0   2.5   50.0
4714  python -c f…urce_tracker  other      9.0   6.0   5.0    4.0     4.0   0.0    0.0
total                                                148   123    119           2.5
Not measured: 4715 worker-2 (child): it has ended

Shared memory of forkless (the arena): 64.3 MB
  shared objects           50.0   1 block
  kept warm                11.2   2 blocks
  messages on their way     3.0   3 blocks
  all else                  0.1
  Processes hold 53.0 MB, several of them 50.0 MB: counted once here, with each in HOLDS.

The template saves 50.0 MB: so much more, if each process had copies of what it was forked with.
Note: the shared memory of process 4716 cannot be read: not an arena
MB of 1,000,000 bytes. RSS counts shared pages in each process; PSS divides them, and adds up;
USS is a process's own; DIRTY is what of that it has written."""


def test_the_table() -> None:
    def words(text: str) -> list[list[str]]:
        return [line.split() for line in text.splitlines()]

    assert words(str(REPORT)) == words(TABLE)


def test_the_columns_are_aligned_and_fit_a_screen() -> None:
    large = process(4_194_304, "x" * 300, "template", 123_456_000_000, 1_000_000)
    lines = str(MemoryReport((*REPORT.processes, large), (), (ARENA,))).splitlines()
    rows = lines[: 1 + len(REPORT.processes) + 1]
    assert len({len(row) for row in rows}) == 1
    assert max(map(len, lines)) <= 100
    assert "123,456" in rows[-1]
    assert lines[0].index("PSS") + 3 == rows[-1].index("123,457") + 7


def test_without_an_arena_nothing_is_said_of_one() -> None:
    text = str(MemoryReport(REPORT.processes[:1]))
    assert "HOLDS" not in text
    assert "arena" not in text
    assert "Forking saves 16.0 MB" in text


def test_no_process_at_all() -> None:
    assert "total" in str(NOTHING)
    assert NOTHING.to_dict()["total"] == {"pss": 0, "uss": 0, "private_dirty": 0, "swap": 0, "saved": 0}


def test_what_the_dead_held_and_what_could_not_be_read_is_said() -> None:
    dead = HolderMemory(4720, "worker-9", "child", False, 1, 7_000_000, 0)
    torn = dataclasses.replace(ARENA, holders=(*ARENA.holders, dead), whole=False)
    text = str(dataclasses.replace(REPORT, arenas=(torn,)))
    assert "7.0 MB were held by worker-9 (4720): ended" in text
    assert "There is more than this." in text


# The names and types of all that JSON has, by the tables of docs/memory.md.
SCHEMA = {
    "schema": int,
    "processes": {
        "pid": int,
        "name": str,
        "role": str,
        **dict.fromkeys(("rss", "pss", "uss", "private_dirty", "shared", "swap", "saved"), int),
    },
    "missing": {"pid": int, "name": str, "role": str, "reason": str},
    "arenas": {
        "id": str,
        "bytes": int,
        "held": int,
        "held_by_several": int,
        "kinds": {"kind": str, "blocks": int, "bytes": int},
        "holders": {
            "pid": int,
            "name": str,
            "role": str,
            "live": bool,
            "leases": int,
            "bytes": int,
            "shared": int,
        },
        "whole": bool,
    },
    "notes": str,
    "total": dict.fromkeys(("pss", "uss", "private_dirty", "swap", "saved"), int),
}


def keys(schema: Any) -> set[str]:
    """All names of keys that a schema has."""
    if not isinstance(schema, dict):
        return set()
    return set(schema).union(*map(keys, schema.values()))


def test_all_keys_are_documented() -> None:
    page = (Path(__file__).parents[1] / "docs" / "memory.md").read_text()
    table = page.partition("## JSON")[2].partition("##")[0]
    assert keys(SCHEMA) <= set(re.findall(r"`(?:\w+\[\]\.)?(\w+)(?:\[\])?`", table))


def conforms(value: Any, schema: Any) -> bool:
    """Whether a value is what a schema says: an object by its keys; a list, if all in it are."""
    if isinstance(value, list):
        return all(conforms(each, schema) for each in value)
    if isinstance(schema, dict):
        return value.keys() == schema.keys() and all(conforms(value[key], schema[key]) for key in schema)
    return type(value) is schema


@pytest.mark.parametrize("indent", [None, 2])
def test_json(indent: int | None) -> None:
    text = REPORT.to_json(indent=indent)
    plain = json.loads(text)
    assert plain == REPORT.to_dict()
    assert conforms(plain, SCHEMA)
    assert not conforms({**plain, "more": 1}, SCHEMA)
    assert (len(text.splitlines()) == 1) == (indent is None)
    assert plain["processes"][0] == dataclasses.asdict(REPORT.processes[0])
    assert plain["total"]["pss"] == 148_200_000
    assert plain["arenas"][0]["kinds"][0] == {
        "kind": "shared objects",
        "blocks": 1,
        "bytes": 50_000_000,
    }


def test_the_report_is_frozen() -> None:
    parts: list[Any] = [REPORT, *REPORT.processes, *REPORT.missing, ARENA, *ARENA.kinds, *ARENA.holders]
    for part in parts:
        field = dataclasses.fields(part)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, field, ())


@pytest.fixture(scope="module", autouse=True)
def fonts(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Lets matplotlib open the fonts that it keeps open for the rest of the process."""
    REPORT.plot(tmp_path_factory.mktemp("fonts") / "first.png")


def many(count: int) -> MemoryReport:
    workers = [process(5000 + n, f"$worker$-{n}", "child", 5_000_000 * n, 1_000_000) for n in range(count)]
    return dataclasses.replace(REPORT, processes=(*REPORT.processes, *workers))


def texts(path: Path) -> list[str]:
    """What there is to read in an SVG."""
    root = xml.etree.ElementTree.parse(path).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    return ["".join(each.itertext()).strip() for each in root.iter("{http://www.w3.org/2000/svg}text")]


def test_a_plot_as_svg(tmp_path: Path) -> None:
    path = tmp_path / "memory.svg"
    REPORT.plot(path)
    found = texts(path)
    assert [each for each in found if "4711" in each] == ["MainProcess  4711"]
    for text in ("4 processes, 151 MB", "shared memory (arena), 64.3 MB", "shared objects", "120", "swap"):
        assert text in found
    assert "locks" not in found, "what is no bar to see is added up"
    assert "all else" in found


def png_size(path: Path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def test_a_plot_as_png_grows_with_its_bars(tmp_path: Path) -> None:
    few, lots = tmp_path / "few.png", tmp_path / "lots.PNG"
    REPORT.plot(str(few))
    many(40).plot(lots)
    assert png_size(few)[0] == png_size(lots)[0] == 1350
    assert png_size(lots)[1] - png_size(few)[1] == pytest.approx(40 * 0.27 * 150, abs=2)


def test_forty_names_are_all_to_be_read(tmp_path: Path) -> None:
    path = tmp_path / "forty.svg"
    many(36).plot(path)
    found = texts(path)
    assert "40 processes, 3,337 MB" in found
    assert [f"$worker$-{n}  {5000 + n}" for n in range(36)] == [each for each in found if "$worker$" in each]


@pytest.mark.parametrize("report", [NOTHING, MemoryReport(REPORT.processes[:1])])
def test_a_plot_of_little(report: MemoryReport, tmp_path: Path) -> None:
    report.plot(tmp_path / "little.svg")
    found = texts(tmp_path / "little.svg")
    assert not any("arena" in each or "swap" in each for each in found)


@pytest.mark.parametrize("name", ["memory", "memory.pdf", "png"])
def test_other_endings_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.png or \.svg"):
        REPORT.plot(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_there_is_advice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install matplotlib.*to_json"):
        REPORT.plot(tmp_path / "memory.png")
