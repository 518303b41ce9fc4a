"""`forkless doctor`: what the processes of a tree wait for, and what is wrong with that."""

import argparse
import os
import sys

from ._processes import no_process, not_permitted, pid


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the parser of `forkless doctor`."""
    parser = commands.add_parser(
        "doctor",
        help="say why the processes of a tree hang",
        description="Looks at a process and all that descend from it, of forkless or of multiprocessing: "
        "what each of them does, what it waits for, who has that. Then says what is wrong, with evidence and "
        "advice. No process is stopped or asked for anything. docs/doctor.md says what it finds and how.",
    )
    parser.add_argument("pid", type=pid, metavar="PID", help="the process at the root of the tree")
    parser.add_argument(
        "--format", choices=("text", "json"), default="text", help="how to print it (default: text)"
    )
    parser.add_argument(
        "--dot", action="store_true", help="print who waits for whom as a graph for Graphviz (dot -Tsvg)"
    )
    parser.epilog = (
        "Ends with 0 if nothing is wrong, 1 if something is, 2 if the process is not there or not yours."
    )
    parser.set_defaults(run=doctor)


def doctor(options: argparse.Namespace) -> int:
    """Does what the options say, and returns the exit code."""
    from .._diagnosis import look

    try:
        diagnosis = look(options.pid, leave_out=os.getpid())
    except ProcessLookupError:
        return _refuse(no_process(options.pid))
    except PermissionError:
        return _refuse(
            not_permitted(options.pid, "process {pid} is not yours to look at", "PTRACE_MODE_ATTACH")
        )
    if options.dot:
        print(diagnosis.to_dot())
    else:
        print(diagnosis.to_json(indent=2) if options.format == "json" else diagnosis)
    return 0 if diagnosis.healthy else 1


def _refuse(message: str) -> int:
    print(f"forkless doctor: {message}", file=sys.stderr)
    return 2
