"""Connections between threads: the counterpart of `multiprocessing.dummy.connection`.

Objects go over as they are, without being pickled. What differs from there: a closed end is noticed by the
other one, which gets an `EOFError` or a `BrokenPipeError` instead of waiting for ever.
"""

import threading
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Client", "Connection", "Listener", "Pipe"]

families = [None]


class _Direction:
    """Messages on their way from one end to the other."""

    def __init__(self) -> None:
        self.messages: deque[Any] = deque()
        self.changed = threading.Condition()
        self.no_sender = self.no_receiver = False

    def put(self, obj: Any) -> None:
        with self.changed:
            if self.no_receiver:
                raise BrokenPipeError("the other end of this connection is closed")
            self.messages.append(obj)
            self.changed.notify()

    def wait(self, timeout: float | None) -> bool:
        """Whether a message, or the end, is there."""
        with self.changed:
            return self.changed.wait_for(lambda: bool(self.messages) or self.no_sender, timeout)

    def get(self, timeout: float | None) -> Any:
        with self.changed:
            if not self.changed.wait_for(lambda: self.messages or self.no_sender, timeout):
                from ..exceptions import TimeoutError

                raise TimeoutError(f"nothing was received within {timeout} s")
            if not self.messages:
                raise EOFError("the other end of this connection is closed")
            return self.messages.popleft()

    def close(self, *, sender: bool) -> None:
        with self.changed:
            if sender:
                self.no_sender = True
            else:
                self.no_receiver = True
            self.changed.notify_all()


class Connection:
    """One end of a `Pipe` between threads.

    Args:
        _in: where messages come from.
        _out: where they go.
    """

    def __init__(self, _in: Any, _out: Any) -> None:
        self._in, self._out = _in, _out
        self.closed = False

    def send(self, obj: Any) -> None:
        """Sends an object; it does not wait.

        Raises:
            BrokenPipeError: the other end is closed.
            OSError: this end is.
        """
        self._check()
        self._out.put(obj)

    send_bytes = send

    def recv(self, timeout: float | None = None) -> Any:
        """Receives an object.

        Args:
            timeout: how long to wait, in seconds; None waits for ever.

        Raises:
            EOFError: there is nothing left, and the other end is closed.
            TimeoutError: it was not there in time.
            OSError: this end is closed.
        """
        self._check()
        return self._in.get(timeout)

    recv_bytes = recv

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Whether something can be received, or the end has come.

        Args:
            timeout: how long to wait for it, in seconds; None waits for ever.
        """
        self._check()
        return bool(self._in.wait(timeout))

    def close(self) -> None:
        """Closes this end; the other one is told."""
        if not self.closed:
            self.closed = True
            self._out.close(sender=True)
            self._in.close(sender=False)

    def _check(self) -> None:
        if self.closed:
            raise OSError("handle is closed")

    def __enter__(self) -> "Self":
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        self.close()


class Listener:
    """Waits for clients in other threads.

    Args:
        address: ignored; `address` is what clients need.
        family: ignored.
        backlog: ignored: any number of clients may wait.
    """

    def __init__(self, address: object = None, family: object = None, backlog: int = 1) -> None:
        self._backlog: _Direction | None = _Direction()

    def accept(self, timeout: float | None = None) -> Connection:
        """The connection to the next client.

        Args:
            timeout: how long to wait for one, in seconds; None waits for ever.

        Raises:
            TimeoutError: nobody came in time.
            OSError: the listener is closed.
        """
        backlog = self._backlog
        if backlog is None:
            raise OSError("listener is closed")
        try:
            connection: Connection = backlog.get(timeout)
        except EOFError:
            raise OSError("listener was closed") from None
        return connection

    def close(self) -> None:
        """Accepts nobody any more."""
        backlog, self._backlog = self._backlog, None
        if backlog is not None:
            backlog.close(sender=True)
            backlog.close(sender=False)

    @property
    def address(self) -> Any:
        """What `Client` needs."""
        return self._backlog

    def __enter__(self) -> "Self":
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        self.close()


def Client(address: Any) -> Connection:  # noqa: N802
    """A connection to a `Listener` in another thread.

    Args:
        address: that of the listener.

    Raises:
        ConnectionRefusedError: it is closed.
    """
    ours, theirs = Pipe()
    try:
        address.put(theirs)
    except BrokenPipeError:
        raise ConnectionRefusedError("the listener is closed") from None
    return ours


def Pipe(duplex: bool = True) -> tuple[Connection, Connection]:  # noqa: N802
    """Two connections, each the other end of the other.

    Args:
        duplex: accepted for compatibility: both can send and receive.
    """
    there, back = _Direction(), _Direction()
    return Connection(there, back), Connection(back, there)
