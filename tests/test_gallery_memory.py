"""The memory page of `forkless gallery`, and the Pythons that it can run under."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from platform import python_version
from typing import Any
from xml.etree import ElementTree

import pytest
from forkless._gallery._interpreters import current, find
from forkless._gallery._memory_page import KINDS, MOMENTS, WAYS
from support import Outcome, run_program

COMMAND = "import runpy; runpy.run_module('forkless', run_name='__main__')"
PAGE = ("gallery", "--only", "refcount-copy", "--items", "1000000")
MB = 1_000_000


def forkless(*arguments: str, environ: dict[str, str] | None = None, command: str = COMMAND) -> Outcome:
    """Runs the command line."""
    return run_program(command, *arguments, how="command", environ=environ)


def refused(*arguments: str, command: str = COMMAND) -> str:
    """What the gallery says of a command line that makes no sense."""
    outcome = forkless("gallery", *arguments, command=command)
    assert (outcome.exit_code, outcome.stdout) == (2, ""), f"{outcome}"
    return outcome.stderr


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The page under this Python, as JSON."""
    outcome = forkless(*PAGE, "--json")
    assert (outcome.exit_code, outcome.survivors, outcome.stderr) == (0, (), ""), f"{outcome}"
    found: dict[str, Any] = json.loads(outcome.stdout)
    return found


def dirty(document: dict[str, Any], way: str, kind: str) -> dict[str, int]:
    """The private dirty memory of one child, by moment."""
    (found,) = [m for m in document["memory_page"] if (m["way"], m["kind"]) == (way, kind)]
    return {moment: sizes["private_dirty"] for moment, sizes in found["moments"].items()}


def test_every_way_is_measured_for_every_kind_of_data(document: dict[str, Any]) -> None:
    measured = document["memory_page"]
    assert [(each["kind"], each["way"]) for each in measured] == [
        (kind.slug, way.slug) for kind in KINDS for way in WAYS
    ]
    assert {each["kind"]: each["count"] for each in measured} == {
        "ints": 1_000_000,
        "dicts": 100_000,
        "objects": 50_000,
    }
    for each in measured:
        assert (each["failure"], each["kept"], each["python"]) == (None, True, python_version())
        assert list(each["moments"]) == list(MOMENTS)
        for sizes in each["moments"].values():
            assert sizes["rss"] >= sizes["pss"] >= sizes["uss"] >= sizes["private_dirty"] > 0
        # All processes together have more than the child alone.
        assert each["all_processes"] > each["moments"]["collected"]["pss"]
        assert each["seconds"] > each["read_seconds"] > 0


def test_what_the_standard_library_copies(document: dict[str, Any]) -> None:
    for kind, size in (("ints", 25 * MB), ("dicts", 10 * MB), ("objects", 5 * MB)):
        for way in ("fork", "freeze"):
            moments = dirty(document, way, kind)
            assert moments["read"] - moments["idle"] > size, (way, kind)
        # A spawned child has all of it from the beginning.
        assert dirty(document, "spawn", kind)["idle"] > size


def test_what_freezing_saves(document: dict[str, Any]) -> None:
    # The example that the article looked for: objects that the collector visits, and nobody reads.
    growth = {}
    for way in ("fork", "freeze"):
        moments = dirty(document, way, "objects")
        growth[way] = moments["only collected"] - moments["idle"]
    assert growth["freeze"] < 2 * MB < 4 * MB < growth["fork"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="there, what is preloaded is copied as it is read")
def test_nothing_of_what_is_preloaded_is_copied(document: dict[str, Any]) -> None:
    for kind in KINDS:
        moments = dirty(document, "preload", kind.slug)
        assert moments["collected"] - moments["idle"] < 2 * MB


def test_nothing_of_what_is_shared_is_copied(document: dict[str, Any]) -> None:
    for kind in KINDS:
        moments = dirty(document, "share", kind.slug)
        assert moments["collected"] - moments["idle"] < 3 * MB


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_the_page_for_people_with_a_chart(tmp_path: Path, kind: str) -> None:
    chart = tmp_path / f"memory.{kind}"
    outcome = forkless(*PAGE, "--chart", str(chart))
    text = outcome.check()
    assert outcome.stderr == f"forkless gallery: the chart is in {chart}\n"
    assert max(map(len, text.splitlines())) <= 100
    for title in ("1,000,000 integers", "100,000 dicts", "50,000 objects"):
        assert re.search(rf"^  {title} +RSS +PSS +USS +private dirty$", text, re.M)
    for way in WAYS:
        assert (
            len(re.findall(rf"^  {re.escape(way.label)} +doing nothing( +[\d.]+){{4}}( +█+)?$", text, re.M))
            == 3
        )
    for line in ("after reading all / … and a collection", "together (PSS)", "to read all"):
        assert line in text
    assert len(re.findall(rf"^  {re.escape(python_version())} +( +[\d.]+ / [\d.]+){{5}}$", text, re.M)) == 3
    promised = 6 if sys.version_info >= (3, 12) else 3
    assert f"forkless keeps {promised} of {promised} promises of the memory page" in text
    assert ("Before Python 3.12" in text) is (sys.version_info < (3, 12))
    check_chart(chart)


