"""Connections: the counterpart of `multiprocessing.connection`, and a peer of it on the wire.

Framing and authentication are those of the standard library, so either end may be one of its connections.
Between two of ours a connection carries more than that: functions and classes of `__main__`, shared objects,
and other connections.
"""

import contextlib
import os
import select
import socket
import struct
import time
import weakref
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from . import _authentication, _exit, _internals, _pickling, exceptions
from ._authentication import CHALLENGE, FAILURE, WELCOME
from ._forkless import Channel, Deposit, open_shared
from ._stdlib import connection as _standard
from .exceptions import AuthenticationError, BufferTooShort

if TYPE_CHECKING:
    from typing_extensions import Buffer, Self

    from ._forkless import Message, Shared
    from .reduction import DupFd

__all__ = [
    "CHALLENGE",
    "FAILURE",
    "WELCOME",
    "Client",
    "Connection",
    "Listener",
    "Pipe",
    "address_type",
    "answer_challenge",
    "arbitrary_address",
    "deliver_challenge",
    "families",
    "wait",
]

BUFSIZE = 8192
CONNECTION_TIMEOUT = 20.0  # seconds; nothing here is bound to it
MESSAGE_LENGTH = 40  # bytes of a challenge
default_family = "AF_UNIX"
families = ["AF_INET", "AF_UNIX"]

T = TypeVar("T")

_PIECE = 1 << 18  # bytes read at once: what is allocated on the word of a peer
_TOGETHER = 1 << 14  # bytes of a message that are copied behind its header, rather than written by themselves
_ATOMIC = select.PIPE_BUF  # bytes that can be written without waiting where some can
_LONG = 0x7FFFFFFF  # a longer message has its length in eight bytes
# Seconds that a client may take to show a listener that it has the key, and a listener on another machine to
# show it a client. On this machine the kernel says when a listener is gone.
_HANDSHAKE = 60.0
_PREFIX = "\0forkless-"  # of the addresses made here

# Messages taken out of a box before their turn, by box and tag.
_early: "dict[tuple[int, int, int], dict[int, Message]]" = {}
_MOST_EARLY = 64  # of one box

_NOTHING: tuple[int | None, list[bytes]] = (None, [])


