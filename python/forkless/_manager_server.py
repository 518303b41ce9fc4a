"""The server of a manager: it has the objects, and calls their methods for its clients.

Each connection is served by a thread of its own, so a thread of a client always meets the same one here. An
object lives as long as a client has a reference to it, or something in the server has. References belong to a
client, which is a process: a connection that it keeps open, its lease, ends with it, and with the lease end
its references. What is on its way from one client to another is held for its sender, until its receiver has a
reference of its own; after the end of the sender for some seconds more.
"""

import contextlib
import itertools
import os
import socket
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from . import _forks, _manager_locks, process
from ._manager_objects import Entry, Refused, Tenant, forget, public_methods, stale
from ._manager_wire import PROXY, RETURN, TRACEBACK, UNSERIALIZABLE, Hello, Wire, wire
from .connection import Connection, Listener, _handshake

# By id: those that this process runs.
servers: "weakref.WeakValueDictionary[str, Server]" = weakref.WeakValueDictionary()

# Seconds for which what a client had sent is held after its end: its receiver may be stopped.
_TRANSIT = 300.0
_VIEWS: Any = type({}.keys()), type({}.values()), type({}.items())


class _Answering(threading.local):
    """What this thread of the server is about.

    Attributes:
        entries: objects that live until the client has seen to the reply; None outside of requests.
        packing: whether the reply is being pickled.
    """

    entries: "list[Entry] | None" = None
    packing = False


_answering = _Answering()


