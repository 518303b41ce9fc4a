"""The names of `multiprocessing.resource_tracker`. There is no tracker, as there is nothing to track.

Nothing of forkless has a name that could be left behind when a process is killed: what processes share is
freed by the kernel with the last of them. (`SharedMemory(public=True)` is the exception, on request, and is
left alone as its owner wants.) So a program that takes its segments out of the tracker by hand, because that
would remove what others still use, does no harm here.
"""

from typing import TYPE_CHECKING, NoReturn

from . import _internals

__all__ = ["ensure_running", "register", "unregister"]


class ReentrantCallError(RuntimeError):
    """The tracker was called by a finalizer that has interrupted a call of it: never raised here."""


class ResourceTracker:
    """What stands for the tracker."""

    def ensure_running(self) -> None:
        """Does nothing."""

    def register(self, name: str, rtype: str) -> None:
        """Does nothing: what is registered is not removed when the program ends.

        Args:
            name: the name of a resource.
            rtype: its kind, "shared_memory" or "semaphore".
        """

    def unregister(self, name: str, rtype: str) -> None:
        """Does nothing; see `register`."""

    def getfd(self) -> NoReturn:
        """Raises ProcessError: there is no process to talk to."""
        from .exceptions import ProcessError

        raise ProcessError("forkless has no resource tracker, so there is no descriptor of one to pass on")

    def _stop(self) -> None:
        """Does nothing."""


_resource_tracker = ResourceTracker()

# How each kind is removed. Programs delete "shared_memory" from it, so that nobody removes their segments.
_CLEANUP_FUNCS = dict.fromkeys(("noop", "semaphore", "shared_memory"), _resource_tracker.ensure_running)
ensure_running = _resource_tracker.ensure_running
register = _resource_tracker.register
unregister = _resource_tracker.unregister
getfd = _resource_tracker.getfd


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        return _internals.find(__name__, name)
