"""`forkless memory`: the memory of a process tree, looked at from outside."""

import argparse
import os
import sys
from io import TextIOWrapper
from typing import TYPE_CHECKING

from ._processes import no_process, not_permitted, pid

if TYPE_CHECKING:
    from .._memory_report import MemoryReport


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the parser of `forkless memory`."""
    parser = commands.add_parser(
        "memory",
        help="show what the processes of a tree really cost, and what they share",
        description="Measures a process and all that descend from it: RSS, PSS, USS, private dirty, shared, "
        "swap; what the shared memory of forkless holds, and for whom; what the template saves. Works on any "
        "tree, also on one of multiprocessing. Looking does not disturb: no process of it is asked for "
        "anything. docs/memory.md says how to read the numbers.",
    )
    parser.add_argument("pid", type=pid, metavar="PID", help="the process at the root of the tree")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON document; with --watch one in each line"
    )
    parser.add_argument(
        "--plot",
        type=_picture,
        metavar="FILE",
        help="draw it too, as FILE.png or FILE.svg (needs matplotlib)",
    )
    parser.add_argument(
        "--watch",
        type=_seconds,
        metavar="SECONDS",
        help="look again every so many seconds, until the process ends or Ctrl-C",
    )
    parser.epilog = (
        "Ends with 0, or with 2 if the process is not there, may not be read, or an option makes no sense."
    )
    parser.set_defaults(run=memory)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds") from None
    if not 0 < seconds <= 86_400:
        raise argparse.ArgumentTypeError("must be more than zero, and no more than a day")
    return seconds


def _picture(text: str) -> str:
    if not text.lower().endswith((".png", ".svg")):
        raise argparse.ArgumentTypeError(f"{text!r} ends neither with .png nor with .svg")
    return text


def memory(options: argparse.Namespace) -> int:
    """Does what the options say, and returns the exit code."""
    # Names of processes may be more than this terminal can show.
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        # From here on the number stands for this process and no later one.
        process = os.pidfd_open(options.pid)
    except ProcessLookupError:
        return _refuse(no_process(options.pid))
    except OSError as error:
        return _refuse(f"cannot look at process {options.pid}: {error.strerror}")
    try:
        return _look(options) if options.watch is None else _watch(options, process)
    except ProcessLookupError:
        return _refuse(no_process(options.pid))
    except PermissionError:
        return _refuse(
            not_permitted(options.pid, "the memory of process {pid} is not yours to read", "PTRACE_MODE_READ")
        )
    finally:
        os.close(process)


def _look(options: argparse.Namespace) -> int:
    from .._memory import look

    report = look(options.pid, leave_out=os.getpid())
    _show(report, options)
    if options.plot is not None:
        try:
            report.plot(options.plot)
        except ImportError as error:
            return _refuse(str(error))
        except OSError as error:
            return _refuse(f"cannot write {options.plot}: {error.strerror}")
    return 0


def _watch(options: argparse.Namespace, process: int) -> int:
    import select

    ended = select.poll()
    ended.register(process, select.POLLIN)
    code = _look(options)
    while code == 0:
        sys.stdout.flush()
        if ended.poll(1000 * options.watch):
            break
        try:
            code = _look(options)
        except ProcessLookupError:  # in this very moment
            break
    if code == 0 and not options.json:
        print(f"process {options.pid} has ended")
    return code


def _show(report: "MemoryReport", options: argparse.Namespace) -> None:
    if options.json:
        print(report.to_json(indent=2 if options.watch is None else None))
        return
    if options.watch is not None:
        import time

        # On a terminal each report takes the place of the one before.
        if sys.stdout.isatty():
            print("\x1b[H\x1b[2J", end="")
        print(time.strftime("%H:%M:%S"))
    print(report)


def _refuse(message: str) -> int:
    print(f"forkless memory: {message}", file=sys.stderr)
    return 2
