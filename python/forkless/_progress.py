"""How far a job is: what `progress=` of pools shows.

`True` shows a bar in a terminal and in a notebook: that of tqdm or of rich, whichever the program has
imported (tqdm first), else whichever is installed (tqdm first), else one of our own. In a notebook, rich is
passed over unless it has ipywidgets. Where nobody looks, in a file or a pipe, there is one line when the job
is done. `"tqdm"`, `"rich"` and `"plain"` insist on one of them, a mapping sets options, and a function is
told `(done, total)` instead.
"""

import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO, TypeAlias

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["How", "Options", "Plain", "Progress", "Stream", "in_notebook", "open"]

How: TypeAlias = bool | str | Mapping[str, Any] | Callable[[int, int | None], object]

INTERVAL = 0.1  # seconds between two drawings
_BAR = 30  # columns at most
_RENDERERS = ("tqdm", "rich", "plain")


class Options(NamedTuple):
    """What a mapping given as `progress=` may say.

    Attributes:
        desc: what is done to the items; the name of the function by default.
        total: how many items there are, for an input that does not know its length.
        unit: what an item is.
        leave: whether the bar stays when the job is done.
        file: where to write; standard error by default.
        disable: show nothing.
        renderer: "tqdm", "rich" or "plain"; what there is if None.
    """

    desc: str = ""
    total: int | None = None
    unit: str = "it"
    leave: bool = True
    file: TextIO | None = None
    disable: bool = False
    renderer: str | None = None


class Progress:
    """Something that is told how far a job is; this one shows nothing.

    Starts no thread, and does not end the job when what shows it is broken. Whoever drops it closes it.

    Args:
        label: what is done to the items.

    Attributes:
        label: the same.
    """

    def __init__(self, label: str = "") -> None:
        self.label = label
        self._closed = False

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # An iterator over results may be dropped halfway, and a terminal wants its cursor back.
        with suppress(Exception):  # It may be half made.
            self.close()

    def update(self, n: int = 1) -> None:
        """Counts `n` more items as done."""
        if not self._closed:
            self._advance(n)

    def close(self) -> None:
        """Says no more. A second call does nothing."""
        if not self._closed:
            self._closed = True
            self._finish()

    def _advance(self, n: int) -> None:
        """Shows `n` more items."""

    def _finish(self) -> None:
        """Shows the last state."""


def open(total: int | None, label: str, how: How) -> Progress:
    """Makes what `progress=` asks for.

    Args:
        total: how many items there are, or None if that is not known.
        label: what is done to them.
        how: what the user gave; see this module.

    Raises:
        ImportError: it asks for a package that is not installed.
        TypeError: it is nothing of this kind, or has an option that there is not.
        ValueError: it names a renderer that there is not.
    """
    if callable(how):
        return _Told(how, total, label)
    options = _read(how)
    if options.total is None:
        options = options._replace(total=total)
    options = options._replace(desc=options.desc or label)
    if options.disable:
        return Progress(options.desc)
    if options.renderer is not None:
        return _insist(options.renderer, options)
    return _best(options)


def in_notebook() -> bool:
    """Whether this program is the kernel of a notebook, where text goes to a page and not to a terminal."""
    # Who is in a notebook has IPython loaded.
    ask = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)
    return getattr(ask(), "kernel", None) is not None


def _read(how: object) -> Options:
    if how is None or isinstance(how, int):
        return Options(disable=not how)
    if isinstance(how, str):
        how = {"renderer": how}
    if not isinstance(how, Mapping):
        raise TypeError(
            "progress= takes True, 'tqdm', 'rich', 'plain', a mapping of options, or a function of "
            f"(done, total), not {how!r}"
        )
    unknown = [name for name in how if name not in Options._fields]
    if unknown:
        known = ", ".join(Options._fields)
        raise TypeError(f"progress= has no option {', '.join(map(repr, unknown))}; there are: {known}")
    options = Options(**how)
    if options.renderer not in (None, *_RENDERERS):
        raise ValueError(
            f"progress= names {options.renderer!r}, which draws no bars here; use one of {_RENDERERS}"
        )
    return options


def _best(options: Options) -> Progress:
    notebook = in_notebook()
    if notebook or Stream(options.file).isatty():
        for renderer in sorted(("tqdm", "rich"), key=lambda name: sys.modules.get(name) is None):
            if renderer == "rich" and notebook and not _is_installed("ipywidgets"):
                continue  # It would ask for them, and show nothing.
            if _is_installed(renderer):
                try:
                    return _make(renderer, options)
                except ImportError:
                    continue  # It is damaged, or too old.
    return Plain(options)


