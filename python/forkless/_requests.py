"""The owner's side of pools in other processes: see `_nested`.

The tasks of others are in the same schedule as its own. A task within a task is before what was submitted at
the same priority and has not begun, the deeper the earlier: so what was begun is finished, and few tasks wait
at a time. It has at least the priority of the task that submitted it. Its arguments and its result are not
loaded here, but passed on; only an exception is looked at, where there is a time limit or retries.
"""

import contextlib
import pickle
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from . import _errors, _pickling
from ._options import Options
from ._worker import CANCEL, CANCELLED, CONNECT, DISOWN, FAILED, GIVE_UP, REQUEST, tag_of

if TYPE_CHECKING:
    from ._forkless import Channel, Message
    from ._scheduler import Scheduler


@dataclass
class Requester:
    """A process that has submitted tasks, or may.

    Attributes:
        answers: where their outcomes go.
        process: the word that stands for it.
        replies: those that it waits for, by their number there.
    """

    answers: "Channel"
    process: int
    replies: "dict[int, Reply]" = field(default_factory=dict)


class Reply:
    """Takes the outcome of a task to the process that submitted it.

    Args:
        requests: who knows it.
        requester: where it goes.
        number: of the task there.
        parent: the task of this pool that submitted it, 0 for none.
        depth: how many tasks it is within.
    """

    __slots__ = ("_requester", "_requests", "depth", "id", "number", "parent", "wanted")

    def __init__(
        self, requests: "Requests", requester: Requester, number: int, parent: int, depth: int
    ) -> None:
        self._requests, self._requester = requests, requester
        self.number, self.parent, self.depth = number, parent, depth
        self.id = 0
        self.wanted = True
        requester.replies[number] = self

    def forward(self, kind: int, message: "Message") -> None:
        """Passes on what a worker has answered."""
        if self._leave():
            # The requester may be gone, and its channel with it.
            with contextlib.suppress(Exception):
                self._requester.answers.forward(message, tag_of(kind, self.number))

    def settle(self, done: bool, value: Any) -> None:
        """Takes another outcome, an exception."""
        if self._leave():
            packed = _errors.pack(value, False)
            with contextlib.suppress(Exception):
                self._requester.answers.send(
                    packed.payload,
                    packed.handles,
                    buffers=packed.buffers,
                    tag=tag_of(FAILED, self.number),
                )

    def cancelled(self) -> None:
        """The task was cancelled."""
        if self._leave():
            with contextlib.suppress(Exception):
                self._requester.answers.send(b"", tag=tag_of(CANCELLED, self.number))

    def give_up(self) -> None:
        """The owner cancels what it has not sent; but a running task may need this one."""

    def _leave(self) -> bool:
        """Whether somebody wants the outcome."""
        self._requester.replies.pop(self.number, None)
        self._requests.forget(self)
        return self.wanted


