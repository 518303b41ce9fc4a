"""Start methods, by name."""

from typing import Literal, overload

from . import _stdlib, process

METHODS = ("forkserver", "spawn")
# Those of programs that were written for `multiprocessing`, in its order.
_INSTALLED = ("fork", "spawn", "forkserver")

_NO_FORK = (
    "forkless never forks your process: a fork copies every lock as it is at that moment, also those held by "
    "threads that do not exist in the child, which then waits for ever. Use {call}({replacement!r}) instead: "
    "it starts as fast, and needs no __main__ guard"
)


def set_start_method(method: str | None, force: bool = False) -> None:
    """Chooses the default start method of this process and of the children it starts from now on.

    Unlike in `multiprocessing` it may be called at any time and any number of times; `force` changes nothing.

    Args:
        method: "forkserver", "spawn", or None to go back to the built-in default.
        force: accepted for compatibility.

    Raises:
        ValueError: there is no such method; "fork" is refused, and the message says why, except under
            `forkless.install`: then it is another name for "forkserver", with a warning.
    """
    if method is not None:
        check(method, "set_start_method")
    process.default_method = method


@overload
def get_start_method(allow_none: Literal[False] = False) -> str: ...
@overload
def get_start_method(allow_none: bool) -> str | None: ...
def get_start_method(allow_none: bool = False) -> str | None:
    """The default start method.

    Args:
        allow_none: return None, rather than the built-in default, if nobody has chosen one.
    """
    return process.default_method or (None if allow_none else "forkserver")


def get_all_start_methods() -> list[str]:
    """The names of all start methods, the default first.

    Under `forkless.install` they are those of `multiprocessing`, in its order.
    """
    return list(_INSTALLED if _stdlib.aside else METHODS)


def freeze_support() -> None:
    """Does nothing: no program of ours runs `__main__` in a child, frozen or not."""


def allow_connection_pickling() -> None:
    """Does nothing: connections and sockets can always be sent."""


def kind_of_process(context: object = None, name: str = "context") -> type[process.Process]:
    """The class of the processes of a context.

    Args:
        context: a context of forkless; None for the start method that is the default now, whatever it will
            be later.
        name: what the user calls that argument.

    Raises:
        TypeError: it is no context of forkless; the message says which one to use.
    """
    if context is None:
        return process.SpawnProcess if get_start_method() == "spawn" else process.ForkServerProcess
    kind = getattr(context, "Process", None)
    if isinstance(kind, type) and issubclass(kind, process.Process):
        return kind
    method = context if isinstance(context, str) else getattr(context, "_name", None)
    replacement = method if method in METHODS else METHODS[0]
    raise TypeError(
        f"{name} must be a context of forkless, not {context!r}: give forkless.get_context({replacement!r})"
    )


def check(method: str, call: str) -> None:
    """Raises ValueError for what is no start method; `call` names the function that was asked for it."""
    if method == "fork" and _stdlib.aside:
        _warn_of_fork()
    elif method == "fork":
        raise ValueError(_NO_FORK.format(call=call, replacement="forkserver"))
    elif method not in METHODS:
        raise ValueError(f"cannot find context for {method!r}; there are 'forkserver' and 'spawn'")


def _warn_of_fork() -> None:
    """Says once what a program that asks for "fork" gets, which it has nobody else to tell of."""
    if not process.warned_of_fork:
        process.warned_of_fork = True
        import warnings

        warnings.warn(
            "this program asks for the start method 'fork', and forkless starts its processes as with "
            "'forkserver': they have what is sent to them and what they import, and no copy of the rest of "
            "this process's memory",
            RuntimeWarning,
            stacklevel=4,
        )
