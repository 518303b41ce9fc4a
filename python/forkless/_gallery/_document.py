"""The gallery for programs: one JSON document, described in docs/gallery.md."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from platform import platform
from typing import Any

from ._interpreters import Interpreter, current
from ._memory_page import Measurement
from ._pairs import Pair
from ._run import Half
from ._traps import Trap
from ._watch import segments

SCHEMA = 1


def document(
    found: "Mapping[tuple[Interpreter, Trap], Sequence[Pair]]",
    measured: "Sequence[Measurement]",
    items: int,
    timeout: float,
) -> dict[str, Any]:
    """All that was found, as plain data.

    Args:
        found: The cases of each trap under each Python.
        measured: The memory page; empty if it was not asked for.
        items: How many integers there were.
        timeout: The time limit of each program, in seconds.
    """
    mine = current()
    traps = [_trap(python, trap, pairs) for (python, trap), pairs in found.items()]
    return {
        "schema": SCHEMA,
        "forkless": mine.forkless,
        "python": mine.version,
        "implementation": mine.implementation,
        "platform": platform(),
        "pythons": [asdict(python) for python in dict.fromkeys(python for python, _ in found)],
        "dev_shm": segments() is not None,
        "timeout": timeout,
        "items": items,
        "kept": all(trap["kept"] for trap in traps) and not any(each.broken for each in measured),
        "traps": traps,
        "memory_page": [each.to_dict() for each in measured],
    }


def _trap(python: Interpreter, trap: Trap, pairs: "Sequence[Pair]") -> dict[str, Any]:
    return {
        "python": python.version,
        "slug": trap.slug,
        "title": trap.title,
        "kept": all(pair.kept for pair in pairs),
        "cases": [_case(pair) for pair in pairs],
    }


def _case(pair: Pair) -> dict[str, Any]:
    return {
        "name": pair.case.name,
        "title": pair.case.title,
        "standard": {**asdict(pair.observation), **_half(pair.standard)},
        "forkless": {
            "status": "kept" if pair.kept else "broken",
            "summary": "; ".join(check.detail for check in pair.checks if not check.kept),
            "checks": [asdict(check) for check in pair.checks],
            **_half(pair.forkless),
        },
    }


def _half(half: Half) -> dict[str, Any]:
    return {
        **asdict(half),
        "children": [{"exit_code": child.exit_code, "signal": child.signal} for child in half.children],
        "memory": [asdict(memory) for memory in half.memory],
    }
