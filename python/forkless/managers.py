"""Managers: the counterpart of `multiprocessing.managers`. A process that has objects, and proxies of them.

A manager starts a process, its server, which makes objects and calls their methods for whoever has a proxy.
What differs from `multiprocessing`:

- The death of the server is a `ManagerDied`, which says how it ended; that of a client does no harm: its
  references are dropped, the locks that it held raise `OwnerDied` once, a call that it was waiting in ends
  without taking anything.
- Proxies may be sent in any way and at any time; the object lives until the receiver has its own proxy.
- What a method raises arrives as itself, with the server's frames in its traceback.
- Lambdas, closures and what `__main__` defines may be registered, and be initializers.
- Managers can be sent too: the copy is one that is connected to the same server.
- At the exit of the program the server ends after the processes that the program waits for.

Example:
    >>> from forkless import Manager
    >>> with Manager() as manager:
    ...     counts = manager.dict(a=1)
    ...     counts["b"] = 2
    ...     counts.copy()
    {'a': 1, 'b': 2}
"""

import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, overload

from . import _exit, _internals, _manager_locks, _manager_types, exceptions, process
from ._manager_client import Client
from ._manager_host import Host
from ._manager_objects import public_methods
from ._manager_server import Server
from ._manager_wire import WIRES, convert_to_error, dispatch
from ._proxies import AutoProxy, BaseProxy, MakeProxyType, RebuildProxy, Token, _Key
from ._sync_proxies import (
    AcquirerProxy,
    ArrayProxy,
    BarrierProxy,
    BaseListProxy,
    BasePoolProxy,
    ConditionProxy,
    DictProxy,
    EventProxy,
    IteratorProxy,
    ListProxy,
    NamespaceProxy,
    PoolProxy,
    ValueProxy,
)

if TYPE_CHECKING:
    import queue

    from typing_extensions import Self

    from ._manager_errors import RemoteError
    from ._manager_memory import SharedMemoryManager
    from .context import BaseContext

__all__ = [
    "AcquirerProxy",
    "ArrayProxy",
    "AutoProxy",
    "BarrierProxy",
    "BaseListProxy",
    "BaseManager",
    "BasePoolProxy",
    "BaseProxy",
    "ConditionProxy",
    "DictProxy",
    "EventProxy",
    "IteratorProxy",
    "ListProxy",
    "MakeProxyType",
    "NamespaceProxy",
    "PoolProxy",
    "RebuildProxy",
    "RemoteError",
    "Server",
    "SharedMemoryManager",
    "SyncManager",
    "Token",
    "ValueProxy",
    "convert_to_error",
    "dispatch",
    "public_methods",
]

Namespace, Value, Array = _manager_types.Namespace, _manager_types.Value, _manager_types.Array


_T = TypeVar("_T")
_K = TypeVar("_K")
_V = TypeVar("_V")


class _NotRunning(exceptions.ProcessError, AssertionError, ValueError):
    """The manager has no server now."""


class State:
    """What a manager has as `_state`: `value` is one of the others."""

    __slots__ = ("value",)
    INITIAL, STARTED, SHUTDOWN = 0, 1, 2

    def __init__(self, value: int = INITIAL) -> None:
        self.value = value