class Server:
    """Serves the objects that clients make by a registry.

    Args:
        registry: what `BaseManager.register` has collected.
        address: where to listen; made up if None.
        authkey: what clients must know.
        serializer: how messages are written.

    Attributes:
        address: where it listens.
        listener: what listens there.
    """

    public: tuple[str, ...] = (
        "create",
        "debug_info",
        "decref",
        "dummy",
        "get_methods",
        "hold",
        "incref",
        "number_of_objects",
        "shutdown",
    )

    def __init__(self, registry: dict[str, Any], address: Any, authkey: bytes, serializer: str) -> None:
        if not isinstance(authkey, bytes):
            raise TypeError(f"authkey must be bytes, not {type(authkey).__name__}")
        self.registry = registry
        self.authkey = process.AuthenticationString(authkey)
        self.serializer = serializer
        self.listener = Listener(address, backlog=128)
        self.address = self.listener.address
        self.id = os.urandom(6).hex()
        self.stop_event = threading.Event()
        self._numbers = itertools.count(1)
        self._mutex = threading.Lock()  # Never held while anything of a user runs, finalizers included.
        self._entries: weakref.WeakValueDictionary[str, Entry] = weakref.WeakValueDictionary()
        self._tenants: dict[str, Tenant] = {}
        self._departed: list[tuple[float, Tenant]] = []
        self._wires: set[Wire] = set()
        servers[self.id] = self

    def serve_forever(self) -> None:
        """Serves until a client asks it to stop, or Ctrl-C does.

        Then it returns, unlike that of the standard library, which ends the process.
        """
        threading.Thread(target=self._accept, name=f"{self.id}-accept", daemon=True).start()
        try:
            while not self.stop_event.wait(1):
                self._let_go_of_departed()
        except (KeyboardInterrupt, SystemExit):
            pass
        finally:
            self.stop_event.set()
            servers.pop(self.id, None)
            self.listener.close()
            for each in list(self._wires):
                _shut(each)

    # Connections.

    def _accept(self) -> None:
        while not self.stop_event.is_set():
            try:
                connection = self.listener.accept(timeout=1)
            except TimeoutError:
                continue
            except OSError:
                # Closed, or there are no descriptors left: then some may be free soon.
                self.stop_event.wait(0.05)
                continue
            try:
                threading.Thread(target=self._welcome, args=(connection,), daemon=True).start()
            except RuntimeError:  # The system gives no more threads. The client is told, and others later.
                connection.close()

    def _welcome(self, connection: Connection) -> None:
        """The life of a connection."""
        ends = wire(self.serializer, connection, self.address)
        self._wires.add(ends)
        try:
            # However long that takes: a client that was stopped keeps nobody waiting, and its end is seen.
            _handshake(connection, self.authkey, None, first=True, patience=None)
            self._serve(ends)
        except (_manager_locks.ClientGone, EOFError, OSError):
            pass
        except Exception as error:  # Such as another key: nobody else is to suffer for it.
            with contextlib.suppress(Exception):
                ends.send((TRACEBACK, f"{type(error).__name__}: {error}"))
        finally:
            self._wires.discard(ends)
            ends.close()

    def _serve(self, ends: Wire) -> None:
        _, method, (hello, *_), _ = ends.recv()
        if method != "accept_connection":
            raise Refused(f"a connection begins with 'accept_connection', not with {method!r}")
        hello = Hello(*hello)
        tenant = self._admit(hello)
        try:
            threading.current_thread().name = hello.name
            _manager_locks.enter(_manager_locks.Caller(tenant, hello.thread, ends.connection.fileno()))
            ends.send((RETURN, (process.current_process().name, os.getpid(), self.id)))
            kept: list[Entry] = []
            while not self.stop_event.is_set():
                kept = self._answer(ends, tenant, ends.read(), kept)
        finally:
            if hello.lease:
                self._leave(tenant)

    def _answer(self, ends: Wire, tenant: Tenant, request: bytes, kept: list[Entry]) -> list[Entry]:
        """Answers one request; returns what has to live until the client has seen to the reply."""
        entry, method, result = None, "", None
        entries: list[Entry] = []
        _answering.entries = entries
        try:
            ident, method, args, kwds = ends.load(request)
            del request
            if ident is None:
                entries += kept  # The client may be making references to what it was sent.
                result = self._control(tenant, method, args, kwds)
            else:
                entry = self.find(ident)
                result = entry.call(method, args, kwds)
            del args, kwds
            reply = self._reply(entry, method, result)
            _answering.packing = True
            packed = ends.pack(reply)
        except _manager_locks.ClientGone:
            raise
        except BaseException as error:
            packed = self._pack_error(ends, error, entry, method, result)
        finally:
            _answering.entries, _answering.packing = None, False
        try:
            if entry is not None or method != "decref":
                self._deliver(ends, packed, entry, method, result)
        finally:
            if entry is None and method == "shutdown":
                self.stop_event.set()
        return entries

    def _reply(self, entry: Entry | None, method: str, result: Any) -> tuple[str, Any]:
        typeid = None if entry is None else entry.method_to_typeid.get(method)
        if typeid is not None:
            made = self._make(typeid, (result,), {})
            # Who has got a proxy from another process has no registry to look its class up in.
            proxytype = self.registry[typeid][3] if self.serializer == "pickle" else None
            return PROXY, (tuple(made.exposed), (typeid, made.ident), proxytype)
        if isinstance(result, _VIEWS):
            result = list(result)
        return RETURN, result

    def _pack_error(
        self, ends: Wire, error: BaseException, entry: Entry | None, method: str, result: Any
    ) -> Any:
        import pickle

        if isinstance(error, Refused):
            return ends.pack((TRACEBACK, str(error)))
        if result is not None and isinstance(error, (pickle.PicklingError, TypeError)):
            whose = "" if entry is None else f" of a {type(entry.obj).__qualname__}"
            text = (
                f"what {method!r}{whose} has returned, a {type(result).__qualname__}, cannot be sent: {error}"
                ". Return something else, or have it stay in the manager, with a proxy for it: see "
                "`method_to_typeid` of register()"
            )
            return ends.pack((UNSERIALIZABLE, text))
        try:
            return ends.pack(ends.describe(error))
        except Exception as problem:
            return ends.pack((TRACEBACK, f"{type(error).__name__}: {error} ({problem})"))

    def _deliver(self, ends: Wire, packed: Any, entry: Entry | None, method: str, result: Any) -> None:
        try:
            ends.write(packed)
        except OSError:
            if entry is not None and isinstance(entry.obj, _manager_locks.Recoverable):
                entry.obj._take_back(method, result)
            raise

    # Clients.

    def _admit(self, hello: Hello) -> Tenant:
        with self._mutex:
            tenant = self._tenants.get(hello.key)
            if tenant is None or tenant.ended:
                if not hello.lease:
                    raise Refused("the first connection of a client is its lease")
                tenant = self._tenants[hello.key] = Tenant(hello)
            tenant.leases += hello.lease
        return tenant

    def _leave(self, tenant: Tenant) -> None:
        """A lease has ended."""
        with self._mutex:
            tenant.leases -= 1
            if tenant.leases:
                return
            tenant.ended = True
            entries, tenant.entries = tenant.entries, {}
            tenant.references.clear()
            for ident in +tenant.transits:
                tenant.entries[ident] = entries[ident]
            if tenant.entries:
                self._departed.append((time.monotonic() + _TRANSIT, tenant))
            else:
                self._tenants.pop(tenant.key, None)
        for lock in list(tenant.held.values()):
            lock.forsake(tenant)

    def _let_go_of_departed(self) -> None:
        now = time.monotonic()
        gone = [tenant for due, tenant in self._departed if due < now]
        with self._mutex:
            self._departed = [(due, tenant) for due, tenant in self._departed if due >= now]
            for tenant in gone:
                self._tenants.pop(tenant.key, None)
        # What they had is let go here, where nothing is held.

    # Objects.

    def find(self, ident: str) -> Entry:
        """An object by its id."""
        entry = self._entries.get(ident)
        if entry is None:
            raise stale(ident, self.id)
        return entry

    def _make(self, typeid: str, args: Iterable[Any], kwds: Mapping[str, Any]) -> Entry:
        if typeid not in self.registry:
            raise Refused(
                f"this manager has no type {typeid!r}: register() it, in the program of the server too, "
                "before the manager starts"
            )
        make, exposed, methods, _ = self.registry[typeid]
        if make is not None:
            obj = make(*args, **kwds)
        else:
            (obj, *more) = args
            if more or kwds:
                raise ValueError("Without callable, must have one non-keyword argument")
        if methods is not None and not isinstance(methods, dict):
            raise TypeError(f"method_to_typeid of {typeid!r} must be a dict, not {methods!r}")
        names = [*(public_methods(obj) if exposed is None else exposed), *(methods or ())]
        entry = Entry(f"{self.id}-{next(self._numbers)}", obj, names, methods)
        with self._mutex:
            self._entries[entry.ident] = entry
        if _answering.entries is not None:
            _answering.entries.append(entry)
        return entry

    def hold_for_transit(self, entry: Entry) -> str:
        """Holds an object of which this process pickles a proxy; returns who does, for `incref`."""
        if _answering.packing and _answering.entries is not None:
            _answering.entries.append(entry)
            return ""
        with self._mutex:
            tenant = self._tenants.get(self.id)
            if tenant is None:
                hello = Hello(self.id, process.current_process().name, os.getpid(), "", True)
                tenant = self._tenants[self.id] = Tenant(hello)
            tenant.entries[entry.ident] = entry
            tenant.transits[entry.ident] += 1
        return self.id

    # What clients ask of the server itself; each gets the client first.

    def _control(self, tenant: Tenant, name: str, args: Iterable[Any], kwds: Mapping[str, Any]) -> Any:
        if name not in self.public:
            raise Refused(f"{name!r} is nothing that a manager's server does")
        return getattr(self, name)(tenant, *args, **kwds)

    def create(self, tenant: Tenant, typeid: str, /, *args: Any, **kwds: Any) -> tuple[str, tuple[str, ...]]:
        """Makes an object; returns its id, and what is exposed of it."""
        entry = self._make(typeid, args, kwds)
        return entry.ident, tuple(entry.exposed)

    def incref(self, tenant: Tenant, ident: str, sender: str = "", times: int = 1) -> None:
        """Gives the client references, and undoes the `hold` of the one that has sent it the proxy."""
        entry = self.find(ident)
        done: list[Entry | None] = []
        with self._mutex:
            tenant.entries[ident] = entry
            tenant.references[ident] += times
            origin = self._tenants.get(sender)
            if origin is not None and origin.transits[ident] > 0:
                origin.transits[ident] -= 1
                done.append(forget(origin, ident))

    def hold(self, tenant: Tenant, ident: str) -> None:
        """Holds an object of which the client sends a proxy to somebody."""
        entry = self.find(ident)
        with self._mutex:
            tenant.entries[ident] = entry
            tenant.transits[ident] += 1

    def decref(self, tenant: Tenant, idents: Iterable[str]) -> None:
        """Takes references away from the client; not answered."""
        done: list[Entry | None] = []  # so that it is let go where nothing is held
        for ident in idents:
            with self._mutex:
                tenant.references[ident] -= 1
                tenant.let_go += 1
                done.append(forget(tenant, ident))

    def get_methods(self, tenant: Tenant, ident: str) -> tuple[str, ...]:
        """What is exposed of an object."""
        return tuple(self.find(ident).exposed)

    def dummy(self, tenant: Tenant) -> None:
        """Does nothing, which shows that the server is there."""

    def number_of_objects(self, tenant: Tenant, let_go: int = 0) -> int:
        """How many objects clients have references to, once what the client let go of has been seen to."""
        _hear(tenant, let_go)
        return len(self._counts())

    def debug_info(self, tenant: Tenant, let_go: int = 0) -> str:
        """The objects that clients have references to, for people; see `number_of_objects`."""
        _hear(tenant, let_go)
        lines = []
        for ident, count in sorted(self._counts().items()):
            entry = self._entries.get(ident)
            shown = "gone" if entry is None else str(entry.obj)[:75]
            lines.append(f"  {ident}:       refcount={count}\n    {shown}")
        return "\n".join(lines)

    def shutdown(self, tenant: Tenant) -> None:
        """Ends `serve_forever`, once this is answered."""

    def _counts(self) -> Counter[str]:
        with self._mutex:
            counts: Counter[str] = Counter()
            for tenant in self._tenants.values():
                counts.update(tenant.references)
            return +counts


