"""The options of tasks that run in a cluster: those of `_options` that it has, and resources."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .._options import Options
from .engine import Engine

__all__ = ["ClusterOptions", "options_for"]


@dataclass(frozen=True)
class ClusterOptions(Options):
    """How tasks are to be treated.

    Attributes:
        resources: what each needs, by name; see `Executor`.
    """

    resources: dict[str, float] = field(default_factory=dict)


def options_for(
    engine: Engine,
    base: ClusterOptions | None,
    *,
    resources: "Mapping[str, float] | None" = None,
    **options: Any,
) -> ClusterOptions | None:
    """Checks what a user gave; None if that is nothing.

    Raises:
        NotImplementedError: the engine has no such thing.
        ValueError: an option is out of range.
        TypeError: an option of a wrong type, or one that there is not.
    """
    for name, advice in engine.unsupported.items():
        if options.get(name) is not None:
            raise NotImplementedError(f"{engine.title} has no {name!r} for tasks: {advice}")
    made = Options.of(base, **options)
    if made is None and resources is None:
        return None
    if not isinstance(made, ClusterOptions):
        made = made or Options()
        kept = {} if base is None else base.resources
        made = ClusterOptions(made.timeout, made.retries, made.priority, made.name, kept)
    return made if resources is None else replace(made, resources=_amounts(resources))


def _amounts(resources: Any) -> dict[str, float]:
    if not isinstance(resources, Mapping):
        raise TypeError(f'resources must be a dict such as {{"CPU": 2, "GPU": 1}}, not {resources!r}')
    for name, amount in resources.items():
        if not isinstance(name, str):
            raise TypeError(f"the name of a resource must be a str, not {name!r}")
        if isinstance(amount, bool) or not isinstance(amount, (int, float)):
            raise TypeError(f"the amount of {name} must be a number, not {amount!r}")
        if not 0 <= amount < float("inf"):
            raise ValueError(f"the amount of {name} must be 0 or more, not {amount!r}")
    return dict(resources)
