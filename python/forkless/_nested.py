"""Pools and executors in other processes than the one that made them: in their own tasks, first of all.

A pool that is pickled arrives as a *remote* one. It sends calls to the pool's owner, which treats them as its
own but does not load their arguments (see `_requests`), and gets what became of them through a channel of its
own. Whoever waits for an outcome here takes in all that come, so there is no thread; only for what is told to
callbacks, `concurrent.futures.wait`, `done` and the like there is one, until that is there.

A task that waits is *blocked*: its worker says so on the board, and the owner has one more worker at work for
each of those. So tasks can wait for tasks of the same pool, however deep, and no more of them run at a time
than there were to be workers. (The waiting worker does not run others meanwhile: its stack would grow with
each, and the time limit or the death of one task would hit those below it.)
"""

import contextlib
import itertools
import os
import pickle
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from . import _errors, _forks, _pickling
from ._forkless import BaseFuture, Channel, Client
from ._scheduler import name_of, place_of
from ._waiters import Waiters
from ._worker import CANCEL, CANCELLED, CONNECT, DISOWN, FAILED, GIVE_UP, REQUEST, tag_of

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from ._forkless import Arrivals, Function, Gather, Message, SharedBytes, Worker
    from ._options import Options
    from ._pickling import Pickler
    from ._results import MapResult
    from .pool import Pool

P = TypeVar("P", bound="Pool | Executor")

# Between two looks whether the owner is still there, in seconds; and after which time another thread does
# not rely on the one that receives.
_LOOK, _STALE = 0.5, 2.0
# What of a tag is a number, and not a kind.
_NUMBER = (1 << 48) - 1
# Pools of others that are remembered before those that have ended are forgotten.
_MANY = 16


class Link(NamedTuple):
    """What another process is given of a pool.

    Attributes:
        token: names it.
        owner: the process id of its owner.
        requests: what the owner reads.
        board: where it says what it accepts.
        size: how many workers there are at most.
        closed_error: what `submit` raises when no more tasks are accepted.
    """

    token: str
    owner: int
    requests: Channel
    board: "SharedBytes"
    size: int
    closed_error: Exception


# The pools of this process that were pickled, and those of others that have arrived, by token.
_originals: "weakref.WeakValueDictionary[str, Any]" = weakref.WeakValueDictionary()
_remotes: "dict[str, Remote]" = {}


def reduce(pickler: "Pickler", pool: Any) -> tuple[Any, ...]:
    """What is pickled of a pool or an executor.

    Raises:
        NotImplementedError: nothing keeps its parts alive on their way.
    """
    if not pickler.leased:
        raise NotImplementedError("pool objects cannot be passed to processes of other trees")
    link = pool._scheduler.link()
    if not isinstance(pool._scheduler, Remote):
        _originals[link.token] = pool
    attributes = {name: value for name, value in vars(pool).items() if name not in ("_scheduler", "_context")}
    return attach, (type(pool), link, attributes)


def attach(kind: type[P], link: Link, attributes: dict[str, Any]) -> P:
    """The pool that a link names, as this process sees it; the original, where it was made."""
    original: Any = _originals.get(link.token)
    if original is not None and link.owner == os.getpid():
        return original  # type: ignore[no-any-return]
    if len(_remotes) > _MANY:
        for token, remote in list(_remotes.items()):
            if remote.state == "TERMINATE":
                _remotes.pop(token, None)
    pool = kind.__new__(kind)
    vars(pool).update(attributes, _context=None)
    remote = _remotes.get(link.token) or _remotes.setdefault(link.token, Remote(link))
    vars(pool)["_scheduler"] = remote
    return pool


_forks.in_copy(_remotes.clear)


class _Call(NamedTuple):
    """A call that has no outcome yet: what gets it, if somebody still wants it, and what messages call it."""

    sink: Callable[[], Any]
    name: str


