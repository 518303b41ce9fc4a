"""What a run means: did the standard half fall into the trap, and did the forkless half keep its promise?"""

import re
from dataclasses import dataclass
from typing import Literal

from ._run import Half
from ._traps import Case, describe_end


@dataclass(frozen=True)
class Observation:
    """What the standard library did.

    Attributes:
        status: "reproduced"; "changed" (it still fails, but differently than expected) or "gone" (it does
            what the program says).
        summary: The same in words.
    """

    status: Literal["reproduced", "changed", "gone"]
    summary: str


@dataclass(frozen=True)
class Check:
    """One thing that a forkless half must do.

    Attributes:
        name: "end", "output", "errors", "processes", "segments", or the one that only this case has.
        kept: Whether it did.
        detail: What was found, if it did not.
    """

    name: str
    kept: bool
    detail: str = ""


def observe(case: Case, half: Half, expected_output: str, where: str) -> Observation:
    """Judges the standard half by nothing but what it did.

    Args:
        case: What was run.
        half: What happened.
        expected_output: The template of the output of a program that works.
        where: The version of Python, for the summary, or what else may be the reason.
    """
    symptom = case.symptom(half)
    if symptom is not None:
        return Observation("reproduced", symptom)
    # Where the halves print different things, the exit code has to do.
    well = _end(case, half) is None and not half.error and not any(child.exit_code for child in half.children)
    if well and (case.killed or case.takes_items or pattern(expected_output).fullmatch(half.stdout)):
        return Observation("gone", f"no longer reproduces {where}: it works")
    did = half.error.partition(":")[0] if half.error else describe_end(half)
    return Observation("changed", f"no longer reproduces {where}: {did} instead of {case.expected}")


def check(case: Case, half: Half, expected_output: str, items: int) -> list[Check]:
    """Judges the forkless half: everything it promises, by what it did.

    Args:
        case: What was run.
        half: What happened.
        expected_output: The template of its output, see `pattern`.
        items: The number of items it was given, if it takes one.
    """
    matches = pattern(expected_output).fullmatch(half.stdout)
    found = {
        "end": _end(case, half),
        "output": None if matches else f"not as expected: {_first_difference(expected_output, half.stdout)}",
        "errors": half.stderr and f"standard error is not empty: {half.stderr.strip().splitlines()[-1]}",
        "processes": half.left_processes and f"left behind: {', '.join(half.left_processes)}",
        "segments": half.left_segments and f"left in /dev/shm: {', '.join(half.left_segments)}",
    }
    if case.promise is not None:
        found[case.measured] = case.promise(half, items)
    return [Check(name, not detail, str(detail or "")) for name, detail in found.items()]


def _end(case: Case, half: Half) -> str | None:
    wanted = (None, "SIGKILL") if case.killed else (0, None)
    return None if (half.exit_code, half.signal) == wanted else describe_end(half)


def pattern(template: str) -> re.Pattern[str]:
    """A template of an output as a pattern.

    `<#>` stands for any number, `<name>` for one that is the same wherever the name appears, and a line of
    three dots for any lines, at least one.
    """
    pieces, names = [], set()
    for piece in re.split(r"(<#>|<[a-z]+>|^\.\.\.$)", template, flags=re.M):
        if piece == "<#>":
            pieces.append(r"\d+")
        elif piece == "...":
            pieces.append(r"(?s:.+?)")
        elif re.fullmatch("<[a-z]+>", piece):
            name = piece[1:-1]
            pieces.append(f"(?P={name})" if name in names else rf"(?P<{name}>\d+)")
            names.add(name)
        else:
            pieces.append(re.escape(piece))
    return re.compile("".join(pieces))


def _first_difference(template: str, output: str) -> str:
    """The first line that no part of the template allows, for people."""
    wanted, got = template.splitlines(), output.splitlines()
    for number, line in enumerate(wanted):
        if line == "...":
            break
        if number >= len(got):
            return f"no line {line!r}"
        if not pattern(line).fullmatch(got[number]):
            return f"{got[number]!r} instead of {line!r}"
    return f"{len(got)} lines, ending with {got[-1]!r}" if got else "nothing was printed"
