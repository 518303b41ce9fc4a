"""The end of the interpreter: pools, then children, then the template. Quiet and bounded.

What the standard library waits for is waited for here too: the tasks an `Executor` has accepted and the
processes that are not daemons. Everything else is ended.
"""

import atexit
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._scheduler import Scheduler

# The pools and executors whose collector runs.
schedulers: "set[Scheduler]" = set()

# How long daemons may take to end after SIGTERM, in seconds.
_GRACE = 1.0

_owner = 0


def register() -> None:
    """Makes sure that this process cleans up at its exit. A copy of it made by `os.fork` does not."""
    global _owner
    pid = os.getpid()
    if _owner != pid:
        _owner = pid
        schedulers.clear()
        atexit.register(_run, pid)


def _run(pid: int) -> None:
    if os.getpid() != pid:
        return
    from . import _forkless

    try:
        for scheduler in list(schedulers):
            scheduler.at_exit()
        _end_children()
    finally:
        _forkless.shutdown()


def _end_children() -> None:
    from . import process

    children = process.active_children()
    daemons = [child for child in children if child.daemon]
    for daemon in daemons:
        daemon.terminate()
    deadline = time.monotonic() + _GRACE
    for daemon in daemons:
        daemon.join(deadline - time.monotonic())
        daemon.kill()
    for child in children:
        child.join()