def _hear(tenant: Tenant, let_go: int) -> None:
    """Waits for what the client has said over its lease, which another thread listens to."""
    for _ in range(1000):
        if tenant.let_go >= let_go:
            return
        time.sleep(0.001)


def _shut(ends: Wire) -> None:
    """Ends a connection, of which another thread reads."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(ends.connection.fileno())) as sock:
        sock.shutdown(socket.SHUT_RDWR)


def _close_in_copy() -> None:
    """In a process that user code has forked: clients must see when the original ends."""
    for server in list(servers.values()):
        if server.listener._socket is not None:
            server.listener._socket.close()
        for ends in list(server._wires):
            ends.close()
    servers.clear()


_forks.in_copy(_close_in_copy)


def run(
    kind: type[Server],
    registry: dict[str, Any],
    address: Any,
    authkey: bytes,
    serializer: str,
    writer: Connection,
    initializer: Callable[..., object] | None,
    initargs: Iterable[Any],
) -> None:
    """What the process of a manager does."""
    from . import _errors

    stage = "initializer"
    try:
        if initializer is not None:
            initializer(*initargs)
        stage = "server"
        server = kind(registry, address, authkey, serializer)
    except Exception as error:
        writer.send((stage, tuple(_errors.describe(error))))
        return
    writer.send(("address", server.address))
    writer.close()
    server.serve_forever()
