"""A process as the client of a manager's server.

Each thread calls over connections of its own, so that it always meets the same thread of the server. One more
connection, the lease, only says that this process is there; references that are let go are told over it,
without waiting. Nothing here is locked: finalizers and signal handlers may call at any time.
"""

import contextlib
import errno
import os
import threading
import weakref
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from . import _forks, connection, process
from ._authentication import share_key
from ._manager_host import MOMENT, Host, hello
from ._manager_wire import ERROR, PROXY, REPORT, Wire, convert_to_error, not_made, unwrap, wire
from .exceptions import ManagerDied, TimeoutError

_AT_ONCE = 50  # ids in one message: less than what is written without waiting

# What goes wrong on this side.
_OURS = errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM

# All clients of this process, and by address the one that new proxies belong to.
_all: "weakref.WeakSet[Client]" = weakref.WeakSet()
_current: "weakref.WeakValueDictionary[Any, Client]" = weakref.WeakValueDictionary()


# Before the first manager or proxy: children that `multiprocessing` starts are to know the key, too.
share_key()
process.beginnings.append(share_key)


class Client:
    """The connections of this process to one server, and its references to objects there.

    Args:
        address: of the server.
        authkey: the key that both know.
        serializer: how messages are written.
        host: the server's process, if this one has started it.
    """

    def __init__(self, address: Any, authkey: bytes, serializer: str, host: Host | None = None) -> None:
        self.address, self.authkey, self.serializer = address, bytes(authkey), serializer
        self.host = host
        self.server: tuple[str, int, str] | None = None  # its name, pid and id
        self.closed = False
        # By the `id` of each Reference: the id of the object.
        self._references: dict[int, str] = {}
        self._begin()
        _all.add(self)
        _current[address] = self

    def _begin(self) -> None:
        self._key = os.urandom(8).hex()
        self._idle = threading.local()
        self._dropped: deque[str] = deque()
        self._leases: deque[Wire] = deque()  # those over which nobody is telling something
        self._has_lease = False
        self._told = 0  # how many references were let go

    # Requests.

    def call(self, ident: str | None, method: str, args: Iterable[Any], kwds: Mapping[str, Any]) -> Any:
        """Calls a method of an object, or of the server itself.

        Returns:
            Its result, or a `Made` for an object that it has made.
        """
        reply, ends = self._exchange((ident, method, tuple(args), dict(kwds)))
        kind, value = ends.load(reply)
        del reply
        if kind == PROXY:
            exposed, (typeid, made), proxytype = value
            return Made(tuple(exposed), typeid, made, proxytype)
        if kind == REPORT and ident is None and method == "create":
            return unwrap(ERROR, not_made(*args, error=convert_to_error(kind, value)))
        return unwrap(kind, value)

    def _exchange(self, request: Any, timeout: float | None = None) -> tuple[bytes, Wire]:
        idle = self._wires_of_thread()
        ends = idle.pop() if idle else self._open(lease=False, timeout=timeout)
        try:
            packed = ends.pack(request)
        except BaseException:
            idle.append(ends)  # Nothing was sent.
            raise
        try:
            ends.write(packed)
            reply = ends.read()
        except (EOFError, OSError) as error:
            ends.close()
            self._fail(error)
        except BaseException:
            # Ctrl-C, say: the answer that is still to come would be taken for that to the next request.
            ends.close()
            raise
        # Before the reply is looked at: proxies in it make requests themselves.
        idle.append(ends)
        return reply, ends

    def _wires_of_thread(self) -> list[Wire]:
        wires: list[Wire] | None = getattr(self._idle, "wires", None)
        if wires is None:
            wires = self._idle.wires = []
        return wires

    def _open(self, lease: bool, timeout: float | None = None) -> Wire:
        if self.closed:
            raise self._died("was shut down")
        if not lease and not self._has_lease:
            self._leases.append(self._open(lease=True, timeout=timeout))
            self._has_lease = True
        try:
            conn = connection.Client(self.address, authkey=self.authkey, timeout=timeout)
        except (EOFError, OSError) as error:
            self._fail(error)
        ends = wire(self.serializer, conn, self.address)
        try:
            ends.send((None, "accept_connection", (tuple(hello(self._key, lease)),), {}))
            name, pid, id = unwrap(*ends.load(ends.read(timeout)))
        except (EOFError, OSError) as error:
            ends.close()
            self._fail(error)
        except BaseException:
            ends.close()
            raise
        self.server = name, pid, id
        return ends

    def connect(self, timeout: float | None) -> None:
        """Makes sure that there is a server."""
        if not self._wires_of_thread():
            self._wires_of_thread().append(self._open(lease=False, timeout=timeout))

    # References.

    def take(self, reference: "Reference", sender: str) -> None:
        """Gives this process a reference to an object."""
        self.call(None, "incref", (reference.ident, sender), {})
        self._references[id(reference)] = reference.ident

    def let_go(self, reference: "Reference") -> None:
        """Takes it away again: now, or soon. Does not wait."""
        ident = self._references.pop(id(reference), None)
        if ident is not None and not self.closed:
            self._dropped.append(ident)
            self._tell()

    def _tell(self) -> None:
        while self._dropped:
            try:
                ends = self._leases.pop()
            except IndexError:
                return  # Whoever has it looks again.
            idents: list[str] = []
            try:
                with contextlib.suppress(IndexError):
                    while len(idents) < _AT_ONCE:
                        idents.append(self._dropped.popleft())
                ends.write(ends.pack((None, "decref", (idents,), {})), timeout=0)
                self._told += len(idents)
            except TimeoutError:
                # The server does not read just now. The next time.
                self._dropped.extend(idents)
                return
            except OSError:
                self._dropped.clear()  # It has died.
                return
            finally:
                self._leases.append(ends)

    def ask(self, what: str) -> Any:
        """Asks the server about its objects, once it has heard of everything that was let go here."""
        self._tell()
        return self.call(None, what, (self._told,), {})

    def hold(self, ident: str) -> str:
        """Holds an object that is being sent to somebody; returns who does, for the receiver."""
        with contextlib.suppress(ManagerDied):  # Its receiver will be told.
            self.call(None, "hold", (ident,), {})
        return self._key

    # The end.

    def _fail(self, error: EOFError | OSError) -> NoReturn:
        """Raises what is to be raised when a connection has failed."""
        if isinstance(error, (ManagerDied, TimeoutError)) or getattr(error, "errno", None) in _OURS:
            raise error
        raise self._lost(error) from error

    def _lost(self, error: BaseException) -> Exception:
        if self.closed or (self.host is not None and self.host.was_shut_down):
            return self._died("was shut down")
        end = self.host.end() if self.host is not None else self._end_of_stranger()
        if not end:
            end = "lives, but has closed the connection, or nobody listens at its address"
        return self._died(f"{end} ({error})" if self.server is None else end)

    def _end_of_stranger(self) -> str:
        if self.server is None:
            return "cannot be reached"
        if isinstance(self.address, tuple):
            return "has closed the connection: it, or its machine, has ended or cannot be reached"
        name, pid, _ = self.server
        if process._ParentProcess(name, pid, process._current._authkey)._ended_within(MOMENT):
            return "has ended"
        return ""

    def _died(self, end: str) -> ManagerDied:
        name, pid, _ = self.server or ("", 0, "")
        if self.host is not None:
            name, pid = self.host.name, self.host.pid
        who = f"manager {name} (pid {pid})" if pid else f"the manager at {self.address!r}"
        code = self.host.exitcode() if self.host is not None and not self.host.process.is_alive() else None
        return ManagerDied(
            f"{who} {end}. Its objects are lost to this process, and proxies of them of no use; keep the "
            "manager running for as long as they are needed, or start a new one and make new objects",
            name,
            pid or None,
            code,
        )

    def close(self) -> None:
        """Closes the lease and the connections of this thread; other threads' go with the server."""
        self.closed = True
        if _current.get(self.address) is self:
            _current.pop(self.address, None)
        self._dropped.clear()
        self._idle, idle = threading.local(), self._wires_of_thread()
        for ends in [*idle, *self._leases]:
            ends.close()
        self._leases.clear()

    def renew(self) -> None:
        """In a copy of the process: it is a client by itself, with references of its own."""
        self.host = None
        idle, leases = self._wires_of_thread(), self._leases
        # The connections go on for the original.
        for ends in [*idle, *leases]:
            ends.close()
        self._begin()
        # Few have no proxy, and fewer use none; who does is told then.
        with contextlib.suppress(Exception):
            for ident in list(self._references.values()):
                self.call(None, "incref", (ident,), {})


class Made:
    """What a method of an object has made on the server."""

    def __init__(self, exposed: tuple[str, ...], typeid: str, ident: str, proxytype: Any) -> None:
        self.exposed, self.typeid, self.ident, self.proxytype = exposed, typeid, ident, proxytype


class Reference:
    """A reference of this process to an object of a server.

    Args:
        client: the connections to the server.
        ident: the id of the object.
        sender: who holds the object until this reference is there.
    """

    def __init__(self, client: Client, ident: str, sender: str = "") -> None:
        self.client, self.ident = client, ident
        client.take(self, sender)

    def __del__(self, _suppress: Any = contextlib.suppress) -> None:
        with _suppress(Exception):
            self.client.let_go(self)


def client_of(address: Any, authkey: bytes | None, serializer: str) -> Client:
    """The client of this process for a server."""
    client = _current.get(address)
    if client is None or client.closed or (authkey is not None and client.authkey != authkey):
        client = Client(
            address, process.current_process().authkey if authkey is None else authkey, serializer
        )
    return client


def _renew() -> None:
    for client in list(_all):
        client.renew()


_forks.in_copy(_renew)
