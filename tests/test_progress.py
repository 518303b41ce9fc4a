"""Progress bars: our own, and those of tqdm and rich."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import re
import struct
import sys
import termios
import threading
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any, TextIO

import forkless
import jobs
import pytest
from forkless import _bars, _progress
from forkless._progress import Options, Plain, Progress
from support import run_program

RENDERERS = ("tqdm", "rich", "plain")


class Window:
    """A pseudo-terminal of 80 columns, and whoever looks at it."""

    def __init__(self) -> None:
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.name = os.ttyname(slave)
        self.file: TextIO = open(slave, "w")  # noqa: SIM115 - closed by `read`
        self._read = bytearray()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while True:
            try:
                self._read += os.read(self._master, 4096)
            except OSError:  # Nobody has the other end any more.
                return

    def read(self) -> str:
        """What was shown until now; the window is closed."""
        self.file.close()
        self._thread.join()
        os.close(self._master)
        return self._read.decode()

    def text(self) -> str:
        """The same without colours and movements of the cursor."""
        return re.sub(r"\x1b\[[?0-9;]*[a-zA-Z]", "", self.read())


@pytest.fixture
def window() -> Iterator[Window]:
    window = Window()
    yield window
    if not window.file.closed:
        window.read()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be set by the test."""
    now = [100.0]
    monkeypatch.setattr("forkless._progress.time.monotonic", lambda: now[0])
    return now


def plain(total: int | None, label: str, file: TextIO | None = None, **options: Any) -> Plain:
    return Plain(Options(label, total, file=file, **options))


class Terminal(io.StringIO):
    """A terminal without a size, which counts as 80 columns."""

    def isatty(self) -> bool:
        return True


# --- our own ---


def test_a_bar_on_a_terminal(clock: list[float]) -> None:
    terminal = Terminal()
    with plain(200, "parse", terminal) as progress:
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
    progress = plain(1000, "parse", terminal)
    for _ in range(1000):
        clock[0] += 0.001
        progress.update()
    assert terminal.getvalue().count("\r") <= 11
    progress.close()
    assert "1,000/1,000" in terminal.getvalue().split("\r")[-1]


def test_a_shorter_line_covers_a_longer_one(clock: list[float]) -> None:
    terminal = Terminal()
    progress = plain(None, "x", terminal)
    clock[0] += 0.001
    progress.update(10_000)
    clock[0] += 100_000
    progress.update()
    first, second = terminal.getvalue().split("\r")[1:]
    assert len(second) >= len(first.rstrip())


def test_the_total_may_be_unknown(clock: list[float]) -> None:
    terminal = Terminal()
    with plain(None, "parse", terminal) as progress:
        clock[0] += 2
        progress.update(3)
    assert "parse: 3  1.5/s  0:02" in terminal.getvalue()


def test_a_summary_elsewhere(clock: list[float]) -> None:
    file = io.StringIO()
    with plain(2_000, "parse", file) as progress:
        clock[0] += 3_661
        progress.update(1_999)
    progress.close()
    assert file.getvalue() == "parse: 1,999 of 2,000 in 1:01:01\n"


def test_nothing_to_do(clock: list[float]) -> None:
    terminal = Terminal()
    with plain(0, "parse", terminal):
        pass
    assert re.fullmatch(r"\rparse: 0  0\.0/s  0:00 *\n", terminal.getvalue())


def test_more_than_expected(clock: list[float]) -> None:
    terminal = Terminal()
    with plain(2, "", terminal) as progress:
        clock[0] += 1
        progress.update(3)
    assert "3/2  100%" in terminal.getvalue()


def test_units_and_a_bar_that_does_not_stay(clock: list[float]) -> None:
    terminal, file = Terminal(), io.StringIO()
    with plain(40, "read", terminal, unit="pages", leave=False) as progress:
        clock[0] += 1
        progress.update(20)
    first, cleared, end = terminal.getvalue().split("\r")[1:]
    assert "20/40   50%  20 pages/s" in first
    assert (cleared, end) == (" " * len(first), "")
    plain(None, "read", file, leave=False).close()
    assert file.getvalue() == ""
    plain(None, "read", file, unit="pages").close()
    assert file.getvalue() == "read: 0 pages in 0:00\n"


# --- which one ---


