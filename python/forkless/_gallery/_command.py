"""`forkless gallery`: the options, what is run, and what comes out."""

import argparse
import os
import signal
import sys
from contextlib import contextmanager
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING

from . import _interpreters
from ._traps import TRAPS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from ._interpreters import Interpreter
    from ._memory_page import Measurement

ITEMS = 10_000_000
FEWER_ITEMS = 1_000_000  # when memory is short
MEMORY_NEEDED = (
    1_500_000_000  # bytes: the list of ten million integers, its copy in a child, and room to breathe
)
MEASURED = "refcount-copy"  # the trap that has a memory page


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
        "--python",
        action="append",
        type=_interpreter,
        metavar="PYTHON",
        help="run the programs under this one: a version (3.12), a command, or a path; may be repeated",
    )
    parser.add_argument(
        "--timeout", type=_seconds, default=60.0, metavar="SECONDS", help="for each program (default: 60)"
    )
    parser.add_argument(
        "--items",
        type=_items,
        metavar="N",
        help=f"integers in {MEASURED} (default: {ITEMS:,}, or {FEWER_ITEMS:,} where memory is short)",
    )
    _add_memory_page(parser)
    parser.epilog = f"The traps: {', '.join(slugs)}."
    parser.set_defaults(run=lambda options: gallery(parser, options))


def _add_memory_page(parser: argparse.ArgumentParser) -> None:
    page = parser.add_argument_group(
        "the memory page", "What children cost that read their parent's data in five ways; takes minutes."
    )
    page.add_argument(
        "--memory",
        action=argparse.BooleanOptionalAction,
        default=None,
        help=f"show it, or do not (shown unasked with --only {MEASURED})",
    )
    page.add_argument(
        "--chart",
        type=_chart,
        metavar="FILE",
        help="draw it too, as .png or .svg, with matplotlib",
    )


def _interpreter(name: str) -> "Interpreter":
    try:
        return _interpreters.find(name)
    except LookupError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


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


def _chart(text: str) -> Path:
    """A file to draw to. What would prevent that is found now, and not after minutes of measuring."""
    from importlib.util import find_spec

    path = Path(text)
    if path.suffix not in (".png", ".svg"):
        raise argparse.ArgumentTypeError(f"{text!r} must end in .png or .svg")
    if not os.access(path.absolute().parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{path.absolute().parent} is no folder that can be written to")
    if find_spec("matplotlib") is None:
        raise argparse.ArgumentTypeError(f"needs matplotlib: `{sys.executable} -m pip install matplotlib`")
    return path


def gallery(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    """Does what the options say, and returns the exit code."""
    # What programs print, and the marks of the table, may be more than this terminal can show.
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    if options.explain:
        from ._pairs import programs
        from ._table import explain

        explain(next(trap for trap in TRAPS if trap.slug == options.explain), programs())
        return 0
    options.traps = [trap for trap in TRAPS if not options.only or trap.slug in options.only]
    options.memory = _wants_page(parser, options)
    options.pythons = list(dict.fromkeys(options.python or [_interpreters.current()]))
    options.short = options.items is None and available_memory() < MEMORY_NEEDED
    options.items = options.items or (FEWER_ITEMS if options.short else ITEMS)
    with _ended_by_signals():
        return _print_json(options) if options.json else _print_tables(options)


def _wants_page(parser: argparse.ArgumentParser, options: argparse.Namespace) -> bool:
    """Whether the memory page is to be shown; ends here if the options contradict each other."""
    its_trap = any(trap.slug == MEASURED for trap in options.traps)
    if options.memory and not its_trap:
        parser.error(f"argument --memory: the memory page is that of {MEASURED}, which --only leaves out")
    wanted = bool(options.only) and its_trap if options.memory is None else bool(options.memory)
    if options.chart and not wanted:
        parser.error("argument --chart: what is drawn is the memory page: add --memory")
    return wanted


def _print_tables(options: argparse.Namespace) -> int:
    from . import _memory_table, _table
    from ._memory_page import page
    from ._pairs import pairs, programs

    note = f"Fewer items: less than {MEMORY_NEEDED / 1e9:.1f} GB of memory are free." if options.short else ""
    code, measured = 0, []
    for python in options.pythons:
        if python is not options.pythons[0]:
            print()
        items, timeout = options.items, options.timeout
        run = partial(pairs, python=python, items=items, timeout=timeout)
        code |= _table.show(options.traps, python, run, items, timeout)
        if options.memory:
            measured += _memory_table.show(python, page(python, programs(), items, timeout), note)
    if options.memory:
        _memory_table.headline(measured)
        code |= _memory_table.verdict(measured)
        _draw(measured, options.chart)
    return code


def _print_json(options: argparse.Namespace) -> int:
    import json

    from ._document import document
    from ._memory_page import page
    from ._pairs import pairs, programs

    found, measured = {}, []
    for python in options.pythons:
        for trap in options.traps:
            found[python, trap] = list(pairs(trap, python, options.items, options.timeout))
        if options.memory:
            for group in page(python, programs(), options.items, options.timeout):
                measured += group
    result = document(found, measured, options.items, options.timeout)
    print(json.dumps(result, indent=2))
    _draw(measured, options.chart)
    return 0 if result["kept"] else 1


def _draw(measured: "list[Measurement]", path: Path | None) -> None:
    if path is not None:
        from ._memory_chart import draw

        draw(measured, path)
        print(f"forkless gallery: the chart is in {path}", file=sys.stderr)


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
