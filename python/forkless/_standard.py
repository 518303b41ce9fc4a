"""Objects of `multiprocessing` that somebody sends through forkless: taken along, or refused with advice.

They belong to the context that made them: their pickles mean something to its children only, and only while
those start. A child of ours would get a semaphore without a name (SIGSEGV up to Python 3.11.4), or nothing.
"""

from typing import Any

from . import _stdlib

_BY_NAME = "Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "RLock", "Semaphore"

# By class: what to use instead.
_INSTEAD = {
    "multiprocessing.connection.Listener": "send its address, and connect to that",
    "multiprocessing.managers.BaseManager": "send the proxies that it makes, or its address",
    "multiprocessing.pool.Pool": "make a forkless.Pool where it is used",
    "multiprocessing.queues.Queue": "use forkless.Queue",
    "multiprocessing.queues.SimpleQueue": "use forkless.Queue",
    "multiprocessing.sharedctypes.Synchronized": "use forkless.Value",
    "multiprocessing.sharedctypes.SynchronizedArray": "use forkless.Array",
    "multiprocessing.sharedctypes.SynchronizedBase": "use forkless.Value",
    **{f"multiprocessing.synchronize.{name}": f"use forkless.{name}" for name in _BY_NAME},
}


def reduce(obj: Any) -> Any:
    """What a pickler does with such an object: proxies, connections and memory travel, most others do not."""
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
        instead = _INSTEAD.get(f"{kind.__module__}.{kind.__qualname__}")
        if instead is not None:
            raise TypeError(
                f"{type(obj).__name__} of multiprocessing is known to children of its own context only, and "
                f"to those while they start: {instead}"
            )
    return NotImplemented
