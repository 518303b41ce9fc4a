"""A temporary directory for a cluster on this machine, which is removed even if this program is killed."""

import contextlib
import shutil
import subprocess
import tempfile

__all__ = ["Scratch"]

# Reads until the program closes the other end or dies, then waits for processes that die with it.
_SCRIPT = 'read line; [ "$line" = done ] || sleep 2; rm -rf -- "$0"'


class Scratch:
    """A directory, and a shell that removes it when the program has ended.

    Args:
        prefix: of its name.

    Attributes:
        path: of the directory. Short, because sockets are in it.
    """

    def __init__(self, prefix: str) -> None:
        self.path = tempfile.mkdtemp(prefix=prefix)
        self._janitor = subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT, self.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C on a terminal is not for it.
        )

    def remove(self) -> None:
        """Removes it now."""
        shutil.rmtree(self.path, ignore_errors=True)
        with contextlib.suppress(OSError):
            self._janitor.communicate(b"done\n")