class Requests:
    """What other processes have submitted to a pool. The collector's own.

    Args:
        scheduler: of the pool.
    """

    def __init__(self, scheduler: "Scheduler") -> None:
        self._scheduler = scheduler
        self._requesters: dict[int, Requester] = {}
        self._children: dict[int, set[int]] = {}
        self._broken_off: deque[int] = deque()
        self._suspect: int | None = None  # a task that nobody can run, as far as the last look could tell

    # From any thread.

    def break_off(self, id: int) -> None:
        """A task was cancelled, or is otherwise not to go on: nobody waits for what it has submitted."""
        self._broken_off.append(id)

    def forget(self, reply: Reply) -> None:
        """A task has its outcome."""
        children = self._children.get(reply.parent)
        if children is not None:
            children.discard(reply.id)
            if not children:
                self._children.pop(reply.parent, None)

    # The collector's own.

    def react(self, kind: int, key: int, message: "Message") -> None:
        """Takes in what another process has sent."""
        if kind == CONNECT:
            # Its process may have ended, and its channel with it.
            try:
                answers, process = _pickling.loads(message)
            except Exception:
                return
            self._requesters[key] = Requester(answers, process)
            return
        requester = self._requesters.get(key)
        if requester is None:
            return  # It is dead.
        if kind == REQUEST:
            self._request(requester, message)
            return
        reply = requester.replies.get(int.from_bytes(message.payload, "little"))
        if reply is None:
            return
        if kind == DISOWN:
            reply.wanted = False
        elif kind == CANCEL or (kind == GIVE_UP and self._scheduler._stage(reply.id) != "sent"):
            self._cancel(reply)

    def _request(self, requester: Requester, message: "Message") -> None:
        scheduler = self._scheduler
        terms = scheduler._terms_of(message)
        number, parent = int.from_bytes(terms[:8], "little"), int.from_bytes(terms[8:16], "little")
        reply = Reply(self, requester, number, parent, 1)
        if parent and scheduler._stage(parent) is None:
            reply.cancelled()  # It was broken off.
            return
        if scheduler.terminated or (scheduler.closed and not parent):
            error = scheduler.refusal()
            reply.settle(False, error)
            return
        try:
            options = Options(*pickle.loads(terms[16:]))
        except Exception as error:
            reply.settle(False, error)  # It may name classes that cannot be imported here.
            return
        if parent:
            options = self._inherit(reply, options)
        if options.timeout is not None:
            scheduler.expect_deadline(options.timeout)
        # It may be answered by its refusal at once.
        reply.id = scheduler._submit_request(reply, message, options, reply.depth)
        if parent and reply.number in requester.replies:
            self._children.setdefault(parent, set()).add(reply.id)

    def _inherit(self, reply: Reply, options: Options) -> Options:
        """Puts a task below the one that has submitted it; its options then."""
        above = self._scheduler._sink_of(reply.parent)
        if isinstance(above, Reply):
            reply.depth = above.depth + 1
        theirs = self._scheduler._options_of(reply.parent)
        if theirs is None or theirs.priority <= options.priority:
            return options
        return replace(options, priority=theirs.priority)

    def fail(self, id: int, message: "Message") -> bool:
        """Passes on that a task has failed; False if it is one of our own, or has to be looked into."""
        reply = self._scheduler._sink_of(id)
        if not isinstance(reply, Reply) or self._scheduler.looks_into_errors(id):
            return False
        if self._scheduler._forget(id):
            reply.forward(FAILED, message)
        return True

    def look(self) -> None:
        """Sees to what was broken off, to requesters that have died, and to waits without an end."""
        while self._broken_off:
            for id in list(self._children.get(self._broken_off.popleft(), ())):
                reply = self._scheduler._sink_of(id)
                if isinstance(reply, Reply):
                    self._cancel(reply)
        for key, requester in list(self._requesters.items()):
            if self._scheduler._is_gone(requester.process):
                del self._requesters[key]
                for reply in list(requester.replies.values()):
                    # What a task has submitted and left alone outlives the worker that ran it.
                    reply.wanted = False
                    if not reply.parent:
                        self._cancel(reply)
        trouble = self._scheduler.staff.trouble()
        if trouble is None:
            self._suspect = None
        else:
            self._relieve(trouble)

    def _cancel(self, reply: Reply) -> None:
        if self._scheduler._withdraw(reply.id) == "sent":
            self._scheduler._end_task(reply.id)
        reply.cancelled()

    def _relieve(self, trouble: str) -> None:
        """All workers wait, and there can be no more: ends the wait for the deepest task that cannot run."""
        running = {task for _, _, task, _ in self._scheduler.staff.running()}
        waiting = [id for id in self._scheduler._ids(False) if id not in running]
        replies = [sink for sink in map(self._scheduler._sink_of, waiting) if isinstance(sink, Reply)]
        if not replies:
            return
        reply = max(replies, key=lambda reply: reply.depth)
        if reply.id != self._suspect:
            # Its outcome may be on its way; by the next look it has come.
            self._suspect = reply.id
            return
        name, _ = self._scheduler.describe(reply.id)
        error = RecursionError(
            f"{name} cannot run: it is {reply.depth} deep in tasks of this pool that wait for each other, "
            f"all {len(self._scheduler.workers)} workers wait, and there can be no more of them: {trouble}. "
            "Use more workers, or fewer levels of tasks that wait"
        )
        sent = self._scheduler._stage(reply.id) == "sent"
        if self._scheduler._settle(reply.id, False, error) and sent:
            self._scheduler._end_task(reply.id)
