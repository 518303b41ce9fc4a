"""A memory report as a picture: what each process takes, and what is in the arena."""

import os
from typing import TYPE_CHECKING

from ._memory_report import MemoryReport, ProcessMemory
from ._memory_text import megabytes, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot"]

# Inches. Each bar has its height whatever the number of processes, so that its label can be read.
_WIDTH = 9.0
_BAR = 0.27
_AROUND = 1.2  # of a panel: title, legend and axis
_LABEL = 32  # characters
_WORTH_A_BAR = 0.002  # of an arena

# Told apart by all kinds of colour vision, and in grey: Okabe and Ito, "Color universal design", 2008.
_PRIVATE, _COMMON, _SWAP, _KIND = "#0072b2", "#8cc8ec", "#d55e00", "#009e73"
_GREY = "#555555"


def plot(report: MemoryReport, path: str | os.PathLike[str]) -> None:
    """Draws a report; see `MemoryReport.plot`.

    Raises:
        ImportError: There is no matplotlib.
        ValueError: The ending says neither PNG nor SVG.
    """
    ending = os.path.splitext(path)[1].lower()
    if ending not in (".png", ".svg"):
        raise ValueError(f"the ending of {os.fspath(path)!r} is to be .png or .svg")
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "a memory report is drawn by matplotlib, which is not to be had here: `pip install matplotlib`, "
            "or take its to_json() to where there is one"
        ) from error
    kinds = _kinds(report)
    bars = [max(len(report.processes), 1), *([len(kinds)] if kinds else [])]
    height = sum(_BAR * count + _AROUND for count in bars)
    # Text stays text, so that it can be searched and read aloud.
    with matplotlib.rc_context({"svg.fonttype": "none", "font.size": 9.0}):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained", facecolor="white")
        panels = figure.subplots(len(bars), 1, squeeze=False, height_ratios=bars)[:, 0]
        _draw_processes(panels[0], report)
        if kinds:
            _draw_kinds(panels[1], report, kinds)
        figure.savefig(path, format=ending[1:], dpi=150)


def _draw_processes(axes: "Axes", report: MemoryReport) -> None:
    processes = report.processes
    parts = (
        ("private (USS)", _PRIVATE, [each.uss for each in processes]),
        ("its share of common pages (PSS - USS)", _COMMON, [each.pss - each.uss for each in processes]),
        ("swap", _SWAP, [each.swap for each in processes]),
    )
    places = range(len(processes))
    ends = [0.0] * len(processes)
    for label, colour, sizes in parts:
        if not any(sizes) and colour == _SWAP:
            continue
        widths = [max(size, 0) / 1e6 for size in sizes]
        axes.barh(places, widths, left=ends, height=0.72, color=colour, label=label)
        ends = [end + width for end, width in zip(ends, widths, strict=True)]
    _finish(axes, [_label(it) for it in processes], ends)
    count = f"{len(processes)} process{'es' * (len(processes) != 1)}"
    size = megabytes(report.pss + report.swap)
    # The legend is between title and bars, where it hides neither.
    axes.set_title(f"{count}, {size} MB", loc="left", fontweight="bold", pad=24)
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, borderaxespad=0.2, borderpad=0
    )


def _draw_kinds(axes: "Axes", report: MemoryReport, kinds: list[tuple[str, int]]) -> None:
    widths = [size / 1e6 for _, size in kinds]
    axes.barh(range(len(kinds)), widths, height=0.72, color=_KIND)
    _finish(axes, [kind for kind, _ in kinds], widths)
    size = megabytes(sum(arena.bytes for arena in report.arenas))
    axes.set_title(f"shared memory (arena), {size} MB", loc="left", fontweight="bold")


def _finish(axes: "Axes", labels: list[str], ends: list[float]) -> None:
    # Names come from programs: a dollar sign in one is no formula.
    axes.set_yticks(range(len(labels)), labels, parse_math=False)
    axes.set_ylim(max(len(labels), 1) - 0.5, -0.5)
    axes.set_xlim(0, max([*ends, 0.1]) * 1.1)
    axes.set_xlabel("MB")
    for place, end in enumerate(ends):
        axes.annotate(
            megabytes(round(end * 1e6)),
            (end, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            color=_GREY,
        )
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)


def _label(process: ProcessMemory) -> str:
    return f"{shortened(process.name, _LABEL)}  {process.pid}"


def _kinds(report: MemoryReport) -> list[tuple[str, int]]:
    """What all arenas have of each kind, largest first; what would be no bar to see is added up."""
    sizes: dict[str, int] = {}
    for arena in report.arenas:
        for kind in arena.kinds:
            sizes[kind.kind] = sizes.get(kind.kind, 0) + kind.bytes
    least = _WORTH_A_BAR * sum(sizes.values())
    shown = sorted(((kind, size) for kind, size in sizes.items() if size >= least), key=lambda it: -it[1])
    rest = sum(sizes.values()) - sum(size for _, size in shown)
    return [*shown, ("all else", rest)] if rest else shown
