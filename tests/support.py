"""Programs in processes of their own, and what a test may leave behind: nothing.

A program under test runs in a session of its own, writes to files instead of pipes (a grandchild that
outlives it keeps nobody waiting), and carries a mark in its environment by which every process that descends
from it is found again, whatever session it moved to. All of them are killed when the test is done with it.
"""

from __future__ import annotations

import contextlib
import gc
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from typing_extensions import Self

MARK = "FORKLESS_TEST_PROGRAM"
SHARED_MEMORY = Path("/dev/shm")

# Seconds that no wait takes unless something hangs, not even on a machine that stands still for a while. A
# test waits so long for what is to come; what is to time out has a short limit of its own.
PATIENCE = 60.0
# The same for a whole program, whose own waits should be the first to give up: they say more.
PROGRAM_PATIENCE = 2 * PATIENCE


@dataclass(frozen=True)
class Outcome:
    """How a program ended.

    Attributes:
        exit_code: The exit code, negative for the signal that killed it, None when it had to be stopped.
        stdout: What it and its children wrote.
        stderr: The same for errors; after a hang, with the stacks of its threads.
        survivors: Its descendants that were still there long after its end, then killed.
    """

    exit_code: int | None
    stdout: str
    stderr: str
    survivors: tuple[str, ...]

    def check(self) -> str:
        """Asserts a clean end, with nothing left behind, and returns what the program wrote.

        Returns:
            The standard output.
        """
        assert (self.exit_code, self.survivors) == (0, ()), f"{self}"
        return self.stdout

    def __str__(self) -> str:
        end = "did not end" if self.exit_code is None else f"ended with {self.exit_code}"
        left = f", left {', '.join(self.survivors)}" if self.survivors else ""
        return f"program {end}{left}\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"


class Program:
    """A Python program while it runs.

    Example:
        >>> with Program("print('ready', flush=True); input()", stdin=None) as program:
        ...     program.wait_for("ready")
        ...     program.signal(signal.SIGKILL)
        ...     assert program.finish().exit_code == -signal.SIGKILL
    """

    def __init__(
        self,
        source: str,
        *arguments: str,
        how: Literal["file", "command", "stdin"] = "file",
        environ: Mapping[str, str] | None = None,
        stdin: str | int = "",
        python: Sequence[str] = (sys.executable,),
    ) -> None:
        """Starts it.

        Args:
            source: The text of the program.
            *arguments: Its command line.
            how: As a script, as the text after `-c`, or on standard input.
            environ: Added to the environment.
            stdin: What it finds on standard input, unless that is the program itself; or a descriptor.
            python: The interpreter, with options.
        """
        self._directory = tempfile.TemporaryDirectory(prefix="forkless-test-")
        self._path = Path(self._directory.name)
        self._mark = uuid.uuid4().hex
        script = self._path / "program.py"
        script.write_text(source)
        (self._path / "stdin").write_text(source if how == "stdin" else str(stdin))
        start = {"file": [str(script)], "command": ["-c", source], "stdin": ["-"]}[how]
        with (
            open(self._path / "stdin") as source_of_input,
            open(self._path / "stdout", "w") as stdout,
            open(self._path / "stderr", "w") as stderr,
        ):
            self.process = subprocess.Popen(
                [*python, *start, *arguments],
                stdin=stdin if isinstance(stdin, int) else source_of_input,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
                # SIGABRT then prints the stacks of all threads, see `finish`.
                env={**os.environ, "PYTHONFAULTHANDLER": "1", **(environ or {}), MARK: self._mark},
            )
        self._pidfd = os.pidfd_open(self.process.pid)
        self._outcome: Outcome | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._outcome is None:
            self._end()
        self._directory.cleanup()

    @property
    def pid(self) -> int:
        """The process id of the program itself."""
        return self.process.pid

    def signal(self, number: int) -> None:
        """Sends a signal to the program itself."""
        signal.pidfd_send_signal(self._pidfd, number)

    def wait_for_error(self, text: str, timeout: float = PATIENCE) -> None:
        """Waits until a text stands on standard error."""
        found = eventually(lambda: text in self.stderr(), timeout)
        assert found, f"{text!r} did not come\n--- stderr\n{self.stderr()}"

    def interrupt(self) -> None:
        """Does what Ctrl-C does on a terminal: SIGINT to the whole process group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def stdout(self) -> str:
        """What it has written so far."""
        return (self._path / "stdout").read_text(errors="replace")

    def stderr(self) -> str:
        """What it has written to standard error so far."""
        return (self._path / "stderr").read_text(errors="replace")

    def wait_for(self, text: str, timeout: float = PATIENCE) -> str:
        """Waits until the program has written a text.

        Args:
            text: A regular expression.
            timeout: Seconds.

        Returns:
            What matched.
        """
        found: list[str] = []

        def look() -> bool:
            match = re.search(text, self.stdout())
            found.extend([match[0]] if match else [])
            return bool(found) or self._ended(0)

        eventually(look, timeout)
        look()
        assert found, f"{text!r} did not come\n--- stdout\n{self.stdout()}\n--- stderr\n{self.stderr()}"
        return found[0]

    def finish(self, timeout: float = PROGRAM_PATIENCE, grace: float = PATIENCE) -> Outcome:
        """Waits for the end of the program and of everything it started.

        Args:
            timeout: Seconds; after that it is stopped, which counts as a hang.
            grace: Seconds that its descendants have after its end.

        Returns:
            How it ended.
        """
        if self._outcome is None:
            hung = not self._ended(timeout)
            if hung:
                self.signal(signal.SIGABRT)
                self._ended(20)
            else:
                eventually(lambda: not self._descendants(), grace)
            survivors = () if hung else tuple(map(describe, self._descendants()))
            exit_code = self._end()
            self._outcome = Outcome(None if hung else exit_code, self.stdout(), self.stderr(), survivors)
        return self._outcome

    def _ended(self, timeout: float) -> bool:
        return bool(select.select([self._pidfd], [], [], timeout)[0])

    def _descendants(self) -> list[int]:
        """Every living process with our mark, but for the program itself."""
        mark = f"{MARK}={self._mark}".encode()
        return [pid for pid in processes() if pid != self.pid and mark in environment_of(pid)]

    def _end(self) -> int:
        """Kills what is left; reaps the program last, so that nobody else can get its process group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        # Those that moved to another group; repeated, because one of them may just have forked.
        for _ in range(20):
            for pid in self._descendants():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if eventually(lambda: not self._descendants(), 1):
                break
        os.close(self._pidfd)
        return self.process.wait()


