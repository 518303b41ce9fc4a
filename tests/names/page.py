"""docs/names.md: a table for each module of the standard library."""

from __future__ import annotations

import importlib
import inspect
import json
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from forkless import _internals

from . import survey
from .differences import DIFFERS, INTERNAL, NOT_THERE, Difference

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent.parent / "docs" / "names.md"
RECORD = HERE / "standard.json"
VERSIONS = ("3.10", "3.11", "3.12", "3.13")

_INTRODUCTION = """\
# Names

Every public name of `multiprocessing` and its modules, and what has become of it: `import forkless` gives the
same names in modules of the same names. The table is made by a program that looks at the standard library of
each Python from 3.10 to 3.13 and at forkless, and tests hold both against it.

- **same**: it takes the same arguments and does the same. Every exception is also the one that the standard
  library raises, and everything that blocks can be interrupted.
- **differs**: it is there, and does something else, for the reason given.
- **standard**: the standard library's own object, which only its insides use. It is there to be imported.
- **ours**: the standard library does not have it.
- **not there**: for the reason given.

Members of classes are listed where they are not the same. *Python* says on which versions the standard
library has a name, if not on all; what is not marked **standard** forkless has on every version. How to make
this page again: see [CONTRIBUTING.md](../CONTRIBUTING.md).
"""


class Row(NamedTuple):
    """A line of a table."""

    name: str
    state: str
    versions: str
    what: str
    why: str


def record() -> tuple[dict[str, str], dict[str, dict[str, list[str]]]]:
    """What `note` has written.

    Returns:
        By version which Python it was, and by module and name the versions that have it.
    """
    found = (
        json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {"pythons": {}, "names": {}}
    )
    names: dict[str, dict[str, list[str]]] = {}
    for module, groups in found["names"].items():
        for versions, group in groups.items():
            names.setdefault(module, {}).update(dict.fromkeys(group.split(), versions.split()))
    return found["pythons"], names


def note() -> None:
    """Writes down what the standard library of this Python has."""
    pythons, names = record()
    here = platform.python_version()
    version = here.rpartition(".")[0]
    now = {(module, name) for module in survey.modules() for name in survey.names(module)}
    before = {(module, name): on for module, found in names.items() for name, on in found.items()}
    groups: dict[str, dict[str, str]] = {}
    for module, name in sorted({*now, *before}):
        on = {*before.get((module, name), ())} - {version} | ({version} if (module, name) in now else set())
        key = " ".join(sorted(on))
        group = groups.setdefault(module, {})
        group[key] = f"{group.get(key, '')} {name}".lstrip()
    written = {"pythons": dict(sorted({**pythons, version: here}.items())), "names": groups}
    RECORD.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


def difference(module: str, name: str) -> Difference | None:
    """What is listed for a name."""
    listed = DIFFERS.get(module, {})
    return listed.get(name) or listed.get(f"{name.partition('.')[0]}.*" if "." in name else name)


def is_internal(module: str, name: str) -> bool:
    """Whether forkless has the standard library's own object there."""
    return name in _internals.NAMES.get(module.removeprefix("multiprocessing."), ())


def rows(module: str) -> Iterator[Row]:
    """The table of a module."""
    theirs = record()[1][module]
    home = importlib.import_module(survey.ours(module))
    added = [name for name in home.__all__ if name not in theirs and not name.startswith("_")]
    for name in sorted(
        {*(name for name in theirs if "." not in name), *added}, key=lambda name: (name.lower(), name)
    ):
        yield (row := _row(module, name, theirs.get(name)))
        yield from _members(module, row, theirs)


def _members(module: str, row: Row, theirs: dict[str, list[str]]) -> Iterator[Row]:
    """Lines for the members of a class: one for those of which the same is to be said."""
    prefix = f"{row.name}."
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, versions in theirs.items():
        if name.startswith(prefix):
            _, *rest = _row(module, name, versions)
            if rest != list(row[1:]) and rest[0] != "same":
                groups.setdefault(tuple(rest), []).append(name.removeprefix(prefix))
    more = _more(theirs, row.name, getattr(importlib.import_module(survey.ours(module)), row.name, None))
    if more:
        groups["ours", "", "", ""] = more
    for group, members in groups.items():
        yield Row(f"{prefix}{', .'.join(members)}", *group)


def _row(module: str, name: str, versions: list[str] | None) -> Row:
    if versions is None:
        return Row(name, "ours", "", _summary(survey.find(module, name)), "")
    on = "" if tuple(versions) == VERSIONS else ", ".join(versions)
    missing = NOT_THERE.get(module, {}).get(name)
    if missing is not None:
        return Row(name, "not there", on, "", missing)
    if is_internal(module, name.partition(".")[0]):
        return Row(name, "same" if "." in name else "standard", on, "", INTERNAL)
    listed = difference(module, name)
    if listed is not None:
        return Row(name, "differs", on, listed.what, listed.why)
    return Row(name, "same", on, "", "")


def _more(theirs: dict[str, list[str]], name: str, value: Any) -> list[str]:
    """The members that a class has beside those of the standard library's."""
    if not any(other.startswith(f"{name}.") for other in theirs) or not inspect.isclass(value):
        return []
    found = survey.members(value, "forkless")
    return sorted(member for member in found if f"{name}.{member}" not in theirs and member not in ORDINARY)


# That these are there follows from what a class is for.
ORDINARY = ("__enter__", "__exit__", "__call__")


def _summary(value: Any) -> str:
    """The first sentence of its documentation, as far as that fits a table."""
    value = getattr(value, "__func__", value)
    text = (inspect.getdoc(value) or "") if _says_itself(value) else ""
    first = text.split("\n\n")[0].replace("\n", " ").partition(". ")[0].rstrip(".")
    return first.replace("|", "\\|")


def _says_itself(value: Any) -> bool:
    return inspect.isroutine(value) or inspect.isclass(value) or isinstance(value, property)


def render() -> str:
    """The page."""
    parts = [_INTRODUCTION]
    for module in record()[1]:
        parts.append(f"\n## `{module}`\n\n{_counts(module)}\n")
        parts.append("\n| name | state | Python | difference | reason |\n|---|---|---|---|---|\n")
        parts += [f"| `{row.name}` | {' | '.join(row[1:])} |\n" for row in rows(module)]
    return "".join(parts)


def _counts(module: str) -> str:
    states = [row.state for row in rows(module) if "." not in row.name]
    counts = {state: states.count(state) for state in ("same", "differs", "standard", "not there", "ours")}
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count) + "."
