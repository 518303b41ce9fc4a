"""`SharedMemoryManager`: public in `forkless.managers`, and here because few need `shared_memory`."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ._manager_server import Server
from .managers import BaseManager

if TYPE_CHECKING:
    from ._manager_objects import Tenant


class SharedMemoryServer(Server):
    """Keeps the segments of a `SharedMemoryManager`, and removes them at its end."""

    public = (*Server.public, "track_segment", "release_segment", "list_segments")

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._segments: dict[str, Any] = {}

    def serve_forever(self) -> None:
        """See `Server.serve_forever`; removes the segments afterwards."""
        try:
            super().serve_forever()
        finally:
            for name in list(self._segments):
                self.release_segment(None, name)

    def track_segment(self, tenant: "Tenant", segment: str) -> None:
        """Takes over a segment by its name."""
        from .shared_memory import SharedMemory  # type: ignore[import-not-found,unused-ignore]

        self._segments[segment] = SharedMemory(segment)

    def release_segment(self, tenant: "Tenant | None", segment: str) -> None:
        """Removes one."""
        memory = self._segments.pop(segment)
        memory.close()
        memory.unlink()

    def list_segments(self, tenant: "Tenant") -> list[str]:
        """The names of all that there are."""
        return list(self._segments)


class SharedMemoryManager(BaseManager):
    """Makes segments of shared memory that are removed when the manager is shut down.

    Example:
        >>> with SharedMemoryManager() as manager:
        ...     memory = manager.SharedMemory(size=100)
        ...     memory.buf[0] = 1
    """

    _Server = SharedMemoryServer

    def SharedMemory(self, size: int) -> Any:  # noqa: N802
        """A new segment of `size` bytes."""
        from .shared_memory import SharedMemory

        return self._track(SharedMemory(None, create=True, size=size))

    def ShareableList(self, sequence: Iterable[Any]) -> Any:  # noqa: N802
        """A new list in shared memory."""
        from .shared_memory import ShareableList

        made = ShareableList(sequence)
        self._track(made.shm)
        return made

    def _track(self, memory: Any) -> Any:
        try:
            self._running().call(None, "track_segment", (memory.name,), {})
        except BaseException:
            memory.unlink()
            raise
        return memory
