"""Names of `multiprocessing.popen_forkserver`."""

from typing import ClassVar

from . import popen_fork
from .reduction import DupFd

__all__ = ["Popen"]


class Popen(popen_fork.Popen):
    """What a process of this start method has as `_popen`; see `popen_fork.Popen`."""

    method = "forkserver"
    DupFd = DupFd

    # What `context.get_spawning_popen` returns while any process is pickled.
    spawning: ClassVar["Popen"]


Popen.spawning = Popen.__new__(Popen)
