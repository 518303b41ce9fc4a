"""The progress bar."""

from __future__ import annotations

import io
import re

import pytest
from forkless._progress import Progress


class Terminal(io.StringIO):
    """A terminal without a size, which counts as 80 columns."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be set by the test."""
    now = [100.0]
    monkeypatch.setattr("forkless._progress.time.monotonic", lambda: now[0])
    return now


def test_a_bar_on_a_terminal(clock: list[float]) -> None:
    terminal = Terminal()
    with Progress(200, "parse", terminal) as progress:
        for _ in range(4):
            clock[0] += 1
            progress.update(50)
    frames = terminal.getvalue().split("\r")[1:]
    assert "50/200   25%  50/s  0:03 left" in frames[0]
    assert frames[0].startswith("parse: [########-")
    assert "200/200  100%  50/s  0:04 used" in frames[-1]
    assert frames[-1].endswith("\n")
    assert all(len(frame.rstrip("\n")) < 80 for frame in frames)


def test_it_is_drawn_ten_times_a_second(clock: list[float]) -> None:
    terminal = Terminal()
    progress = Progress(1000, "parse", terminal)
    for _ in range(1000):
        clock[0] += 0.001
        progress.update()
    assert terminal.getvalue().count("\r") <= 11
    progress.close()
    assert "1,000/1,000" in terminal.getvalue().split("\r")[-1]


def test_a_shorter_line_covers_a_longer_one(clock: list[float]) -> None:
    terminal = Terminal()
    progress = Progress(None, "x", terminal)
    clock[0] += 0.001
    progress.update(10_000)
    clock[0] += 100_000
    progress.update()
    first, second = terminal.getvalue().split("\r")[1:]
    assert len(second) >= len(first.rstrip())


def test_the_total_may_be_unknown(clock: list[float]) -> None:
    terminal = Terminal()
    with Progress(None, "parse", terminal) as progress:
        clock[0] += 2
        progress.update(3)
    assert "parse: 3  1.5/s  0:02" in terminal.getvalue()


def test_a_summary_elsewhere(clock: list[float]) -> None:
    file = io.StringIO()
    with Progress(2_000, "parse", file) as progress:
        clock[0] += 3_661
        progress.update(1_999)
    progress.close()
    assert file.getvalue() == "parse: 1,999 of 2,000 in 1:01:01\n"


def test_nothing_to_do() -> None:
    terminal = Terminal()
    with Progress(0, "parse", terminal):
        pass
    assert re.fullmatch(r"\rparse: 0  0\.0/s  0:00 *\n", terminal.getvalue())


def test_more_than_expected(clock: list[float]) -> None:
    terminal = Terminal()
    with Progress(2, "", terminal) as progress:
        clock[0] += 1
        progress.update(3)
    assert "3/2  100%" in terminal.getvalue()


def test_a_stream_that_is_gone_ends_nothing() -> None:
    terminal = Terminal()
    with Progress(2, "parse", terminal) as progress:
        terminal.close = lambda: None  # type: ignore[method-assign]
        io.StringIO.close(terminal)
        progress.update()


def test_no_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    with Progress(2, "parse") as progress:
        progress.update()
