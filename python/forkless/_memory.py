"""`memory_report`: what the processes of a tree really cost; and how much memory is kept for messages."""

import os

from ._memory_report import ArenaMemory, HolderMemory, KindMemory, MemoryReport, MissingProcess, ProcessMemory

__all__ = ["MemoryReport", "ProcessMemory", "memory_report", "set_warm_memory", "trim_memory"]

# Seconds to wait for a process that was stopped in the middle of a change, so that all of an arena is seen.
_PATIENCE = 0.5
_PIDS = 1 << 31


def memory_report(pid: int | None = None) -> MemoryReport:
    """Measures every process of a tree, and what they share.

    The kernel counts page by page, which takes about a millisecond for each 100 MB. Processes that forkless
    has not started are in it too, and the trees of `multiprocessing` and others can be looked at as well.

    Looking does not disturb: nothing is started for it, no lock is taken, no process of the tree is asked for
    anything, and nothing stays open. The arena is opened to read, by the way of `/proc/PID/fd`.

    Args:
        pid: The process at the root: it is measured, and all that descend from it. None for the tree of this
            process, from its main process on, wherever in it this one is.

    Returns:
        The sizes at this moment. A process that ends meanwhile, or may not be read, is in `missing`.

    Raises:
        ProcessLookupError: There is no process with this id, or it has ended.
        PermissionError: That process belongs to another user, or is protected.

    Example:
        >>> report = forkless.memory_report()
        >>> print(report)                                       # a table
        >>> report.pss                                          # bytes, of all together
        >>> report.plot("memory.svg")                           # with matplotlib
    """
    return look(pid)


def look(pid: int | None, *, leave_out: int | None = None) -> MemoryReport:
    """As `memory_report`, without one process: who looks from a terminal is not part of the tree.

    Raises:
        ProcessLookupError: As there.
        PermissionError: As there.
    """
    from . import _forkless

    if pid is not None and not 0 < pid < _PIDS:
        raise ProcessLookupError(f"there is no process {pid}")
    members = {}
    if pid is None:
        members = {each: (name, role) for each, name, role in _forkless.processes()}
    # From the main process on there are most of them, in their order.
    by_role = sorted(members, key=lambda each: members[each][1] != "main")
    roots = [*by_role, os.getpid()] if pid is None else [pid]
    titles = {each: title for each, title in _forkless.families(roots) if each != leave_out or each == pid}
    if pid is not None and pid not in titles:
        raise ProcessLookupError(f"there is no process {pid}")
    sizes: dict[int, tuple[int, ...]] = {}
    reasons = {each: "it has ended" for each in members if each not in titles}
    # Before the arena is read, which is work too.
    for each in titles:
        try:
            sizes[each] = _forkless.memory(each)
        except OSError as error:
            if each == pid:
                raise
            reasons[each] = error.args[-1].partition(": ")[2]
    found, notes = _forkless.arenas(list(titles), _PATIENCE)
    arenas = tuple(_arena(*each) for each in found)
    holders = [holder for arena in arenas for holder in arena.holders]
    # The number of one that has ended may be another's by now, but not while it is missed.
    members.update((each.pid, (each.name, each.role)) for each in holders if each.live or each.pid in reasons)
    who = {each: members.get(each, (titles.get(each, "?"), "other")) for each in [*titles, *reasons]}
    return MemoryReport(
        tuple(ProcessMemory(each, *who[each], *its) for each, its in sizes.items()),
        tuple(MissingProcess(each, *who[each], reason) for each, reason in reasons.items()),
        arenas,
        tuple(notes),
    )


def _arena(
    number: int,
    size: int,
    whole: bool,
    held: int,
    held_by_several: int,
    kinds: list[tuple[str, int, int]],
    holders: list[tuple[int, str, str, bool, int, int, int]],
) -> ArenaMemory:
    return ArenaMemory(
        f"{number:016x}",
        size,
        held,
        held_by_several,
        tuple(KindMemory(*kind) for kind in kinds),
        tuple(HolderMemory(*holder) for holder in holders),
        whole,
    )


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
