"""`TaskInterrupted`: public in `forkless.exceptions`, and here because a worker must not have to load that.

It is raised by a signal handler, which may interrupt just such an import.
"""

__all__ = ["TaskInterrupted"]


class TaskInterrupted(BaseException):
    """Raised in a task, in its worker, that is to end: it took too long, or was cancelled.

    Like KeyboardInterrupt it is no `Exception`, so that nobody catches it by accident. Clean up and let
    it pass: a task that goes on is killed with its worker.
    """

    __module__ = "forkless"  # loaded in every worker, and so found there by who pickles it
