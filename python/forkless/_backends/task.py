"""One task of a cluster, and a function that many tasks call."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import pickles

if TYPE_CHECKING:
    from .future import ClusterFuture
    from .options import ClusterOptions

__all__ = ["Published", "Task"]


class Published:
    """A function that many tasks call, pickled once."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.packed = pickles.pack((function,), ("function",))


class Task:
    """One task. Changed by the collector only."""

    def __init__(
        self,
        number: int,
        future: "ClusterFuture[Any]",
        call: pickles.Packed,
        function: Published | None,
        is_chunk: bool,
        options: "ClusterOptions | None",
        described: tuple[str, str],
    ) -> None:
        self.number, self.future, self.options = number, future, options
        self.call, self.function, self.is_chunk, self.described = call, function, is_chunk, described
        self.handle: Any = None  # the engine's, from when it was handed over until its reply
        self.is_sent = False
        self.priority = 0 if options is None else options.priority
        self.limit = None if options is None else options.timeout

    def __lt__(self, other: "Task") -> bool:
        return (-self.priority, self.number) < (-other.priority, other.number)
