"""The Python stack of a process that a fatal signal ends, written down for its parent.

The interpreter's fault handler writes it, to a place in shared memory that outlives the process.
"""

import faulthandler

from . import _forks
from ._forkless import open_last_words

_descriptor: int | None = None


def prepare() -> None:
    """In a child: has SIGSEGV, SIGFPE, SIGABRT, SIGBUS and SIGILL write the stacks down before it ends."""
    global _descriptor
    if _descriptor is None:
        # Written out: `contextlib.suppress` costs each child 23 pages.
        try:
            _descriptor = open_last_words()
            faulthandler.enable(_descriptor)
        except OSError:
            pass  # Without descriptors, or without /proc, it dies as silently as any other program.


def _prepare_again() -> None:
    """In a copy of this process: what it has to say is not the original's."""
    global _descriptor
    if _descriptor is not None:
        # The descriptor itself may be somebody else's by now, so it is left alone.
        _descriptor = None
        faulthandler.disable()
        prepare()


_forks.in_copy(_prepare_again)
