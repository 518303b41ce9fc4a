"""Preloaded objects where they are used: loaded in the template, inherited by its children."""

import gc
import pickle
import sys
import time
import traceback
from types import ModuleType
from typing import TYPE_CHECKING, Any

from . import _forkless

if TYPE_CHECKING:
    from ._forkless import SharedBuffer

__all__ = [
    "Inherited",
    "can_immortalise",
    "find",
    "is_object",
    "keep_data_of",
    "load",
    "name_of",
    "objects",
    "outcome",
]

_MARK = "object:"

# In every process: the objects by the process that has preloaded them, and their number there.
objects: dict[tuple[str, int], Any] = {}
# In a template, and its children: how loading went. Errors are by name.
outcome: dict[str, Any] = {"immortal": 0, "seconds": 0.0, "errors": {}}


class Inherited:
    """Stands in pickles for an object that was preloaded.

    Args:
        origin: the process that has preloaded it.
        number: which of its objects that is.
        payload: the object's pickle, for processes that have not inherited it.
    """

    __slots__ = ("_arguments",)

    def __init__(self, origin: str, number: int, payload: "SharedBuffer") -> None:
        self._arguments = origin, number, payload

    def __reduce__(self) -> tuple[Any, ...]:
        return find, self._arguments


def find(origin: str, number: int, payload: "SharedBuffer") -> Any:
    """The object with this number: the one that was inherited, or loaded before."""
    key = origin, number
    if key not in objects:
        # Of two threads that get here, both use the one that comes first.
        return objects.setdefault(key, pickle.loads(payload))
    return objects[key]


def name_of(origin: str, number: int, payload: "SharedBuffer") -> str:
    """What stands for an object among the names of modules that a template is to load."""
    return f"{_MARK}{origin}:{number}:{':'.join(map(str, payload.handle))}"


def is_object(name: str) -> bool:
    """Whether something that is to be preloaded is an object, rather than a module."""
    return name.startswith(_MARK)


# In the template.


def load(name: str) -> str:
    """Loads an object, and has it shared as far as this Python can.

    Returns:
        What to call it.
    """
    begun = time.monotonic()
    origin, number, *handle = name.removeprefix(_MARK).split(":")
    # It would go over all that there is, again and again, and find nothing: none of this is garbage.
    gc.disable()
    try:
        arena, offset, generation = map(int, handle)
        payload: Any = _forkless.open_shared(_forkless.BUFFER_KIND, arena, offset, generation)
        loaded = objects[origin, int(number)] = pickle.loads(payload)
        if can_immortalise():
            outcome["immortal"] += _immortalise(loaded)
    except BaseException:
        outcome["errors"][name] = f"an object cannot be preloaded:\n{traceback.format_exc()}"
        return "an object that cannot be loaded"
    finally:
        gc.enable()
        outcome["seconds"] += time.monotonic() - begun
    return f"an object of {type(loaded).__module__}.{type(loaded).__qualname__}"


def keep_data_of(name: str) -> None:
    """Has the data of a module that was imported, and of those below it, shared as far as this Python can.

    That is what its global variables refer to, but for functions, classes and other modules.
    """
    if not can_immortalise():
        return
    for each, module in list(sys.modules.items()):
        if (each == name or each.startswith(f"{name}.")) and isinstance(module, ModuleType):
            # Not `vars`, which makes a module that is to be loaded on its first use load now.
            outcome["immortal"] += _immortalise(ModuleType.__getattribute__(module, "__dict__"))


def _immortalise(loaded: Any) -> int:
    """Makes an object immortal with all that it has; how many objects that are."""
    numpy = sys.modules.get("numpy")
    array_type = getattr(numpy, "ndarray", None)
    total, arrays = _forkless.immortalise(loaded, array_type)
    while arrays:
        array = arrays.pop()
        if array.dtype.hasobject:
            for item in array.ravel().tolist():
                count, more = _forkless.immortalise(item, array_type)
                total += count
                arrays += more
    return total


def can_immortalise() -> bool:
    """Whether this Python keeps reference counts as `_forkless.immortalise` expects."""
    return (
        sys.implementation.name == "cpython"
        and sys.version_info[:2] in ((3, 12), (3, 13))
        and sys.maxsize > 2**32
        and getattr(sys, "_is_gil_enabled", lambda: True)()
    )
