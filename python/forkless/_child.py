"""What runs in a child, from its first line of Python to its exit code.

A child starts without anything of its parent's program: it takes over the parent's surroundings, then loads
its `Process` object and runs it. `__main__` is an empty module that only holds what the parent sent by value.
"""

import atexit
import os
import pickle
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

from . import _forkless, _forks, _last_words, _pickling, _surroundings, process

if TYPE_CHECKING:
    from ._forkless import Job


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
            _forkless.ignore_interrupts()
            process.flush_streams()
    finally:
        os._exit(code & 0xFF)


def _run(job: "Job") -> int:
    # As few functions as can be: each that a forked child calls copies some pages, at 3 µs a page.
    order = job.payload
    body_at = 8 + int.from_bytes(order[:8], "little")
    name, identity, ignore_interrupt, surroundings = pickle.loads(order[8:body_at])
    # Known before anything can fail.
    process._current._name, _pickling.identity = name, identity
    _last_words.prepare()
    if ignore_interrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    _surroundings.adopt(surroundings, job.has_streams)
    _forks.expect()
    # The job keeps alive what the body refers to, so it must outlive this call.
    child: process.Process = pickle.loads(order[body_at:], buffers=job.buffers())
    job.loaded()
    code = child._bootstrap()
    # What the interpreter does at exit: waits for threads, then runs the exit handlers.
    try:
        if "threading" in sys.modules:
            sys.modules["threading"]._shutdown()
        atexit._run_exitfuncs()
    except KeyboardInterrupt:
        code = code or 1
    if process.journal is not None:
        process.journal.info("process exiting with exitcode %d", code)
    return code
