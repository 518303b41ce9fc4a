"""What `share` of a cluster's executor does: gives data to the engine before a task uses it."""

import contextlib
import functools
import sys
import weakref
from collections.abc import Callable
from typing import Any

from .._share import share
from . import pickles
from .blocks import Shelf
from .engine import Engine

__all__ = ["Sharing"]


class Sharing:
    """Shares data of one executor.

    Args:
        engine: where to.
        shelf: the engine's references.
        later: has something called by the thread that may talk to the engine.
    """

    def __init__(self, engine: Engine, shelf: Shelf, later: Callable[[Callable[[], object]], None]) -> None:
        self._engine, self._shelf, self._later = engine, shelf, later
        # Memory of the engine that this process reads, or is about to, by its id.
        self._kept: dict[int, None] = {}

    @property
    def is_read(self) -> bool:
        """Whether this process reads memory of the engine, which is to stay connected as long."""
        return bool(self._kept)

    def share(self, obj: Any) -> Any:
        """As `forkless.share`, and has it sent; an array may be kept by the engine alone."""
        is_array = _is_array(obj)
        if is_array and self._engine.can_keep:
            from . import kept

            if kept.can_be_kept(obj):
                return self._keep(obj)
        shared = obj if is_array and pickles.kept_memory(obj) is not None else share(obj)
        for token, memory in pickles.pack(shared).memory.items():
            self._later(functools.partial(self._send, token, memory))
        return shared

    def _keep(self, array: Any) -> Any:
        from . import kept

        # Before, so that the connection is not closed meanwhile.
        self._kept[id(array)] = None
        try:
            found, memory, reference = kept.keep(array, self._engine.keep)
            self._kept[id(memory)] = None
            weakref.finalize(memory, self._kept.pop, id(memory), None).atexit = False
            self._shelf.adopt(memory, reference)
        finally:
            self._kept.pop(id(array), None)
        return found

    def _send(self, token: str, memory: Any) -> None:
        # What goes wrong is said by the first task that uses it.
        with contextlib.suppress(Exception):
            self._shelf.reference(token, memory)


def _is_array(obj: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(obj, getattr(numpy, "ndarray", ()))
