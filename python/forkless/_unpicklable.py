"""What is raised when pickling fails: a `PicklingError` that is also what the standard library raises.

There, what `pickle` or a `__reduce__` has raised comes through as it is. Only loaded when pickling has
failed. See `_unsendable` for results of tasks.
"""

from ._pickling import PicklingError


class PicklingAttributeError(PicklingError, AttributeError):
    """A part could not be found by its name, or lacks something."""


class PicklingRuntimeError(PicklingError, RuntimeError):
    """A part refuses to be pickled."""


class PicklingRecursionError(PicklingError, RecursionError):
    """It is nested too deeply."""


_KINDS: dict[type[BaseException], type[PicklingError]] = {
    RecursionError: PicklingRecursionError,
    RuntimeError: PicklingRuntimeError,
    AttributeError: PicklingAttributeError,
}


def error_of(cause: BaseException, message: str) -> PicklingError:
    """What to raise for something that `pickle` or an object itself has raised."""
    kinds = (ours for standard, ours in _KINDS.items() if isinstance(cause, standard))
    return next(kinds, PicklingError)(message)
