"""What a benchmark is, and the list of all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Function = Callable[[Any], float]


@dataclass(frozen=True)
class Benchmark:
    """One question, asked of forkless and of its peers.

    Attributes:
        function: measures it, given the API of a subject (see `subject`), in `unit`; less is better.
        peers: the subjects to compare with.
        ours: the subject that is forkless.
        at_most: what forkless is to reach, as a multiple of the first peer's figure; None: no promise.
        limit: what forkless is to reach, in `unit`; None: no promise.
        unit: "s" or "B".
    """

    function: Function
    peers: tuple[str, ...]
    ours: str
    at_most: float | None
    limit: float | None
    unit: str

    @property
    def name(self) -> str:
        """As the command line calls it."""
        return self.function.__name__


ALL: dict[str, Benchmark] = {}


def benchmark(
    *peers: str,
    ours: str = "forkless",
    at_most: float | None = None,
    limit: float | None = None,
    unit: str = "s",
) -> Callable[[Function], Function]:
    """Adds a function to the list; without peers it is compared with the standard library's `fork`."""

    def add(function: Function) -> Function:
        ALL[function.__name__] = Benchmark(function, peers or ("fork",), ours, at_most, limit, unit)
        return function

    return add


def subject(name: str) -> Any:
    """The API of a subject: a context of forkless or of the standard library, or a peer's module.

    Args:
        name: "forkless", "forkless-spawn", a start method of `multiprocessing`, or the name of a module.
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
    return __import__(name)
