"""What a backend must provide: the one thing that differs between Ray and Dask."""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from .blocks import Block
from .wire import Message

__all__ = ["Address", "Demand", "Engine", "Lost", "parse", "unreachable"]


class Address(NamedTuple):
    """Where a cluster is.

    Attributes:
        engine: "ray" or "dask".
        host: "" for one on this machine.
        port: 0 for one on this machine.
    """

    engine: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.engine}://{host}:{self.port}" if host else self.engine


_FORMS = (
    '"ray" (a Ray that this program is connected to or that runs on this machine, or else a new one), '
    '"ray://HOST:PORT" (the Ray Client server of a cluster, port 10001 unless changed), '
    '"dask" (the Dask client of this program, or else a new cluster on this machine), '
    '"dask://HOST:PORT" (a Dask scheduler, port 8786 unless changed)'
)
_PATTERN = re.compile(
    r"(?P<engine>ray|dask)(?:://(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<host>[^:/\s\[\]@]+)):(?P<port>\d{1,5})/?)?"
)


def parse(text: str) -> Address:
    """Takes an address apart.

    Raises:
        ValueError: there is no such backend, or it is no address.
    """
    match = _PATTERN.fullmatch(text)
    port = int(match["port"] or 0) if match else 0
    if match is None or port > 65535 or (match["port"] is not None and not port):
        raise ValueError(
            f"{text!r} names no backend; known are: {_FORMS}. For processes of this machine: Executor()"
        )
    return Address(match["engine"], match["six"] or match["host"] or "", port)


class Demand(NamedTuple):
    """What an engine is told of a task besides the task itself.

    Attributes:
        name: what it is called where the engine shows tasks.
        priority: higher ones first.
        resources: what it needs, by name: "CPU", "GPU", "memory" (bytes), or the cluster's own.
    """

    name: str
    priority: int
    resources: dict[str, float]


class Lost(NamedTuple):
    """A task has no reply.

    Attributes:
        kind: "died": its worker did; "cancelled": nobody wants it any more; "gone": the engine cannot be
            reached; "refused": the engine cannot run it.
        text: what is known.
        worker: where it ran, "" if the engine does not say.
        pid: in which process, 0 if the engine does not say.
        cause: what the engine raised.
    """

    kind: str
    text: str
    worker: str = ""
    pid: int = 0
    cause: BaseException | None = None


class Engine(Protocol):
    """A connection to a cluster. Called by one thread, the executor's collector, unless it says otherwise."""

    title: str
    """What it is called: "Ray"."""
    unsupported: dict[str, str]
    """Options of tasks that it does not have, and what to do instead."""
    ahead: tuple[int, int]
    """How many tasks to hand over at a time: so many for each of its places, and so many besides."""
    arrived: Callable[[int], None]
    """Set by the executor: to be called with the number of a task that has its reply, or has none to come."""

    def connect(self, timeout: float) -> None:
        """Connects; starts what there is to be started.

        Args:
            timeout: how long that may take, in seconds; what takes longer may go on, and is then unused.

        Raises:
            ConnectionError: it cannot be reached.
        """

    def unreachable(self, timeout: float) -> ConnectionError:
        """What to raise when connecting takes longer than that."""

    def slots(self) -> int:
        """How many tasks run at the same time at most."""

    def put(self, memory: Any) -> Any:
        """Gives a `Block` or `Columns` to the cluster; a reference to it, which is released with it."""

    @property
    def can_keep(self) -> bool:
        """Whether `keep` works, once connected."""

    def keep(self, block: Block) -> tuple[memoryview, Any]:
        """As `put`, in the thread of whoever shares.

        Returns:
            The bytes where the engine has them, read-only, and the reference. Until `close` they stay there
            as long as there is a view of them.
        """

    def start(self, number: int, message: Message, memory: list[Any], demand: Demand) -> Any:
        """Hands a task over. When it is done, `arrived(number)` is called, from whatever thread.

        Args:
            number: of the task.
            message: of a `wire.Job`.
            memory: references, in the order of its tokens.
            demand: what else there is to be said.

        Returns:
            What the others know it by.
        """

    def fetch(self, handles: Sequence[Any]) -> "list[Message | Lost]":
        """The replies of tasks that have arrived."""

    def cancel(self, handle: Any) -> None:
        """Has a task not run, or be broken off if the engine can do that. Does not wait."""

    def tend(self) -> None:
        """Does what is to be done now and then."""

    def was_late(self, handle: Any) -> bool:
        """Whether a worker that has died was killed because its task had not ended in time; asked once."""

    def is_running(self, handle: Any) -> bool:
        """Whether it runs now and cannot be broken off; from the thread of whoever cancels."""

    def complaint(self) -> str | None:
        """Why the cluster cannot be used any more; None if it can."""

    def close(self) -> None:
        """Ends the connection, and what was started."""


def unreachable(address: Address, timeout: float, advice: str, cause: object = None) -> ConnectionError:
    """What to raise when there is no cluster at an address."""
    detail = f" ({cause})" if cause else ""
    return ConnectionError(f"no answer from {address} within {timeout:g} s{detail}: {advice}")


def missing(engine: str, cause: ImportError) -> ImportError:
    """What to raise when an engine is not installed."""
    name = {"ray": "ray", "dask": "distributed"}[engine]
    if cause.name is not None and cause.name.partition(".")[0] not in (name, "dask"):
        return cause  # It is there, and lacks something itself.
    text = f'Executor("{engine}") needs {name}, which is not installed: pip install "forkless[{engine}]"'
    return ModuleNotFoundError(text, name=name)
