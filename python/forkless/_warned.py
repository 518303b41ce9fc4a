"""Warnings of workers, on their way to the owner's `warnings.showwarning`. See `_output`."""

import os
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from . import process

# In a worker.


def watch(post: Callable[[int, bytes], object], kind: int, prefix: str) -> None:
    """Has the warnings of this worker sent.

    Args:
        post: adds one to what is sent.
        kind: what to say to `post`.
        prefix: what the text begins with.
    """
    original = warnings.showwarning
    if original is not getattr(warnings, "_showwarning_orig", original):
        return  # A preloaded module has decided what becomes of them.

    def showwarning(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: Any = None,
        line: str | None = None,
    ) -> None:
        if file is not None:
            original(message, category, filename, lineno, file, line)
            return
        # By names: the owner shall not load a module just to show a warning of it.
        names = [(base.__module__, base.__qualname__) for base in category.__mro__]
        # A worker of this one may have been first.
        pid = getattr(message, "process", os.getpid())
        name = getattr(message, "processName", process.current_process().name)
        parts = names, f"{prefix}{message}", filename, lineno, pid, name
        post(kind, pickle.dumps(parts, protocol=5))

    warnings.showwarning = showwarning


def as_text(data: bytes) -> str:
    """What the interpreter would print."""
    names, text, filename, line, _, _ = pickle.loads(data)
    return f"{filename}:{line}: {names[0][1]}: {text}\n"


# In the owner.


def show(data: bytes) -> None:
    """Shows a worker's warning."""
    names, text, filename, lineno, pid, name = pickle.loads(data)
    message = _warning(names, text)
    message.process, message.processName = pid, name  # type: ignore[attr-defined]
    # Not `warn`: the worker has asked its filters, and ours may say "error". `catch_warnings` sees it.
    warnings.showwarning(message, type(message), filename, lineno)


def _warning(names: list[tuple[str, str]], text: str) -> Warning:
    """A warning of the category by that name; if it is not known here, of the next base that is."""
    for category in _categories(names):
        wanted = category.__qualname__ == names[0][1]
        try:
            return category(text if wanted else f"{names[0][1]}: {text}")
        except Exception:
            continue  # It wants other arguments.
    return UserWarning(text)


def _categories(names: list[tuple[str, str]]) -> Iterator[type[Warning]]:
    for module, qualname in names:
        found: Any = sys.modules.get(module)
        for name in qualname.split("."):
            found = getattr(found, name, None)
        if isinstance(found, type) and issubclass(found, Warning):
            yield found
