"""Runs one program of the gallery and tells what happened. Never hangs, and leaves nothing behind."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from ._watch import MARK, SHARED_MEMORY, Watch, activity, describe, segments

ASLEEP = 2.0  # seconds: a program of which nothing has moved for so long hangs
GRACE = 2.0  # seconds without a move of what outlives the program, then it stays; forkless ends all in one
DECAY = 10.0  # seconds that descendants have which move
KEPT_OUTPUT = 8_192  # bytes of the end of an output; a trap may write megabytes
POLL = 0.01
GAP = 0.25  # seconds between two looks; what is longer was no time for the program either
# Of the variables that change what Python does, only those that say where it is found reach the programs.
PLACES = {"PYTHONHOME", "PYTHONNOUSERSITE", "PYTHONPATH", "PYTHONPLATLIBDIR", "PYTHONUSERBASE"}


@dataclass(frozen=True)
class ChildEnd:
    """How a child ended, as its parent printed it: an exit code, negative for a signal."""

    exit_code: int

    @property
    def signal(self) -> str | None:
        """The signal's name: "SIGSEGV"."""
        return signal_name(-self.exit_code) if self.exit_code < 0 else None


@dataclass(frozen=True)
class Memory:
    """What a process measured of itself, in bytes, and when."""

    when: str
    rss: int
    pss: int
    uss: int
    private_dirty: int


@dataclass(frozen=True)
class Half:
    """What one program did.

    Attributes:
        program: Its path below the folder of programs: "context-mismatch/standard.py".
        ended: "exit", "signal", "hang" (no thread of any of its processes moved any more) or "timeout" (it
            was still busy at its time limit).
        exit_code: Its exit code, if that is how it ended.
        signal: The name of the signal, if that is how it ended.
        seconds: How long it ran.
        stdout: What it and its children wrote: the end of it, if that was much.
        stderr: The same for errors.
        stderr_lines: How many lines of errors there were in all.
        left_processes: Its descendants that outlived it, and were killed; of one that had to be killed
            itself, those that could not be killed.
        left_segments: The names that it left in /dev/shm; they were removed.
    """

    program: str
    ended: Literal["exit", "signal", "hang", "timeout"]
    exit_code: int | None
    signal: str | None
    seconds: float
    stdout: str
    stderr: str
    stderr_lines: int
    left_processes: tuple[str, ...]
    left_segments: tuple[str, ...]

    @property
    def stopped(self) -> bool:
        """Whether it had to be killed by the runner."""
        return self.ended in ("hang", "timeout")

    @property
    def children(self) -> list[ChildEnd]:
        """How its children ended: the lines `child exit code: -11` of its output."""
        return [ChildEnd(int(code)) for code in re.findall(r"^child exit code: (-?\d+)$", self.stdout, re.M)]

    @property
    def memory(self) -> list[Memory]:
        """Its lines `memory of the child after reading: RSS 1 PSS 1 USS 1 dirty 1 kB`."""
        lines = re.findall(
            r"^memory of the (.+): RSS (\d+) PSS (\d+) USS (\d+) dirty (\d+) kB$", self.stdout, re.M
        )
        return [Memory(when, *(int(size) * 1024 for size in sizes)) for when, *sizes in lines]

    @property
    def error(self) -> str | None:
        """The last exception it printed: "RuntimeError: context has already been set"."""
        found = re.findall(r"^((?:\w+\.)*\w*(?:Error|Exception|Exit|Interrupt)(?:: .*)?)$", self.stderr, re.M)
        return str(found[-1]) if found else None


