"""Objects of `multiprocessing` that somebody sends through forkless: taken along, or refused with advice.

They belong to the context that made them: their pickles mean something to its children only, and only while
those start. A child of ours would get a semaphore without a name (SIGSEGV up to Python 3.11.4), or nothing.
"""

from typing import Any

from . import _stdlib, process

_BY_NAME = "Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "RLock", "Semaphore"

# By class: what to use instead.
_INSTEAD = {
    "multiprocessing.queues.JoinableQueue": "use forkless.JoinableQueue",
    "multiprocessing.queues.Queue": "use forkless.Queue",
    "multiprocessing.queues.SimpleQueue": "use forkless.Queue",
    "multiprocessing.sharedctypes.Synchronized": "use forkless.Value",
    "multiprocessing.sharedctypes.SynchronizedArray": "use forkless.Array",
    "multiprocessing.sharedctypes.SynchronizedBase": "use forkless.Value",
    **{f"multiprocessing.synchronize.{name}": f"use forkless.{name}" for name in _BY_NAME},
}

# Those that stay where they are: what to send, or where to make another one.
_BOUND = {
    "concurrent.futures._base.Future": "send what its result() returns",
    "concurrent.futures.process._SafeQueue": (
        "a ProcessPoolExecutor takes no context of forkless; use forkless.Executor"
    ),
    "concurrent.futures.process.ProcessPoolExecutor": "make a forkless.Executor where it is used",
    "multiprocessing.connection.Listener": "send its address, and connect to that",
    "multiprocessing.managers.BaseManager": "send the proxies that it makes, or its address",
    "multiprocessing.pool.ApplyResult": "send what its get() returns",
    "multiprocessing.pool.IMapIterator": "send what it yields",
    "multiprocessing.pool.Pool": "make a forkless.Pool where it is used",
    "multiprocessing.process.AuthenticationString": (
        "a child of forkless has the key of its parent, as forkless.current_process().authkey"
    ),
    "multiprocessing.process.BaseProcess": "send its pid, or make a forkless.Process where it is started",
}


class Refused(TypeError):
    """Not to be sent; says what to do."""


def reduce(obj: Any) -> Any:
    """What a pickler does with such an object: proxies, connections and memory travel, most others do not."""
    key: Any = getattr(_stdlib.loaded("process"), "AuthenticationString", None)
    if type(obj) is key and process.is_packing():
        # As an argument of a process, as there: the key of a manager whose server that is to be.
        return _key, (bytes(obj),)
    # Another thread may be importing these modules.
    proxies: Any = getattr(_stdlib.loaded("managers"), "BaseProxy", None)
    if proxies is not None and isinstance(obj, proxies):
        rebuild, (make, token, serializer, options) = obj.__reduce__()
        # As for a child of its own context, with the key: it is needed to talk to the manager, and pickles of
        # ours do not leave the tree.
        return rebuild, (make, token, serializer, {**options, "authkey": bytes(obj._authkey)})
    connections: Any = getattr(_stdlib.loaded("connection"), "Connection", None)
    if connections is not None and isinstance(obj, connections):
        from . import reduction

        return reduction.reduce_connection(obj)
    shared_memory: Any = _stdlib.loaded("shared_memory")
    if hasattr(shared_memory, "ShareableList"):
        from . import _untracked

        if isinstance(obj, shared_memory.SharedMemory):
            return _untracked.reduce_memory(obj)
        if isinstance(obj, shared_memory.ShareableList):
            return _untracked.reduce_list(obj)
    for kind in type(obj).__mro__:
        name = f"{kind.__module__}.{kind.__qualname__}"
        if name in _INSTEAD:
            raise Refused(
                f"{type(obj).__name__} of multiprocessing is known to children of its own context only, and "
                f"to those while they start: {_INSTEAD[name]}"
            )
        if name in _BOUND:
            library = kind.__module__.partition(".")[0].replace("concurrent", "concurrent.futures")
            raise Refused(
                f"{type(obj).__name__} of {library} belongs to the process that has made it: {_BOUND[name]}"
            )
    return NotImplemented


def _key(key: bytes) -> Any:
    module: Any = _stdlib.process
    return module.AuthenticationString(key)
