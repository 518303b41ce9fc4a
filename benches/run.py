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

GROUPS = ("processes", "synchronisation", "messages", "pools")
for group in GROUPS:
    importlib.import_module(group)


def measure(name: str, subject: str) -> float:
    """One benchmark of one subject in a fresh interpreter, in its unit."""
    command = [sys.executable, __file__, "--one", name, subject]
    environ = dict(os.environ)
    # Otherwise every child of a start method that imports compiles the module with the jobs anew.
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environ)
    if done.returncode != 0:
        raise SystemExit(f"{name} under {subject} failed:\n{done.stderr}")
    return float(json.loads(done.stdout))


def human(amount: float, unit: str) -> str:
    """A quantity with the prefix that suits it."""
    prefixes = (("G", 1e9), ("M", 1e6), ("k", 1e3), ("", 1.0), ("m", 1e-3), ("µ", 1e-6), ("n", 1e-9))
    usable = [(name, scale) for name, scale in prefixes if unit == "B" or scale <= 1]
    prefix, scale = next((pair for pair in usable if amount >= pair[1]), usable[-1])
    return f"{amount / scale:.3g} {prefix}{unit}"


def compare(benchmark: suite.Benchmark, rounds: int) -> dict[str, Any]:
    """The figures of one benchmark."""
    subjects = (benchmark.ours, *benchmark.peers)
    table = [[measure(benchmark.name, subject) for subject in subjects] for _ in range(rounds)]
    columns = list(zip(*table, strict=True))
    ours = statistics.median(columns[0])
    ratios = [
        statistics.median(mine / theirs for mine, theirs in zip(columns[0], column, strict=True))
        for column in columns[1:]
    ]
    met = (benchmark.at_most is None or ratios[0] <= benchmark.at_most) and (
        benchmark.limit is None or ours <= benchmark.limit
    )
    return {
        "name": benchmark.name,
        "unit": benchmark.unit,
        "ours": ours,
        "peers": [
            {"name": peer, "median": statistics.median(column), "ratio": ratio}
            for peer, column, ratio in zip(benchmark.peers, columns[1:], ratios, strict=True)
        ],
        "at_most": benchmark.at_most,
        "limit": benchmark.limit,
        "met": met,
    }


def line(figures: dict[str, Any]) -> str:
    """One benchmark as a line of the table for each of its peers."""
    unit, target = figures["unit"], ""
    if figures["at_most"] is not None:
        target = f"≤ {figures['at_most']:.2g} x"
    if figures["limit"] is not None:
        target = f"≤ {human(figures['limit'], unit)}"
    if target:
        target += "" if figures["met"] else "  missed"
    ours = f"{figures['name']:26}{human(figures['ours'], unit):>10}"
    lines = []
    for peer in figures["peers"]:
        theirs = f"{peer['name']:>16}{human(peer['median'], unit):>10}{peer['ratio']:>8.2f} x"
        lines.append(f"{ours:36}{theirs}   {target}".rstrip())
        ours = target = ""
    return "\n".join(lines)


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
        print(json.dumps(suite.ALL[name].function(suite.subject(subject))))
        return
    groups = options.group or ([] if options.only else GROUPS)
    chosen = [
        benchmark
        for benchmark in suite.ALL.values()
        if benchmark.name in (options.only or ()) or benchmark.function.__module__ in groups
    ]
    print(f"Python {platform.python_version()}, {platform.machine()}, {options.rounds} rounds")
    print(f"{'':26}{'forkless':>10}{'peer':>26}{'ratio':>10}   target")
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
