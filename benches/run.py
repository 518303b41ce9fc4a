"""Compares forkless with its peers, pair by pair, on this machine.

    ./dev bench                       every benchmark, release build
    python benches/run.py --only lock --only rlock --rounds 9
    python benches/run.py --group synchronisation --json figures.json

Each round runs every subject in a fresh interpreter, one after the other, so that all meet the same noise.
Printed are medians over the rounds, and of the rounds' ratios: what forkless takes as a multiple of what the
peer takes, below 1 being better. A benchmark with a target says whether forkless reached it. Each checks its
own answer.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import suite

# With the last two, which ask for scikit-learn and take longest, only if they are named.
USUAL = ("processes", "synchronisation", "messages", "pools", "sharing")
GROUPS = (*USUAL, "joblibs", "installed")
for group in GROUPS:
    importlib.import_module(group)


NOT_THERE = 69  # the exit code for a subject that is not installed or lacks what is measured


def measure(benchmark: suite.Benchmark, subject: str) -> float | None:
    """One benchmark of one subject in a fresh interpreter, in its unit; None if there is no such thing."""
    name = benchmark.name
    if subject.startswith("@"):
        name, subject = subject[1:], benchmark.ours
    command = [sys.executable, __file__, "--one", name, subject]
    environ = dict(os.environ)
    # Otherwise every child of a start method that imports compiles the module with the jobs anew.
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=environ)
    if done.returncode == NOT_THERE:
        return None
    if done.returncode != 0:
        raise SystemExit(f"{name} under {subject} failed:\n{done.stderr}")
    return float(json.loads(done.stdout))


def human(amount: float, unit: str) -> str:
    """A quantity with the prefix that suits it."""
    prefixes = (("G", 1e9), ("M", 1e6), ("k", 1e3), ("", 1.0), ("m", 1e-3), ("µ", 1e-6), ("n", 1e-9))
    if unit == "x":
        return f"{amount:.3g} x"
    usable = [(name, scale) for name, scale in prefixes if unit == "B" or scale <= 1]
    prefix, scale = next((pair for pair in usable if amount >= pair[1]), usable[-1])
    return f"{amount / scale:.3g} {prefix}{unit}"


def compare(benchmark: suite.Benchmark, rounds: int) -> dict[str, Any]:
    """The figures of one benchmark; of none but the missing, when forkless is among them."""
    subjects = [benchmark.ours, *benchmark.peers]
    first = [measure(benchmark, subject) for subject in subjects]
    missing = [subject for subject, figure in zip(subjects, first, strict=True) if figure is None]
    if benchmark.ours in missing:
        return {"name": benchmark.name, "missing": missing}
    subjects = [subject for subject in subjects if subject not in missing]
    # The first round tells who is there; to count it as well keeps a single round possible.
    table = [[figure for figure in first if figure is not None]]
    table += [[measure(benchmark, subject) or 0.0 for subject in subjects] for _ in range(rounds - 1)]
    ours, *theirs = zip(*table, strict=True)
    peers = []
    for name, figures in zip(subjects[1:], theirs, strict=True):
        ratio = statistics.median(mine / other for mine, other in zip(ours, figures, strict=True))
        at_most = benchmark.at_most.get(name)
        met = None if at_most is None else ratio <= at_most
        median = statistics.median(figures)
        peers.append({"name": name, "median": median, "ratio": ratio, "at_most": at_most, "met": met})
    median = statistics.median(ours)
    return {
        "name": benchmark.name,
        "unit": benchmark.unit,
        "ours": median,
        "spread": (min(ours), max(ours)),
        "peers": peers,
        "missing": missing,
        "limit": benchmark.limit,
        "met": None if benchmark.limit is None else median <= benchmark.limit,
    }


def line(figures: dict[str, Any]) -> str:
    """One benchmark as a line of the table for each of its peers."""
    if "ours" not in figures:
        return f"{figures['name']:26}{'not there':>10}"
    unit = figures["unit"]
    ours = f"{figures['name']:26}{human(figures['ours'], unit):>10}"
    limit = "" if figures["limit"] is None else f"≤ {human(figures['limit'], unit)}{verdict(figures['met'])}"
    lines = []
    for peer in figures["peers"]:
        target = "" if peer["at_most"] is None else f"≤ {peer['at_most']:.2g} x{verdict(peer['met'])}"
        theirs = f"{peer['name']:>20}{human(peer['median'], unit):>10}{peer['ratio']:>8.2f} x"
        lines.append(f"{ours:36}{theirs}   {'  '.join(filter(None, (limit, target)))}".rstrip())
        ours = limit = ""
    if not lines:
        lines.append(f"{ours:36}{'':40}   {limit}".rstrip())
    lines += [f"{'':36}{name:>20}   not there" for name in figures["missing"]]
    return "\n".join(lines)


def verdict(met: bool) -> str:
    """What is said of a promise that was not kept."""
    return "" if met else "  missed"


def main() -> None:
    """Runs and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=suite.ALL, help="this benchmark; may be repeated")
    parser.add_argument("--group", action="append", choices=GROUPS, help="these; may be repeated")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--one", nargs=2, metavar=("NAME", "SUBJECT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, subject = options.one
        try:
            print(json.dumps(suite.ALL[name].function(suite.subject(subject))))
        except suite.NotThere:
            sys.exit(NOT_THERE)
        return
    groups = options.group or ([] if options.only else USUAL)
    chosen = [
        benchmark
        for benchmark in suite.ALL.values()
        if benchmark.name in (options.only or ()) or benchmark.function.__module__ in groups
    ]
    print(f"Python {platform.python_version()}, {platform.machine()}, {options.rounds} rounds")
    print(f"{'':26}{'forkless':>10}{'peer':>30}{'ratio':>10}   target")
    results = []
    for benchmark in chosen:
        results.append(compare(benchmark, options.rounds))
        print(line(results[-1]), flush=True)
    if options.json:
        options.json.write_text(
            json.dumps({"python": platform.python_version(), "results": results}, indent=1)
        )


# The standard library's children import this module when their start method asks for it.
if __name__ == "__main__":
    main()
