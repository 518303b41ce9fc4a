"""Locks and conditions of a manager's server, for its threads, each of which serves a client.

They are those of `threading` but for two things. Whoever waits here waits for somebody in another process,
who may be killed or interrupted: a call whose client is gone ends, without taking the lock, the item or the
notification that it waited for. And a lock knows which process holds it: when that dies, the next one to
acquire it is told so.
"""

import contextlib
import select
import threading
import time
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ._waiters import wait_until
from .exceptions import OwnerDied

if TYPE_CHECKING:
    from ._manager_objects import Tenant

_LOOK = 0.25  # seconds between two looks at whether a client that waits is still there
_GONE = select.POLLRDHUP | select.POLLHUP | select.POLLERR | select.POLLNVAL


class ClientGone(BaseException):
    """The client of this call has closed the connection, or was killed: nobody waits for the result."""


class Caller:
    """Who calls: a thread of a client.

    Args:
        tenant: the process, None for the server's own threads.
        thread: which thread of it.
        descriptor: of the connection, None if there is none.
    """

    def __init__(self, tenant: "Tenant | None", thread: str, descriptor: int | None) -> None:
        self.tenant = tenant
        self.identity = (None if tenant is None else tenant.key, thread)
        self._descriptor = descriptor

    def is_gone(self) -> bool:
        """Whether nobody waits for the result any more."""
        if self._descriptor is None:
            return False
        poll = select.poll()
        poll.register(self._descriptor, select.POLLRDHUP)
        return any(event & _GONE for _, event in poll.poll(0))


class _Calls(threading.local):
    """The call that this thread of the server works on."""

    caller: Caller | None = None


_calls = _Calls()


def enter(caller: Caller) -> None:
    """Says whom this thread serves from now on."""
    _calls.caller = caller


def _caller() -> Caller:
    return _calls.caller or Caller(None, str(threading.get_ident()), None)


def _take(lock: Any, blocking: bool, timeout: float | None) -> bool:
    """Acquires a lock of `_thread` for the current call; raises ClientGone rather than for nobody."""
    if lock.acquire(False):
        return True
    if not blocking:
        return False
    caller = _caller()
    deadline = None if timeout is None or timeout < 0 else time.monotonic() + timeout
    while True:
        left = _LOOK if deadline is None else min(_LOOK, deadline - time.monotonic())
        # Once more when the time is over: this process may have been stopped until then.
        taken = lock.acquire(True, left) if left > 0 else lock.acquire(False)
        if caller.is_gone():
            if taken:
                lock.release()
            raise ClientGone
        if taken or left <= 0:
            return bool(taken)


def check(blocking: bool, timeout: float | None) -> None:
    if not blocking and timeout is not None and timeout != -1:
        raise ValueError("can't specify a timeout for a non-blocking call")


class Recoverable:
    """An object that can undo a call whose result did not reach its client, which has gone meanwhile."""

    def _take_back(self, method: str, result: Any) -> None:
        """Undoes a call of `method`, which has returned `result`."""


class _Holding:
    """One holding of a lock."""

    __slots__ = ("caller", "count", "since")

    def __init__(self, caller: Caller) -> None:
        self.caller, self.count, self.since = caller, 1, time.time()