def test_what_true_takes(window: Window) -> None:
    source = """
import os, sys
os.dup2(os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY), 2)
loaded, missing = sys.argv[2].split(), sys.argv[3].split()
sys.modules.update(dict.fromkeys(missing))
for name in loaded:
    __import__(name)
import forkless
from forkless import _progress
with _progress.open(2, "parse", True) as bar:
    bar.update(2)
print(type(bar).__name__, *sorted({"tqdm", "rich"} & {name for name in sys.modules if sys.modules[name]}))
"""
    for loaded, missing, answer in (
        ("", "", "Tqdm tqdm"),
        ("rich", "", "Rich rich"),
        ("rich tqdm", "", "Tqdm rich tqdm"),
        ("", "tqdm", "Rich rich"),
        ("", "rich", "Tqdm tqdm"),
        ("", "tqdm rich", "Plain"),
        ("", "tqdm rich.progress", "Plain rich"),
    ):
        assert run_program(source, window.name, loaded, missing).check() == f"{answer}\n", (loaded, missing)
    shown = window.read()
    assert shown.count("parse") >= 7
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 2, "rich shows the cursor again"


def test_where_nobody_looks_nothing_is_loaded() -> None:
    source = """
import sys, forkless
with forkless.Pool(1) as pool:
    pool.map(abs, [1, 2])
    list(pool.imap(abs, [1, 2]))
    print("forkless._progress" in sys.modules)
    pool.map(abs, [1, 2], progress=True)
print(sorted({"tqdm", "rich", "forkless._bars", "asyncio"} & set(sys.modules)))
"""
    outcome = run_program(source)
    assert outcome.check() == "False\n[]\n"
    assert re.fullmatch(r"abs: 2 of 2 in 0:\d\d\n", outcome.stderr)


@pytest.mark.parametrize("name", ["tqdm", "rich"])
def test_what_is_not_installed(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for module in [key for key in sys.modules if key.partition(".")[0] == name]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=rf"asks for {name}.*pip install {name}") as caught:
        _progress.open(2, "parse", name)
    assert caught.value.name == name


def test_nonsense() -> None:
    nonsense: Any = 2.5
    with pytest.raises(TypeError, match=r"mapping of options.*not 2\.5"):
        _progress.open(2, "parse", nonsense)
    with pytest.raises(TypeError, match=r"no option 'color', 'size'; there are: desc, total"):
        _progress.open(2, "parse", {"color": "red", "desc": "x", "size": 1})
    with pytest.raises(ValueError, match="names 'curses'"):
        _progress.open(2, "parse", "curses")


def test_no() -> None:
    for how in (False, {"disable": True}):
        with _progress.open(2, "parse", how) as progress:
            progress.update()
        assert type(progress) is Progress
        assert progress.label == "parse"


def test_a_function_is_told(window: Window) -> None:
    told: list[tuple[int, int | None]] = []
    with _progress.open(3, "parse", lambda done, total: told.append((done, total))) as progress:
        progress.update()
        progress.update(2)
    progress.update()
    assert told == [(1, 3), (3, 3)]


def test_a_function_that_raises_ends_the_job() -> None:
    def tell(done: int, total: int | None) -> None:
        raise KeyError(f"{done} of {total}")

    with forkless.Pool(1) as pool:
        with pytest.raises(KeyError, match=r"\d of 2"):
            pool.map(abs, [1, 2], 1, progress=tell)
        with pytest.raises(KeyError, match="1 of 2"):
            next(pool.imap(abs, [1, 2], progress=tell))
        assert pool.map(abs, [-1]) == [1]


# --- all of them ---


@pytest.mark.parametrize("renderer", RENDERERS)
def test_in_a_terminal(window: Window, renderer: str) -> None:
    how = {"renderer": renderer, "file": window.file, "desc": "[red]", "unit": "pages"}
    with _progress.open(4, "parse", how) as progress:
        for _ in range(4):
            progress.update()
    progress.close()
    shown = window.text()
    assert progress.label == "[red]"
    assert "[red]" in shown
    assert "pages" in shown
    assert re.search(r"\b4/4\b", shown)
    assert "100%" in shown


@pytest.mark.parametrize("renderer", RENDERERS)
def test_without_a_total(window: Window, renderer: str) -> None:
    with _progress.open(None, "parse", {"renderer": renderer, "file": window.file}) as progress:
        progress.update(7)
    shown = window.text()
    assert "parse" in shown
    assert re.search(r"\b7(it|/\?)? ", shown)


@pytest.mark.parametrize("renderer", RENDERERS)
def test_a_total_that_the_user_knows(window: Window, renderer: str) -> None:
    how = {"renderer": renderer, "file": window.file, "total": 8, "leave": False}
    with _progress.open(None, "parse", how) as progress:
        progress.update(4)
        progress.update(4)
    assert re.search(r"\d/8\b", window.text())


@pytest.mark.parametrize("renderer", RENDERERS)
def test_in_a_file(renderer: str) -> None:
    file = io.StringIO()
    with _progress.open(4, "parse", {"renderer": renderer, "file": file}) as progress:
        progress.update(4)
    assert "parse" in file.getvalue()
    assert "\x1b" not in file.getvalue()