def run(
    path: Path, arguments: list[str], *, limit: float, on_stdin: bool = False, python: str = sys.executable
) -> Half:
    """Runs a program in a session of its own, and ends all of it.

    Args:
        path: The program.
        arguments: Its command line.
        limit: Seconds after which it is killed.
        on_stdin: The interpreter reads it from standard input, as in `python < program.py`.
        python: The interpreter.

    Returns:
        What happened.
    """
    mark = uuid.uuid4().hex
    watch = Watch(mark)
    before = segments()
    # Files, not pipes: whoever inherits the output keeps nobody waiting.
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr, open(path, "rb") as source:
        started = time.monotonic()
        process = subprocess.Popen(
            [python, "-" if on_stdin else str(path), *arguments],
            stdin=source if on_stdin else subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=_environ(mark, python),
            start_new_session=True,
        )
        try:
            _no_core_dump(process.pid)
            ended = _follow(process, watch, limit)
            seconds = time.monotonic() - started
            survivors = () if ended else _survivors(watch)
        finally:
            unkillable = watch.kill()
            process.wait()
            watch.reap()
        output, errors = _tail(stdout), _tail(stderr)
        left = _left_segments(before, watch, output + errors)
        code = process.returncode
        return Half(
            program=f"{path.parent.name}/{path.name}",
            ended=ended or ("signal" if code < 0 else "exit"),
            exit_code=None if ended or code < 0 else code,
            signal=signal_name(-code) if not ended and code < 0 else None,
            seconds=round(seconds, 3),
            stdout=output,
            stderr=errors,
            stderr_lines=_count_lines(stderr),
            left_processes=tuple(unkillable) if ended else survivors,
            left_segments=left,
        )


def _environ(mark: str, python: str) -> dict[str, str]:
    # The programs do not belong to the process tree that this one may belong to.
    own = {name: value for name, value in os.environ.items() if name != "FORKLESS_TREE"}
    # Where this interpreter finds its library is of no use to another one.
    places = PLACES if python == sys.executable else PLACES - {"PYTHONHOME"}
    environ = {name: value for name, value in own.items() if not name.startswith("PYTHON") or name in places}
    return {**environ, MARK: mark, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}


class _Clock:
    """Tells the time in which somebody looked: a machine that stands still is no program that does."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._seconds = 0.0

    def look(self) -> float:
        """Seconds since it was made."""
        now = time.monotonic()
        self._seconds += min(now - self._last, GAP)
        self._last = now
        return self._seconds


class _Stillness:
    """Tells for how long nothing of a run has moved."""

    def __init__(self) -> None:
        self._last: dict[int, int] | None = None
        self._since = 0.0

    def seconds(self, alive: list[int], now: float) -> float:
        """As of now, by the clock of the run."""
        current = activity(alive)
        if current is None or current != self._last:
            self._last, self._since = current, now
        return now - self._since


def _follow(
    process: subprocess.Popen[bytes], watch: Watch, limit: float
) -> Literal["hang", "timeout"] | None:
    """Watches a program until it ends (None), hangs, or has used up its time."""
    clock, stillness = _Clock(), _Stillness()
    while True:
        alive = watch.living()
        watch.note_mappings(alive)
        if process.poll() is not None:
            return None
        now = clock.look()
        if stillness.seconds(alive, now) >= ASLEEP:
            return "hang"
        if now >= limit:
            return "timeout"
        time.sleep(POLL)


def _survivors(watch: Watch) -> tuple[str, ...]:
    """The descendants that do not end by themselves soon after the program."""
    clock, stillness = _Clock(), _Stillness()
    while alive := watch.living(again=True):
        watch.note_mappings(alive)
        now = clock.look()
        if stillness.seconds(alive, now) >= GRACE or now >= DECAY:
            return tuple(describe(pid) for pid in alive)
        time.sleep(POLL)
    return ()


def _left_segments(before: dict[str, int] | None, watch: Watch, output: str) -> tuple[str, ...]:
    """Removes what the run left in /dev/shm, and nothing else: other programs work there too.

    A new name is the run's if one of its processes was seen to map it, or if it printed it.
    """
    old, new = set((before or {}).items()), segments() or {}
    mine = [n for n, inode in new.items() if (n, inode) not in old and (inode in watch.mapped or n in output)]
    for name in mine:
        with suppress(OSError):
            os.unlink(os.path.join(SHARED_MEMORY, name))
    return tuple(sorted(mine))


def _no_core_dump(pid: int) -> None:
    import resource

    with suppress(ProcessLookupError, PermissionError):
        resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))


def _tail(file: IO[bytes]) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - KEPT_OUTPUT))
    return file.read().decode(errors="replace")


def _count_lines(file: IO[bytes]) -> int:
    file.seek(0)
    return sum(1 for _ in file)


def signal_name(number: int) -> str:
    """The name of a signal: "SIGSEGV"; of one without a name, its number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
