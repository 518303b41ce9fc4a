"""Descriptors on their way to another process, by the names of `multiprocessing.resource_sharer`.

There, a thread of the sender serves them; here, the template keeps them: see `forkless.reduction`.
"""

from .reduction import DupFd, DupSocket

__all__ = ["DupFd", "DupSocket", "stop"]


def stop(timeout: float | None = None) -> None:
    """Does nothing: there is no thread to stop.

    Args:
        timeout: accepted for compatibility.
    """
