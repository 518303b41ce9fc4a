"""Objects of a manager's server, and the clients that have references to them."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ._manager_wire import Hello

if TYPE_CHECKING:
    from ._manager_locks import Lock

_ALWAYS: dict[str, Callable[[Any], Any]] = {"__str__": str, "__repr__": repr, "#GETVALUE": lambda obj: obj}


class Refused(Exception):
    """A client may not do what it wants to; says why."""


class Entry:
    """An object, with what may be called of it. Kept alive by whoever has a reference."""

    __slots__ = ("__weakref__", "exposed", "ident", "method_to_typeid", "obj")

    def __init__(
        self, ident: str, obj: Any, exposed: Iterable[str], methods: Mapping[str, str] | None
    ) -> None:
        self.ident, self.obj = ident, obj
        self.exposed, self.method_to_typeid = frozenset(exposed), dict(methods or {})

    def call(self, method: str, args: Iterable[Any], kwds: Mapping[str, Any]) -> Any:
        """Calls a method; raises Refused for one that is not exposed."""
        if method not in self.exposed:
            if method in _ALWAYS:
                return _ALWAYS[method](self.obj)
            raise Refused(
                f"method {method!r} of a {type(self.obj).__qualname__} is not exposed to clients; exposed "
                f"are {', '.join(sorted(self.exposed)) or 'none'}: name it in `exposed` of register() or in "
                "`_exposed_` of the proxy's class"
            )
        return getattr(self.obj, method)(*args, **kwds)


class Tenant:
    """A client: a process with references to objects, and what it holds."""

    def __init__(self, hello: Hello) -> None:
        self.key, self.name, self.pid = hello.key, hello.name, hello.pid
        self.leases = 0
        self.let_go = 0
        self.ended = False
        self.entries: dict[str, Entry] = {}
        self.references: Counter[str] = Counter()
        self.transits: Counter[str] = Counter()
        self.held: dict[int, Lock] = {}


def forget(tenant: Tenant, ident: str) -> Entry | None:
    """What the client has no reference to any more, for the caller to let go."""
    if tenant.references[ident] > 0 or tenant.transits[ident] > 0:
        return None
    del tenant.references[ident], tenant.transits[ident]
    return tenant.entries.pop(ident, None)


def public_methods(obj: Any) -> list[str]:
    """The names of all methods of an object that do not begin with an underscore."""
    return [name for name in dir(obj) if name[0] != "_" and callable(getattr(obj, name))]


def stale(ident: str, server: str) -> Exception:
    from .exceptions import StaleHandle

    if ident.partition("-")[0] != server:
        why = "it belonged to another server, which had this address before: the manager was restarted"
    else:
        why = (
            "nobody had a proxy of it any more. Keep one until the other process has its own: a pickle of it "
            "keeps the object only until it was loaded for the first time, and for five minutes after its "
            "maker's end"
        )
    return StaleHandle(f"the manager has no object {ident!r}: {why}")