def _insist(renderer: str, options: Options) -> Progress:
    try:
        return _make(renderer, options)
    except ImportError as error:
        raise ImportError(
            f"progress= asks for {renderer}, which cannot be imported ({error}): run `pip install "
            f"{renderer}`, or use progress=True, which takes what there is",
            name=renderer,
        ) from error


def _make(renderer: str, options: Options) -> Progress:
    if renderer == "plain":
        return Plain(options)
    from . import _bars

    return _bars.Tqdm(options) if renderer == "tqdm" else _bars.Rich(options)


def _is_installed(package: str) -> bool:
    if package in sys.modules:
        return sys.modules[package] is not None
    from importlib.util import find_spec

    return find_spec(package) is not None


class Stream:
    """Where bars are written to. It may be gone at any time, which is no reason to end a job."""

    def __init__(self, file: TextIO | None) -> None:
        self._file: Any = sys.stderr if file is None else file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def isatty(self) -> bool:
        """Whether somebody looks at it as it comes."""
        try:
            return self._file is not None and self._file.isatty()
        except (OSError, ValueError):
            return False

    def write(self, text: str) -> int:
        """Writes if it can."""
        try:
            self._file.write(text)
        except (OSError, ValueError, AttributeError):
            self._file = None
        return len(text)

    def flush(self) -> None:
        """Writes it out if it can."""
        try:
            self._file.flush()
        except (OSError, ValueError, AttributeError):
            self._file = None

    def columns(self) -> int:
        """The width of the terminal."""
        try:
            return os.get_terminal_size(self._file.fileno()).columns or 80
        except (OSError, ValueError, AttributeError):
            return 80


class Plain(Progress):
    """A bar of characters in a terminal or a notebook; elsewhere one line when the job is done.

    Takes no lock. It is drawn by `update`, ten times a second at most.

    Example:
        >>> with Plain(Options("parse", 2, file=sys.stdout)) as progress:
        ...     progress.update()
        ...     progress.update()
        parse: 2 of 2 in 0:00
    """

    def __init__(self, options: Options) -> None:
        super().__init__(options.desc)
        self._total, self._leave = options.total, options.leave
        self._unit = "" if options.unit == "it" else f" {options.unit}"
        self._stream = Stream(options.file)
        self._live = self._stream.isatty() or in_notebook()
        self._done = 0
        self._started = time.monotonic()
        self._drawn_at = float("-inf")
        self._columns = 0  # of what is drawn now

    def _advance(self, n: int) -> None:
        self._done += n
        if self._live and time.monotonic() - self._drawn_at >= INTERVAL:
            self._draw(self._line(self._stream.columns() - 1))

    def _finish(self) -> None:
        if self._live:
            self._draw(self._line(self._stream.columns() - 1) if self._leave else "")
            self._write("\n" if self._leave else "\r")
        elif self._leave:
            total = "" if self._total is None else f" of {self._total:,}"
            self._write(f"{self._prefix()}{self._done:,}{total}{self._unit} in {_clock(self._elapsed())}\n")

    def _draw(self, line: str) -> None:
        # The rest of what was drawn before is overwritten: not all terminals know a code to clear it.
        self._write(f"\r{line}{' ' * (self._columns - len(line))}")
        self._columns = len(line)
        self._drawn_at = time.monotonic()

    def _line(self, columns: int) -> str:
        elapsed = self._elapsed()
        rate = self._done / elapsed if elapsed > 0 else 0.0
        speed = f"{rate:,.0f}{self._unit}/s" if rate >= 10 else f"{rate:,.1f}{self._unit}/s"
        if not self._total:
            return f"{self._prefix()}{self._done:,}  {speed}  {_clock(elapsed)}"[:columns]
        part = min(1.0, self._done / self._total)
        left = _clock((self._total - self._done) / rate) if rate and part < 1 else _clock(elapsed)
        word = "left" if part < 1 else "used"
        figures = f"{self._done:,}/{self._total:,}  {part:4.0%}  {speed}  {left} {word}"
        width = min(_BAR, columns - len(self._prefix()) - len(figures) - 4)
        if width < 5:
            return f"{self._prefix()}{figures}"[:columns]
        filled = round(part * width)
        return f"{self._prefix()}[{'#' * filled}{'-' * (width - filled)}]  {figures}"

    def _prefix(self) -> str:
        return f"{self.label}: " if self.label else ""

    def _elapsed(self) -> float:
        return time.monotonic() - self._started

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


class _Told(Progress):
    """Calls a function of the user; what it raises ends the job, as the user may want."""

    def __init__(self, tell: Callable[[int, int | None], object], total: int | None, label: str) -> None:
        super().__init__(label)
        self._tell, self._total, self._done = tell, total, 0

    def _advance(self, n: int) -> None:
        self._done += n
        self._tell(self._done, self._total)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