class Connection(_standard.Connection):
    """One end of a pipe or a socket, for messages.

    What differs from `multiprocessing`: everything that blocks takes a `timeout` in seconds; memory is
    allocated for what has arrived, not for what a peer announces; a connection may be sent anywhere, at any
    time, through a connection too. Two things end a message that is being sent before its end: a timeout, and
    an exception raised by a signal handler (Ctrl-C). The connection is then closed, since its other end could
    not tell the next message from the rest of this one. Receiving can be broken off and taken up again.

    Args:
        handle: a descriptor, from now on this object's.
        readable: whether it can be read from.
        writable: whether it can be written to.
    """

    _handle: int | None
    _readable: bool
    _writable: bool
    # What has arrived of the next message: its length, if that is known, and the pieces. One attribute, so
    # that a signal handler finds both old or both new.
    _arrived: tuple[int | None, list[bytes]] = _NOTHING
    # Where messages with shared objects lie, which a stream of bytes could not keep alive.
    _outbox: Channel | None = None
    _inbox: Channel | None = None

    def send(self, obj: Any, timeout: float | None = None) -> None:
        """Sends an object.

        Args:
            obj: anything that can be sent; pickled now.
            timeout: how long to wait until all of it was written, in seconds; None waits for ever.

        Raises:
            pickle.PicklingError: it cannot be sent, and nothing was.
            TimeoutError: the other end did not read in time.
            BrokenPipeError: the other end is closed.
        """
        deadline = _deadline(timeout)
        self._check(writing=True)
        payload, handles = _pickling.dumps(obj, leased=self._outbox is not None)
        if not handles:
            self._send_bytes(payload, deadline)
        elif self._outbox is not None:
            # Where the messages of two senders cross, each is still found by its number.
            tag = int.from_bytes(os.urandom(8), "little")
            self._outbox.send(payload, handles, tag=tag)
            self._send_bytes(_plain(_Entrusted(self._outbox, tag)), deadline)
        else:
            self._send_held(payload, handles, deadline)

    def recv(self, timeout: float | None = None) -> Any:
        """Receives an object.

        Args:
            timeout: how long to wait, in seconds; None waits for ever.

        Raises:
            EOFError: there is nothing left, and the other end is closed.
            TimeoutError: it was not there in time.
        """
        deadline = _deadline(timeout)
        self._check(reading=True)
        return _pickling.loads(self._receive(None, deadline))

    def send_bytes(
        self, buf: "Buffer", offset: int = 0, size: int | None = None, timeout: float | None = None
    ) -> None:
        """Sends bytes as one message.

        Args:
            buf: any contiguous buffer.
            offset: where to begin, in bytes.
            size: how many bytes; None for the rest.
            timeout: as in `send`.
        """
        deadline = _deadline(timeout)
        self._check(writing=True)
        view = memoryview(buf)
        view = view if view.itemsize == 1 and view.ndim == 1 else view.cast("B")
        if offset < 0:
            raise ValueError("offset is negative")
        if offset > view.nbytes:
            raise ValueError("buffer length < offset")
        if size is None:
            size = view.nbytes - offset
        elif size < 0:
            raise ValueError("size is negative")
        elif offset + size > view.nbytes:
            raise ValueError("buffer length < offset + size")
        self._send_bytes(view[offset : offset + size], deadline)

    def recv_bytes(self, maxlength: int | None = None, timeout: float | None = None) -> bytes:
        """Receives one message of bytes.

        Args:
            maxlength: the longest that is acceptable, in bytes.
            timeout: as in `recv`.

        Raises:
            OSError: the message is longer; nothing more can be received.
            EOFError: there is nothing left, and the other end is closed.
            TimeoutError: it was not there in time.
        """
        deadline = _deadline(timeout)
        self._check(reading=True)
        if maxlength is not None and maxlength < 0:
            raise ValueError("negative maxlength")
        return self._receive(maxlength, deadline)

    def recv_bytes_into(self, buf: "Buffer", offset: int = 0, timeout: float | None = None) -> int:
        """Receives one message of bytes into a writable buffer.

        Args:
            buf: where to.
            offset: from which byte on.
            timeout: as in `recv`.

        Returns:
            How many bytes there were.

        Raises:
            BufferTooShort: there is not enough room; the message is `args[0]` of the exception.
        """
        deadline = _deadline(timeout)
        self._check(reading=True)
        with memoryview(buf) as view, view.cast("B") as target:
            if offset < 0:
                raise ValueError("negative offset")
            if offset > target.nbytes:
                raise ValueError("offset too large")
            message = self._receive(None, deadline)
            if len(message) > target.nbytes - offset:
                raise BufferTooShort(message)
            target[offset : offset + len(message)] = message
            return len(message)

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Whether there is something to receive, or the other end is closed.

        Args:
            timeout: how long to wait for that, in seconds; None waits for ever.
        """
        self._check(reading=True)
        return bool(wait([self], timeout))

    def close(self) -> None:
        """Closes it; what was sent can still be received at the other end."""
        super().close()

    # Called once, by `close` or by `__del__`, which may run when this module is taken apart.
    def _close(self, _early: Any = _early, _close: Any = os.close) -> None:
        if self._inbox is not None:
            _early.pop(self._inbox.handle, None)
        self._outbox = self._inbox = None
        self._arrived = (None, [])
        _close(self._handle)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._reduce(leased=False)

    def _reduce(self, *, leased: bool) -> tuple[Any, ...]:
        self._check()
        if self._arrived[1]:
            raise ValueError(f"{self!r} has received a part of a message: receive the rest before it is sent")
        from .reduction import DupFd

        # Where nothing keeps the boxes alive, it travels without.
        boxes = (self._outbox, self._inbox) if leased else (None, None)
        return _rebuild, (type(self), DupFd(self.fileno()), self._readable, self._writable, *boxes)

    def __repr__(self) -> str:
        state = "closed" if self._handle is None else f"fd={self._handle}"
        way = "" if self._readable and self._writable else " reading" if self._readable else " writing"
        return f"<{type(self).__module__}.{type(self).__qualname__} {state}{way}>"

    def _check(self, reading: bool = False, writing: bool = False) -> None:
        if self._handle is None:
            raise OSError("handle is closed")
        if reading and not self._readable:
            raise OSError("connection is write-only")
        if writing and not self._writable:
            raise OSError("connection is read-only")

    def _send_bytes(self, buf: "bytes | memoryview", deadline: float | None = None) -> None:
        size = len(buf)
        header = struct.pack("!i", size) if size <= _LONG else struct.pack("!iQ", -1, size)
        parts = [header + buf] if size <= _TOGETHER else [header, buf]
        total = len(header) + size
        # How much each call has written. The call and the note of it are one step in C, between whose parts
        # no signal handler runs: so it is known whether the other end has got anything.
        written: list[int] = []
        try:
            for part in parts:
                self._write(memoryview(part), written, deadline)
        except BaseException as error:
            done = sum(written)
            if not 0 < done < total:
                raise
            name = repr(self)
            self.close()
            if isinstance(error, exceptions.TimeoutError):
                raise exceptions.TimeoutError(
                    f"{name} has sent {done} of the {total} bytes of a message in time, and is closed now: "
                    "its other end could not tell the next message from the rest of this one"
                ) from None
            raise

    def _write(self, rest: memoryview, written: list[int], deadline: float | None) -> None:
        while rest:
            piece = rest
            if deadline is not None:
                self._await(select.POLLOUT, deadline, "sent")
                piece = rest[:_ATOMIC]
            try:
                written.extend(map(os.write, (self.fileno(),), (piece,)))
            except (BrokenPipeError, ConnectionResetError) as error:
                raise type(error)(error.errno, f"the other end of {self!r} is closed") from None
            except BlockingIOError:  # Whoever made the descriptor wants it so.
                self._await(select.POLLOUT, deadline, "sent")
                continue
            rest = rest[written[-1] :]

    def _recv_bytes(self, maxsize: int | None = None) -> Any:
        """For those who know the base class: a `BytesIO`, or None for a message that is too long."""
        import io

        message = io.BytesIO(self._receive(maxsize, None))
        message.seek(0, os.SEEK_END)
        return message

    def _receive(self, most: int | None, deadline: float | None) -> bytes:
        size, pieces = self._arrived
        if size is None:
            if not pieces:
                pieces = []
                self._arrived = (None, pieces)
            self._read(pieces, 4, deadline)
            header = b"".join(pieces)
            (size,) = struct.unpack_from("!i", header)
            if size == -1:
                self._read(pieces, 12, deadline)
                (size,) = struct.unpack("!4xQ", b"".join(pieces))
            if size < 0:
                self._stop_reading(
                    f"a message of {size} bytes is none: the other end speaks another protocol"
                )
            if most is not None and size > most:
                self._stop_reading(f"bad message length: {size} bytes, at most {most} are acceptable")
            pieces = []
            self._arrived = (size, pieces)
        self._read(pieces, size, deadline)
        self._arrived = _NOTHING
        return b"".join(pieces)

    def _read(self, pieces: list[bytes], size: int, deadline: float | None) -> None:
        """Reads until the pieces have so many bytes in all."""
        missing = size - sum(map(len, pieces))
        while missing > 0:
            if deadline is not None:
                self._await(select.POLLIN, deadline, "received")
            try:
                # One step, as in `_send_bytes`: what was read is not lost when a signal handler raises.
                pieces.extend(map(os.read, (self.fileno(),), (min(missing, _PIECE),)))
            except BlockingIOError:
                self._await(select.POLLIN, deadline, "received")
                continue
            except ConnectionResetError as error:
                # It had not read everything when it was closed, or killed.
                raise self._end(pieces) from error
            missing -= len(pieces[-1])
            if not pieces[-1]:
                pieces.pop()
                raise self._end(pieces)

    def _end(self, pieces: list[bytes]) -> Exception:
        if pieces or self._arrived[0]:
            return OSError(f"got end of file during message: the other end of {self!r} was closed or killed")
        return EOFError(f"the other end of {self!r} is closed")

    def _stop_reading(self, why: str) -> None:
        name = repr(self)
        self._arrived = _NOTHING
        if self._writable:
            self._readable = False
        else:
            self.close()
        raise OSError(f"{why}; nothing more can be received from {name}")

    def _await(self, event: int, deadline: float | None, what: str) -> None:
        if not _poll([(self.fileno(), event)], deadline):
            raise exceptions.TimeoutError(f"the message was not {what} in time by {self!r}")

    def _send_held(self, payload: bytes, handles: "Sequence[Shared]", deadline: float | None) -> None:
        """Sends a message with descriptors, which this process holds until they are taken."""
        from .reduction import hold, let_go

        deposits = [handle for handle in handles if isinstance(handle, Deposit)]
        for handle in handles:
            if handle not in deposits:
                raise _pickling.PicklingError(
                    f"{handle!r} cannot be sent through {self!r}: nothing would keep it alive until it is "
                    "received. Send it through a Queue or a Pipe, or as an argument of a Process"
                )
        for deposit in deposits:
            hold(deposit)
        try:
            self._send_bytes(payload, deadline)
        except BaseException:
            # Nobody has all of it.
            let_go(deposits)
            raise

    if TYPE_CHECKING:

        def __enter__(self) -> "Self": ...
        def __exit__(
            self,
            exc_type: type[BaseException] | None,
            exc_value: BaseException | None,
            exc_tb: TracebackType | None,
        ) -> None: ...


def _rebuild(
    kind: type[Connection],
    dup: "DupFd",
    readable: bool,
    writable: bool,
    outbox: Channel | None,
    inbox: Channel | None,
) -> Connection:
    connection = kind(dup.detach(), readable, writable)
    connection._outbox, connection._inbox = outbox, inbox
    return connection


_pickling.handlers[Connection] = lambda pickler, connection: connection._reduce(leased=pickler.leased)


class _Entrusted:
    """What travels through the stream for a message that lies in a box."""

    def __init__(self, box: Channel, tag: int) -> None:
        self._place = box, tag

    def __reduce__(self) -> tuple[Any, ...]:
        box, tag = self._place
        # Both ends have the box: it needs nothing of what a pickle for strangers says.
        return _collect, (box._reduce()[1], tag)


def _plain(obj: object) -> bytes:
    import pickle

    return pickle.dumps(obj, protocol=5)


def _collect(place: tuple[Any, ...], tag: int) -> Any:
    """The message that was entrusted to a box under this tag."""
    box: Any = open_shared(*place)
    early = _early.setdefault(box.handle, {})
    message = early.pop(tag, None)
    while message is None:
        other = box.receive(block=False)
        if other is None:
            raise OSError(
                "a message with shared objects is not there any more: another process that reads from the "
                "same connection at the same time has taken it; use a lock around recv(), or a Queue"
            )
        if other.tag == tag:
            message = other
        else:
            # Its place in the stream comes later, or was never looked at.
            early[other.tag] = other
            if len(early) > _MOST_EARLY:
                del early[next(iter(early))]
    if not early:
        _early.pop(box.handle, None)
    return _pickling.loads(message)


def Pipe(duplex: bool = True) -> tuple[Connection, Connection]:  # noqa: N802
    """Two connections that are each other's ends.

    Args:
        duplex: whether both can send; otherwise the first receives what the second sends.

    Example:
        >>> here, there = Pipe()
        >>> process = Process(target=lambda end: end.send("hello"), args=(there,))
        >>> process.start()
        >>> there.close()
        >>> here.recv()
        'hello'
    """
    if duplex:
        one, two = socket.socketpair()
        # `socket.setdefaulttimeout` is not meant for these.
        one.setblocking(True)
        two.setblocking(True)
        first, second = Connection(one.detach()), Connection(two.detach())
        first._outbox = second._inbox = Channel()
    else:
        reader, writer = os.pipe()
        first, second = Connection(reader, writable=False), Connection(writer, readable=False)
    second._outbox = first._inbox = Channel()
    return first, second


class Listener:
    """A socket that waits for connections by `Client`, ours or the standard library's.

    Args:
        address: a path or an abstract name (a string) or host and port; made up if None.
        family: "AF_UNIX" or "AF_INET"; None: what the address is of, or "AF_UNIX".
        backlog: how many clients may wait to be accepted.
        authkey: what clients must know, and show that they know; None lets in everybody who can reach it.

    An address that is made up is no file, and vanishes with the listener. Only processes of the same user
    get in by it.

    Raises:
        OSError: the address is in use.

    Example:
        >>> with Listener(authkey=b"secret") as listener, listener.accept() as connection:
        ...     print(connection.recv())
    """

    def __init__(
        self,
        address: Any = None,
        family: str | None = None,
        backlog: int = 1,
        authkey: bytes | None = None,
    ) -> None:
        self._socket: socket.socket | None = None
        family = family or (address_type(address) if address else default_family)
        _check_family(family)
        if authkey is not None and not isinstance(authkey, bytes):
            raise TypeError(f"authkey must be bytes, not {type(authkey).__name__}")
        self._authkey = authkey
        self._last_accepted: Any = None
        self._unlink: Any = None
        bound = socket.socket(getattr(socket, family))
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Not blocking: a client may be gone again when it is its turn.
            bound.setblocking(False)
            bound.bind(address or arbitrary_address(family))
            bound.listen(backlog)
        except BaseException:
            bound.close()
            raise
        self._socket, self._address = bound, bound.getsockname()
        if family == "AF_UNIX" and not _is_abstract(self._address):
            self._unlink = weakref.finalize(self, _unlink, self._address, os.getpid())

    def accept(self, timeout: float | None = None) -> Connection:
        """The connection to the next client, once that has shown that it knows the key.

        Args:
            timeout: how long to wait, in seconds; None waits for ever. A client that has connected has 60
                seconds at most to show that it knows the key.

        Raises:
            AuthenticationError: the client has another key, or none. The next one can be accepted.
            TimeoutError: there was none in time.
            OSError: the listener is closed.
        """
        deadline = _deadline(timeout)
        connection = self._accept(deadline)
        if self._authkey is not None:
            _handshake(connection, self._authkey, deadline, first=True, patience=_HANDSHAKE)
        return connection

    def _accept(self, deadline: float | None) -> Connection:
        while True:
            if self._socket is None:
                raise OSError("listener is closed")
            if not _poll([(self._socket.fileno(), select.POLLIN)], deadline):
                raise exceptions.TimeoutError(f"nobody connected to {self!r} in time")
            try:
                client, name = self._socket.accept()
            except (BlockingIOError, ConnectionAbortedError):
                continue
            client.setblocking(True)
            if _is_ours(self._address) and not _same_user(client):
                client.close()
                continue
            self._last_accepted = name
            return Connection(client.detach())

    def close(self) -> None:
        """Accepts nobody from now on; connections there are go on."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._unlink is not None:
            self._unlink()

    @property
    def address(self) -> Any:
        """What to give to `Client`."""
        if self._socket is None:
            raise OSError("listener is closed")
        return self._address

    @property
    def last_accepted(self) -> Any:
        """The address of the client accepted last, if it has one."""
        return self._last_accepted

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        where = "closed" if self._socket is None else f"address={self._address!r}"
        return f"<{type(self).__module__}.{type(self).__qualname__} {where}>"


