"""A Dask cluster on this machine, for `Executor("dask")`.

Dask starts its workers by the standard library's `spawn`, which runs the program's `__main__` again. So the
cluster is started in a process of forkless, whose `__main__` is empty; it ends with this program, however
that ends.
"""

import contextlib
import sys
from typing import Any

from .. import connection, process
from .._cpus import cpu_count
from .scratch import Scratch

__all__ = ["LocalDask"]

# How long the cluster may take to end by itself, in seconds.
_END = 10.0


class LocalDask:
    """One worker process for each CPU, with one thread each.

    Args:
        timeout: how long starting may take, in seconds.

    Attributes:
        address: of its scheduler.

    Raises:
        ConnectionError: it did not start.
    """

    def __init__(self, timeout: float) -> None:
        self._scratch = Scratch("forkless-dask-")
        self._pipe, theirs = connection.Pipe()
        self._process = process.Process(
            target=serve,
            args=(theirs, cpu_count(), self._scratch.path),
            name="forkless Dask cluster",
            daemon=True,
        )
        self._process.start()
        theirs.close()
        try:
            if not self._pipe.poll(timeout):
                raise ConnectionError(
                    f"the new Dask cluster on this machine has not started within {timeout:g} s"
                )
            self.address: str = self._pipe.recv()
        except EOFError:
            self.close()
            raise ConnectionError("the new Dask cluster on this machine has ended while it started") from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends it."""
        self._pipe.close()
        self._process.join(_END)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._scratch.remove()


def serve(pipe: Any, workers: int, directory: str) -> None:
    """What the process does: runs the cluster until the other end of the pipe is closed."""
    # By it, `spawn` would find the user's program, and run it.
    vars(sys.modules["__main__"]).pop("__file__", None)
    import dask
    from distributed import LocalCluster

    dask.config.set(
        {
            # A task that kills its worker is not to kill others.
            "distributed.scheduler.allowed-failures": 0,
            "distributed.admin.log-format": "%(message)s",
        }
    )
    with LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address=None,
        local_directory=directory,
        silence_logs="CRITICAL",
    ) as cluster:
        pipe.send(cluster.scheduler_address)
        with contextlib.suppress(EOFError, OSError):
            pipe.recv()
