"""The memory page as a picture: a bar for each way under each Python, made of the child's private memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._memory_page import KINDS, WAYS, Kind, Measurement

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# What a bar is made of, from left to right: the growth from one moment to the next.
_PARTS = (
    ("idle", "doing nothing", "#9aa5b1"),
    ("read", "reading all of it adds", "#d1495b"),
    ("collected", "a garbage collection adds", "#edae49"),
)
_BAR, _GAP = 0.78, 0.9  # of a bar's place; between the ways, in bars


def draw(measurements: "Sequence[Measurement]", path: Path) -> None:
    """Writes the picture.

    Args:
        measurements: What was measured.
        path: Where to; its suffix is the format: `.png` or `.svg`.

    Raises:
        ImportError: There is no matplotlib.
        OSError: The file cannot be written.
    """
    # Not pyplot, which has a state and wants a display.
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    pythons = list(dict.fromkeys(each.python for each in measurements))
    rows = len(WAYS) * (len(pythons) + _GAP)
    # Text stays text, and equal figures make equal SVG files.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "forkless", "font.size": 9}):
        figure = Figure(figsize=(11, 1.9 + 0.19 * rows), layout="constrained")
        panels = figure.subplots(1, len(KINDS), sharey=True)
        for axes, kind in zip(panels, KINDS, strict=True):
            _panel(axes, [each for each in measurements if each.kind is kind], kind, pythons)
        _label(panels[0], pythons)
        figure.suptitle(
            "Private dirty memory of a child process that reads its parent's data", fontsize=13, weight="bold"
        )
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(_PARTS), frameon=False)
        metadata: dict[str, Any] = {"Date": None} if path.suffix == ".svg" else {}
        figure.savefig(path, dpi=150, metadata=metadata)


def _place(way: int, python: int, pythons: int) -> float:
    """Where the bar of a way under a Python lies, from top to bottom."""
    return way * (pythons + _GAP) + python


def _panel(axes: "Axes", measurements: "Sequence[Measurement]", kind: Kind, pythons: "Sequence[Any]") -> None:
    """All bars for one kind of data."""
    found = {(each.way, each.python): each for each in measurements}
    places = {
        (way, python): _place(row, column, len(pythons))
        for row, way in enumerate(WAYS)
        for column, python in enumerate(pythons)
    }
    left = dict.fromkeys(places, 0.0)
    for moment, label, colour in _PARTS:
        widths = {}
        for key in places:
            moments = found[key].moments if key in found else {}
            reached = moments[moment].private_dirty / 1e6 if moment in moments else 0.0
            widths[key] = max(0.0, reached - left[key])  # a collection may give some back
        axes.barh(
            list(places.values()),
            list(widths.values()),
            _BAR,
            left=list(left.values()),
            color=colour,
            label=label,
        )
        left = {key: left[key] + widths[key] for key in places}
    longest = max([*left.values(), 1.0])
    for key, place in places.items():
        digits = 0 if left[key] >= 10 else 1
        text = f"{left[key]:.{digits}f}" if left[key] else "no figure"
        axes.text(left[key] + longest / 60, place, text, va="center", fontsize=7.5, color="#333333")
    count = max((each.count for each in measurements), default=0)
    axes.set_title(f"{count:,} {kind.label}", fontsize=10)
    axes.set_xlim(0, longest * 1.13)
    axes.margins(y=0.01)
    axes.set_xlabel("MB")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)


def _label(axes: "Axes", pythons: "Sequence[Any]") -> None:
    """Names the bars: the versions beside them, and the ways beside those."""
    ticks = [_place(way, python, len(pythons)) for way in range(len(WAYS)) for python in range(len(pythons))]
    axes.set_yticks(ticks, [python.version for python in pythons] * len(WAYS), fontsize=7.5)
    axes.invert_yaxis()
    for row, way in enumerate(WAYS):
        middle = _place(row, 0, len(pythons)) + (len(pythons) - 1) / 2
        axes.annotate(
            way.label.replace(" ", "\n", 1).replace("+ ", "+\u00a0"),
            (0, middle),
            xytext=(-44, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            va="center",
            weight="bold" if way.since else "normal",
        )
