"""A memory report: what it is made of, and its forms: a table, plain data, JSON, a picture."""

import os
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["ArenaMemory", "HolderMemory", "KindMemory", "MemoryReport", "MissingProcess", "ProcessMemory"]

SCHEMA = 1


@dataclass(frozen=True)
class ProcessMemory:
    """The memory of one process, in bytes, as the kernel counts it (`/proc/PID/smaps_rollup`).

    Attributes:
        pid: Its process id.
        name: What it is called; its command line, if forkless does not know it.
        role: "main", "template", "child", "standby" for a child in reserve, "guest" for one that attached by
            itself, "other" for a process that does not use forkless.
        rss: Resident pages. What several processes share is counted in each of them, so sums of it mean
            little.
        pss: The same with each shared page divided by the number of processes that have it: these add up.
        uss: Pages that no other process has: what would be free again if this process ended.
        private_dirty: Those of them that were written to; for a forked process, what it has copied or made.
        shared: Pages that others have too, whether or not anybody has written to them. It is `rss - uss`.
        swap: What the system has moved to swap, divided as in `pss`. Pages of the arena that are there count
            for nobody.
        saved: How much more it would need if it had copies of the pages that it has in common with others by
            a fork: `Anonymous - Pss_Anon`. See `MemoryReport.saved`.
    """

    pid: int
    name: str
    role: str
    rss: int
    pss: int
    uss: int
    private_dirty: int
    shared: int
    swap: int
    saved: int


@dataclass(frozen=True)
class MissingProcess:
    """A process of the tree that could not be measured.

    Attributes:
        pid: Its process id.
        name: As in `ProcessMemory`.
        role: As in `ProcessMemory`.
        reason: Why: it has ended meanwhile, or its memory is not ours to read.
    """

    pid: int
    name: str
    role: str
    reason: str


@dataclass(frozen=True)
class KindMemory:
    """What an arena has of one kind of object.

    Attributes:
        kind: "shared objects" (made by `share`), "arrays and values" (`empty`, `Array`, `Value`, …), "named
            segments" (`SharedMemory`), "messages on their way" (nobody has received them), "messages in use"
            (arrays that arrived, arguments, results), "queues", "locks", "in the making", "other",
            "bookkeeping" (who holds what), "kept warm" (free, with pages for the next messages, see
            `set_warm_memory`), "free" (small blocks, for the next small objects), "tables" (processes, and
            what pages round up to).
        blocks: How many blocks of memory.
        bytes: Their pages; of a block of less than 64 KiB its size.
    """

    kind: str
    blocks: int
    bytes: int


@dataclass(frozen=True)
class HolderMemory:
    """What one process keeps alive in an arena.

    Attributes:
        pid: Its process id.
        name: As in `ProcessMemory`.
        role: As in `ProcessMemory`.
        live: Whether it is there; if not, it has ended, and what it held is about to be given back.
        leases: How many leases it has; it may have several on one block.
        bytes: All that it holds, each block once.
        shared: Of those, blocks that other processes hold too.
    """

    pid: int
    name: str
    role: str
    live: bool
    leases: int
    bytes: int
    shared: int


@dataclass(frozen=True)
class ArenaMemory:
    """The piece of memory that the processes of one forkless tree share.

    Attributes:
        id: Tells arenas apart, as 16 hexadecimal digits.
        bytes: All its pages, in bytes. They are in the PSS of the processes that have touched them.
        held: Bytes that processes hold, each block once. The rest is held by messages on their way and other
            objects, or free.
        held_by_several: Of those, blocks that more than one process holds.
        kinds: What is in it, largest first; adds up to `bytes`, but for what small blocks have no pages for.
        holders: For whom.
        whole: False if not all of it could be read, because it is damaged or a process was stopped in the
            middle of a change: then there is more than this.
    """

    id: str
    bytes: int
    held: int
    held_by_several: int
    kinds: tuple[KindMemory, ...]
    holders: tuple[HolderMemory, ...]
    whole: bool


@dataclass(frozen=True)
class MemoryReport:
    """The memory of all processes of a tree; `print` it for a table.

    Attributes:
        processes: Those that were measured, parents before their children.
        missing: Those that could not be.
        arenas: The shared memory of forkless that they use: one, as a rule; none, if they use it not at all
            or not yet.
        notes: What else could not be found out, and why.
    """

    processes: tuple[ProcessMemory, ...]
    missing: tuple[MissingProcess, ...] = ()
    arenas: tuple[ArenaMemory, ...] = ()
    notes: tuple[str, ...] = ()

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
    def swap(self) -> int:
        """What they have in swap, in bytes: each page is counted once."""
        return sum(process.swap for process in self.processes)

    @property
    def saved(self) -> int:
        """How much more memory they would need if no process shared what it was forked with, in bytes.

        Pages that are in no file, and that several processes have, are there because one of them was forked
        from another: a child of forkless from its template. The kernel counts such a page in `Anonymous` of
        each of n processes, and 1/n of it in `Pss_Anon` of each. So the sum of the differences over all n,
        the template among them, is n - 1: the copies that were not made. Over the children alone it would
        be less than that, by what the template's part is.

        It counts what there is now. Children in reserve count too; a page that a child has written to since
        its fork does not, as it has its own. Code of libraries is not in it: the system shares that among
        all processes, however they were started. Nor is what is in the arena.

        Where nothing is forked by forkless, as in a tree of `multiprocessing`, it is what `fork` saves. Pages
        that the kernel has merged (KSM) are in it.
        """
        return sum(process.saved for process in self.processes)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data: sizes in bytes. docs/memory.md describes it."""
        return {
            "schema": SCHEMA,
            "processes": [asdict(process) for process in self.processes],
            "missing": [asdict(process) for process in self.missing],
            "arenas": [
                {
                    **asdict(arena),
                    "kinds": [asdict(kind) for kind in arena.kinds],
                    "holders": [asdict(holder) for holder in arena.holders],
                }
                for arena in self.arenas
            ],
            "notes": list(self.notes),
            "total": {name: getattr(self, name) for name in ("pss", "uss", "private_dirty", "swap", "saved")},
        }

    def to_json(self, *, indent: int | None = None) -> str:
        """The same as JSON.

        Args:
            indent: Spaces for each level; None for one line.
        """
        import json

        return json.dumps(self.to_dict(), indent=indent)

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draws the report: a bar for each process, and one for each kind of object in the arena.

        A bar is what the process takes: pages of its own (USS), its share of common pages (PSS - USS), swap.

        Args:
            path: The file to write; its ending says what: `.png` or `.svg`.

        Raises:
            ImportError: There is no matplotlib.
            ValueError: The ending is another one.
        """
        from ._memory_plot import plot

        plot(self, path)

    def __str__(self) -> str:
        from ._memory_text import text

        return text(self)
