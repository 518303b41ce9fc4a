"""What runs in a child, from its first line of Python to its exit code.

A child starts without anything of its parent's program: it takes over the parent's surroundings (directory,
environment, import path, arguments, file mode mask), then loads its `Process` object and runs it. `__main__`
is an empty module that only holds what the parent sent by value.
"""

import atexit
import os
import pickle
import signal
import sys
from typing import IO, TYPE_CHECKING, Any, NoReturn

from . import _pickling, process

if TYPE_CHECKING:
    from ._forkless import Job

# How programs started by this process find its tree; published by the core, not by the parent.
_TREE = b"FORKLESS_TREE"


def run(job: "Job") -> NoReturn:
    """Runs one job and ends this process with its exit code."""
    code = 1
    try:
        try:
            code = _run(job)
        except BaseException as error:
            # Whatever is wrong before the process object runs: a module that cannot be imported, a directory
            # that is gone.
            process.report(error)
        finally:
            # From here on Ctrl-C could only make noise, or lose output.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            process.flush_streams()
    finally:
        os._exit(code & 0xFF)


def _run(job: "Job") -> int:
    preparation, body = pickle.loads(job.payload)
    process.enter(preparation["name"], preparation["start_method"])
    _prepare(preparation)
    # The job keeps alive what the body refers to, so it must outlive this call.
    child: process.Process = _pickling.loads(body)
    code = child._bootstrap()
    return _finish(code)


def _prepare(preparation: dict[str, Any]) -> None:
    """Makes this process look like its parent did when it called `start`."""
    _open_streams(preparation["unbuffered"])
    if preparation["directory"] is not None:
        os.chdir(preparation["directory"])
    _adopt_environment(preparation["environment"])
    os.umask(preparation["umask"])
    sys.path[:] = preparation["path"]
    sys.argv[:] = preparation["arguments"]
    _pickling.adopt_main(preparation["main"])
    if not preparation["ignore_interrupt"]:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _open_streams(unbuffered: bool) -> None:
    """Opens the standard streams on the descriptors this child was given.

    The objects of a forked child are its template's, opened on other files. Standard input is empty, as in
    `multiprocessing`: what the parent reads from must not vanish into a child.
    """
    sys.stdin = sys.__stdin__ = open(os.devnull, encoding="utf-8")  # type: ignore[misc]  # noqa: SIM115
    sys.stdout = sys.__stdout__ = _open_stream(sys.stdout, 1, unbuffered)  # type: ignore[assignment,misc]
    sys.stderr = sys.__stderr__ = _open_stream(sys.stderr, 2, unbuffered)  # type: ignore[assignment,misc]


def _open_stream(old: Any, descriptor: int, unbuffered: bool) -> IO[str] | None:
    import io

    try:
        raw = io.FileIO(descriptor, "w", closefd=False)
    except OSError:
        return None  # The parent runs without this stream, and so does the child.
    encoding, errors = (old.encoding, old.errors) if old else ("utf-8", "backslashreplace")
    return io.TextIOWrapper(
        raw if unbuffered else io.BufferedWriter(raw),
        encoding=encoding,
        errors=errors,
        line_buffering=descriptor == 2 or raw.isatty(),
        write_through=unbuffered,
    )


def _adopt_environment(environment: dict[bytes, bytes]) -> None:
    """Makes `os.environ` equal to the parent's, except for what the core keeps there."""
    own = os.environb
    for name in [name for name in own if name not in environment and name != _TREE]:
        del own[name]
    for name, value in environment.items():
        if own.get(name) != value:
            own[name] = value


def _finish(code: int) -> int:
    """What the interpreter does at exit: waits for threads, then runs the exit handlers."""
    try:
        if "threading" in sys.modules:
            sys.modules["threading"]._shutdown()
        atexit._run_exitfuncs()
    except KeyboardInterrupt:
        return code or 1
    return code
