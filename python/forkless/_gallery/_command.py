"""`forkless gallery`: the options, what is run, and what comes out."""

import argparse
import os
import signal
import sys
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import TextIOWrapper
from pathlib import Path
from platform import platform, python_implementation, python_version
from typing import TYPE_CHECKING, Any

from ._judge import Check, Observation, check, observe
from ._run import Half, run
from ._traps import TRAPS, Case, Trap
from ._watch import segments

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import FrameType

SCHEMA = 1
ITEMS = 10_000_000
FEWER_ITEMS = 1_000_000  # when memory is short
MEMORY_NEEDED = (
    1_500_000_000  # bytes: the list of ten million integers, its copy in a child, and room to breathe
)


@dataclass(frozen=True)
class Pair:
    """One case, run under both."""

    case: Case
    standard: Half
    observation: Observation
    forkless: Half
    checks: list[Check]

    @property
    def kept(self) -> bool:
        """Whether forkless keeps its promise."""
        return all(check.kept for check in self.checks)


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the parser of `forkless gallery`."""
    parser = commands.add_parser(
        "gallery",
        help="run each trap of multiprocessing under the standard library and under forkless",
        description="Runs each trap of multiprocessing twice: under the standard library, and the same "
        "program under forkless. Each has a process group and a time limit of its own, and leaves nothing "
        "behind. Ends with 0 if forkless keeps all its promises, with 1 otherwise.",
    )
    slugs = [trap.slug for trap in TRAPS]
    parser.add_argument(
        "--only", action="append", choices=slugs, metavar="SLUG", help="this trap; may be repeated"
    )
    parser.add_argument(
        "--explain", choices=slugs, metavar="SLUG", help="show the programs and say why; run nothing"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON document, described in docs/gallery.md"
    )
    parser.add_argument(
        "--timeout", type=_seconds, default=60.0, metavar="SECONDS", help="for each program (default: 60)"
    )
    parser.add_argument(
        "--items",
        type=_items,
        metavar="N",
        help=f"integers in refcount-copy (default: {ITEMS:,}, or {FEWER_ITEMS:,} where memory is short)",
    )
    parser.epilog = f"The traps: {', '.join(slugs)}."
    parser.set_defaults(run=gallery)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError("must be more than zero")
    return seconds


def _items(text: str) -> int:
    items = int(text)
    if items < FEWER_ITEMS:
        raise argparse.ArgumentTypeError(f"must be at least {FEWER_ITEMS}: fewer cannot be told from noise")
    return items


def gallery(options: argparse.Namespace) -> int:
    """Does what the options say, and returns the exit code."""
    from . import _table

    # What programs print, and the marks of the table, may be more than this terminal can show.
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    if options.explain:
        _table.explain(_trap(options.explain), programs())
        return 0
    traps = [trap for trap in TRAPS if not options.only or trap.slug in options.only]
    items = options.items or (ITEMS if available_memory() > MEMORY_NEEDED else FEWER_ITEMS)
    with _ended_by_signals():
        if options.json:
            return _print_json(
                [(trap, list(pairs(trap, items, options.timeout))) for trap in traps], items, options
            )
        return _table.show(traps, lambda trap: pairs(trap, items, options.timeout), items, options.timeout)


def pairs(trap: Trap, items: int, timeout: float) -> "Iterator[Pair]":
    """Runs all cases of a trap, one after the other."""
    for case in trap.cases:
        yield pair(trap, case, items, timeout)


def pair(trap: Trap, case: Case, items: int, timeout: float) -> Pair:
    """Runs both halves of a case and judges them."""
    arguments = [str(items)] if case.takes_items else []
    standard_path, forkless_path = (
        programs() / trap.file(half, case) for half in ("standard", "with_forkless")
    )
    expected = forkless_path.with_suffix(".out").read_text()
    limit = min(timeout, case.standard_limit or timeout)
    where = f"on {python_version()}" + ("" if segments() is not None else " without /dev/shm")
    standard = run(standard_path, arguments, limit=limit, on_stdin=case.on_stdin)
    forkless = run(forkless_path, arguments, limit=timeout, on_stdin=case.on_stdin)
    return Pair(
        case,
        standard,
        observe(case, standard, expected, where),
        forkless,
        check(case, forkless, expected, items),
    )


def programs() -> Path:
    """The folder of the programs; the tests replace it."""
    return Path(os.environ.get("FORKLESS_GALLERY_PROGRAMS") or Path(__file__).with_name("programs"))


def _trap(slug: str) -> Trap:
    return next(trap for trap in TRAPS if trap.slug == slug)


def available_memory() -> int:
    """Bytes that can be used without swapping, by the machine's account and that of the control group."""
    with open("/proc/meminfo") as meminfo:
        sizes = dict(line.split(":") for line in meminfo)
    available = int(sizes["MemAvailable"].split()[0]) * 1024
    try:
        group = Path("/sys/fs/cgroup")
        left = int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())
    except (OSError, ValueError):  # no such control group, or no limit: "max"
        return available
    return min(available, left)


@contextmanager
def _ended_by_signals() -> "Iterator[None]":
    """Lets SIGTERM and SIGHUP end the gallery as Ctrl-C does: after the program that runs has been killed."""

    def end(number: int, frame: "FrameType | None") -> None:
        raise SystemExit(128 + number)

    old = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _print_json(results: "Iterable[tuple[Trap, list[Pair]]]", items: int, options: argparse.Namespace) -> int:
    import json

    from .. import __version__

    traps = [_trap_json(trap, done) for trap, done in results]
    kept = all(trap["kept"] for trap in traps)
    document = {
        "schema": SCHEMA,
        "forkless": __version__,
        "python": python_version(),
        "implementation": python_implementation(),
        "platform": platform(),
        "dev_shm": segments() is not None,
        "timeout": options.timeout,
        "items": items,
        "kept": kept,
        "traps": traps,
    }
    print(json.dumps(document, indent=2))
    return 0 if kept else 1


def _trap_json(trap: Trap, done: list[Pair]) -> dict[str, Any]:
    return {
        "slug": trap.slug,
        "title": trap.title,
        "kept": all(pair.kept for pair in done),
        "cases": [_case_json(pair) for pair in done],
    }


def _case_json(pair: Pair) -> dict[str, Any]:
    return {
        "name": pair.case.name,
        "title": pair.case.title,
        "standard": {**asdict(pair.observation), **_half_json(pair.standard)},
        "forkless": {
            "status": "kept" if pair.kept else "broken",
            "summary": "; ".join(check.detail for check in pair.checks if not check.kept),
            "checks": [asdict(check) for check in pair.checks],
            **_half_json(pair.forkless),
        },
    }


def _half_json(half: Half) -> dict[str, Any]:
    return {
        **asdict(half),
        "children": [{"exit_code": child.exit_code, "signal": child.signal} for child in half.children],
        "memory": [asdict(memory) for memory in half.memory],
    }
