"""What the processes of a tree really cost."""

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["MemoryReport", "ProcessMemory", "memory_report", "set_warm_memory", "trim_memory"]


@dataclass(frozen=True)
class ProcessMemory:
    """The memory of one process, in bytes.

    Attributes:
        pid: Its process id.
        name: What it is called.
        role: "main", "template", "child", or "guest" for one that attached by itself.
        rss: Resident pages. What several processes share is counted in each of them, so sums of it mean
        little.
        pss: The same with each shared page divided by the number of processes that have it: these add up.
        uss: Pages that no other process has: what would be free again if this process ended.
        private_dirty: Those of them that were written to; for a forked process, what it has copied or made.
    """

    pid: int
    name: str
    role: str
    rss: int
    pss: int
    uss: int
    private_dirty: int


@dataclass(frozen=True)
class MemoryReport:
    """The memory of all processes of a tree; `print` it for a table."""

    processes: tuple[ProcessMemory, ...]

    @property
    def pss(self) -> int:
        """What all processes together take, in bytes: each page is counted once."""
        return sum(process.pss for process in self.processes)

    @property
    def uss(self) -> int:
        """What the processes do not share with any other process, in bytes."""
        return sum(process.uss for process in self.processes)

    @property
    def private_dirty(self) -> int:
        """What the processes have written to and do not share, in bytes."""
        return sum(process.private_dirty for process in self.processes)

    @property
    def rss(self) -> int:
        """The sum of the resident sizes, in bytes; shared pages are in it several times, see `pss`."""
        return sum(process.rss for process in self.processes)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data, for JSON: sizes in bytes."""
        total = {name: getattr(self, name) for name in _SIZES}
        return {"processes": [asdict(process) for process in self.processes], "total": total}

    def __str__(self) -> str:
        head = ("PID", "NAME", "ROLE", "RSS", "PSS", "USS", "PRIVATE DIRTY")
        rows = [(str(each.pid), each.name, each.role, *_megabytes(each)) for each in self.processes]
        rows.append(("total", "", "", *_megabytes(self)))
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        lines = []
        for row in (head, *rows):
            left = [cell.ljust(width) for cell, width in zip(row[:3], widths[:3], strict=True)]
            right = [cell.rjust(width) for cell, width in zip(row[3:], widths[3:], strict=True)]
            lines.append("  ".join([*left, *right]))
        return "\n".join(
            [*lines, "(MB of 1,000,000 bytes; PSS divides shared pages among those that share them)"]
        )


_SIZES = ("rss", "pss", "uss", "private_dirty")


def _megabytes(of: ProcessMemory | MemoryReport) -> list[str]:
    return [f"{getattr(of, name) / 1e6:.1f}" for name in _SIZES]


def memory_report() -> MemoryReport:
    """Measures every process of this tree, this one included.

    The kernel counts page by page, which takes about a millisecond for each 100 MB. A process that ends
    meanwhile is left out. Without children there is only this process, and nothing is started for the report.

    Returns:
        The sizes at this moment.
    """
    from . import _forkless

    found = []
    for pid, name, role in _forkless.processes():
        try:
            found.append(ProcessMemory(pid, name, role, *_forkless.memory(pid)))
        except ProcessLookupError:
            continue
    return MemoryReport(tuple(found))


def set_warm_memory(size: int) -> None:
    """Sets how much shared memory is kept for the next messages when those before are gone.

    Memory that is there already takes an eighth of the time of memory that the system must first find and
    clear, so some of what messages leave behind is kept: as much as this, at most. It counts for the whole
    process tree, from now on; what is more is given back now.

    Before anybody calls this, the environment variable `FORKLESS_WARM_MEMORY` says how much (`0`, `64M`,
    `2G`); without it, it is 256 MiB, and no more than a tenth of the memory of the machine or of the control
    group. `multiprocessing` keeps nothing, and copies each message into fresh memory.

    Args:
        size: How much to keep, in bytes; 0 gives everything back at once, always.

    Raises:
        ValueError: The size is negative.
    """
    from . import _forkless

    if size < 0:
        raise ValueError(f"the size of memory to keep is 0 or more bytes, not {size}")
    _forkless.set_warm_memory(size)


def trim_memory() -> int:
    """Gives the shared memory back that is kept for the next messages; they make new.

    For a program that has just sent much and is not going to do so again soon. See `set_warm_memory`.

    Returns:
        How much that was, in bytes.
    """
    from . import _forkless

    return _forkless.trim_memory()
