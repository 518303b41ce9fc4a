"""The process of a manager, as seen by the one that has started it."""

import contextlib
import os
import threading
from typing import TYPE_CHECKING, Any

from . import _exit, connection, process
from ._manager_wire import Hello, wire

if TYPE_CHECKING:
    from .process import Process

MOMENT = 10.0  # seconds, on a busy machine, from the end of a connection to that of the process that had it


class Host:
    """The process of a manager, as seen by the one that has started it.

    Args:
        child: the process.
        timeout: how long it may take to end, in seconds, before it is ended.
    """

    def __init__(self, child: "Process", timeout: float) -> None:
        self.process = child
        self.name, self.pid = child.name, child.pid or 0
        self.was_shut_down = False
        self._timeout = timeout
        self._owner = os.getpid()
        self._address: Any = None
        self._key, self._serializer = b"", ""

    def serves(self, address: Any, key: bytes, serializer: str) -> None:
        """Says where it listens."""
        self._address, self._key, self._serializer = address, key, serializer
        _exit.servers.add(self)

    def shut_down(self) -> None:
        """Has it end, by a message; if it does not, by SIGTERM and then by SIGKILL."""
        _exit.servers.discard(self)
        if self.was_shut_down or os.getpid() != self._owner:
            return
        self.was_shut_down = True
        self.process._dies_quietly = True
        if self.process.is_alive():
            with contextlib.suppress(Exception):
                self._ask()
            self.process.join(self._timeout)
        if self.process.is_alive():
            self.process.terminate(self._timeout)
            self.process.join(self._timeout + 1)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()

    def _ask(self) -> None:
        limit = max(self._timeout, 0.1)
        ends = wire(
            self._serializer,
            connection.Client(self._address, authkey=self._key, timeout=limit),
            self._address,
        )
        with contextlib.closing(ends):
            ends.send((None, "accept_connection", (tuple(hello(os.urandom(8).hex(), lease=True)),), {}))
            ends.send((None, "shutdown", (), {}))
            for _ in range(2):
                ends.connection.recv_bytes(timeout=limit)

    def end(self) -> str:
        """How it ended, as the end of a sentence; "" if it has not."""
        self.process.join(MOMENT)
        if self.process.is_alive():
            return ""
        from ._broken import describe_end

        return describe_end(self.exitcode())

    def exitcode(self) -> int | None:
        """Its exit code, None if that is not known."""
        try:
            return self.process.exitcode
        except Exception:
            return None


def hello(key: str, lease: bool) -> Hello:
    """How this thread introduces itself to a server."""
    thread = threading.current_thread()
    name = process.current_process().name
    if thread is not threading.main_thread():
        name += f"|{thread.name}"
    return Hello(key, name, os.getpid(), str(thread.ident), lease)