def _unlink(path: Any, pid: int) -> None:
    if os.getpid() == pid:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def Client(  # noqa: N802
    address: Any, family: str | None = None, authkey: bytes | None = None, timeout: float | None = None
) -> Connection:
    """A connection to a `Listener`, ours or the standard library's.

    Args:
        address: that of the listener.
        family: "AF_UNIX" or "AF_INET"; None: what the address is of.
        authkey: the key that both know; None if the listener has none.
        timeout: how long to wait for the listener to answer, in seconds; None waits for ever.

    Raises:
        AuthenticationError: the listener has another key, or none.
        TimeoutError: there was no answer in time.
        OSError: nobody listens there.
    """
    deadline = _deadline(timeout)
    family = family or address_type(address)
    _check_family(family)
    if authkey is not None and not isinstance(authkey, bytes):
        raise TypeError(f"authkey must be bytes, not {type(authkey).__name__}")
    with socket.socket(getattr(socket, family)) as sock:
        _connect(sock, address, deadline)
        if _is_ours(address) and not _same_user(sock):
            raise AuthenticationError(f"a process of another user listens at {address!r}")
        connection = Connection(sock.detach())
    if authkey is not None:
        patience = None if family == "AF_UNIX" else _HANDSHAKE
        _handshake(connection, authkey, deadline, first=False, patience=patience)
    return connection


