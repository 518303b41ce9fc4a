"""How a single task is to be treated: its time limit, its retries, its priority, its name."""

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Options", "Retry"]


@dataclass(frozen=True)
class Retry:
    """Whether and when a task that failed is run again.

    The first retry comes after `delay` seconds, each further one after `factor` times as long, `max_delay` at
    most; each delay is longer or shorter by up to `jitter` of itself, so that tasks which failed together do
    not come back together.

    Attributes:
        times: how many times it is run again at most.
        delay: in seconds.
        factor: at least 1.
        max_delay: in seconds.
        jitter: 0 to 1.
        on: the exceptions to try again after; others are an outcome at once. `WorkerDied` (the worker was
            killed) and `TimeoutError` (it took too long) are exceptions too.

    Example:
        >>> Retry(3, delay=1.0, on=(ConnectionError,)).delay_of(2, spread=0.0)
        2.0
    """

    times: int
    delay: float = 0.1
    factor: float = 2.0
    max_delay: float = 60.0
    jitter: float = 0.1
    on: type[BaseException] | tuple[type[BaseException], ...] = (Exception,)

    def __post_init__(self) -> None:
        if not _is_int(self.times):
            raise TypeError(f"retries must be a number of times, or a Retry, not {self.times!r}")
        if self.times < 0:
            raise ValueError(f"retries must be 0 or more, not {self.times!r}")
        if not 0 <= self.delay < float("inf") or not 1 <= self.factor < float("inf") or self.max_delay < 0:
            raise ValueError("the delay of a retry must be 0 or more, and its factor 1 or more")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter must be between 0 and 1, not {self.jitter!r}")
        given: Any = self.on
        kinds = given if isinstance(given, tuple) else (given,)
        if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
            raise TypeError(f"on must be exception classes, not {given!r}")
        object.__setattr__(self, "on", kinds)

    def delay_of(self, attempt: int, spread: float | None = None) -> float:
        """How long to wait, in seconds, before a task is run again.

        Args:
            attempt: 1 for the first retry.
            spread: -1 to 1, how much of the jitter to add; random if None.
        """
        try:
            delay = min(self.max_delay, self.delay * self.factor ** (attempt - 1))
        except OverflowError:
            delay = self.max_delay
        return delay * (1 + self.jitter * (random.uniform(-1, 1) if spread is None else spread))


class Keywords(TypedDict, total=False):
    """What users give; see `Options`."""

    timeout: float | None
    retries: "int | Retry | None"
    priority: int | None
    name: str | None
    resources: "Mapping[str, float] | None"  # of clusters only, see `_backends`


@dataclass(frozen=True)
class Options:
    """How tasks are to be treated; see `Executor.options`.

    Attributes:
        timeout: how long it may run, in seconds from when a worker begins; None for no limit. Time in which
            the machine or the pool's own process stood still, or a debugger had stopped the worker, does not
            count.
        retries: how often it is run again if it fails; None for never.
        priority: tasks with a higher one are sent to workers first.
        name: what messages call it; None for the name of its function.
    """

    timeout: float | None = None
    retries: Retry | None = None
    priority: int = 0
    name: str | None = None

    @classmethod
    def of(
        cls,
        base: "Options | None" = None,
        *,
        timeout: float | None = None,
        retries: "int | Retry | None" = None,
        priority: int | None = None,
        name: str | None = None,
        **unknown: object,
    ) -> "Options | None":
        """Checks what a user gave; None if that is nothing.

        Args:
            base: what holds where nothing is given.
            timeout: see `Options`.
            retries: see `Options`; a number of times is a `Retry` with its usual delays.
            priority: see `Options`.
            name: see `Options`.
            unknown: what there is not.

        Raises:
            ValueError: a negative number, or one too large.
            TypeError: something of a wrong type, or an option that there is not.
        """
        for other in unknown:
            if other == "resources":
                raise TypeError('resources are for tasks of clusters, as those of Executor("ray")')
            known = ", ".join(name for name in Keywords.__annotations__ if name != "resources")
            raise TypeError(f"unexpected keyword argument {other!r}; the options of a task are: {known}")
        if timeout is None and retries is None and priority is None and name is None:
            return base
        made = base or cls()
        return cls(
            made.timeout if timeout is None else _seconds(timeout),
            made.retries if retries is None else _retry(retries),
            made.priority if priority is None else _priority(priority),
            made.name if name is None else _name(name),
        )


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _seconds(timeout: Any) -> float:
    if not isinstance(timeout, (int, float)) or isinstance(timeout, bool):
        raise TypeError(f"timeout must be a number of seconds, not {timeout!r}")
    if not timeout > 0:
        raise ValueError(f"timeout must be more than 0 seconds, not {timeout!r}")
    return float(timeout)


def _retry(retries: "int | Retry") -> Retry | None:
    made = retries if isinstance(retries, Retry) else Retry(retries)
    return made if made.times else None


def _priority(priority: int) -> int:
    if not _is_int(priority):
        raise TypeError(f"priority must be an int, not {priority!r}")
    if not -(2**31) <= priority < 2**31:
        raise ValueError(f"priority must be an int of 32 bits, not {priority!r}")
    return priority


def _name(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, not {name!r}")
    return name
