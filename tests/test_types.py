"""What a type checker sees, what the stubs say and what is really there are the same."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "python" / "forkless"

DIFFERENCES = (
    # PyO3 lists all names of a module; nobody imports `*` from this one.
    r"forkless\._forkless\.__all__",
    # The buffer protocol has no method in Python before 3.12.
    r"forkless\._forkless\.\w+\.__buffer__",
    # It has a place for weak references, which changes its layout from Python 3.12 on, and not before.
    r"forkless\._forkless\.Shared",
    # The abstract classes, which the stubs say they are, have it.
    r"forkless\._forkless\.Shared(List|Dict)\.__class_getitem__",
)


def mypy(*arguments: str, module: str = "mypy") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, "MYPYPATH": str(ROOT / "python")},
        capture_output=True,
        text=True,
    )


def names_for_type_checkers() -> set[str]:
    """What `forkless/__init__.py` imports or declares under TYPE_CHECKING."""
    names: set[str] = set()
    for node in ast.parse((PACKAGE / "__init__.py").read_text()).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for statement in node.body:
                if isinstance(statement, ast.ImportFrom):
                    names.update(alias.asname or alias.name for alias in statement.names)
                if isinstance(statement, ast.AnnAssign):
                    names.add(ast.unparse(statement.target))
    return names


@pytest.mark.timeout(900)
def test_the_stubs_describe_the_built_module(tmp_path: Path) -> None:
    differences = tmp_path / "differences"
    differences.write_text("\n".join(DIFFERENCES))
    allowed = ["--allowlist", str(differences), "--ignore-unused-allowlist"]
    result = mypy("forkless._forkless", *allowed, module="mypy.stubtest")
    assert result.returncode == 0, result.stdout + result.stderr


def test_public_names_agree() -> None:
    import forkless

    public = set(forkless.__all__)
    assert forkless.__all__ == sorted(public), "sorted, and each name once"
    assert names_for_type_checkers() == public | {*forkless._MODULES, *forkless._CONSTANTS}
    assert {name for name in public if not hasattr(forkless, name)} == set()
    assert public <= set(dir(forkless))


def test_public_names_say_where_they_live() -> None:
    import forkless

    for name in forkless.__all__:
        value = getattr(forkless, name)
        if isinstance(value, type) or callable(value):
            assert value.__module__.partition(".")[0] == "forkless", f"{name} claims {value.__module__}"
            assert value.__name__ == name
            assert (value.__doc__ or "").strip(), f"{name} has no docstring"


@pytest.mark.timeout(900)
def test_every_public_name_has_a_type(tmp_path: Path) -> None:
    import forkless

    program = tmp_path / "program.py"
    lines = ["import forkless", *(f"reveal_type(forkless.{name})" for name in forkless.__all__)]
    program.write_text("\n".join([*lines, "forkless.no_such_name"]))
    result = mypy("--no-error-summary", str(program))
    revealed = [line for line in result.stdout.splitlines() if "Revealed type" in line]
    assert len(revealed) == len(forkless.__all__), result.stdout + result.stderr
    assert [line for line in revealed if '"Any"' in line or '"object"' in line.replace("builtins.", "")] == []
    others = [line for line in result.stdout.splitlines() if line not in revealed]
    assert len(others) == 1, result.stdout
    assert 'no attribute "no_such_name"' in others[0]


@pytest.mark.timeout(900)
def test_programs_as_users_write_them_have_the_types_that_they_expect() -> None:
    """What is inferred for them, and that what is wrong in them is found; see tests/typed/pools.py."""
    programs = sorted((ROOT / "tests" / "typed").glob("*.py"))
    text = "".join(program.read_text() for program in programs)
    assert text.count("assert_type(") > 80
    assert text.count("# type: ignore[") > 30
    result = mypy("--no-error-summary", *map(str, programs), "examples")
    assert (result.returncode, result.stdout) == (0, ""), result.stdout + result.stderr


@pytest.mark.timeout(900)
def test_a_worse_type_is_noticed(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    text = (ROOT / "tests" / "typed" / "pools.py").read_text()
    program.write_text(text.replace("(number: int) -> str:", "(number: object) -> object:"))
    result = mypy("--no-error-summary", str(program))
    assert result.stdout.count("[assert-type]") > 5, result.stdout + result.stderr
    assert "[unused-ignore]" in result.stdout


def test_all_of_the_core_is_documented() -> None:
    """Ruff sees to the Python modules; this is about the extension's docstrings and signatures."""
    import forkless._forkless as core

    bare = []
    for path, value in public_parts(core):
        if not (value.__doc__ or "").strip():
            bare.append(f"{path} has no docstring")
        if callable(value) and not isinstance(value, type) and value.__text_signature__ is None:
            bare.append(f"{path} has no signature")
    assert bare == []


def public_parts(core: ModuleType) -> Iterator[tuple[str, Any]]:
    """Classes, functions and methods, with what to call them."""
    for name, value in vars(core).items():
        if not name.startswith("_") and (isinstance(value, type) or callable(value)):
            yield name, value
            for member, method in vars(value).items() if isinstance(value, type) else ():
                if not member.startswith("_"):
                    yield f"{name}.{member}", getattr(method, "__func__", method)