@pytest.mark.parametrize("renderer", RENDERERS)
def test_dropping_it_closes_it(window: Window, renderer: str) -> None:
    progress = _progress.open(4, "parse", {"renderer": renderer, "file": window.file})
    progress.update()
    del progress
    shown = window.read()
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h"), "the cursor is there again"
    assert shown.rstrip("\x1b[?25h").endswith("\n")


@pytest.mark.parametrize("renderer", RENDERERS)
def test_a_terminal_that_is_gone_ends_nothing(renderer: str) -> None:
    master, slave = os.openpty()
    file = open(slave, "w")  # noqa: SIM115 - closing it may fail
    with _progress.open(100, "parse", {"renderer": renderer, "file": file}) as progress:
        os.close(master)
        progress.update()
    with contextlib.suppress(OSError):
        file.close()


@pytest.mark.parametrize("renderer", RENDERERS)
def test_a_pipe_that_nobody_reads_ends_nothing(renderer: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    file = open(writing, "w")  # noqa: SIM115 - closing it fails
    with _progress.open(4, "parse", {"renderer": renderer, "file": file}) as progress:
        progress.update()
    with pytest.raises(BrokenPipeError):
        file.close()


@pytest.mark.parametrize("renderer", RENDERERS)
def test_a_stream_that_is_closed_ends_nothing(renderer: str) -> None:
    terminal = Terminal()
    with _progress.open(2, "parse", {"renderer": renderer, "file": terminal}) as progress:
        terminal.close()
        progress.update()


@pytest.mark.parametrize("renderer", RENDERERS)
def test_no_standard_error(monkeypatch: pytest.MonkeyPatch, renderer: str) -> None:
    monkeypatch.setattr("sys.stderr", None)
    with _progress.open(2, "parse", renderer) as progress:
        progress.update()


@pytest.mark.parametrize("renderer", RENDERERS)
def test_no_thread_and_no_start_method(window: Window, renderer: str) -> None:
    source = """
import multiprocessing, os, sys
os.dup2(os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY), 2)
from forkless import _progress
with _progress.open(2, "parse", sys.argv[2]) as bar:
    bar.update()
    print(len(os.listdir("/proc/self/task")), multiprocessing.get_start_method(allow_none=True))
"""
    assert run_program(source, window.name, renderer).check() == "1 None\n"


def test_a_lock_that_the_program_gave_tqdm_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    tqdm = pytest.importorskip("tqdm").tqdm
    lock = threading.RLock()
    monkeypatch.setattr(tqdm, "_lock", lock, raising=False)
    with _progress.open(2, "parse", {"renderer": "tqdm", "file": io.StringIO()}) as progress:
        assert isinstance(progress, _bars.Tqdm)
        assert progress._bar.get_lock() is lock


# --- notebooks ---


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a program finds in the kernel of a notebook that has no widgets."""
    ipython: Any = ModuleType("IPython")
    ipython.get_ipython = lambda: SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "ipykernel.zmqshell", ModuleType("ipykernel.zmqshell"))
    monkeypatch.setitem(sys.modules, "ipywidgets", None)


@pytest.mark.usefixtures("notebook")
def test_in_a_notebook(monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> None:
    page = io.StringIO()
    progress = _progress.open(2, "parse", {"file": page})
    assert isinstance(progress, _bars.Tqdm)
    progress.close()
    monkeypatch.setitem(sys.modules, "tqdm", None)
    progress = _progress.open(2, "parse", {"file": page})
    assert isinstance(progress, Plain), "rich has no widgets to draw with"
    clock[0] += 1
    progress.update()
    assert re.search(r"\rparse: \[#+-+\]  1/2", page.getvalue()), "drawn as in a terminal"
    progress.close()


def test_a_terminal_of_ipython_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    ipython: Any = ModuleType("IPython")
    ipython.get_ipython = lambda: SimpleNamespace()
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    assert not _progress.in_notebook()


# --- pools ---


@pytest.mark.parametrize("renderer", RENDERERS)
def test_pools(window: Window, renderer: str) -> None:
    how = {"renderer": renderer, "file": window.file}
    with forkless.Pool(2) as pool:
        assert pool.map(jobs.double, range(5), progress=how) == [0, 2, 4, 6, 8]
        assert list(pool.imap(jobs.double, range(5), progress=how)) == [0, 2, 4, 6, 8]
        assert sorted(pool.imap_unordered(jobs.double, range(5), progress=how)) == [0, 2, 4, 6, 8]
        assert pool.starmap(jobs.add, [(1, 2)] * 5, progress={**how, "desc": "add"}) == [3] * 5
        with pytest.raises(ValueError, match="curses"):
            pool.imap(jobs.double, range(5), progress="curses")
    shown = window.text()
    assert len(re.findall(r"\b5/5\b", shown)) >= 4
    assert "double" in shown
    assert "add" in shown
