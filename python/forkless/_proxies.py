"""Proxies: what stands in a process for an object of a manager's server.

A proxy may be sent anywhere, at any time, also to the server itself, whose objects then refer to each other
directly. While it is on its way, its sender's process keeps the object alive, even if it has no proxy itself
any more. In what forkless sends within a tree of processes the manager's key goes along; in other pickles
(`pickle.dumps`, connections to other machines) it does not, and the receiver must know it: as the key of a
manager that is connected to that address, or as `current_process().authkey`.
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from . import _pickling, _stdlib, process
from ._manager_client import Client, Made, Reference, client_of

if TYPE_CHECKING:
    from typing_extensions import Self

    from ._manager_objects import Entry
    from ._manager_server import Server


class Token:
    """Names an object of a server.

    Args:
        typeid: the name under which its type is registered.
        address: where the server listens.
        id: the object's id there; no other object ever has it.
    """

    __slots__ = ("address", "id", "sender", "typeid")

    def __init__(self, typeid: str, address: Any, id: str) -> None:
        self.typeid, self.address, self.id = typeid, address, id
        self.sender = ""

    def __getstate__(self) -> tuple[str, Any, str]:
        return self.typeid, self.address, self.id

    def __setstate__(self, state: tuple[str, Any, str]) -> None:
        self.typeid, self.address, self.id = state
        self.sender = ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(typeid={self.typeid!r}, address={self.address!r}, id={self.id!r})"


class _Key:
    """A key on its way: it is there in what stays within the tree, and None elsewhere."""

    def __init__(self, key: bytes) -> None:
        self.key = key

    def __reduce__(self) -> tuple[Any, ...]:
        context: Any = _stdlib.context
        # A process of multiprocessing that is about to start: its child is one of ours, too.
        return (type(None), ()) if context.get_spawning_popen() is None else (bytes, (self.key,))


_pickling.handlers[_Key] = lambda pickler, key: (bytes, (key.key,)) if pickler.leased else key.__reduce__()


class _Here:
    """In the server's own process: an object, in place of a client's reference to it.

    Its methods are called directly, so arguments and results are not copied.
    """

    def __init__(self, server: "Server", entry: "Entry") -> None:
        self.server, self.entry = server, entry


def _server_of(token: Token) -> "Server | None":
    """The server of an object, if it is one of this process."""
    servers = sys.modules.get(f"{__package__}._manager_server")
    return None if servers is None else servers.servers.get(token.id.partition("-")[0])


def referent(obj: Any) -> Any:
    """What a proxy stands for, in the process of its server; any other object is itself."""
    if isinstance(obj, BaseProxy):
        link = object.__getattribute__(obj, "_link")
        if isinstance(link, _Here):
            return link.entry.obj
    return obj


class BaseProxy:
    """Stands for an object of a server; subclasses have methods that call those of the object.

    Two of these are for subclasses: `_callmethod` and `_getvalue`.

    Args:
        token: names the object.
        serializer: how messages are written.
        manager: whose object it is, if that is known.
        authkey: the key of the server; None: that of the manager, or of this process.
        exposed: the methods that may be called; for `AutoProxy`.
        incref: always true.
        manager_owned: of no effect: a proxy knows whether it is in the process of its server.
    """

    _isauto = False

    def __init__(
        self,
        token: Token,
        serializer: str,
        manager: Any = None,
        authkey: bytes | None = None,
        exposed: Iterable[str] | None = None,
        incref: bool = True,
        manager_owned: bool = False,
    ) -> None:
        self._token, self._id, self._serializer = token, token.id, serializer
        self._manager = manager
        server = _server_of(token)
        self._link: _Here | Reference
        if server is not None:
            self._authkey = server.authkey
            self._link = _Here(server, server.find(token.id))
        else:
            client = _client(token, serializer, manager, authkey)
            self._authkey = process.AuthenticationString(client.authkey)
            self._link = Reference(client, token.id, token.sender)

    def _callmethod(self, methodname: str, args: Iterable[Any] = (), kwds: Mapping[str, Any] = {}) -> Any:
        """Calls a method of the object, in the server.

        Args:
            methodname: its name.
            args: positional arguments; they are sent.
            kwds: keyword arguments.

        Returns:
            What it returned: a copy, or a proxy for methods that are registered so.

        Raises:
            Exception: what the method raised; the server's frames are the last ones of its traceback.
            RemoteError: the method is not exposed, or its result cannot be sent.
            ManagerDied: the server has died, or was shut down.
        """
        link = self._link
        if isinstance(link, _Here):
            return self._call_here(link, methodname, args, kwds)
        result = link.client.call(self._id, methodname, args, kwds)
        if not isinstance(result, Made):
            return result
        token = Token(result.typeid, self._token.address, result.ident)
        proxytype = result.proxytype or self._manager._registry[token.typeid][3]
        return proxytype(
            token, self._serializer, manager=self._manager, authkey=self._authkey, exposed=result.exposed
        )

    def _call_here(self, link: _Here, methodname: str, args: Iterable[Any], kwds: Any) -> Any:
        result = link.entry.call(methodname, args, kwds)
        typeid = link.entry.method_to_typeid.get(methodname)
        if typeid is None:
            return result
        made = link.server._make(typeid, (result,), {})
        token = Token(typeid, self._token.address, made.ident)
        return link.server.registry[typeid][3](token, self._serializer, exposed=tuple(made.exposed))

    def _getvalue(self) -> Any:
        """A copy of the object."""
        return self._callmethod("#GETVALUE")

    def __reduce__(self) -> tuple[Any, ...]:
        link, token = self._link, self._token
        here = isinstance(link, _Here)
        sender = link.server.hold_for_transit(link.entry) if here else link.client.hold(self._id)  # type: ignore[union-attr]
        kwds: dict[str, Any] = {"authkey": _Key(bytes(self._authkey)), "sender": sender}
        if self._isauto:
            kwds["exposed"] = type(self)._exposed_  # type: ignore[attr-defined]
        return RebuildProxy, (AutoProxy if self._isauto else type(self), token, self._serializer, kwds)

    def __copy__(self) -> "Self":
        return self

    def __deepcopy__(self, memo: Any) -> Any:
        return self._getvalue()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} object, typeid {self._token.typeid!r} at {id(self):#x}>"

    def __str__(self) -> str:
        try:
            return str(self._callmethod("__repr__"))
        except Exception:
            return repr(self)[:-1] + "; '__str__()' failed>"


def _client(token: Token, serializer: str, manager: Any, authkey: bytes | None) -> Client:
    client = getattr(manager, "_client", None)
    if isinstance(client, Client):
        return client
    return client_of(token.address, authkey, serializer)


def RebuildProxy(func: Any, token: Token, serializer: str, kwds: dict[str, Any]) -> Any:  # noqa: N802
    """What the pickle of a proxy calls."""
    token.sender = kwds.pop("sender", "")
    try:
        return func(token, serializer, **kwds)
    finally:
        token.sender = ""


def _method(name: str) -> Callable[..., Any]:
    def method(self: BaseProxy, /, *args: Any, **kwds: Any) -> Any:
        return self._callmethod(name, args, kwds)

    method.__name__ = name
    method.__doc__ = f"Calls `{name}` of the object that the manager has."
    return method


def MakeProxyType(name: str, exposed: Iterable[str]) -> Any:  # noqa: N802
    """A class of proxies.

    Args:
        name: of the class; a module that keeps it under this name can have its proxies sent.
        exposed: the methods that it has.
    """
    module = sys._getframe(1).f_globals.get("__name__", __name__)
    return _make_type(name, tuple(exposed), module)


_made: dict[tuple[str, tuple[str, ...], str], Any] = {}


def _make_type(name: str, exposed: tuple[str, ...], module: str) -> Any:
    key = name, exposed, module
    if key not in _made:
        methods = {each: _method(each) for each in exposed}
        _made.setdefault(
            key, type(name, (BaseProxy,), {**methods, "_exposed_": exposed, "__module__": module})
        )
    return _made[key]


def AutoProxy(  # noqa: N802
    token: Token,
    serializer: str,
    manager: Any = None,
    authkey: bytes | None = None,
    exposed: Iterable[str] | None = None,
    incref: bool = True,
    manager_owned: bool = False,
) -> Any:
    """A proxy with all the methods that the server exposes of the object; see `BaseProxy`."""
    if exposed is None:
        server = _server_of(token)
        if server is not None:
            exposed = server.find(token.id).exposed
        else:
            client = _client(token, serializer, manager, authkey)
            exposed = client.call(None, "get_methods", (token.id,), {})
    kind = _make_type(f"AutoProxy[{token.typeid}]", tuple(sorted(exposed)), __name__)
    proxy = kind(token, serializer, manager=manager, authkey=authkey, exposed=exposed)
    proxy._isauto = True
    return proxy
