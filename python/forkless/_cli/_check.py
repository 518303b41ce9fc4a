"""`forkless check`: the options, and what comes out. The linter itself is in Rust."""

import argparse
import os
import sys
from pathlib import Path


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the parser of `forkless check`."""
    parser = commands.add_parser(
        "check",
        help="find the traps of processes in programs, without running them",
        description="Reads Python files and notebooks, without running them, and finds what will go wrong "
        "with processes: each finding says why, and what to do instead. Ends with 0 if it finds none, "
        "with 1 if it does, with 2 if it cannot do what was asked.",
        epilog="A comment `# forkless: ignore[FL001]` in the line of a finding silences it. Options can be "
        "in [tool.forkless.check] of pyproject.toml: select, ignore, exclude, target-version.",
    )
    parser.add_argument(
        "paths",
        nargs="*",
        default=["."],
        metavar="PATH",
        help="files and folders, what git ignores left out; - reads standard input (default: this folder)",
    )
    parser.add_argument(
        "--select", action="extend", type=_names, metavar="RULES", help="only these: codes, hazards, or ALL"
    )
    parser.add_argument(
        "--ignore", action="extend", type=_names, metavar="RULES", help="not these: codes or hazards"
    )
    parser.add_argument(
        "--exclude", action="append", metavar="PATTERN", help="not these files, as in a .gitignore"
    )
    parser.add_argument(
        "--target-version",
        metavar="3.X",
        help="the Python that the programs are for, which decides how they start processes: by fork up to "
        "3.13 (the default), by forkserver from 3.14 on",
    )
    parser.add_argument(
        "--format", choices=("text", "json", "sarif", "github"), default="text", help="default: text"
    )
    parser.add_argument(
        "--fix", action="store_true", help="import forkless in place of multiprocessing where that is certain"
    )
    parser.add_argument("--explain", metavar="RULE", help="say all about a code or a hazard; check nothing")
    parser.add_argument("--list", action="store_true", help="list all rules; check nothing")
    parser.set_defaults(run=check)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def check(options: argparse.Namespace) -> int:
    """Does what the options say, and returns the exit code."""
    from .. import _forkless

    if options.list:
        print(_forkless.check_list(), end="")
        return 0
    if options.explain is not None:
        explanation = _forkless.check_explain(options.explain)
        if explanation is None:
            return _refuse(f"no rule is called {options.explain!r}: see forkless check --list")
        print(explanation, end="")
        return 0
    from_stdin = "-" in options.paths
    if from_stdin and (len(options.paths) > 1 or options.fix):
        return _refuse("- is a program from standard input: it stands alone, and without --fix")
    try:
        text, problems, code = _forkless.check(
            [] if from_stdin else [Path(path) for path in options.paths],
            format=options.format,
            colour=_has_colours(),
            select=options.select or [],
            ignore=options.ignore or [],
            exclude=options.exclude or [],
            target_version=options.target_version,
            fix=options.fix,
            text=sys.stdin.buffer.read() if from_stdin else None,
        )
    except ValueError as error:
        return _refuse(str(error))
    # Names of files and lines of code may be more than this terminal can show.
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode(errors="replace"))
    if options.format == "text":
        for problem in problems:
            print(f"forkless check: {problem}", file=sys.stderr)
    return code


def _refuse(why: str) -> int:
    print(f"forkless check: {why}", file=sys.stderr)
    return 2


def _has_colours() -> bool:
    """Whether to colour what is printed (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