class Remote(Client):
    """Stands for the `Scheduler` of a pool whose owner is another process.

    Args:
        link: what was sent of it.
    """

    def __new__(cls, link: Link) -> "Remote":
        return super().__new__(cls, link.requests, link.board)

    def __init__(self, link: Link) -> None:
        self._link = link
        self.size = link.size
        self.feeders: set[Any] = set()  # They are fed by those who take their results.
        self.streams: set[Any] = set()  # The owner waits for its own only.
        self._numbers = itertools.count(1)
        self._connect()

    def _connect(self) -> None:
        """Tells the owner where outcomes go."""
        self._process = os.getpid()
        self._answers = Channel()
        self._key = int.from_bytes(os.urandom(6), "little")
        self._calls: dict[int, _Call] = {}
        self._watched: dict[int, tuple[Any, int]] = {}
        self._adopted: dict[int, tuple[BaseFuture, int]] = {}
        # The thread that receives, by a name that nobody else has; and when it last looked.
        self._turn: dict[str, int] = {}
        self._beat = 0.0
        self._waiters = Waiters()
        self._threads = [None]
        packed = _pickling.pack((self._answers, self._me()), beside=False)
        self._link.requests.send(packed.payload, packed.handles, tag=tag_of(CONNECT, self._key))

    complaint = None
    is_own = False

    def link(self) -> Link:
        """What other processes are given."""
        return self._link

    @property
    def state(self) -> str:
        """As `Scheduler.state`."""
        accepted = self._accepted()
        return "TERMINATE" if accepted is None else ("RUN", "CLOSE", "TERMINATE")[accepted]

    # What pools and executors call.

    def check(self) -> None:
        """Raises what `submit` would raise now."""
        accepted = self._accepted()
        if accepted is None or accepted > 1:
            raise self._broken(accepted)
        if accepted and not self._parent():
            error = self._link.closed_error
            raise type(error)(*error.args)

    def publish(self, function: "Callable[..., Any]") -> "Function":
        """As `Scheduler.publish`."""
        return _pickling.publish(function)

    def submit(
        self,
        sink: Any,
        call: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]],
        options: "Options | None" = None,
    ) -> None:
        """As `Scheduler.submit`; the outcome may be that the owner does not accept the task."""
        self._ask(sink, call[0], None, options, self._request, call)

    def submit_chunk(
        self,
        sink: Any,
        function: "Function",
        items: tuple[Any, ...],
        star: bool,
        options: "Options | None" = None,
    ) -> None:
        """As `Scheduler.submit_chunk`."""
        place = getattr(sink, "items", None)
        self._ask(
            sink,
            function.object,
            place,
            options,
            self._request_chunk,
            (function, items, star, getattr(sink, "start", None)),
        )

    def submit_items(
        self, gather: "Gather", function: "Function", items: Iterable[Any], options: "Options | None" = None
    ) -> None:
        """As `Scheduler.submit_items`."""
        for index, item in enumerate(items):
            sink, place = _Item(gather, index), (index, 1, False)
            self._ask(sink, function.object, place, options, self._request_item, (function, item, index))

    def submit_parts(
        self,
        arrivals: "Arrivals",
        function: "Function",
        parts: "list[Any]",
        start: int,
        chunks: bool,
        options: "Options | None",
        feeder: object,
    ) -> None:
        """As `Scheduler.submit_parts`."""
        for part in parts:
            sink = _Part(arrivals, arrivals.expect(), chunks)
            place = (start, len(part) if chunks else 1, chunks)
            request: Any = self._request_chunk if chunks else self._request_item
            call = (function, part, False, start) if chunks else (function, part, start)
            try:
                self._ask(sink, function.object, place, options, request, call)
            except BaseException as error:
                sink.settle(False, error)  # A part that is expected has to come.
                raise
            start += place[1]

    def adopt(self, result: "MapResult[Any]") -> None:
        """Has somebody who waits for the result of several tasks receive their outcomes."""
        result._assign(self, 0)
        if result._has_callbacks:
            self._watch(result)

    def take(self, arrivals: "Arrivals", timeout: float | None) -> "tuple[bool, Any] | None":
        """As `Arrivals.next`."""
        found: list[tuple[bool, Any]] = []

        def look() -> bool:
            arrival = arrivals.next(0)
            if arrival is not None:
                found.append(arrival)
            return bool(found)

        self.wait(look, timeout)
        return found.pop() if found else None

    def withdraw(self, id: int) -> None:
        """The future of a call is being cancelled."""
        if self._forget(id) is not None:
            self._tell(CANCEL, id)

    def lets_go(self, id: int) -> bool:
        """Asks for a task to be cancelled unless it was begun; its future hears of it later."""
        self._tell(GIVE_UP, id)
        return False

    def poke(self) -> None:
        """As `Scheduler.poke`: nothing depends on it here."""

    def _stage(self, id: int) -> str | None:
        return "sent" if id in self._calls else None

    def _ahead(self) -> int:
        return self.size

    # What is for the owner only.

    def _refuse(self, *_arguments: Any, **_keywords: Any) -> Any:
        raise RuntimeError(
            f"this pool belongs to process {self._link.owner}, which alone can close, end, resize and "
            "inspect it; other processes can submit tasks to it"
        )

    close = terminate = join = resize = cancel_pending = statistics = _refuse
    workers = staff = property(_refuse)

    # Calls on their way.

    def _ask(
        self,
        sink: Any,
        function: object,
        place: tuple[int, int, bool] | None,
        options: "Options | None",
        request: Callable[..., None],
        call: tuple[Any, ...],
    ) -> None:
        if self._process != os.getpid():
            self._connect()  # User code has forked.
        self.check()
        self.poll()
        number = next(self._numbers)
        name = name_of(function) if options is None or options.name is None else options.name
        name = name if place is None else f"{name} ({place_of(*place[:2])})"
        if isinstance(sink, BaseFuture):
            sink._assign(self, number)
        self._calls[number] = _Call(self._hold(sink, number), name)
        try:
            keep = options is not None and options.retries is not None
            request(tag_of(REQUEST, self._key), self._terms(number, name, options), call, keep)
        except Exception as error:
            self._settle(number, False, error)
            return
        except BaseException:
            self._forget(number)
            raise
        if isinstance(sink, BaseFuture) and sink._is_watched():
            self.attend(number)

    def _hold(self, sink: Any, number: int) -> Callable[[], Any]:
        """Nobody wants the outcome of a future that was dropped."""
        if not isinstance(sink, BaseFuture):
            return lambda: sink
        me = weakref.ref(self)

        def dropped(_: object) -> None:
            remote = me()
            if remote is not None and remote._forget(number) is not None:
                with contextlib.suppress(Exception):
                    remote._tell(DISOWN, number)

        return weakref.ref(sink, dropped)

    def _terms(self, number: int, name: str, options: "Options | None") -> bytes:
        """What the owner reads of a request; see `_requests`."""
        head = number.to_bytes(8, "little") + self._parent().to_bytes(8, "little")
        if options is None:
            return head + pickle.dumps((None, None, 0, name[:1000]))
        terms = options.timeout, options.retries, options.priority, name[:1000]
        pickled, handles = _pickling.dumps(terms)
        if handles:
            raise ValueError("the options of a task cannot have shared objects in them")
        return head + pickled

    def _parent(self) -> int:
        """The task of the same pool in which this is, 0 if there is none."""
        worker = _worker()
        if worker is None or worker.results.handle != self._link.requests.handle:
            return 0
        return worker.current & _NUMBER

    def _tell(self, kind: int, number: int) -> None:
        self._link.requests.send(number.to_bytes(8, "little"), tag=tag_of(kind, self._key))

    def _forget(self, number: int) -> _Call | None:
        call = self._calls.pop(number, None)
        watched = self._watched.pop(number, None)
        if watched is not None:
            self._unblock(watched[1])
        return call

    def _settle(self, number: int, done: bool, value: Any) -> None:
        call = self._forget(number)
        sink = None if call is None else call.sink()
        try:
            if isinstance(sink, BaseFuture):
                sink._complete(done, value)
            elif sink is not None:
                sink.settle(done, value)
        except BaseException as error:
            from ._futures import report_callback

            report_callback(error)

    # Outcomes.

    def wait_for(self, future: BaseFuture, timeout: float | None) -> bool:
        """Waits until a future is done, for `timeout` seconds at most; whether it is."""
        return self.wait(future._is_done, timeout)

    def wait(self, ready: Callable[[], bool], timeout: float | None = None) -> bool:
        """Waits until `ready()`, for `timeout` seconds at most, and takes in outcomes; whether it is."""
        self.poll()
        if ready():
            return True
        deadline = None if timeout is None else time.monotonic() + timeout
        task = 0
        try:
            task = self._block()
            while not ready():
                left = _LOOK if deadline is None else deadline - time.monotonic()
                if left <= 0:
                    # Once more: this process may have been stopped since it looked.
                    self.poll()
                    return ready()
                self._take_turn(ready, min(left, _LOOK))
            return True
        finally:
            self._unblock(task)

    def poll(self) -> None:
        """Takes in what outcomes are there."""
        while self._receive(0.0):
            pass
        if self._calls and not self._is_there():
            self._give_up_all()

    def look(self, future: BaseFuture) -> None:
        """Somebody asks whether a future is done, and may do so until it is."""
        self.poll()
        if not future._is_done():
            if future._task:
                self.attend(future._task)
            else:
                self._watch(future)

    def _watch(self, result: BaseFuture) -> None:
        if id(result) not in self._adopted:
            self._adopted[id(result)] = result, self._block()
            self._serve_watched()

    def attend(self, number: int) -> None:
        """Somebody is to be told of the outcome of a call: a thread takes in outcomes until then."""
        call = self._calls.get(number)
        sink = None if call is None else call.sink()
        if sink is None or number in self._watched:
            return
        self._watched[number] = sink, self._block()
        if number in self._calls:
            self._serve_watched()
        else:
            self._forget(number)

    def _serve_watched(self) -> None:
        try:
            self._threads.pop()
        except IndexError:
            return
        name = f"forkless results of the pool of process {self._link.owner}"
        try:
            threading.Thread(target=self._serve, name=name, daemon=True).start()
        except BaseException:
            self._threads.append(None)
            raise

    def _serve(self) -> None:
        while True:
            try:
                while not self._is_idle():
                    self._take_turn(self._is_idle, _LOOK)
            finally:
                self._threads.append(None)
            if self._is_idle():
                return
            try:
                self._threads.pop()
            except IndexError:
                return

    def _is_idle(self) -> bool:
        for key, (result, task) in list(self._adopted.items()):
            if result._is_done() and self._adopted.pop(key, None) is not None:
                self._unblock(task)
        return not self._watched and not self._adopted

    def _take_turn(self, ready: Callable[[], bool], bound: float) -> None:
        """Receives, unless another thread does: then waits for what that brings."""
        me = threading.get_ident()
        if self._turn.setdefault("thread", me) != me and time.monotonic() - self._beat < _STALE:
            self._waiters.wait(lambda: ready() or not self._turn, bound)
            return
        try:
            self._beat = time.monotonic()
            if not self._receive(bound) and not self._is_there():
                self._give_up_all()
        finally:
            self._turn.pop("thread", None)
            self._waiters.wake()

    def _receive(self, timeout: float) -> bool:
        """Takes in one outcome, if one comes in time."""
        message = self._answers.receive(timeout=timeout)
        if message is None:
            return False
        kind, number = message.tag >> 48, message.tag & _NUMBER
        call = self._calls.get(number)
        if call is None or call.sink() is None:
            self._forget(number)
        elif kind == CANCELLED:
            self._cancel(number, call)
        else:
            self._settle(number, *self._load(kind, message, call.name))
        self._waiters.wake()
        return True

    def _load(self, kind: int, message: "Message", name: str) -> tuple[bool, Any]:
        try:
            if kind == FAILED:
                return False, _errors.rebuild(_pickling.loads(message))
            return True, message.unpack(kind - 1)
        except Exception as cause:
            from ._broken import UnreadableResult

            error = UnreadableResult(f"the result of {name} has arrived, but cannot be loaded: {cause!r}")
            error.__cause__ = cause
            return False, error

    def _cancel(self, number: int, call: _Call) -> None:
        """The owner has cancelled a task."""
        self._forget(number)
        sink = call.sink()
        if hasattr(sink, "cancel"):
            sink.cancel()
            return
        from concurrent.futures import CancelledError

        self._calls[number] = call
        self._settle(
            number, False, CancelledError(f"{call.name} was cancelled, as the task that asked for it")
        )

    def _is_there(self) -> bool:
        return self._accepted() in (0, 1)

    def _give_up_all(self) -> None:
        """The owner is gone, or done with the pool: what it has sent before is all."""
        accepted = self._accepted()
        while self._receive(0.0):
            pass
        for number in list(self._calls):
            self._settle(number, False, self._broken(accepted))

    def _broken(self, accepted: int | None) -> Exception:
        from .exceptions import BrokenPool

        what = "has ended" if accepted is None else "has closed or terminated it"
        return BrokenPool(f"process {self._link.owner}, which this pool belongs to, {what}")

    # Tasks that wait.

    @staticmethod
    def _block() -> int:
        """The task that this process runs waits now; what `_unblock` wants."""
        worker = _worker()
        return 0 if worker is None else worker.block()

    @staticmethod
    def _unblock(task: int) -> None:
        worker = _worker()
        if task and worker is not None:
            worker.unblock(task)

    def __reduce__(self) -> tuple[Any, ...]:
        raise NotImplementedError("pickle the pool or the executor")


def _worker() -> "Worker | None":
    """What this process is, if it is a worker of a pool."""
    module: Any = sys.modules.get("forkless._worker")
    return module.current  # type: ignore[no-any-return]


class _Item:
    """The result of one item of a `map`."""

    __slots__ = ("_gather", "_index")

    def __init__(self, gather: "Gather", index: int) -> None:
        self._gather, self._index = gather, index

    def settle(self, done: bool, value: Any) -> None:
        """Takes the outcome."""
        self._gather.put_chunk(self._index, 1, done, [value] if done else value)


class _Part:
    """The results of a part of an `imap`."""

    __slots__ = ("_arrivals", "_chunk", "_number")

    def __init__(self, arrivals: "Arrivals", number: int, chunk: bool) -> None:
        self._arrivals, self._number, self._chunk = arrivals, number, chunk

    def settle(self, done: bool, value: Any) -> None:
        """Takes the outcome."""
        self._arrivals.put(self._number, self._chunk, done, value)
