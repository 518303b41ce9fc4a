"""Synchronisation between processes: the counterpart of `multiprocessing.synchronize`.

Each object is one block in the arena: it belongs to no context and no parent, costs no descriptor, works in
any process of the tree, and may be pickled anywhere at any time. Nobody waits for the dead.
"""

from abc import ABC, abstractmethod

from . import _exit
from ._forkless import Barrier, BoundedSemaphore, Condition, Event, Lock, RLock, Semaphore

__all__ = ["Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "RLock", "SemLock", "Semaphore"]

RECURSIVE_MUTEX, SEMAPHORE = 0, 1
SEM_VALUE_MAX = 2**31 - 1


class SemLock(ABC):
    """What locks and semaphores are, for `isinstance`: `Lock`, `RLock`, `Semaphore`, `BoundedSemaphore`.

    In `multiprocessing` they are made of one, a semaphore of the system. Here there is nothing behind it, so
    it cannot be made.
    """

    @abstractmethod
    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        """Takes it."""

    @abstractmethod
    def release(self) -> None:
        """Gives it back."""

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()


for _kind in (Lock, RLock, Semaphore):
    SemLock.register(_kind)


# Where `multiprocessing` registers its handler: those that programs register from now on run before it.
_exit.register()
