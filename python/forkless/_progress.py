"""A plain progress bar on standard error."""

import os
import sys
import time
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Progress"]

_INTERVAL = 0.1  # seconds between two drawings
_BAR = 30  # columns at most


class Progress:
    """Shows how far a job is: on a terminal by a bar, elsewhere by one line when it is done.

    Takes no lock and starts no thread. It is drawn by `update`, ten times a second at most.

    Args:
        total: How many items there are, or None if that is not known.
        label: What is done to them.
        stream: Where to write; standard error by default.

    Example:
        >>> with Progress(2, "parse", sys.stdout) as progress:
        ...     progress.update()
        ...     progress.update()
        parse: 2 of 2 in 0:00
    """

    def __init__(self, total: int | None, label: str = "", stream: TextIO | None = None) -> None:
        self._total = total
        self._label = label
        self._stream = stream or sys.stderr
        self._terminal = self._stream is not None and self._stream.isatty()
        self._done = 0
        self._started = time.monotonic()
        self._drawn_at = float("-inf")
        self._columns = 0  # of what is drawn now
        self._closed = False

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, n: int = 1) -> None:
        """Counts `n` more items as done."""
        self._done += n
        if self._terminal and not self._closed and time.monotonic() - self._drawn_at >= _INTERVAL:
            self._draw()

    def close(self) -> None:
        """Leaves a line that says what was done. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        if self._terminal:
            self._draw()
            self._write("\n")
        else:
            total = "" if self._total is None else f" of {self._total:,}"
            self._write(f"{self._prefix()}{self._done:,}{total} in {_clock(self._elapsed())}\n")

    def _draw(self) -> None:
        line = self._line(self._width() - 1)
        # The rest of what was drawn before is overwritten: not all terminals know a code to clear it.
        self._write(f"\r{line}{' ' * (self._columns - len(line))}")
        self._columns = len(line)
        self._drawn_at = time.monotonic()

    def _width(self) -> int:
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or 80
        except (OSError, ValueError):
            return 80

    def _line(self, columns: int) -> str:
        elapsed = self._elapsed()
        rate = self._done / elapsed if elapsed > 0 else 0.0
        speed = f"{rate:,.0f}/s" if rate >= 10 else f"{rate:,.1f}/s"
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
        return f"{self._label}: " if self._label else ""

    def _elapsed(self) -> float:
        return time.monotonic() - self._started

    def _write(self, text: str) -> None:
        # A progress bar must not end the job it shows: the terminal may have gone.
        try:
            if self._stream is not None:
                self._stream.write(text)
                self._stream.flush()
        except (OSError, ValueError):
            self._terminal = False


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
