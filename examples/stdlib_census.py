#!/usr/bin/env python3
"""Which names does the standard library use most? Three ways to ask, which must agree.

Reads every source file of the running Python's standard library, its tests included, parses each, and counts
the names: first in this process alone, then in the workers of a `forkless.Pool`, then in those of a
`forkless.Executor`. Ends with 1 if the answers differ.

There is no `__main__` guard: children never execute this file.
"""

import argparse
import ast
import sys
import sysconfig
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import forkless

ROOT = Path(sysconfig.get_path("stdlib"))


@dataclass
class Parsed:
    """What one file gave; `names` is None if it is not valid Python, as some files are on purpose."""

    path: str
    names: Counter[str] | None
    seconds: float


@dataclass
class Census:
    names: Counter[str] = field(default_factory=Counter)
    files: int = 0
    invalid: set[str] = field(default_factory=set)
    slowest: Parsed = field(default_factory=lambda: Parsed("", None, 0.0), compare=False)

    def add(self, parsed: Parsed) -> None:
        self.files += 1
        if parsed.names is None:
            self.invalid.add(parsed.path)
        else:
            self.names.update(parsed.names)
        self.slowest = max(self.slowest, parsed, key=lambda one: one.seconds)


def parse(path: str) -> Parsed:
    start = time.perf_counter()
    names = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old escapes in old files
        try:
            tree = ast.parse(Path(path).read_bytes())
            names = Counter(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
        except (SyntaxError, ValueError):
            pass
    return Parsed(path, names, time.perf_counter() - start)


def serial(paths: list[str], workers: int) -> Iterator[Parsed]:
    yield from map(parse, paths)


def pool(paths: list[str], workers: int) -> Iterator[Parsed]:
    with forkless.Pool(workers) as pool:
        yield from pool.imap_unordered(parse, paths, chunksize=4, progress=True)


def executor(paths: list[str], workers: int) -> Iterator[Parsed]:
    with forkless.Executor(workers) as executor:
        futures = [executor.submit(parse, path) for path in paths[::2]]
        yield from executor.map(parse, paths[1::2], chunksize=4)
        for future in futures:
            yield future.result()


def count(parsed: Iterable[Parsed]) -> Census:
    census = Census()
    for one in parsed:
        census.add(one)
    return census


def sources(limit: int | None) -> list[str]:
    """The source files of the standard library; with a limit, so many of them from all over it."""
    paths = sorted(
        str(path)
        for path in ROOT.rglob("*.py")
        if not {"site-packages", "dist-packages"} & set(path.parts) and path.is_file()
    )
    return paths if limit is None else paths[:: max(1, len(paths) // limit)][:limit]


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


parser = argparse.ArgumentParser(description="Counts the names in the standard library in three ways.")
parser.add_argument("--limit", type=positive, metavar="N", help="read only N files")
parser.add_argument(
    "--workers", type=positive, metavar="N", default=forkless.cpu_count(), help="default: %(default)s"
)
options = parser.parse_args()

paths = sources(options.limit)
workers = options.workers
print(f"{len(paths):,} files of the standard library of Python {sys.version.split()[0]}", flush=True)

ways: dict[str, Callable[[list[str], int], Iterator[Parsed]]] = {
    "this process alone": serial,
    f"Pool({workers}).imap_unordered": pool,
    f"Executor({workers}).submit and .map": executor,
}
answers = []
for name, way in ways.items():
    start = time.perf_counter()
    answers.append(count(way(paths, workers)))
    print(f"  {name:<30} {time.perf_counter() - start:6.1f} s", flush=True)

expected = answers[0]
print("most used names:", ", ".join(f"{name} ({uses:,})" for name, uses in expected.names.most_common(10)))
print(f"slowest file: {Path(expected.slowest.path).relative_to(ROOT)} ({expected.slowest.seconds:.2f} s)")
print(f"not valid Python, on purpose: {len(expected.invalid)}")
different = [name for name, answer in zip(ways, answers, strict=True) if answer != expected]
print(
    "different from the first answer: " + ", ".join(different)
    if different
    else "all three answers are the same"
)
sys.exit(1 if different else 0)
