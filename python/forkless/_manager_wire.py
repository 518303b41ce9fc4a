"""The messages between a manager's server and its clients, and how they are written.

A request is `(id, method, args, kwds)`, where the id of an object is None for what the server itself does. A
reply is `(kind, value)`, with the kinds of `multiprocessing` and one more, for exceptions that travel whole.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from . import _errors, _pickling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._forkless import Shared
    from .connection import Connection

RETURN, PROXY, ERROR, REPORT = "#RETURN", "#PROXY", "#ERROR", "#REPORT"
TRACEBACK, UNSERIALIZABLE = "#TRACEBACK", "#UNSERIALIZABLE"

Packed = tuple[bytes, "Sequence[Shared]"]


class Hello(NamedTuple):
    """How a client introduces itself on a new connection."""

    key: str  # of the process
    name: str
    pid: int
    thread: str  # as XML-RPC has no large numbers
    lease: bool  # whether the end of this connection is the end of the client


class Wire:
    """A connection with a way to write messages.

    Args:
        connection: from now on this object's.
        near: whether the other end is on this machine: then objects in shared memory travel too, and what
            keeps them alive is the end that has sent them, until the answer is there.
    """

    def __init__(self, connection: "Connection", near: bool) -> None:
        self.connection = connection
        self._near = near
        self._held: Sequence[Shared] = ()

    def pack(self, message: Any) -> Packed:
        """A message; raises PicklingError before anything is sent."""
        return _pickling.dumps(tuple(message), leased=self._near)

    def write(self, packed: Packed, timeout: float | None = None) -> None:
        """Sends a message."""
        payload, handles = packed
        if handles and not self._near:
            self.connection._send_held(payload, handles, None)
            return
        self._held = handles
        self.connection.send_bytes(payload, timeout=timeout)

    def read(self, timeout: float | None = None) -> bytes:
        """Receives a message; the last one that was sent has arrived, then."""
        return self.connection.recv_bytes(timeout=timeout)

    def load(self, payload: bytes) -> Any:
        """What a message says."""
        self._held = ()
        return _pickling.loads(payload)

    def describe(self, error: BaseException) -> tuple[str, Any]:
        """The reply that has an exception."""
        return REPORT, tuple(_errors.describe(error, home=False))

    def send(self, message: Any) -> None:
        """Sends a message, as `Connection.send` would."""
        self.write(self.pack(message))

    def recv(self) -> Any:
        """Receives a message, as `Connection.recv` would."""
        return self.load(self.read())

    def close(self) -> None:
        """Closes the connection."""
        self._held = ()
        self.connection.close()


class XmlWire(Wire):
    """Messages in the format of XML-RPC: numbers, strings, bytes, lists and dicts only, but no code."""

    def pack(self, message: Any) -> Packed:
        """A message; raises TypeError for what the format does not have."""
        import xmlrpc.client

        return xmlrpc.client.dumps((tuple(message),), allow_none=True).encode(), ()

    def load(self, payload: bytes) -> Any:
        """What a message says."""
        import xmlrpc.client

        ((message,), _) = xmlrpc.client.loads(payload.decode(), use_builtin_types=True)
        return message

    def describe(self, error: BaseException) -> tuple[str, Any]:
        """The reply that has an exception: its traceback."""
        import traceback

        return TRACEBACK, "".join(traceback.format_exception(error))


WIRES: dict[str, type[Wire]] = {"pickle": Wire, "xmlrpclib": XmlWire}


def wire(serializer: str, connection: "Connection", address: Any) -> Wire:
    """A wire over a connection to, or of, the server with this address."""
    return WIRES[serializer](connection, not isinstance(address, tuple))


def dispatch(
    c: Any, id: str | None, methodname: str | None, args: Iterable[Any] = (), kwds: Mapping[str, Any] = {}
) -> Any:
    """Sends a request over a connection and returns what comes back.

    Raises:
        RemoteError: the server could not do it.
        Exception: what the method raised.
    """
    c.send((id, methodname, args, kwds))
    return unwrap(*c.recv())


def unwrap(kind: str, value: Any) -> Any:
    """What a reply returns, or raises."""
    if kind == RETURN:
        return value
    errors = [convert_to_error(kind, value)]
    del value  # or else the error and this frame would keep each other
    return _raise(errors)


def _raise(errors: list[BaseException]) -> NoReturn:
    error = errors.pop()
    try:
        if isinstance(error, Exception):
            raise error
        # It would end this process, or look like a Ctrl-C here.
        raise _remote_error(
            f"{type(error).__name__} was raised by the method, in the manager's process. That does not end "
            "the manager, nor this process: raise an Exception to tell its callers something",
            type(error).__name__,
        ) from error
    finally:
        del error


def convert_to_error(kind: str, result: Any) -> BaseException:
    """The exception that a reply stands for."""
    if kind == REPORT:
        return _errors.rebuild(_errors.Report(*result))
    if kind == ERROR:
        return result  # type: ignore[no-any-return]
    if kind == UNSERIALIZABLE:
        return _remote_error(f"Unserializable message: {result}")
    if kind == TRACEBACK:
        return _remote_error(str(result))
    return ValueError(f"Unrecognized message type {kind!r}")


def not_made(typeid: str, /, *args: Any, error: BaseException) -> Exception:
    """The error of an object that could not be made: a RemoteError, as that of the standard library."""
    made = _remote_error(
        f"{type(error).__name__} was raised when the manager made a {typeid!r}: {error}", type(error).__name__
    )
    made.__cause__ = error
    return made


def _remote_error(message: str, type_name: str = "") -> Exception:
    from ._manager_errors import RemoteError

    return RemoteError(message, type_name)