def _connect(sock: socket.socket, address: Any, deadline: float | None) -> None:
    while True:
        sock.settimeout(None if deadline is None else max(1e-6, deadline - time.monotonic()))
        try:
            sock.connect(address)
        except (BlockingIOError, TimeoutError) as error:
            # A local socket with a time limit does not wait for a place in the listener's queue.
            if deadline is not None and isinstance(error, BlockingIOError) and time.monotonic() < deadline:
                time.sleep(0.001)
                continue
            raise exceptions.TimeoutError(f"no connection to {address!r} in time") from error
        sock.setblocking(True)
        return


def _handshake(
    connection: Connection, key: bytes, deadline: float | None, *, first: bool, patience: float | None
) -> None:
    """Both sides show that they know the key; on failure the connection is closed."""
    bound = None if patience is None else time.monotonic() + patience
    limit = bound if deadline is None or (bound is not None and bound < deadline) else deadline
    try:
        ends = _Limited(connection, limit)
        if first:
            _authentication.deliver(ends, key)
            _authentication.answer(ends, key)
        else:
            _authentication.answer(ends, key)
            _authentication.deliver(ends, key)
    except BaseException as error:
        connection.close()
        if isinstance(error, exceptions.TimeoutError) and bound is not None and limit == bound:
            message = f"the other side did not show within {patience:.0f} seconds that it knows the key"
            raise AuthenticationError(message) from None
        if type(error) is OSError:
            message = f"the other side does not speak the protocol of connections with a key: {error}"
            raise AuthenticationError(message) from error
        raise


