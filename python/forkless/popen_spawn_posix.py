"""Names of `multiprocessing.popen_spawn_posix`."""

from . import popen_fork
from .reduction import DupFd

__all__ = ["Popen"]


class Popen(popen_fork.Popen):
    """What a process of this start method has as `_popen`; see `popen_fork.Popen`."""

    method = "spawn"
    DupFd = DupFd
