"""What the processes of one run do, read from /proc: who they are, whether anything moves, what they map.

A run is found by a mark in its environment. Processes inherit it whatever becomes of their parent, their
process group and their session, so that nothing escapes.
"""

import os
import signal
import time
from contextlib import suppress

MARK = "FORKLESS_GALLERY_RUN"
SHARED_MEMORY = "/dev/shm"


class Watch:
    """The processes that carry one mark.

    Args:
        mark: The value of the environment variable `MARK`.
    """

    def __init__(self, mark: str) -> None:
        self._mark = f"{MARK}={mark}".encode()
        self._known: dict[int, bool | None] = {}
        self._seen: set[int] = set()
        self.mapped: set[int] = set()  # inodes in /dev/shm that a process of the run was seen to map

    def living(self, *, again: bool = False) -> list[int]:
        """The processes of the run that have not ended.

        Args:
            again: Look again at those that did not belong to it: their number may have a new owner.
        """
        present = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        known = {} if again else self._known
        self._known = {
            pid: known[pid] if known.get(pid) is not None else self._marked(pid) for pid in present
        }
        ours = [pid for pid in present if self._known[pid]]
        self._seen.update(ours)
        return [pid for pid in ours if state(pid) not in "ZX"]

    def _marked(self, pid: int) -> bool | None:
        environ = read(f"/proc/{pid}/environ")
        # Empty for a moment while a process executes another program: not known yet.
        return self._mark in environ.split(b"\0") if environ else None

    def note_mappings(self, pids: list[int]) -> None:
        """Notes what these processes map of /dev/shm.

        By inode: a named semaphore is mapped before it gets its name.
        """
        for pid in pids:
            for line in read(f"/proc/{pid}/maps").splitlines():
                if b" /dev/shm/" in line:
                    self.mapped.add(int(line.split()[4]))

    def kill(self, patience: float = 5.0) -> list[str]:
        """Kills every process of the run, and returns those that are still there after so many seconds."""
        deadline = time.monotonic() + patience
        while pids := self.living(again=True):
            # First they are all stopped, so that none can start another one or let go of something meanwhile.
            for number in (signal.SIGSTOP, signal.SIGKILL):
                for pid in pids:
                    with suppress(ProcessLookupError):
                        os.kill(pid, number)
                if number is signal.SIGSTOP:
                    self.note_mappings(pids)
            if time.monotonic() > deadline:
                return [describe(pid) for pid in pids]
            time.sleep(0.005)
        return []

    def reap(self) -> None:
        """Reaps orphans that became children of this process, which may be the init of a container.

        To be called when the first process of the run, which has a parent to do so, has been reaped.
        """
        for pid in self._seen:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def activity(pids: list[int]) -> dict[int, int] | None:
    """How often each thread of these processes has been switched to, or None if one of them does not sleep.

    The same answer twice means that nothing ran in between.
    """
    switches = {}
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            for thread in os.listdir(f"/proc/{pid}/task"):
                status = read(f"/proc/{pid}/task/{thread}/status").decode(errors="replace")
                fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
                if fields.get("State", "X")[0] not in "ST":
                    return None
                switches[int(thread)] = sum(
                    int(fields.get(kind, 0))
                    for kind in ("voluntary_ctxt_switches", "nonvoluntary_ctxt_switches")
                )
    return switches


def state(pid: int) -> str:
    """The letter that /proc gives for the state of a process; X when it is gone."""
    stat = read(f"/proc/{pid}/stat").decode(errors="replace")
    return stat.rpartition(")")[2].split()[0] if stat else "X"


def describe(pid: int) -> str:
    """A process for people: its number, and the start of its command line."""
    command = read(f"/proc/{pid}/cmdline").replace(b"\0", b" ").decode(errors="replace").strip()
    return f"{pid} ({command[:60]})"


def segments() -> dict[str, int] | None:
    """The names in /dev/shm, with their inodes; None where there is no /dev/shm."""
    try:
        return {entry.name: entry.inode() for entry in os.scandir(SHARED_MEMORY)}
    except OSError:
        return None


def read(path: str) -> bytes:
    """A file of /proc, or nothing when its process is gone or not ours."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""
