"""What a manager's server makes for its clients, beside lists and dicts: semaphores, queues and the like.

As with the locks, a call whose client is gone ends without taking what it waited for.
"""

import array
import queue
import threading
from collections.abc import Callable, Iterable
from typing import Any

from ._manager_locks import ClientGone, Condition, Recoverable, check


class Semaphore(Recoverable):
    """A counter of permits. They belong to nobody: a client that dies gives none back."""

    def __init__(self, value: int = 1) -> None:
        if value < 0:
            raise ValueError("semaphore initial value must be >= 0")
        self._value = value
        self._positive = Condition(threading.Lock())

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Takes a permit; whether there was one in time."""
        check(blocking, timeout)
        with self._positive:
            if not self._positive.wait_for(lambda: self._value > 0, timeout if blocking else 0):
                return False
            self._value -= 1
            return True

    def release(self, n: int = 1) -> None:
        """Gives permits back."""
        if n < 1:
            raise ValueError("n must be one or more")
        with self._positive:
            self._value += n
            self._positive.notify(n)

    def _take_back(self, method: str, result: Any) -> None:
        """Gives a permit back that somebody was to get who is gone."""
        if method == "acquire" and result:
            self.release()

    def get_value(self) -> int:
        """How many permits there are."""
        return self._value


class BoundedSemaphore(Semaphore):
    """A semaphore that never has more permits than at first."""

    def __init__(self, value: int = 1) -> None:
        super().__init__(value)
        self._most = value

    def release(self, n: int = 1) -> None:
        """Gives permits back; ValueError if they are too many."""
        with self._positive:
            if self._value + n > self._most:
                raise ValueError("Semaphore released too many times")
        super().release(n)


class Event:
    """A flag to wait for."""

    def __init__(self) -> None:
        self._flag = False
        self._changed = Condition(threading.Lock())

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._flag

    def set(self) -> None:
        """Sets it, and wakes all that wait."""
        with self._changed:
            self._flag = True
            self._changed.notify_all()

    def clear(self) -> None:
        """Resets it."""
        self._flag = False

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until it is set; whether it was in time."""
        with self._changed:
            # Who waits is woken even if it is cleared again at once.
            return self.is_set() or self._changed.wait(timeout)


class Barrier(threading.Barrier):
    """A barrier; one that loses a client in the middle is broken."""

    def __init__(
        self, parties: int, action: Callable[[], None] | None = None, timeout: float | None = None
    ) -> None:
        super().__init__(parties, action, timeout)
        self._cond: Any = Condition(threading.Lock())

    def wait(self, timeout: float | None = None) -> int:
        """Waits until all are here."""
        try:
            return super().wait(timeout)
        except ClientGone:
            self.abort()
            raise


class Queue(queue.Queue[Any], Recoverable):
    """`queue.Queue`, of which no item goes to a client that is gone."""

    def __init__(self, maxsize: int = 0) -> None:
        super().__init__(maxsize)
        for name in ("not_empty", "not_full", "all_tasks_done"):
            setattr(self, name, Condition(self.mutex))

    def _take_back(self, method: str, result: Any) -> None:
        """Puts an item back that somebody was to get who is gone."""
        if method in ("get", "get_nowait"):
            with self.mutex:
                self.queue.appendleft(result)
                self.not_empty.notify()


class Namespace:
    """Attributes."""

    def __init__(self, /, **attributes: Any) -> None:
        self.__dict__.update(attributes)

    def __repr__(self) -> str:
        shown = sorted(f"{name}={value!r}" for name, value in vars(self).items() if name[:1] != "_")
        return f"{type(self).__name__}({', '.join(shown)})"


class Value:
    """One value; what the type code says of it is not checked."""

    def __init__(self, typecode: Any, value: Any, lock: Any = True) -> None:
        self._typecode, self._value = typecode, value

    def get(self) -> Any:
        """The value."""
        return self._value

    def set(self, value: Any) -> None:
        """Sets the value."""
        self._value = value

    value = property(get, set)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._typecode!r}, {self._value!r})"


def Array(typecode: str, sequence: Iterable[Any], lock: Any = True) -> "array.array[Any]":  # noqa: N802
    """An array of numbers."""
    return array.array(typecode, sequence)
