"""Processes on the command line: their numbers, and what to say of those that are not to be had."""

import argparse
import os


def pid(text: str) -> int:
    """A process id, as an argument of a command.

    Raises:
        ArgumentTypeError: It is none.
    """
    if not text.isdecimal() or not text.isascii() or not 0 < int(text) < 1 << 31:
        raise argparse.ArgumentTypeError(f"{text!r} is no process id: it is a number such as {os.getpid()}")
    return int(text)


def no_process(pid: int) -> str:
    """What to say of a process that is not there."""
    return (
        f"there is no process {pid}, or it has ended: `ps -ef` or `pgrep -af python` show which there are "
        "(in a container, only those of the container)"
    )


def not_permitted(pid: int, what: str, mode: str) -> str:
    """What to say of a process that is not ours to look at.

    Args:
        pid: The process.
        what: What is refused, with `{pid}` in it.
        mode: What ptrace(2) calls the right that is missing.
    """
    try:
        owner = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return no_process(pid)
    if owner != os.geteuid():
        whose = f"it belongs to the user {_user(owner)}, and you are {_user(os.geteuid())}"
    else:
        whose = "it is protected (set-user-ID, or not dumpable: prctl(2)), or the system restricts ptrace(2)"
    advice = "Run the command as the same user, or as root (sudo)"
    if owner == os.geteuid() and _restricted():
        advice = (
            "Run the command as root (sudo), or let a user trace all of their processes "
            "(sudo sysctl kernel.yama.ptrace_scope=0)"
        )
    return f"{what.format(pid=pid)}: {whose}. {advice}; it needs what ptrace(2) calls {mode}"


def _restricted() -> bool:
    try:
        with open("/proc/sys/kernel/yama/ptrace_scope") as file:
            return file.read().strip() != "0"
    except OSError:
        return False


def _user(number: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