def run_program(
    source: str,
    *arguments: str,
    timeout: float = PROGRAM_PATIENCE,
    grace: float = PATIENCE,
    how: Literal["file", "command", "stdin"] = "file",
    environ: Mapping[str, str] | None = None,
    stdin: str = "",
    python: Sequence[str] = (sys.executable,),
) -> Outcome:
    """Runs the text of a Python program to its end; see `Program` and its `finish` for the arguments.

    Returns:
        How it ended.

    Example:
        >>> run_program("print(6 * 7, end='')").check()
        '42'
    """
    with Program(source, *arguments, how=how, environ=environ, stdin=stdin, python=python) as program:
        return program.finish(timeout, grace)


def hear_interrupts() -> None:
    """Has Ctrl-C do what it does, in this process and in the programs that it runs.

    A shell has what it runs in the background ignore it, and so would all that is started from there.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def eventually(condition: Callable[[], bool], timeout: float = PATIENCE) -> bool:
    """Waits for what no event tells about.

    Args:
        condition: Asked again and again.
        timeout: Seconds.

    Returns:
        Whether it came true in time.
    """
    deadline = time.monotonic() + timeout
    pause = 0.001
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
        pause = min(2 * pause, 0.05)
    return True


class Balanced:
    """Asserts that the arena has nothing more at the end than it had at the beginning.

    Args:
        collect: Collect garbage while waiting for that.
    """

    def __init__(self, *, collect: bool = False) -> None:
        self._collect = collect

    def __enter__(self) -> None:
        import forkless  # not above: this is imported by programs that have none of it
        from forkless import _forkless

        self._census = _forkless.census
        # What comes with the first child is there then.
        child = forkless.Process(target=int)
        child.start()
        child.join()
        child.close()
        self._before = self._census()

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            assert eventually(self._is_balanced), (self._census(), self._before)

    def _is_balanced(self) -> bool:
        if self._collect:
            gc.collect()
        return self._census() == self._before


def processes() -> Iterator[int]:
    """The ids of all living processes; one that ended and waits to be reaped does not count."""
    for entry in os.listdir("/proc"):
        if entry.isdigit() and status_of(int(entry))[0] not in "ZX":
            yield int(entry)


def status_of(pid: int) -> tuple[str, int]:
    """The state letter and the parent of a process; "X" when it is gone."""
    try:
        # The name in parentheses may itself contain anything.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (OSError, IndexError):
        return "X", 0
    return fields[0], int(fields[1])


def environment_of(pid: int) -> list[bytes]:
    """The environment a process was started with, empty when it is gone or someone else's."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def describe(pid: int) -> str:
    """A process by id and command line."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        command = "gone"
    return f"{pid} ({command.strip() or 'no command line'})"


@dataclass(frozen=True)
class Holdings:
    """What this process holds that the system keeps: children, descriptors, named shared memory."""

    children: frozenset[int]
    descriptors: Counter[str]
    shared_memory: frozenset[str]

    @classmethod
    def now(cls) -> Holdings:
        """Takes stock."""
        return cls(frozenset(children()), descriptors(), frozenset(named_memory()))

    def gained_since(self, before: Holdings) -> list[str]:
        """What is there now and was not before, in words."""
        gained = [f"child {describe(pid)}" for pid in sorted(self.children - before.children)]
        gained += [
            f"{count} more open {what}" for what, count in (self.descriptors - before.descriptors).items()
        ]
        names = sorted(self.shared_memory - before.shared_memory)
        return gained + [f"{SHARED_MEMORY / name}" for name in names if not used_by_others(name)]


def left_behind(before: Holdings, timeout: float = PATIENCE) -> list[str]:
    """What has been gained for good, after everything had its time to end.

    Args:
        before: The state to compare with.
        timeout: Seconds.

    Returns:
        One line for each thing.
    """
    if not Holdings.now().gained_since(before):
        return []
    gc.collect()
    eventually(lambda: not Holdings.now().gained_since(before), timeout)
    return Holdings.now().gained_since(before)


def children() -> list[int]:
    """Children of this process, those of forkless included; not the template, which stays."""
    listing = getattr(sys.modules.get("forkless._forkless"), "processes", list)
    tree = {pid: role for pid, _, role in listing()}
    direct = [pid for pid in processes() if status_of(pid)[1] == os.getpid()]
    return [pid for pid in {*direct, *(p for p in tree if tree[p] == "child")} if tree.get(pid) != "template"]


def started() -> list[tuple[int, str, str]]:
    """What forkless has started and has not ended, but for standbys, which come and go as they like."""
    from forkless import _forkless

    return [process for process in _forkless.processes() if process[2] != "standby"]


def descriptors() -> Counter[str]:
    """How many descriptors are open on what, without the numbers that tell one pipe from the next."""
    found: Counter[str] = Counter()
    for entry in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{entry}")
        except FileNotFoundError:  # the descriptor of the listing itself
            continue
        found[re.sub(r":\[\d+\]$", "", target)] += 1
    return found


def named_memory() -> list[str]:
    """Names in /dev/shm, but for those that `multiprocessing`, loky and joblib make.

    Neither can forkless make these, nor do they tell who did: any other program on the machine may have been
    killed during a test, and a comparison with the standard library that runs elsewhere does just that.
    """
    if not SHARED_MEMORY.is_dir():
        return []
    return [
        name
        for name in os.listdir(SHARED_MEMORY)
        if not name.startswith(("sem.mp-", "sem.loky-", "joblib_", "psm_"))
    ]


def used_by_others(name: str) -> bool:
    """Whether a process outside of ours has this shared memory open or mapped: then it is not our leak."""
    path = str(SHARED_MEMORY / name)
    ours = set(family(os.getpid()))
    return any(path in files_of(pid) for pid in processes() if pid not in ours)


def family(root: int) -> Iterator[int]:
    """A process and all its descendants."""
    parents = {pid: status_of(pid)[1] for pid in processes()}
    found = [root]
    for parent in found:
        yield parent
        found.extend(pid for pid, its_parent in parents.items() if its_parent == parent)


def files_of(pid: int) -> set[str]:
    """Paths of what a process has open or mapped."""
    found = set()
    with contextlib.suppress(OSError):
        for entry in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found.add(os.readlink(f"/proc/{pid}/fd/{entry}"))
        for line in Path(f"/proc/{pid}/maps").read_text(errors="replace").splitlines():
            found.add("/" + line.partition("/")[2])
    return found