class BaseManager:
    """Has a process that serves objects; which ones, `register` says.

    Args:
        address: where the server listens, or is to listen: a path, an abstract name, or host and port; made
            up if None, and then for processes of this user only.
        authkey: the key that server and clients must share; None: that of this process, which its children
            have too.
        serializer: "pickle", or "xmlrpclib" for plain data only.
        ctx: the context whose start method the server is started with.
        shutdown_timeout: how long the server may take to end, in seconds, before it is sent SIGTERM, and then
            once more before SIGKILL.

    Example:
        >>> class Counters(BaseManager): ...
        >>> Counters.register("Counter", callable=collections.Counter)
        >>> with Counters() as manager:
        ...     manager.Counter("hello").most_common(1)
        [('l', 2)]
    """

    _registry: ClassVar[dict[str, Any]] = {}
    _Server: ClassVar[type[Server]] = Server
    _client: Client | None = None
    _process: "process.Process | None" = None

    def __init__(
        self,
        address: Any = None,
        authkey: bytes | None = None,
        serializer: str = "pickle",
        ctx: "BaseContext | None" = None,
        *,
        shutdown_timeout: float = 1.0,
    ) -> None:
        if serializer not in WIRES:
            raise ValueError(f"serializer must be {' or '.join(map(repr, WIRES))}, not {serializer!r}")
        from ._methods import kind_of_process
        from .context import get_context

        kind_of_process(ctx, "ctx")
        self._address = address
        key = process.current_process().authkey if authkey is None else authkey
        self._authkey = process.AuthenticationString(key)
        self._serializer = serializer
        self._ctx = ctx or get_context()
        self._shutdown_timeout = shutdown_timeout
        self._was_shut_down = False

    def start(self, initializer: Callable[..., object] | None = None, initargs: Iterable[Any] = ()) -> None:
        """Starts the server, in a process of its own.

        Args:
            initializer: called in it first.
            initargs: its arguments.

        Raises:
            ManagerDied: the server has ended before it was ready; the initializer's exception is its cause.
            OSError: it cannot listen at the address.
            ProcessError: the manager was started before.
        """
        self._check_initial()
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        from .connection import Pipe

        reader, writer = Pipe(duplex=False)
        with reader:
            with writer:
                self._process = child = self._new_process(writer, initializer, tuple(initargs))
                child.start()
            host = Host(child, self._shutdown_timeout)
            self._address = self._receive_address(reader, host)
        host.serves(self._address, bytes(self._authkey), self._serializer)
        self._client = Client(self._address, self._authkey, self._serializer, host)
        # Proxies have the client too: the server lives for as long as one of them does.
        weakref.finalize(self._client, host.shut_down).atexit = False

    def _new_process(self, writer: Any, initializer: Any, initargs: tuple[Any, ...]) -> process.Process:
        from . import _manager_server

        child = self._ctx.Process(
            target=_manager_server.run,
            args=(
                self._Server,
                self._registry,
                self._address,
                self._authkey,
                self._serializer,
                writer,
                initializer,
                initargs,
            ),
        )
        child.name = f"{type(self).__name__}-{':'.join(map(str, child._identity))}"
        child.daemon = False
        # Ctrl-C is for the program, which may need its objects to clean up.
        child._ignore_interrupt = child._serves = True
        return child

    def _receive_address(self, reader: Any, host: Host) -> Any:
        from . import _errors

        try:
            kind, value = reader.recv()
        except (EOFError, OSError):
            end = host.end() or "closed the connection"
            raise exceptions.ManagerDied(
                f"manager {host.name} (pid {host.pid}) {end} before it was ready",
                host.name,
                host.pid,
                host.exitcode(),
            ) from None
        except BaseException:
            host.process.kill()
            host.process.join()
            raise
        if kind == "address":
            return value
        error = _errors.rebuild(_errors.Report(*value))
        host.process.join()
        if kind == "server":
            raise error
        raise exceptions.ManagerDied(
            f"manager {host.name} (pid {host.pid}) has ended because its initializer raised "
            f"{type(error).__name__}: {error}",
            host.name,
            host.pid,
            host.exitcode(),
        ) from error

    def connect(self, timeout: float | None = None) -> None:
        """Connects to a server that somebody else has started, at the address given.

        Args:
            timeout: how long to wait for it, in seconds; None waits for ever.

        Raises:
            AuthenticationError: it has another key.
            TimeoutError: it did not answer in time.
            ManagerDied: nobody listens there; a ConnectionRefusedError and a FileNotFoundError too.
        """
        client = Client(self._address, self._authkey, self._serializer)
        client.connect(timeout)
        self._client = client

    def get_server(self) -> Server:
        """A server for this process: its `serve_forever` serves at the `address` that it has.

        Raises:
            ProcessError: the manager was started.
        """
        self._check_initial()
        return self._Server(self._registry, self._address, self._authkey, self._serializer)

    def shutdown(self) -> None:
        """Ends the server, if this manager has started it; else closes the connection to it.

        Proxies are of no use then: they raise `ManagerDied`. Does nothing if it was called before, or there
        is no server.
        """
        client, self._client = self._client, None
        if client is None:
            return
        self._was_shut_down = True
        if client.host is not None:
            client.host.shut_down()
        client.close()

    def join(self, timeout: float | None = None) -> None:
        """Waits until the server has ended, if this manager has started one.

        Args:
            timeout: how long to wait, in seconds; None waits for ever.
        """
        if self._process is not None:
            self._process.join(timeout)
            if not self._process.is_alive():
                self._process = None

    @property
    def address(self) -> Any:
        """Where the server listens."""
        return self._address

    @classmethod
    def register(
        cls,
        typeid: str,
        callable: Callable[..., Any] | None = None,
        proxytype: Any = None,
        exposed: Iterable[str] | None = None,
        method_to_typeid: Mapping[str, str] | None = None,
        create_method: bool = True,
    ) -> None:
        """Adds a type of objects to the class; the server knows those that it had when it was started.

        Args:
            typeid: the name of the type, and of the method that makes such an object.
            callable: what makes it, in the server; any function or class. May be None for managers that only
                connect to a server.
            proxytype: the class of its proxies; made up from the object's methods if None.
            exposed: names of methods that may be called, None: those that `proxytype` says, else all that
                do not begin with an underscore.
            method_to_typeid: names of methods whose results stay in the server, and the types as which those
                are registered: the caller gets a proxy.
            create_method: whether there is a method of that name.
        """
        if "_registry" not in vars(cls):
            cls._registry = cls._registry.copy()
        proxytype = AutoProxy if proxytype is None else proxytype
        exposed = exposed or getattr(proxytype, "_exposed_", None)
        methods = method_to_typeid or getattr(proxytype, "_method_to_typeid_", None)
        for name in [item for pair in (methods or {}).items() for item in pair]:
            if not isinstance(name, str):
                raise AssertionError(f"{name!r} is not a string")
        names = None if exposed is None else tuple(exposed)
        cls._registry[typeid] = callable, names, None if methods is None else dict(methods), proxytype
        if create_method:
            setattr(cls, typeid, _maker(typeid, proxytype))

    def _create(self, typeid: str, /, *args: Any, **kwds: Any) -> tuple[Token, tuple[str, ...]]:
        """Makes an object; it lives until this thread's next request unless there is a proxy then."""
        ident, exposed = self._running().call(None, "create", (typeid, *args), kwds)
        return Token(typeid, self._address, ident), tuple(exposed)

    def _running(self) -> Client:
        if self._client is None:
            what = "has been shut down" if self._was_shut_down else "was not started"
            raise _NotRunning(
                f"{type(self).__name__} {what}: start() it, connect() it to a server, or use it in a `with`"
                if not self._was_shut_down
                else f"{type(self).__name__} {what}: make a new one"
            )
        return self._client

    def _number_of_objects(self) -> int:
        """How many objects there are that somebody has a proxy of."""
        return int(self._running().ask("number_of_objects"))

    def _debug_info(self) -> str:
        """These objects, for people."""
        return str(self._running().ask("debug_info"))

    @property
    def _state(self) -> State:
        """What programs look for by this private name."""
        if self._client is None:
            return State(State.SHUTDOWN if self._was_shut_down else State.INITIAL)
        return State(State.STARTED)

    def _check_initial(self) -> None:
        if self._was_shut_down:
            raise exceptions.ProcessError(f"{type(self).__name__} was shut down: make a new one")
        if self._client is not None:
            raise exceptions.ProcessError(
                f"{type(self).__name__} has a server already: it was started or connected"
            )

    def __enter__(self) -> "Self":
        if self._client is None:
            self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.shutdown()

    def __reduce__(self) -> tuple[Any, ...]:
        self._running()
        return _connected, (type(self), self._address, _Key(bytes(self._authkey)), self._serializer)


