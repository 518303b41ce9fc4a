"""The gallery for people: one table, 100 columns wide at most, in colour on a terminal."""

import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from ._interpreters import Interpreter
from ._run import Half
from ._traps import Case, Trap, growth, megabytes
from ._watch import segments

if TYPE_CHECKING:
    from ._pairs import Pair

WIDTH = 100
NAME = 11
COLUMN = (WIDTH - NAME - 6) // 2
LINES = 4  # of one cell at most
COLOURS = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}
MARKS = {"reproduced": ("✗", "red"), "changed": ("~", "yellow"), "gone": ("-", "yellow")}


def show(
    traps: "Sequence[Trap]",
    python: Interpreter,
    run: "Callable[[Trap], Iterable[Pair]]",
    items: int,
    timeout: float,
) -> int:
    """Runs the traps and prints each result as soon as it is there.

    Args:
        traps: What to run.
        python: What runs the programs.
        run: Runs the cases of a trap.
        items: How many integers `refcount-copy` uses, to be mentioned.
        timeout: The time limit of each program, to be mentioned.

    Returns:
        The exit code.
    """
    title = paint(f"forkless {python.forkless} gallery", "bold")
    print(title, f"· {python} · each program at most {timeout:g} s")
    if segments() is None:
        print("There is no /dev/shm here: what the standard library does without it is what you see.")
    print()
    print(paint(_columns(" " * NAME, "standard library", "forkless"), "dim"))
    done: list[list[Pair]] = []
    for trap in traps:
        print(f"\n{paint(trap.slug, 'bold')}  {trap.title}")
        done.append([])
        status = Status(trap.slug)
        for pair in run(trap):
            status.clear()
            _row(pair)
            done[-1].append(pair)
            status.draw()
        status.clear()
        if any(pair.case.takes_items for pair in done[-1]):
            _memory(done[-1][0], items)
    return _summary(done, python)


def _row(pair: "Pair") -> None:
    mark, colour = MARKS[pair.observation.status]
    standard = f"{mark} {pair.observation.summary}"
    if pair.kept:
        forkless, verdict = f"✓ {_telling_line(pair.case, pair.forkless)}", "green"
    else:
        first, *others = [check for check in pair.checks if not check.kept]
        more = f" (and not kept: {', '.join(check.name for check in others)})" if others else ""
        forkless, verdict = f"✗ {first.detail}{more}", "red"
    left, right = _cell(standard), _cell(forkless)
    for name, one, two in zip_longest([pair.case.name], left, right, fillvalue=""):
        print(_columns(name, one, two, colour, verdict).rstrip())


def _telling_line(case: Case, half: Half) -> str:
    """What a program under forkless did, in one line."""
    found = re.search(f"^{case.shows}$", half.stdout, re.M)
    line = found[0] if found else ""
    if case.killed:
        return f"{line}; all killed, nothing left"
    if case.takes_items:
        return f"reading costs {megabytes(growth(half, 'child') or 0)} in the child"
    return f"{line} ({half.seconds:.1f}\N{NO-BREAK SPACE}s)"


def _cell(text: str) -> list[str]:
    return textwrap.wrap(text, COLUMN, max_lines=LINES, placeholder=" …", subsequent_indent="  ")


def _columns(name: str, one: str, two: str, colour: str = "", verdict: str = "") -> str:
    return f"  {name:<{NAME}} {paint(f'{one:<{COLUMN}}', colour)}  {paint(two, verdict)}"


def _memory(pair: "Pair", items: int) -> None:
    """The figures of both halves, and the report that the forkless half printed."""
    heading = f"{'RSS':>11}{'PSS':>11}{'USS':>11}{'private dirty':>16}"
    print("\n" + paint(f"    {f'{items:,} integers, in MB':<45}{heading}", "dim"))
    for name, half in (("standard library", pair.standard), ("forkless", pair.forkless)):
        for memory in half.memory:
            sizes = [
                f"{size / 1e6:,.1f}" for size in (memory.rss, memory.pss, memory.uss, memory.private_dirty)
            ]
            figures = f"{sizes[0]:>11}{sizes[1]:>11}{sizes[2]:>11}{sizes[3]:>16}"
            print(f"    {f'{name}: {memory.when}':<45}{figures}")
    _, found, report = pair.forkless.stdout.partition("forkless.memory_report():\n")
    if found:
        print(paint("\n    forkless.memory_report(), called by the child", "dim"))
        for line in report.splitlines():
            if not line.startswith("child exit code"):
                print(f"    {line[: WIDTH - 4]}".rstrip())


def _summary(done: "list[list[Pair]]", python: Interpreter) -> int:
    kept = sum(all(pair.kept for pair in pairs) for pairs in done)
    cases = [pair for pairs in done for pair in pairs]
    trapped = sum(pair.observation.status == "reproduced" for pair in cases)
    verdict = paint(f"forkless keeps {kept} of {len(done)} promises", "green" if kept == len(done) else "red")
    print(f"\n{verdict}; under {python}, {trapped} of {len(cases)} programs fall into their trap.")
    print(paint("forkless gallery --explain SLUG shows the programs and says why.", "dim"))
    return 0 if kept == len(done) else 1


def explain(trap: Trap, programs: Path) -> None:
    """Prints why a trap exists, what forkless does instead, and all programs."""
    print(f"{paint(trap.slug, 'bold')}  {trap.title}\n")
    print(paint("Why", "bold"), trap.why, sep="\n", end="\n\n")
    print(paint("What forkless does instead", "bold"), trap.instead, sep="\n")
    for case in trap.cases:
        for half, under in (("standard", "the standard library"), ("with_forkless", "forkless")):
            path = trap.file(half, case)
            print("\n" + paint(f"{case.name}: {case.title}, under {under}", "bold"))
            print(paint(f"# {path}{', on standard input' if case.on_stdin else ''}", "dim"))
            print((programs / path).read_text().rstrip())
        print(paint("\n# prints, with numbers for <…> and any lines for ...", "dim"))
        print((programs / trap.file("with_forkless", case)).with_suffix(".out").read_text().rstrip())
    for name in trap.page:
        print("\n" + paint(f"# {trap.slug}/{name}, of the memory page", "dim"))
        print((programs / trap.slug / name).read_text().rstrip())


class Status:
    """A line that says what runs, on a terminal only.

    Args:
        text: What that is.
    """

    def __init__(self, text: str) -> None:
        self._text = f"  running {text} …" if sys.stdout.isatty() else ""
        self.draw()

    def draw(self) -> None:
        """Shows it."""
        if self._text:
            print(self._text, end="\r", flush=True)

    def clear(self) -> None:
        """Makes room for what is printed next."""
        if self._text:
            print(" " * len(self._text), end="\r", flush=True)


def paint(text: str, colour: str) -> str:
    """The text in a colour, if people look at it and want that (https://no-color.org)."""
    wanted = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m" if wanted and colour and text.strip() else text