class _Limited:
    """A connection with one time limit for all that is done, if there is one."""

    def __init__(self, connection: Connection, limit: float | None) -> None:
        self._connection, self._limit = connection, limit

    def send_bytes(self, buf: bytes) -> None:
        self._connection.send_bytes(buf, timeout=self._left())

    def recv_bytes(self, maxlength: int) -> bytes:
        return self._connection.recv_bytes(maxlength, timeout=self._left())

    def _left(self) -> float | None:
        return None if self._limit is None else self._limit - time.monotonic()


def deliver_challenge(connection: Any, authkey: bytes, digest_name: str = "sha256") -> None:
    """Has the other side of a connection show that it knows the key.

    Args:
        connection: whatever has `send_bytes` and `recv_bytes`.
        authkey: the key.
        digest_name: the digest to use: "sha256", "sha384", "sha3_256", "sha3_384" or "md5".

    Raises:
        AuthenticationError: it does not know it.
    """
    _authentication.deliver(connection, authkey, digest_name)


def answer_challenge(connection: Any, authkey: bytes) -> None:
    """Shows the other side of a connection that this one knows the key.

    Raises:
        AuthenticationError: the other side has another key.
    """
    _authentication.answer(connection, authkey)


def wait(object_list: Iterable[T], timeout: float | None = None) -> list[T]:
    """Waits until one of several objects is ready.

    Args:
        object_list: connections, sockets, sentinels of processes, whatever has a `fileno` or is a descriptor.
        timeout: how long to wait, in seconds; None waits for ever, and zero or less only looks.

    Returns:
        Those that can be read, or have ended, in the order given; none if the time is over.

    Raises:
        OSError: one of them is closed.
    """
    objects = [(fileno if isinstance(fileno := each, int) else _fileno(each), each) for each in object_list]
    events = [(fd, select.POLLIN) for fd in {fd for fd, _ in objects}]
    ready = _poll(events, _deadline(timeout))
    return [each for fd, each in objects if fd in ready]


