"""`forkless.watchdog`: a diagnosis that a program writes itself when nothing in its tree has moved."""

import os
import sys
import threading
from contextlib import suppress

VARIABLE = "FORKLESS_WATCHDOG"

# Looks per limit: a standstill is noticed that much later at most.
_LOOKS = 10
# One of these is there when a process that forkless has started imports this package.
_OF_CHILDREN = ("FORKLESS_TEMPLATE", "FORKLESS_PARENT", "FORKLESS_SPAWNED")

_running: "_Watchdog | None" = None


def watchdog(seconds: float | None) -> None:
    """Has a diagnosis written to standard error when nothing in this process's tree has moved for so long.

    One is written for each standstill: the same as `forkless.doctor.report()` returns. It may well say that
    nothing is wrong, if the program waits for the outside world. Processes count as moving if any of their
    threads is at another place than before, or has slept and woken; a thread that wakes from time to time to
    look around does not count.

    A thread of this process does the work: `seconds / 10` after `seconds / 10`, a look of some milliseconds
    for each process. The environment variable `FORKLESS_WATCHDOG=30` does the same without a change to the
    program, as soon as it imports forkless; children are watched by the process that started them.

    Args:
        seconds: How long a standstill may last. None to stop watching.

    Raises:
        ValueError: It is not more than zero.

    Example:
        >>> forkless.watchdog(30)
    """
    global _running

    if seconds is not None and not 0 < seconds <= threading.TIMEOUT_MAX:
        raise ValueError(f"a watchdog needs a number of seconds above zero, not {seconds!r}")
    if _running is not None:
        _running.stop()
        _running = None
    if seconds is not None:
        _running = _Watchdog(seconds)
        _running.start()


def start_from_environment() -> None:
    """Starts one if the environment asks for it, and this process is not one of a tree that has its own."""
    text = os.environ.get(VARIABLE, "")
    if not text or any(name in os.environ for name in _OF_CHILDREN):
        return
    try:
        watchdog(float(text))
    except ValueError:
        print(f"forkless: {VARIABLE}={text} is no number of seconds above zero", file=sys.stderr)


class _Watchdog(threading.Thread):
    """Looks at the tree of this process from time to time."""

    def __init__(self, seconds: float) -> None:
        super().__init__(name="forkless watchdog", daemon=True)
        self._seconds = seconds
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Ends it soon."""
        self._stopped.set()

    def run(self) -> None:
        """Watches until stopped."""
        from . import _forkless

        root, still, last = os.getpid(), 0, None
        while not self._stopped.wait(self._seconds / _LOOKS):
            # What cannot be looked at for a moment has moved.
            pulse = None
            with suppress(OSError):
                pulse = _forkless.pulse(root)
            still = still + 1 if pulse is not None and pulse == last else 0
            last = pulse
            if still == _LOOKS:
                self._write(root)

    def _write(self, root: int) -> None:
        from ._diagnosis import report

        with suppress(OSError, ValueError):  # standard error may be closed
            sys.stderr.write(
                f"forkless watchdog: nothing has moved for {self._seconds:g} s\n{report(root)}\n"
            )
            sys.stderr.flush()
