"""Running tasks again that have failed."""

import heapq
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ._options import Options


class Retrying(Protocol):
    """What has tasks that may be tried again: a scheduler."""

    def _options_of(self, id: int, /) -> "Options | None": ...
    def _stage(self, id: int, /) -> object: ...
    def _again(self, id: int, /) -> object: ...


class Retries:
    """The tasks of a pool that wait for their next attempt. The collector's own.

    Args:
        scheduler: whose tasks they are.

    Attributes:
        count: how many further attempts there have been.
    """

    def __init__(self, scheduler: Retrying) -> None:
        self._scheduler = scheduler
        self.count = 0
        self._attempts: dict[int, int] = {}
        self._waiting: list[tuple[float, int]] = []

    def accept(self, id: int, error: BaseException) -> bool:
        """Whether a task that has failed, and is held, is tried again."""
        options = self._scheduler._options_of(id)
        retry = None if options is None else options.retries
        attempt = self._attempts.get(id, 0) + 1
        if retry is None or attempt > retry.times or not _is_one_of(error, retry.on):
            if self._attempts.pop(id, None) is not None:
                note_attempts(error, attempt)
            return False
        self.count += 1
        self._attempts[id] = attempt
        heapq.heappush(self._waiting, (time.monotonic() + retry.delay_of(attempt), id))
        return True

    def due_in(self) -> float:
        """In how many seconds to `look` again."""
        return self._waiting[0][0] - time.monotonic() if self._waiting else float("inf")

    def look(self) -> None:
        """Sends what is due."""
        while self._waiting and self._waiting[0][0] <= time.monotonic():
            _, id = heapq.heappop(self._waiting)
            self._scheduler._again(id)
        if not self._waiting and len(self._attempts) > 1024:
            self._attempts = {id: n for id, n in self._attempts.items() if self._scheduler._stage(id)}


def _is_one_of(error: BaseException, kinds: "type[BaseException] | tuple[type[BaseException], ...]") -> bool:
    """Whether it is of one of these classes, or stands for an exception that was."""
    if isinstance(error, kinds):
        return True
    from ._recipes import name_of
    from .exceptions import RemoteError

    names = map(name_of, kinds if isinstance(kinds, tuple) else (kinds,))
    return isinstance(error, RemoteError) and any(name in error.ancestors for name in names)


def note_attempts(error: BaseException, attempts: int) -> None:
    """Says in an error that it came more than once."""
    note = f"This was attempt {attempts} of a task with retries."
    if hasattr(error, "add_note"):  # From 3.11 on.
        error.add_note(note)
