"""The pages of the documentation: every program in them runs, and does what its page says.

How a page is written is in CONTRIBUTING.md, under "Write a page".
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import forkless
import pytest
from forkless import _forkless
from forkless._gallery._run import Half, run
from forkless._gallery._traps import TRAPS
from support import PROGRAM_PATIENCE

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))

# Pages whose blocks of Python are parts of programs, wrong on purpose: tests/test_check.py and the linter's
# corpus see to them.
PARTS = {"check.md"}

# Pages whose programs use libraries that nobody else needs.
WITH_LIBRARIES = {"libraries.md", "clusters.md"}


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    text: str
    line: int


class Program(NamedTuple):
    """A program of a page, with what the page says that becomes of it."""

    page: str
    line: int
    text: str
    expected: str


def blocks(page: str) -> list[Block]:
    """All fenced blocks of a page, in their order."""
    text = (DOCS / page).read_text()
    found = re.finditer(r"^(```+|:::+)([^\n`]*)\n(.*?)^\1\s*$", text, re.S | re.M)
    return [Block(m[2].strip(), m[3], text.count("\n", 0, m.start()) + 1) for m in found]


def programs(page: str) -> list[Program]:
    """The programs of a page; what comes of each is in the block behind it."""
    if page in PARTS:
        return []
    found = blocks(page)
    result = []
    following: list[Block | None] = [*found[1:], None]
    for block, after in zip(found, following, strict=False):
        if block.language == "python":
            expected = after.text if after is not None and after.language in ("", "text") else ""
            result.append(Program(page, block.line, block.text, expected))
    return result


def missing(program: Program) -> list[str]:
    """The libraries that a program imports and that are not installed."""
    names = re.findall(r"^(?:import|from) (\w+)", program.text, re.M)
    names += [
        {"dask": "distributed"}.get(name, name) for name in re.findall(r'Executor\("(\w+)', program.text)
    ]
    return [name for name in names if importlib.util.find_spec(name) is None]


def transcript(half: Half) -> str:
    """What a program printed, and how it ended unless that was as it should be."""
    said = [half.stdout]
    if half.stopped:
        said.append("(hangs)\n" if half.ended == "hang" else "(does not end)\n")
    elif half.signal:
        said.append(f"(killed by {half.signal})\n")
    elif half.exit_code:
        said.append(f"{half.error}\n" if half.error else f"(exit code {half.exit_code})\n")
    if half.left_processes and not half.stopped:
        said.append(f"(leaves {counted(len(half.left_processes), 'process', 'processes')})\n")
    if half.left_segments:
        said.append(f"(leaves {counted(len(half.left_segments), 'file', 'files')} in /dev/shm)\n")
    return "".join(said)


def counted(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"


def matches(expected: str, text: str) -> bool:
    """Whether a text is the expected one, in which "…" stands for anything."""
    return re.fullmatch(re.escape(expected).replace("…", ".*"), text, re.S) is not None


ALL = [program for page in PAGES for program in programs(page)]


@pytest.mark.parametrize("program", ALL, ids=[f"{program.page}:{program.line}" for program in ALL])
def test_a_page_says_what_happens(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert program.expected, (
        "a program needs a block behind it that says what it prints; parts of one are ```py"
    )
    if program.page in WITH_LIBRARIES and missing(program):
        verb = "./dev integrations --torch" if "torch" in missing(program) else "./dev integrations"
        pytest.skip(f"{', '.join(missing(program))} is not installed: `{verb}` installs it")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "program.py"
    path.write_text(program.text)
    half = run(path, [], limit=PROGRAM_PATIENCE)
    assert matches(program.expected, transcript(half)), f"{transcript(half)}\n--- stderr\n{half.stderr}"


@pytest.mark.parametrize("page", PAGES)
def test_parts_of_programs_are_python(page: str) -> None:
    for block in blocks(page):
        if block.language == "py" or (page in PARTS and block.language == "python"):
            ast.parse(block.text)


TESTS = [(page, block) for page in PAGES for block in blocks(page) if "def test_" in block.text]


@pytest.mark.parametrize(("page", "block"), TESTS, ids=[f"{page}:{block.line}" for page, block in TESTS])
def test_tests_of_a_page_pass(page: str, block: Block, tmp_path: Path) -> None:
    (tmp_path / "test_page.py").write_text(block.text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PROGRAM_PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES)
def test_a_page_uses_known_blocks_only(page: str) -> None:
    known = {"", "text", "python", "py", "console", "toml", "yaml", "dockerfile", "ini", "rust", "html"}
    for block in blocks(page):
        assert block.language in known or block.language.startswith("{"), f"{page}:{block.line}"


def test_programs_were_found() -> None:
    assert len(ALL) > 80


HAZARDS = DOCS / "hazards"
HEADINGS = [
    "What happens",
    "Why",
    "Who is hit",
    "How to see it",
    "Living with it in the standard library",
    "With forkless",
]


def rules() -> dict[str, set[str]]:
    """The rules of the linter, by hazard."""
    result: dict[str, set[str]] = {}
    for code, hazard in re.findall(r"^### (FL\d+) · ([a-z-]+)$", _forkless.check_reference(), re.M):
        result.setdefault(hazard, set()).add(code)
    return result


def hazards() -> set[str]:
    return {path.stem for path in HAZARDS.glob("*.md")} - {"index"}


def test_every_hazard_has_a_page() -> None:
    assert {trap.slug for trap in TRAPS} | set(rules()) <= hazards()
    listed = re.findall(r"^\| \[`([a-z-]+)`\]\(\1\.md\) \|", (HAZARDS / "index.md").read_text(), re.M)
    assert sorted(listed) == sorted(hazards())


@pytest.mark.parametrize("slug", sorted(hazards()))
def test_a_hazard_is_told_in_full(slug: str) -> None:
    text = (HAZARDS / f"{slug}.md").read_text()
    assert f"`{slug}`" in text
    assert re.findall(r"^## (.+)$", text, re.M) == HEADINGS
    assert set(re.findall(r"`(FL\d+)`", text)) == rules().get(slug, set())
    trap = next((trap for trap in TRAPS if trap.slug == slug), None)
    assert (f"forkless gallery --only {slug}" in text) == (trap is not None)
    if trap is not None:
        included = set(re.findall(rf"_gallery/programs/{slug}/([a-z_.]+)", text))
        assert {trap.file("standard", case).partition("/")[2] for case in trap.cases} <= included
    else:
        assert len(programs(f"hazards/{slug}.md")) == 2


def told() -> list[str]:
    """The full names of all that the pages of the reference ask for."""
    pages = (DOCS / "reference").glob("*.md")
    return [
        name for page in pages for name in re.findall(r"^\.\. auto\w+:: ([\w.]+)", page.read_text(), re.M)
    ]


def test_every_public_name_is_in_the_reference() -> None:
    """Names of modules are put there by themselves, see docs/conf.py; those of the package have a place."""
    names = told()
    assert len(names) == len(set(names))
    wanted = {f"forkless.{name}" for name in forkless.__all__} - {"forkless.__version__"}
    wanted.remove("forkless.reducer")  # another name of a module
    assert wanted <= set(names), f"put these into a page of docs/reference: {wanted - set(names)}"


def public_modules() -> list[ModuleType]:
    found = pkgutil.iter_modules(forkless.__path__)
    names = [module.name for module in found if not module.name.startswith("_")]
    if importlib.util.find_spec("joblib") is None:
        names.remove("joblib")
    return [forkless, *(importlib.import_module(f"forkless.{name}") for name in names)]


def public_objects() -> dict[str, object]:
    """All that has a public name and may have a docstring, by its first name."""
    result: dict[str, object] = {}
    seen = set()
    for module in public_modules():
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            # What the standard library has made is described there.
            ours = getattr(value, "__module__", "").partition(".")[0] in ("forkless", "builtins")
            if callable(value) and ours and id(value) not in seen:
                seen.add(id(value))
                result[f"{module.__name__}.{name}"] = value
    return result


def test_every_module_says_what_it_is() -> None:
    assert [module.__name__ for module in public_modules() if not module.__doc__] == []


@pytest.mark.parametrize(("name", "value"), public_objects().items(), ids=list(public_objects()))
def test_every_public_name_has_a_docstring(name: str, value: object) -> None:
    text = value.__doc__ or ""
    assert text.strip(), f"{name} has no docstring"
    if inspect.isclass(value):
        for each, member in vars(value).items():
            function = inspect.isroutine(member) or isinstance(member, (classmethod, staticmethod, property))
            if not each.startswith("_") and function and hasattr(value, each):
                assert inspect.getdoc(getattr(value, each)), f"{name}.{each} has no docstring"
        return
    if name not in told():
        return
    # Arguments are described one by one, or by the function that it refers to ("see `share`", "as `zeros`").
    try:
        parameters = inspect.signature(value).parameters  # type: ignore[arg-type]
    except ValueError:
        return
    if len(parameters) > 1:
        assert "Args:" in text or re.search(r"`\w+`", text), f"{name} does not say what its arguments are"