class Lock(Recoverable):
    """A lock that one client holds. Any may release it, as with `threading.Lock`."""

    def __init__(self) -> None:
        self._inner = allocate_lock()
        # One at most; who takes it out has released the lock.
        self._holdings: list[_Holding] = []
        # What to tell the next one who acquires it.
        self._deaths: deque[OwnerDied] = deque()

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Acquires it.

        Raises:
            OwnerDied: the client that held it has died. Raised once, and the lock is free then.
        """
        check(blocking, timeout)
        if not _take(self._inner, blocking, timeout):
            return False
        if self._deaths:
            death = self._deaths.popleft()
            self._inner.release()
            raise death
        self._hold(_Holding(_caller()))
        return True

    def release(self) -> None:
        """Releases it, whoever holds it; also one whose holder has died.

        Raises:
            RuntimeError: nobody holds it.
        """
        if self._let_go() is None:
            try:
                self._deaths.popleft()
            except IndexError:
                raise RuntimeError("release unlocked lock") from None

    def locked(self) -> bool:
        """Whether somebody holds it."""
        return bool(self._holdings)

    def _take_back(self, method: str, result: Any) -> None:
        """Releases it if it was acquired for somebody who has not learnt of it: broken off, or dead."""
        if method == "acquire" and result:
            with contextlib.suppress(RuntimeError):  # Another thread of the server has seen to it.
                self.release()

    def forsake(self, tenant: "Tenant") -> None:
        """Releases it for a client that has died."""
        for holding in self._holdings[:]:
            if holding.caller.tenant is tenant:
                self._deaths.append(self._death_of(holding, tenant))
                if self._let_go() is None:
                    self._deaths.pop()

    def _hold(self, holding: _Holding) -> None:
        self._holdings.append(holding)
        tenant = holding.caller.tenant
        if tenant is not None:
            tenant.held[id(self)] = self
            if tenant.ended:  # in the meantime
                self.forsake(tenant)

    def _let_go(self) -> _Holding | None:
        try:
            holding = self._holdings.pop()
        except IndexError:
            return None
        if holding.caller.tenant is not None:
            holding.caller.tenant.held.pop(id(self), None)
        self._inner.release()
        return holding

    def _death_of(self, holding: _Holding, tenant: "Tenant") -> OwnerDied:
        return OwnerDied(
            f"{tenant.name} (pid {tenant.pid}) has ended while it held this {type(self).__name__} of a "
            "manager: what it protects may be half written. Repair that, then acquire the lock: it is free",
            tenant.pid,
            tenant.name,
            held_since=holding.since,
        )

    # What a condition asks of its lock.

    def is_owned(self) -> bool:
        """Whether the caller may wait and notify."""
        return bool(self._holdings)

    def release_save(self) -> Any:
        """Releases it however often it was acquired."""
        return self._let_go()

    def acquire_restore(self, saved: Any) -> None:
        """Acquires it again as often; raises OwnerDied while holding it."""
        _take(self._inner, True, None)
        self._hold(saved)
        if self._deaths:
            raise self._deaths.popleft()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()

    def __repr__(self) -> str:
        who = [holding.caller.tenant for holding in self._holdings]
        state = f"held by {who[0].name} (pid {who[0].pid})" if who and who[0] else "held" if who else "free"
        return f"<{type(self).__name__} {state}>"


class RLock(Lock):
    """A lock that a thread of a client may acquire again."""

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Acquires it, once more if the calling thread has it."""
        if self.is_owned():
            self._holdings[0].count += 1
            return True
        return super().acquire(blocking, timeout)

    def release(self) -> None:
        """Releases it once.

        Raises:
            RuntimeError: the calling thread does not hold it.
        """
        if not self.is_owned():
            raise RuntimeError("cannot release un-acquired lock")
        holding = self._holdings[0]
        holding.count -= 1
        if not holding.count:
            self._let_go()

    def is_owned(self) -> bool:
        """Whether the calling thread holds it."""
        return any(holding.caller.identity == _caller().identity for holding in self._holdings[:])


class _Mutex:
    """The lock of an object's own state, for its conditions; held for moments, by no client."""

    def __init__(self, lock: Any) -> None:
        self.acquire, self.release, self.is_owned = lock.acquire, lock.release, lock.locked

    def release_save(self) -> None:
        self.release()

    def acquire_restore(self, saved: None) -> None:
        self.acquire()


class Condition:
    """A condition variable, over a lock of this module; each `wait` and `notify` is a call of its own."""

    def __init__(self, lock: Any = None) -> None:
        from ._proxies import referent

        lock = RLock() if lock is None else referent(lock)
        self._is_mutex = not isinstance(lock, Lock)
        self._lock: Any = _Mutex(lock) if self._is_mutex else lock
        self.acquire, self.release = self._lock.acquire, self._lock.release
        self._waiters: deque[Any] = deque()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits for a notification; whether there was one in time.

        Raises:
            OwnerDied: it was notified, but who had the lock then has died. The lock is held nevertheless.
        """
        self._check_owned("wait on")
        waiter = allocate_lock()
        waiter.acquire()
        self._waiters.append(waiter)
        saved, back = self._lock.release_save(), self._is_mutex
        try:
            notified = self._await(waiter, timeout)
            back = True
        finally:
            # The lock is not acquired for a client that is gone.
            if back:
                self._lock.acquire_restore(saved)
        return notified

    def _await(self, waiter: Any, timeout: float | None) -> bool:
        notified = False
        try:
            notified = _take(waiter, timeout is None or timeout > 0, timeout)
        except ClientGone:
            if not self._withdraw(waiter):
                self._wake(1)  # It was this one's, who cannot use it.
            raise
        return notified or not self._withdraw(waiter)

    def _withdraw(self, waiter: Any) -> bool:
        """Whether nobody has notified this one."""
        try:
            self._waiters.remove(waiter)
        except ValueError:
            return False
        return True

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        """Waits until the predicate is true; what it returned last."""
        return wait_until(predicate, self.wait, timeout)

    def notify(self, n: int = 1) -> None:
        """Wakes up to `n` that wait."""
        self._check_owned("notify on")
        self._wake(n)

    def notify_all(self) -> None:
        """Wakes all that wait."""
        self.notify(len(self._waiters))

    def _wake(self, n: int) -> None:
        for _ in range(n):
            try:
                self._waiters.popleft().release()
            except IndexError:
                return

    def _check_owned(self, what: str) -> None:
        if not self._lock.is_owned():
            raise RuntimeError(f"cannot {what} un-acquired lock")

    def __enter__(self) -> bool:
        return bool(self.acquire())

    def __exit__(self, *error: object) -> None:
        self.release()
