"""Pickles that carry descriptors: the counterpart of `multiprocessing.reduction`, without its thread.

A descriptor on its way is kept by the template, a process that outlives its sender: see "The life of a
descriptor" in ARCHITECTURE.md.
"""

import os
import socket
from collections.abc import Callable, Sequence
from typing import IO, Any

from . import _exit, _forks, _pickling, _programs
from ._forkless import Deposit
from ._stdlib import reduction as _standard

__all__ = [
    "ACKNOWLEDGE",
    "HAVE_SEND_HANDLE",
    "AbstractReducer",
    "DupFd",
    "DupSocket",
    "ForkingPickler",
    "dump",
    "recv_handle",
    "recvfds",
    "register",
    "send_handle",
    "sendfds",
]

ACKNOWLEDGE = _standard.ACKNOWLEDGE
HAVE_SEND_HANDLE = _standard.HAVE_SEND_HANDLE
recv_handle = _standard.recv_handle
recvfds = _standard.recvfds
send_handle = _standard.send_handle
sendfds = _standard.sendfds


class DupFd:
    """A copy of a descriptor for the journey to another process.

    It may be pickled into anything that forkless sends, any number of times, and the descriptor may be closed
    at once. In a pickle that somebody else makes (`pickle.dumps`, a `Listener`'s connection) it can be taken
    by one receiver, once, while this process runs.

    Args:
        fd: the descriptor; it stays the caller's.

    Raises:
        OSError: it is not open, or the system refuses.
        ProcessError: the template keeps as many descriptors as it can.

    Example:
        >>> reader, writer = os.pipe()
        >>> queue.put(DupFd(reader))
        >>> os.close(reader)
        >>> reader = queue.get().detach()  # in any process
    """

    def __init__(self, fd: int) -> None:
        _exit.register()
        self._deposit = Deposit(_programs.default(), fd)

    def detach(self) -> int:
        """A descriptor of this process's own; the caller closes it.

        Raises:
            ProcessError: the template that kept it was killed, or somebody has taken it.
        """
        return self._deposit.redeem()

    def __reduce__(self) -> tuple[Any, ...]:
        return _attach, (type(self), self._deposit)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._deposit!r}>"


def _attach(kind: type[DupFd], deposit: Deposit) -> DupFd:
    dup = kind.__new__(kind)
    dup._deposit = deposit
    return dup


class DupSocket:
    """A copy of a socket for the journey to another process; see `DupFd`.

    Args:
        sock: the socket; it stays the caller's.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._arguments = DupFd(sock.fileno()), sock.family, sock.type, sock.proto, sock.gettimeout()

    def detach(self) -> socket.socket:
        """A socket of this process's own."""
        return _socket(*self._arguments)


def reduce_socket(sock: socket.socket) -> tuple[Any, ...]:
    """How a socket is pickled."""
    return _socket, DupSocket(sock)._arguments


# By this name dill imports it, and with dill all that is built on it.
_reduce_socket = reduce_socket


def _socket(dup: DupFd, family: int, kind: int, proto: int, timeout: float | None) -> socket.socket:
    fd = dup.detach()
    try:
        sock = socket.socket(family, kind, proto, fileno=fd)
    except BaseException:
        os.close(fd)
        raise
    # Whether it blocks is a property of what both have in common, so both must think the same of it.
    sock.settimeout(timeout)
    return sock


def reduce_connection(conn: Any) -> tuple[Any, ...]:
    """How a connection of the standard library is pickled: as what it is, with its descriptor."""
    return _connection, (type(conn), DupFd(conn.fileno()), conn.readable, conn.writable)


def _connection(kind: type[Any], dup: DupFd, readable: bool, writable: bool) -> Any:
    return kind(dup.detach(), readable, writable)


# What other picklers have met: nobody else holds it until it is taken.
_held: set[Deposit] = set()


def hold(deposit: Deposit) -> None:
    """Holds a descriptor on its way until it is taken, once, or this process ends."""
    deposit.give_once()
    # Other threads may do the same: each step leaves alone what they add.
    let_go([other for other in list(_held) if other.given])
    _held.add(deposit)


def let_go(deposits: Sequence[Deposit]) -> None:
    """Undoes `hold`: nobody will take them any more."""
    _held.difference_update(deposits)


_forks.in_copy(_held.clear)


class ForkingPickler(_standard.ForkingPickler):
    """Pickles as everything that forkless sends is pickled; what is registered here holds for all of it.

    Nothing keeps alive the shared objects that such a pickle refers to: whoever makes it must hold them until
    it was loaded. What it has of descriptors is held, and can be taken once.
    """

    def __init__(self, file: IO[bytes], protocol: int | None = None) -> None:
        super().__init__(file, protocol)
        self._file = file

    def dump(self, obj: Any) -> None:
        """Writes the pickle of an object to the file."""
        self._file.write(self.dumps(obj))

    @classmethod
    def dumps(cls, obj: Any, protocol: int | None = None) -> memoryview:
        """The pickle of an object; the protocol is always 5."""
        payload, handles = _pickling.dumps(obj, leased=False)
        for handle in handles:
            if isinstance(handle, Deposit):
                hold(handle)
        return memoryview(payload)

    @staticmethod
    def loads(  # type: ignore[override]
        data: Any,
        /,
        *,
        fix_imports: bool = True,
        encoding: str = "ASCII",
        errors: str = "strict",
        buffers: Any = (),
    ) -> Any:
        """The object of a pickle; what else `pickle.loads` takes is for those of Python 2, and ignored."""
        return _pickling.loads(data)


def register(type: type[Any], reduce: Callable[[Any], Any]) -> None:
    """Registers how objects of a type are pickled, here and for `multiprocessing`."""
    ForkingPickler.register(type, reduce)


def dump(obj: Any, file: IO[bytes], protocol: int | None = None) -> None:
    """Writes the pickle of an object to a file."""
    ForkingPickler(file, protocol).dump(obj)


class AbstractReducer:
    """The functions and classes of this module in one place; `multiprocessing` has it to be derived from.

    A context takes no other reducer than this module: register how types are pickled with `register`.
    """

    ForkingPickler = ForkingPickler
    register = staticmethod(register)
    dump = staticmethod(dump)
    send_handle = staticmethod(send_handle)
    recv_handle = staticmethod(recv_handle)
    sendfds = staticmethod(sendfds)
    recvfds = staticmethod(recvfds)
    DupFd = DupFd
