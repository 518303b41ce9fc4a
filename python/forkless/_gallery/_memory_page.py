"""The memory page of `refcount-copy`: what a child that reads its parent's data really costs, in five ways.

Each figure comes from a fresh program (`programs/refcount-copy/memory_*.py`), in which a real child measures
itself in `/proc/self/smaps_rollup` and prints JSON, a line for each moment. The first child reads all data
and then has its garbage collected; the second one only collects, to tell the two apart.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ._interpreters import Interpreter
from ._run import Half, run
from ._traps import describe_end, megabytes

MOMENTS = {
    "idle": "doing nothing",
    "read": "after reading all",
    "collected": "… and a collection",
    "only collected": "after a collection alone",
}


@dataclass(frozen=True)
class Way:
    """How a child comes by the data.

    Attributes:
        slug: Its name in JSON, and the end of its program's.
        label: Its name for people.
        since: The first version of Python on which forkless promises that the child copies nothing; None for
            the ways of the standard library.
        limit: How much the child's own memory may grow there while it reads and collects, in bytes.
    """

    slug: str
    label: str
    since: tuple[int, int] | None = None
    limit: int = 0

    @property
    def program(self) -> str:
        """The path of its program below the folder of programs."""
        return f"refcount-copy/memory_{self.slug}.py"


@dataclass(frozen=True)
class Kind:
    """What the data is made of.

    Attributes:
        slug: Its name in JSON.
        label: Its name for people.
        share: How many there are for each integer: a tenth as many dicts.
        total: What a child that has read so many of them must have computed.
    """

    slug: str
    label: str
    share: float
    total: Callable[[int], int]

    def count(self, items: int) -> int:
        """How many of them there are where there are so many integers."""
        return int(items * self.share)


WAYS = (
    Way("fork", "fork"),
    Way("freeze", "fork + gc.freeze"),
    Way("spawn", "spawn"),
    Way("preload", "forkless preload", since=(3, 12), limit=2_000_000),
    Way("share", "forkless share", since=(3, 10), limit=3_000_000),
)
KINDS = (
    Kind("ints", "integers", 1, lambda count: count * (count - 1) // 2),
    Kind("dicts", "dicts", 0.1, lambda count: count * (count - 1) // 2),
    Kind("objects", "objects", 0.05, lambda count: count * (count - 1) // 2 + 2 * count),
)


@dataclass(frozen=True)
class Sizes:
    """The memory of a child at one moment, in bytes."""

    rss: int
    pss: int
    uss: int
    private_dirty: int


@dataclass(frozen=True)
class Measurement:
    """One program of the page.

    Attributes:
        python: What it ran under.
        way: How the child came by the data.
        kind: What the data was.
        count: How many of them.
        moments: What the child measured, by the keys of `MOMENTS`; those it got to.
        all_processes: What parent, child, template and helpers took together after reading, as PSS, in bytes.
        read_seconds: How long reading took.
        seconds: How long the program ran.
        failure: Why figures are missing or wrong; None if all is well.
    """

    python: Interpreter
    way: Way
    kind: Kind
    count: int
    moments: dict[str, Sizes]
    all_processes: int | None
    read_seconds: float | None
    seconds: float
    failure: str | None

    @property
    def growth(self) -> int | None:
        """By how much the child's own memory grew while it read and collected, in bytes."""
        try:
            return self.moments["collected"].uss - self.moments["idle"].uss
        except KeyError:
            return None

    @property
    def broken(self) -> str | None:
        """The promise of forkless that was not kept, in words."""
        if self.way.since is None or self.python.minor < self.way.since:
            return None
        if self.growth is None or self.failure:
            return self.failure or "no figures"
        if self.growth <= self.way.limit:
            return None
        allowed = megabytes(self.way.limit)
        return f"the child's own memory grew by {megabytes(self.growth)}, {allowed} are allowed"

    def to_dict(self) -> dict[str, Any]:
        """The measurement as plain data, for JSON."""
        return {
            "python": self.python.version,
            "way": self.way.slug,
            "kind": self.kind.slug,
            "count": self.count,
            "program": self.way.program,
            "moments": {moment: asdict(sizes) for moment, sizes in self.moments.items()},
            "all_processes": self.all_processes,
            "read_seconds": self.read_seconds,
            "seconds": self.seconds,
            "kept": self.broken is None,
            "failure": self.failure or self.broken,
        }


def page(python: Interpreter, programs: Path, items: int, timeout: float) -> Iterator[list[Measurement]]:
    """Measures everything under one Python.

    Args:
        python: The interpreter.
        programs: The folder of the programs.
        items: How many integers; of the other kinds there are fewer.
        timeout: The time limit of each program, in seconds.

    Yields:
        All ways, for one kind of data after the other.
    """
    for kind in KINDS:
        yield [measure(python, way, kind, programs, items, timeout) for way in WAYS]


def measure(
    python: Interpreter, way: Way, kind: Kind, programs: Path, items: int, timeout: float
) -> Measurement:
    """Runs one program of the page; see `page` for the arguments."""
    count = kind.count(items)
    arguments = [kind.slug, str(count)]
    half = run(programs / way.program, arguments, limit=timeout, python=python.executable)
    told = _told(half.stdout)
    moments = {
        moment: Sizes(**{name: told[moment][name] for name in Sizes.__dataclass_fields__})
        for moment in MOMENTS
        if moment in told
    }
    return Measurement(
        python,
        way,
        kind,
        count,
        moments,
        told.get("all processes", {}).get("pss"),
        told.get("read", {}).get("seconds"),
        half.seconds,
        _failure(half, told, kind.total(count)),
    )


def _told(output: str) -> dict[str, dict[str, Any]]:
    """The lines of JSON in an output, by moment; where both children tell of one, the first one's."""
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return {line["moment"]: line for line in reversed(lines)}


def _failure(half: Half, told: dict[str, dict[str, Any]], total: int) -> str | None:
    if half.ended != "exit" or half.exit_code or any(child.exit_code for child in half.children):
        return describe_end(half)
    if missing := [moment for moment in MOMENTS if moment not in told]:
        return f"the child told nothing of: {', '.join(missing)}"
    found = told["read"]["total"]
    return None if found == total else f"the child read a total of {found:,} instead of {total:,}"
