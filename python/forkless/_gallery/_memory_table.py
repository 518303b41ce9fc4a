"""The memory page for people: a table with bars for each kind of data, and the headline of all Pythons."""

import textwrap
from collections.abc import Callable, Iterable, Sequence

from ._interpreters import Interpreter
from ._memory_page import KINDS, MOMENTS, WAYS, Measurement
from ._table import WIDTH, Status, paint

_WAY, _MOMENT, _SIZE, _DIRTY = 18, 25, 8, 15  # columns
_BAR = WIDTH - 2 - _WAY - _MOMENT - 3 * _SIZE - _DIRTY - 2
_VERSION, _CELL = 9, 17  # columns of the headline


def show(python: Interpreter, groups: "Iterable[Sequence[Measurement]]", note: str) -> list[Measurement]:
    """Measures, and prints a table for each kind of data as soon as it is there.

    Args:
        python: Which Python this is.
        groups: What is measured: all ways for one kind after the other.
        note: What is to be said of the number of items; may be empty.

    Returns:
        All of it.
    """
    print(paint(f"\nrefcount-copy: the memory page · {python} · memory of the child in MB", "bold"))
    if note:
        print(note)
    done: list[Measurement] = []
    status = Status("the memory page")
    for group in groups:
        status.clear()
        _table(group)
        done.extend(group)
        status.draw()
    status.clear()
    return done


def _table(group: "Sequence[Measurement]") -> None:
    title = f"{group[0].count:,} {group[0].kind.label}"
    heads = "".join(f"{head:>{_SIZE}}" for head in ("RSS", "PSS", "USS")) + f"{'private dirty':>{_DIRTY}}"
    print("\n" + paint(f"  {title:<{_WAY + _MOMENT}}{heads}", "dim"))
    dirty = [sizes.private_dirty for each in group for sizes in each.moments.values()]
    for each in group:
        _rows(each, max(dirty, default=1))


def _rows(measurement: Measurement, longest: int) -> None:
    colour = "" if measurement.way.since is None else "green"
    name = measurement.way.label
    for moment, sizes in measurement.moments.items():
        figures = "".join(f"{size / 1e6:>{_SIZE}.1f}" for size in (sizes.rss, sizes.pss, sizes.uss))
        dirty = f"{sizes.private_dirty / 1e6:>{_DIRTY}.1f}"
        bar = "█" * round(_BAR * sizes.private_dirty / longest)
        print(f"  {name:<{_WAY}}{MOMENTS[moment]:<{_MOMENT}}{figures}{dirty}  {paint(bar, colour)}".rstrip())
        name = ""
    if problem := measurement.failure or measurement.broken:
        for line in textwrap.wrap(f"✗ {problem}", WIDTH - 2 - _WAY):
            print(f"  {name:<{_WAY}}{paint(line, 'red')}")
            name = ""


def headline(measurements: "Sequence[Measurement]") -> None:
    """Prints what it comes to under every Python, for the child alone, all processes, and the clock."""
    _compare(
        measurements, "MB of the child's own (private dirty): after reading all / … and a collection", _own
    )
    _compare(measurements, "MB of all processes of the program together (PSS), after that", _together)
    _compare(measurements, "Seconds that the child took to read all", _clock)


def _compare(measurements: "Sequence[Measurement]", title: str, cell: "Callable[[Measurement], str]") -> None:
    print(paint(f"\n{title}", "bold"))
    print(paint(f"  {'':<{_VERSION}}" + "".join(f"{way.label:>{_CELL}}" for way in WAYS), "dim"))
    for kind in KINDS:
        ours = [each for each in measurements if each.kind is kind]
        print(paint(f"  {max((each.count for each in ours), default=0):,} {kind.label}", "dim"))
        for python in dict.fromkeys(each.python for each in ours):
            cells = {each.way: cell(each) for each in ours if each.python == python}
            print(f"  {python.version:<{_VERSION}}" + "".join(f"{cells[way]:>{_CELL}}" for way in WAYS))


def _own(measurement: Measurement) -> str:
    if "collected" not in measurement.moments:
        return "-"
    read, collected = (measurement.moments[moment].private_dirty for moment in ("read", "collected"))
    return f"{read / 1e6:.1f} / {collected / 1e6:.1f}"


def _together(measurement: Measurement) -> str:
    return "-" if measurement.all_processes is None else f"{measurement.all_processes / 1e6:.1f}"


def _clock(measurement: Measurement) -> str:
    return "-" if measurement.read_seconds is None else f"{measurement.read_seconds:.2f}"


def verdict(measurements: "Sequence[Measurement]") -> int:
    """Prints which promises of forkless the figures break, if any, and returns the exit code."""
    broken = [each for each in measurements if each.broken]
    promised = [each for each in measurements if each.way.since and each.python.minor >= each.way.since]
    words = f"forkless keeps {len(promised) - len(broken)} of {len(promised)} promises of the memory page"
    print("\n" + paint(words, "red" if broken else "green"))
    for each in broken:
        words = f"{each.python}, {each.kind.label}, {each.way.label}: {each.broken}"
        print(textwrap.fill(words, WIDTH, initial_indent="  ", subsequent_indent="    "))
    if any(each.python.minor < (3, 12) for each in measurements):
        print(
            "Before Python 3.12, whoever reads an object writes its reference count: what is preloaded is\n"
            "copied as it is read, what is shared is not. forkless promises nothing else there."
        )
    return 1 if broken else 0