def _connected(kind: type[BaseManager], address: Any, authkey: bytes | None, serializer: str) -> BaseManager:
    manager = kind(address, authkey, serializer)
    manager.connect()
    return manager


def _maker(typeid: str, proxytype: Any) -> Callable[..., Any]:
    def make(self: BaseManager, /, *args: Any, **kwds: Any) -> Any:
        token, exposed = self._create(typeid, *args, **kwds)
        return proxytype(token, self._serializer, manager=self, authkey=self._authkey, exposed=exposed)

    make.__name__ = typeid
    make.__doc__ = f"Makes a `{typeid}` in the server, from these arguments, and returns a proxy of it."
    return make


def _pool(*args: Any, **kwds: Any) -> Any:
    from .pool import Pool

    return Pool(*args, **kwds)


class SyncManager(BaseManager):
    """A manager with lists, dicts, queues, locks and the like; `forkless.Manager()` returns one, started."""

    if TYPE_CHECKING:
        Barrier: Callable[..., BarrierProxy]
        BoundedSemaphore: Callable[..., AcquirerProxy]
        Condition: Callable[..., ConditionProxy]
        Event: Callable[..., EventProxy]
        JoinableQueue: Callable[..., queue.Queue[Any]]
        Lock: Callable[..., AcquirerProxy]
        Namespace: Callable[..., NamespaceProxy]
        Pool: Callable[..., PoolProxy]
        Queue: Callable[..., queue.Queue[Any]]
        RLock: Callable[..., AcquirerProxy]
        Semaphore: Callable[..., AcquirerProxy]
        Array: Callable[..., Any]

        def Value(self, typecode: Any, value: _T, lock: Any = True) -> ValueProxy[_T]: ...  # noqa: D102, N802
        @overload
        def dict(self, /) -> DictProxy[Any, Any]: ...
        @overload
        def dict(self, /, **entries: _V) -> DictProxy[str, _V]: ...
        @overload
        def dict(self, entries: Mapping[_K, _V] | Iterable[tuple[_K, _V]], /) -> DictProxy[_K, _V]: ...
        @overload
        def dict(
            self, entries: Mapping[str, _V] | Iterable[tuple[str, _V]], /, **more: _V
        ) -> DictProxy[str, _V]: ...
        def dict(self, /, *entries: Any, **more: Any) -> Any: ...  # noqa: D102
        @overload
        def list(self) -> ListProxy[Any]: ...
        @overload
        def list(self, items: Iterable[_T], /) -> ListProxy[_T]: ...
        def list(self, *items: Any) -> Any: ...  # noqa: D102