def check_chart(path: Path) -> list[str]:
    """Checks that a file is the picture that its name says; returns the texts of an SVG."""
    content = path.read_bytes()
    if path.suffix == ".png":
        assert content.startswith(b"\x89PNG\r\n\x1a\n")
        assert len(content) > 20_000
        return []
    texts = [
        "".join(each.itertext())
        for each in ElementTree.fromstring(content).iter()
        if each.tag.endswith("}text")
    ]
    for wanted in ("spawn", "share", "doing nothing", "a garbage collection adds", "MB"):
        assert any(wanted in text for text in texts), texts
    return texts


# In a program of its own: matplotlib leaves its fonts open.
DRAW = """
import sys
from pathlib import Path
from forkless._gallery._interpreters import current
from forkless._gallery._memory_chart import draw
from forkless._gallery._memory_page import KINDS, WAYS, Measurement, Sizes

sizes = {name: Sizes(9, 9, 9, dirty) for name, dirty in (("idle", 2e6), ("read", 311e6), ("collected", 1e6))}
measured = [
    Measurement(current(), way, kind, 1000, {} if way.slug == "share" else sizes, None, None, 1.0, None)
    for kind in KINDS
    for way in WAYS
]
for path in sys.argv[1:]:
    draw(measured, Path(path))
"""


def test_charts_of_equal_figures_are_equal(tmp_path: Path) -> None:
    one, two = tmp_path / "one.svg", tmp_path / "two.svg"
    run_program(DRAW, str(one), str(two)).check()
    texts = check_chart(one)
    # A collection that gave memory back takes nothing from a bar, and what is not there is said so.
    assert (texts.count("311"), texts.count("no figure")) == (12, 3)
    assert one.read_bytes() == two.read_bytes()


# A check that cannot fail guards nothing.

LINE = '{{"moment": "{}", "rss": 9, "pss": 9, "uss": {}, "private_dirty": 9, "seconds": 1, "total": {}}}'


def made_up(folder: Path, *, total: int | None = None, uss: int = 0, then: str = "") -> dict[str, Any]:
    """Runs made-up programs in place of the page's, and returns what is said of the share of integers."""
    place = folder / "refcount-copy"
    place.mkdir()
    count = 1_000_000
    lines = [
        LINE.format(
            moment, uss if moment == "collected" else 0, count * (count - 1) // 2 if total is None else total
        )
        for moment in MOMENTS
    ]
    text = "\n".join(lines)
    program = f"import os, sys\nif sys.argv[1] == 'ints':\n    print({text!r})\n    {then or 'pass'}"
    for path in {way.program for way in WAYS} | {
        f"refcount-copy/{half}.py" for half in ("standard", "with_forkless")
    }:
        (folder / path).write_text(program)
    (place / "with_forkless.out").write_text("")
    outcome = forkless(*PAGE, "--json", environ={"FORKLESS_GALLERY_PROGRAMS": str(folder)})
    assert outcome.exit_code == 1
    document = json.loads(outcome.stdout)
    assert document["kept"] is False
    (found,) = [m for m in document["memory_page"] if (m["way"], m["kind"]) == ("share", "ints")]
    return dict(found)


def test_memory_that_grows_is_noticed(tmp_path: Path) -> None:
    found = made_up(tmp_path, uss=3_100_000)
    assert found["kept"] is False
    assert found["failure"] == "the child's own memory grew by 3.1 MB, 3.0 MB are allowed"


def test_a_wrong_total_is_noticed(tmp_path: Path) -> None:
    found = made_up(tmp_path, total=7)
    assert found["failure"] == "the child read a total of 7 instead of 499,999,500,000"


@pytest.mark.parametrize(
    ("then", "failure"),
    [
        ("raise MemoryError('too much')", "MemoryError: too much"),
        ("print('child exit code: -9')", "child killed by SIGKILL"),
        ("os.abort()", "killed by SIGABRT"),
    ],
)
def test_a_program_that_fails_is_noticed(tmp_path: Path, then: str, failure: str) -> None:
    found = made_up(tmp_path, then=then)
    assert (found["kept"], found["failure"]) == (False, failure)


