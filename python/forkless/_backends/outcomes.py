"""The errors that stand for tasks without a reply of their own."""

from .. import _evidence
from ..exceptions import BrokenPool, RemoteError, TimeoutError, WorkerDied
from .engine import Lost
from .task import Task


def of_lost(task: Task, lost: Lost) -> BaseException:
    """A task has no reply."""
    call = _evidence.describe_task(*task.described)
    error: BaseException
    if lost.kind == "died":
        text = f"{lost.text} while it ran {call}; this task is lost, the others go on"
        name, arguments = task.described
        error = WorkerDied(text, name, lost.worker, lost.pid, arguments=arguments)
    else:
        error = BrokenPool(f"{call} was not run: {lost.text}")
    error.__cause__ = lost.cause
    return error


def late(task: Task, limit: float, error: BaseException) -> BaseException:
    """A task was ended, by this error, because it took longer than `limit` seconds."""
    was_killed = isinstance(error, WorkerDied)
    how = "its worker was killed" if was_killed else "it was broken off where it was"
    call = _evidence.describe_task(*task.described)
    made = TimeoutError(f"{call} took longer than its time limit of {limit:g} s; {how}")
    # With the frames that were broken off, and what says whose they are.
    made.__cause__ = error if was_killed else error.__cause__
    return made.with_traceback(error.__traceback__)


def unreadable(task: Task, cause: Exception) -> BaseException:
    """The result of a task has arrived, and cannot be loaded."""
    error = RemoteError(f"the result of {task.described[0]} has arrived, but cannot be loaded: {cause!r}")
    error.__cause__ = cause
    return error