for _name in ("Queue", "JoinableQueue"):
    SyncManager.register(_name, _manager_types.Queue)
for _kind, _proxy in (
    (_manager_types.Event, EventProxy),
    (_manager_locks.Lock, AcquirerProxy),
    (_manager_locks.RLock, AcquirerProxy),
    (_manager_types.Semaphore, AcquirerProxy),
    (_manager_types.BoundedSemaphore, AcquirerProxy),
    (_manager_locks.Condition, ConditionProxy),
    (_manager_types.Barrier, BarrierProxy),
    (list, ListProxy),
    (dict, DictProxy),
    (Value, ValueProxy),
    (Array, ArrayProxy),
    (Namespace, NamespaceProxy),
):
    SyncManager.register(_kind.__name__, _kind, _proxy)
SyncManager.register("Pool", _pool, PoolProxy)
# What methods of proxies return.
SyncManager.register("Iterator", proxytype=IteratorProxy, create_method=False)
SyncManager.register("AsyncResult", create_method=False)


def Manager() -> SyncManager:  # noqa: N802
    """A manager with lists, dicts, queues, locks and the like, in a process that has been started.

    It ends when the manager is shut down or the program ends, and when nobody has the manager or a proxy of
    one of its objects any more.

    Raises:
        ProcessError: the system refused to start a process.

    Example:
        >>> with Manager() as manager:
        ...     shared = manager.list([1, 2])
        ...     process = Process(target=shared.append, args=(3,))
        ...     process.start()
        ...     process.join()
        ...     print(shared)
        [1, 2, 3]
    """
    manager = SyncManager()
    manager.start()
    return manager


# What brings heavy modules along.
HAS_SHMEM = True

_HOMES = {
    "RemoteError": "_manager_errors",
    "SharedMemoryManager": "_manager_memory",
    "SharedMemoryServer": "_manager_memory",
}


# Where `multiprocessing` registers its handler: those that programs register from now on run before it.
_exit.register()


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        from importlib import import_module

        if name == "shared_memory":
            return import_module(f".{name}", __package__)
        if name not in _HOMES:
            return _internals.find(__name__, name)
        value = globals()[name] = getattr(import_module(f".{_HOMES[name]}", __package__), name)
        return value