def test_what_failed_is_told(tmp_path: Path) -> None:
    made_up(tmp_path, total=7)
    outcome = forkless(*PAGE, environ={"FORKLESS_GALLERY_PROGRAMS": str(tmp_path)})
    assert outcome.exit_code == 1
    assert "✗ the child read a total of 7 instead of" in outcome.stdout
    assert "✗ the child told nothing of: idle, read" in outcome.stdout  # the kinds that print nothing
    assert "forkless keeps 0 of " in outcome.stdout
    assert max(map(len, outcome.stdout.splitlines())) <= 100


# Options.


def test_options_that_contradict_each_other(tmp_path: Path) -> None:
    other = ("--only", "start-method-twice")
    assert "argument --memory: the memory page is that of refcount-copy" in refused("--memory", *other)
    assert "argument --chart: what is drawn is the memory page" in refused("--chart", "x.svg", *other)
    assert "argument --chart: what is drawn is the memory page" in refused("--chart", "x.svg")
    assert "must end in .png or .svg" in refused("--chart", "x.pdf", "--memory")
    assert "/none is no folder that can be written to" in refused("--chart", f"{tmp_path}/none/x.svg")


def test_a_chart_without_matplotlib_is_refused_at_once() -> None:
    without = "import sys; sys.modules['matplotlib'] = None; " + COMMAND
    said = refused("--memory", "--chart", "x.svg", command=without)
    assert f"argument --chart: needs matplotlib: `{sys.executable} -m pip install matplotlib`" in said


def test_the_page_is_left_out_where_nobody_asked() -> None:
    outcome = forkless("gallery", "--only", "start-method-twice", "--json")
    assert json.loads(outcome.check())["memory_page"] == []


# Other Pythons.


def wrapper(path: Path) -> Path:
    """Makes a command that runs this Python, in its environment, wherever the command lies."""
    path.parent.mkdir(parents=True)
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    path.chmod(0o755)
    return path


MINOR = ".".join(python_version().split(".")[:2])


def test_a_trap_under_another_python(tmp_path: Path) -> None:
    other = wrapper(tmp_path / "bin" / "python")
    environment = str(tmp_path)  # the folder of an environment will do, too
    arguments = ("gallery", "--only", "start-method-twice", "--json", "--python", MINOR)
    document = json.loads(forkless(*arguments, "--python", str(other), "--python", environment).check())
    assert [(each["executable"], each["version"]) for each in document["pythons"]] == [
        (sys.executable, python_version()),
        (str(other), python_version()),
    ]
    assert [(trap["python"], trap["kept"]) for trap in document["traps"]] == [(python_version(), True)] * 2


def test_each_python_has_a_table_of_its_own(tmp_path: Path) -> None:
    other = wrapper(tmp_path / "bin" / "python")
    arguments = ("gallery", "--only", "start-method-twice", "--python", MINOR, "--python", str(other))
    text = forkless(*arguments).check()
    assert (
        len(re.findall(rf"^forkless \S+ gallery · CPython {re.escape(python_version())} ·", text, re.M)) == 2
    )
    assert text.count("forkless keeps 1 of 1 promises") == 2


def test_interpreters_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path = wrapper(tmp_path / "path" / f"python{MINOR}")
    of_pyenv = wrapper(tmp_path / "pyenv" / "versions" / python_version() / "bin" / "python")
    monkeypatch.setenv("PATH", str(on_path.parent))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    assert find(f"python{MINOR}").executable == str(on_path)
    assert find(MINOR) == find(python_version()) == current()
    # Where this one and those beside it are of other versions.
    monkeypatch.setattr(sys, "executable", "/bin/false")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "none"))
    assert find(MINOR).executable == str(on_path)
    on_path.write_text("#!/bin/sh\necho 'pyenv: not active' >&2\nexit 127\n")
    assert find(MINOR).executable == str(of_pyenv)
    assert find(python_version()).version == python_version()


@pytest.mark.parametrize("name", ["4.0", "3", "python4.0", "/no/such/python", "/", "", "/bin/false", "cat"])
def test_a_python_that_is_none(name: str) -> None:
    if name == "3":  # any version of it will do
        assert find(name).version == python_version()
        return
    with pytest.raises(LookupError, match=re.escape(f"there is no Python {name!r}: give a version (3.12)")):
        find(name)


def test_a_name_that_makes_no_sense() -> None:
    said = refused("--python", "4.0")
    assert "forkless gallery: error: argument --python: there is no Python '4.0': give a version" in said


def test_a_python_without_forkless(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    path = tmp_path / "bare" / "bin" / "python"
    said = refused("--python", str(path))
    assert f"{path} (CPython {python_version()}) has no forkless (No module named 'forkless')" in said
    assert f"install it there with `{path} -m pip install forkless`" in said
