"""Synchronisation between processes: the counterpart of `multiprocessing.synchronize`.

Each object is one block in the arena: it belongs to no context and no parent, costs no descriptor, works in
any process of the tree, and may be pickled anywhere at any time. Nobody waits for the dead.
"""

from ._forkless import Barrier, BoundedSemaphore, Condition, Event, Lock, RLock, Semaphore

__all__ = ["Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "RLock", "Semaphore"]
