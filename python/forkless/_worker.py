"""The life of a worker: take a task, run it, send back what became of it.

A task is a pickled `(function, args, kwargs)`; an answer is a pickled `(True, value)` or `(False, report)`,
with the tag of its task. While a task runs, its tag stands in the worker's slot (the claim): that is how the
owner of the pool learns which task was lost when the worker dies.
"""

import itertools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from . import _errors, _pickling, process

if TYPE_CHECKING:
    from ._forkless import Channel, Message
    from ._pickling import Packed

# Tags that are no task's. A message to the workers with STOP ends one worker; one to the owner with WAKE says
# that something has changed, with SETUP_FAILED that the initializer raised.
STOP = 0
WAKE = 0
SETUP_FAILED = 2**64 - 1


def work(tasks: "Channel", results: "Channel", setup: bytes, limit: int | None) -> None:
    """Runs tasks until told to stop.

    Args:
        tasks: where tasks come from.
        results: where answers go.
        setup: the pickled `(initializer, initargs)`, or nothing.
        limit: how many tasks to run at most.
    """
    from ._forkless import unclaim

    if setup and not _set_up(results, setup):
        return
    for _ in itertools.repeat(None) if limit is None else range(limit):
        message = tasks.receive(claim=True)
        if message is None or message.tag == STOP:
            return
        tag = message.tag
        answer = _answer(message)
        # The owner may end this process as soon as it has the answer, and buffered output with it.
        process.flush_streams()
        _send(results, answer, tag)
        del message, answer
        unclaim()


def run_chunk(function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    """One task for several calls with one argument each."""
    return [function(item) for item in items]


def run_star_chunk(function: Callable[..., Any], items: Iterable[Iterable[Any]]) -> list[Any]:
    """One task for several calls with several arguments each."""
    return [function(*item) for item in items]


def _set_up(results: "Channel", setup: bytes) -> bool:
    try:
        initializer, arguments = _pickling.loads(setup)
        initializer(*arguments)
    except BaseException as error:
        _send(results, _errors.pack(error), SETUP_FAILED)
        return False
    return True


def _send(results: "Channel", answer: "Packed", tag: int) -> None:
    try:
        results.send(answer.payload, answer.handles, buffers=answer.buffers, tag=tag)
    except Exception as error:
        # No room for the answer in shared memory: there may still be some for the reason.
        failure = _errors.pack(error)
        results.send(failure.payload, failure.handles, buffers=failure.buffers, tag=tag)


def _answer(message: "Message") -> "Packed":
    try:
        function, args, kwargs = _pickling.loads(message)
        value = function(*args, **kwargs)
        return _pickling.pack((True, value), home=True, names=("done", "the result"))
    except BaseException as error:
        # SystemExit and KeyboardInterrupt too: they belong to the task, and its owner waits for an answer.
        return _errors.pack(error)
