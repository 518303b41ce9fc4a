"""What a benchmark is, and the list of all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Function = Callable[[Any], float]


@dataclass(frozen=True)
class Benchmark:
    """One question, asked of forkless and of its peers.

    Attributes:
        function: measures it, given the API of a subject (see `subject`), in `unit`; less is better.
        peers: the subjects to compare with; "@name" is forkless itself in the benchmark of that name.
        ours: the subject that is forkless.
        at_most: what forkless is to reach, as a multiple of the figures of these peers.
        limit: what forkless is to reach, in `unit`; None: no promise.
        unit: "s", "B", or "x" for a multiple.
    """

    function: Function
    peers: tuple[str, ...]
    ours: str
    at_most: Mapping[str, float]
    limit: float | None
    unit: str

    @property
    def name(self) -> str:
        """As the command line calls it."""
        return self.function.__name__


class NotThere(Exception):
    """The subject is not installed, or lacks what the benchmark is about: it is left out."""


ALL: dict[str, Benchmark] = {}


def benchmark(
    *peers: str,
    ours: str = "forkless",
    at_most: float | Mapping[str, float] | None = None,
    limit: float | None = None,
    unit: str = "s",
) -> Callable[[Function], Function]:
    """Adds a function to the list; without peers it is compared with the standard library's `fork`.

    A number for `at_most` is about the first peer. Peers with a promise need not be named twice.
    """
    if isinstance(at_most, Mapping):
        promises, all_peers = at_most, (*at_most, *peers)
    else:
        all_peers = peers or ("fork",)
        promises = {} if at_most is None else {all_peers[0]: at_most}

    def add(function: Function) -> Function:
        ALL[function.__name__] = Benchmark(function, all_peers, ours, promises, limit, unit)
        return function

    return add


def subject(name: str) -> Any:
    """The API of a subject: a context of forkless or of the standard library, or one of the `peers`.

    Args:
        name: "forkless", "forkless-spawn", a start method of `multiprocessing`, or the name of a peer.

    Raises:
        NotThere: the peer is not installed.
    """
    if name == "forkless":
        import forkless

        return forkless
    if name == "forkless-spawn":
        import forkless

        return forkless.get_context("spawn")
    if name in ("fork", "spawn", "forkserver"):
        import multiprocessing

        return multiprocessing.get_context(name)
    import peers

    try:
        return peers.PEERS[name]()
    except ImportError as error:
        raise NotThere(name) from error
