"""The end of the interpreter: pools, then children, then the template. Quiet and bounded.

What the standard library waits for is waited for here too: the tasks an `Executor` has accepted and the
processes that are not daemons. Everything else is ended.

After a Ctrl-C that nobody caught, nothing is waited for. On a terminal the children have got it too, and have
a moment to end by themselves; then they are sent it by us, since `kill -INT` reaches one process only. Those
that do not end, because they are busy in C code or do not want to, are killed.
"""

import atexit
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._manager_host import Host
    from ._scheduler import Scheduler
    from .process import Process

# The pools and executors whose collector runs.
schedulers: "set[Scheduler]" = set()

# The servers of this process's managers.
servers: "set[Host]" = set()

# Whether this process is about to exit: the handlers run.
running = False

# Whether Ctrl-C has ended what this process was to do; said by a child of itself, see `_was_interrupted`.
interrupted = False

# What `util` has to do: called with 0 before the children are ended, and with None after.
finalize: "Callable[[int | None], object] | None" = None

# How long those that are asked to end may take, in seconds: after Ctrl-C everything is to be over within one.
_GRACE, _GRACE_AFTER_INTERRUPT = 1.0, 0.5
# How long interrupted children may take to end by themselves, in seconds.
_REACTION = 0.2

_owner = 0


def register() -> None:
    """Makes sure that this process cleans up at its exit. A copy of it made by `os.fork` does not."""
    global _owner, interrupted, running
    pid = os.getpid()
    if _owner != pid:
        _owner, interrupted, running = pid, False, False
        schedulers.clear()
        servers.clear()
        atexit.register(_run, pid)


def grace() -> float:
    """How long processes that are asked to end may take, in seconds."""
    from . import process

    if process.terminate_grace is not None:
        return process.terminate_grace
    return _GRACE_AFTER_INTERRUPT if interrupted else _GRACE


def _run(pid: int) -> None:
    global interrupted, running
    if os.getpid() != pid:
        return
    running = True
    from . import _forkless, process

    try:
        _finalize(0)
        _end_everything()
    except KeyboardInterrupt:
        # The second one: then everything is killed. The first one is told, by the main process only.
        if not interrupted:
            interrupted = True
            with contextlib.suppress(KeyboardInterrupt):
                _end_everything()
            if process.parent_process() is None:
                raise
    finally:
        try:
            _finalize(None)
        finally:
            # Takes three seconds at worst, and another Ctrl-C would not make it faster.
            with _no_interrupts():
                _forkless.shutdown()


def _finalize(minpriority: int | None) -> None:
    if finalize is not None:
        finalize(minpriority)


def _was_interrupted() -> bool:
    """Whether the program ends because of a Ctrl-C that nobody caught."""
    last = getattr(sys, "last_type", None)
    # At a prompt it may have been long ago.
    return interrupted or (
        isinstance(last, type) and issubclass(last, KeyboardInterrupt) and not hasattr(sys, "ps1")
    )


def _end_everything() -> None:
    global interrupted
    interrupted = _was_interrupted()
    for scheduler in list(schedulers):
        scheduler.at_exit(wait=not interrupted)
    end_children()


def end_children() -> None:
    """Ends daemons, waits for the other children, and then ends what these may have needed."""
    from . import process

    children = [child for child in process.active_children() if not child._serves]
    for child in children:
        if child.daemon:
            child.terminate(grace())
    if interrupted:
        _join_all(children, _REACTION)
        for child in children:
            child._signal(signal.SIGINT, grace())
    _join_all((child for child in children if child.daemon or interrupted), grace() + 1)
    _join_all(children, None)
    _end_servers()


def _end_servers() -> None:
    """Ends what the other children may have needed, and managers for which nobody stands any more."""
    from . import process

    for host in list(servers):
        host.shut_down()
    rest = [child for child in process.active_children() if child._serves]
    for child in rest:
        child.terminate(grace())
    _join_all(rest, grace() + 1)


def _join_all(children: "Iterable[Process]", timeout: float | None) -> None:
    until = None if timeout is None else time.monotonic() + timeout
    for child in children:
        child.join(None if until is None else until - time.monotonic())


@contextlib.contextmanager
def _no_interrupts() -> Iterator[None]:
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # This is not the main thread: Ctrl-C does not come here.
        yield
        return
    try:
        yield
    finally:
        # None: whoever had set it has not done so from Python.
        if before is not None:
            signal.signal(signal.SIGINT, before)