def _fileno(obj: Any) -> int:
    try:
        fd = obj.fileno()
    except AttributeError:
        advice = "; wait for its sentinel" if hasattr(obj, "sentinel") else ""
        raise ValueError(
            f"cannot wait for {obj!r}: it is no descriptor and has no fileno(){advice}"
        ) from None
    if not isinstance(fd, int) or fd < 0:
        raise ValueError(f"cannot wait for {obj!r}: it is closed")
    return fd


def _poll(events: list[tuple[int, int]], deadline: float | None) -> set[int]:
    """The descriptors on which something has happened, waiting for the first; none after the deadline."""
    poll = select.poll()
    for fd, event in events:
        poll.register(fd, event)
    left: float | None = None
    while True:
        if deadline is None:
            found = poll.poll() if events else []
        else:
            # The last look is one after the deadline: this process may have been stopped until then.
            left = max(0.0, deadline - time.monotonic())
            # Up, lest it asks again and again in the last millisecond; a day is less than it can count.
            found = poll.poll(min(-(-left * 1000 // 1), 86_400_000))
        closed = [fd for fd, event in found if event & select.POLLNVAL]
        if closed:
            import errno

            raise OSError(errno.EBADF, f"descriptor {closed[0]} is not open")
        if found or not left:
            return {fd for fd, _ in found}


def _deadline(timeout: float | None) -> float | None:
    if timeout is None:
        return None
    if timeout != timeout:
        raise ValueError("timeout is not a number")
    return None if timeout == float("inf") else time.monotonic() + max(0.0, timeout)


def address_type(address: Any) -> str:
    """The family that an address is of: "AF_INET" or "AF_UNIX".

    Raises:
        ValueError: it is of none that there is here.
    """
    if isinstance(address, tuple):
        return "AF_INET"
    if isinstance(address, str) and address.startswith("\\\\"):
        return "AF_PIPE"
    if isinstance(address, str) or (isinstance(address, bytes) and address.startswith(b"\0")):
        return "AF_UNIX"
    raise ValueError(f"address type of {address!r} unrecognized")


def arbitrary_address(family: str) -> Any:
    """An address to listen at that nobody uses: a port of this machine, or a name that is no file."""
    if family == "AF_INET":
        return "localhost", 0
    if family == "AF_UNIX":
        return f"{_PREFIX}listener-{os.urandom(8).hex()}"
    raise ValueError("unrecognized family")


def _check_family(family: str) -> None:
    if not family.startswith("AF_") or not hasattr(socket, family):
        raise ValueError(f"Family {family} is not recognized.")


def _is_abstract(address: Any) -> bool:
    return isinstance(address, (str, bytes)) and address[:1] in ("\0", b"\0")


def _is_ours(address: Any) -> bool:
    """Whether the address was made up here, so that nobody of another user can be meant."""
    name = os.fsdecode(address) if isinstance(address, bytes) else address
    return isinstance(name, str) and name.startswith(_PREFIX)


def _same_user(sock: socket.socket) -> bool:
    size = struct.calcsize("3i")
    _, user, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return user in (os.geteuid(), 0)


# Where `multiprocessing` registers its handler: those that programs register from now on run before it.
_exit.register()


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        return _internals.find(__name__, name)
