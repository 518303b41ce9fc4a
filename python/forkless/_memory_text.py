"""A memory report as text for a terminal, at most 100 columns wide."""

from collections.abc import Iterator

from ._memory_report import ArenaMemory, MemoryReport, ProcessMemory

__all__ = ["text"]

_SIZES = ("rss", "pss", "uss", "private_dirty", "shared", "swap")
_HEAD = ("RSS", "PSS", "USS", "DIRTY", "SHARED", "SWAP")
_NOT_SUMMED = ("rss", "shared")  # they count the same pages for each process that has them
_NAME = 24  # characters of a name at most
_WORTH_SAYING = 100_000  # bytes: less than this is 0.0 MB


def text(report: MemoryReport) -> str:
    """What `print(report)` prints."""
    lines = [*_table(report), *_missing(report)]
    for arena in report.arenas:
        lines += _arena(arena)
    lines += [*_saved(report), *(f"Note: {note}" for note in report.notes), *_LEGEND]
    return "\n".join(lines)


_LEGEND = (
    "MB of 1,000,000 bytes. RSS counts shared pages in each process; PSS divides them, and adds up;",
    "USS is a process's own; DIRTY is what of that it has written.",
)


def megabytes(size: int) -> str:
    """A size for people, without its unit: one decimal below 100."""
    return f"{size / 1e6:.1f}" if size < 99_950_000 else f"{size / 1e6:,.0f}"


def _table(report: MemoryReport) -> list[str]:
    held = _held(report)
    rows: list[tuple[str, ...]] = [("PID", "NAME", "ROLE", *_HEAD, "HOLDS")]
    rows += [_row(process, held.get(process.pid, 0)) for process in report.processes]
    sums = ["" if name in _NOT_SUMMED else megabytes(getattr(report, name)) for name in _SIZES]
    rows.append(("total", "", "", *sums, ""))
    if not report.arenas:
        rows = [row[:-1] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [_line(row, widths) for row in rows]


def _row(process: ProcessMemory, held: int) -> tuple[str, ...]:
    sizes = [megabytes(getattr(process, name)) for name in _SIZES]
    return (str(process.pid), shortened(process.name, _NAME), process.role, *sizes, megabytes(held))


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    left = [cell.ljust(width) for cell, width in zip(row[:3], widths[:3], strict=True)]
    right = [cell.rjust(width) for cell, width in zip(row[3:], widths[3:], strict=True)]
    return "  ".join([*left, *right]).rstrip()


def shortened(name: str, length: int) -> str:
    """A name of so many characters at most, its beginning and its end."""
    if len(name) <= length:
        return name
    return f"{name[: length - length // 2 - 1]}…{name[-(length // 2) :]}"


def _held(report: MemoryReport) -> dict[int, int]:
    """What each process holds, in all arenas."""
    held: dict[int, int] = {}
    for arena in report.arenas:
        for holder in arena.holders:
            held[holder.pid] = held.get(holder.pid, 0) + holder.bytes
    return held


def _missing(report: MemoryReport) -> Iterator[str]:
    for process in report.missing:
        name = shortened(process.name, _NAME)
        yield f"Not measured: {process.pid} {name} ({process.role}): {process.reason}"


def _arena(arena: ArenaMemory) -> Iterator[str]:
    yield ""
    yield f"Shared memory of forkless (the arena): {megabytes(arena.bytes)} MB"
    shown = [kind for kind in arena.kinds if kind.bytes >= _WORTH_SAYING]
    for kind in shown:
        blocks = f"{kind.blocks:,} block{'s' * (kind.blocks != 1)}" if kind.blocks else ""
        yield f"  {kind.kind:<22}{megabytes(kind.bytes):>7}   {blocks}".rstrip()
    if rest := sum(kind.bytes for kind in arena.kinds) - sum(kind.bytes for kind in shown):
        yield f"  {'all else':<22}{megabytes(rest):>7}"
    held, several = megabytes(arena.held), megabytes(arena.held_by_several)
    yield f"  Processes hold {held} MB, several of them {several} MB: counted once here, with each in HOLDS."
    dead = [holder for holder in arena.holders if not holder.live]
    if left := sum(holder.bytes for holder in dead):
        who = ", ".join(f"{holder.name} ({holder.pid})" for holder in dead)
        yield f"  {megabytes(left)} MB were held by {who}: ended, and about to be cleaned up after."
    if not arena.whole:
        yield "  Not all of it could be read: it is damaged, or was being changed. There is more than this."


def _saved(report: MemoryReport) -> Iterator[str]:
    if report.saved < _WORTH_SAYING:
        return
    by = "The template" if any(process.role == "template" for process in report.processes) else "Forking"
    yield ""
    yield (
        f"{by} saves {megabytes(report.saved)} MB: so much more, if each process had copies "
        "of what it was forked with."
    )
