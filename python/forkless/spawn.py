"""Names of `multiprocessing.spawn` that programs use.

What a fresh interpreter is started with, and what it does first, is another matter here: no child has a
command line that names `multiprocessing`, and none runs `__main__`.
"""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from . import _internals, _methods, _programs

if TYPE_CHECKING:
    from multiprocessing.spawn import get_command_line as get_command_line
    from multiprocessing.spawn import get_preparation_data as get_preparation_data
    from multiprocessing.spawn import import_main_path as import_main_path

__all__ = [
    "freeze_support",
    "get_command_line",
    "get_executable",
    "get_preparation_data",
    "import_main_path",
    "set_executable",
]

WINEXE = WINSERVICE = False

freeze_support = _methods.freeze_support


def set_executable(exe: str | bytes | os.PathLike[str]) -> None:
    """See `forkless.set_executable`."""
    _programs.set_executable(exe)


def get_executable() -> str | bytes:
    """The interpreter that children are started with; bytes from Python 3.11 on, as there."""
    path = _programs.executable()
    return path if sys.version_info < (3, 11) else os.fsencode(path)


def is_forking(argv: Sequence[str]) -> bool:
    """Whether a command line is that of a child of `multiprocessing`; those of forkless have none like it."""
    return len(argv) >= 2 and argv[1] == "--multiprocessing-fork"


def luggage(name: str) -> list[object]:
    """What a program has added to that with which children are prepared, by replacing a function.

    coverage does. What it adds acts when it is loaded in the child.

    Args:
        name: of the child.
    """
    replaced = globals().get("get_preparation_data")
    if replaced is None:
        return []
    standard: Any = _internals.find(__name__, "get_preparation_data")
    known = standard(name)
    return [value for key, value in replaced(name).items() if key not in known]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        return _internals.find(__name__, name)
