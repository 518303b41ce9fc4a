"""Which interpreters templates and spawned children run, and what templates load before they serve."""

import os
import sys
from collections.abc import Callable, Iterable
from typing import NamedTuple

from . import _forks, _inherited, _stdlib
from ._forkless import Program, retire_templates

# What `set_executable` has chosen here, and `set_forkserver_preload` here or where this process comes from.
_executable: str | None = None
preloaded: list[str] = []
# Whether it was chosen here: then the template that this process came from is another one.
_own = False

_default: Program | None = None
_others: "dict[str, Interpreter]" = {}


class Interpreter(NamedTuple):
    """Another Python that has forkless.

    Attributes:
        program: how to start templates with it.
        stranger: its version, if it cannot run this Python's code objects; None if it can.
    """

    program: Program
    stranger: str | None


def set_executable(executable: str | bytes | os.PathLike[str]) -> None:
    """Sets the interpreter of templates and spawned children started from now on, instead of this one's."""
    global _executable
    _executable = os.fsdecode(executable)
    change()


def executable() -> str:
    """The interpreter of templates and spawned children."""
    return _executable or sys.executable


def set_forkserver_preload(module_names: Iterable[str]) -> None:
    """Has templates import these modules before they serve, so that children find them imported.

    A template that has others is replaced: its children go on, the next one comes from a new template. A
    module that cannot be imported is named on standard error, with its traceback, and left out. One that
    leaves threads behind (in libraries without fork handlers; those of BLAS have them) makes the next start
    raise `ProcessError`, which names it: a fork could then copy a lock that nobody would ever release.

    `multiprocessing` ignores errors in its preloading, and `__main__` stands for a module to import there;
    here it is left out, because `__main__` never runs in other processes.

    Args:
        module_names: names as for `import`.

    Raises:
        TypeError: a name is no string.
    """
    names = list(module_names)
    if not all(type(name) is str for name in names):
        raise TypeError("module_names must be a list of strings")
    names = [name for name in names if name != "__main__"]
    set_preloaded([*names, *(name for name in preloaded if _inherited.is_object(name))])


def preload(names: Iterable[str]) -> None:
    """Has templates load these as well, modules or objects; see `_preload`."""
    set_preloaded([*preloaded, *(name for name in dict.fromkeys(names) if name not in preloaded)])


def set_preloaded(names: list[str]) -> None:
    """Sets what templates load, modules and objects. If that is something else, there is a new template."""
    global preloaded
    if names != preloaded:
        preloaded = names
        change()


def default() -> Program:
    """How to start the templates of this process."""
    global _default
    if _default is None:
        # The import path too: `-c` puts the current directory first, whose files may hide those of the
        # standard library, and forkless itself may have been found where only this program looks.
        path = [os.path.abspath(os.fsdecode(entry)) for entry in sys.path]
        _default = Program(
            executable(),
            _flags(),
            f"import sys; sys.path[:] = {path!a}\n" + _installation(),
            preload=preloaded,
            own=_own,
        )
    return _default


def of(interpreter: str | bytes | os.PathLike[str]) -> Interpreter:
    """How to start templates with another interpreter; asks it, the first time.

    Raises:
        ProcessError: it does not run, or has no forkless, or another version of it.
    """
    path = os.fsdecode(interpreter)
    if path not in _others:
        _others[path] = _ask(path)
    return _others[path]


def _ask(path: str) -> Interpreter:
    import importlib.util
    import subprocess

    from ._forkless import VERSION
    from .exceptions import ProcessError

    question = (
        "import importlib.util, platform, forkless._forkless as core\n"
        "print(core.VERSION, importlib.util.MAGIC_NUMBER.hex(), platform.python_version())"
    )
    command = [path, *_flags(), "-c", question]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, cwd="/")
        version, magic, python = asked.stdout.split()[-3:]
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ProcessError(
            f"{path} cannot run children of forkless: {reason}; install forkless there"
        ) from error
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise ProcessError(f"{path} is not a Python interpreter that answers: {error}") from error
    if version != VERSION:
        raise ProcessError(
            f"{path} has forkless {version}, this process has {VERSION}: install the same there"
        )
    same = bytes.fromhex(magic) == importlib.util.MAGIC_NUMBER
    program = Program(path, _flags(), _installation(), preload=[], own=True)
    return Interpreter(program, None if same else f"Python {python} ({path})")


def _installation() -> str:
    """What makes `multiprocessing` mean forkless there, if it does here."""
    if not _stdlib.aside:
        return ""
    from ._aliases import PRELUDE

    return PRELUDE


def _flags() -> list[str]:
    from subprocess import _args_from_interpreter_flags  # type: ignore[attr-defined]

    flags: list[str] = _args_from_interpreter_flags()
    return flags


def change() -> None:
    """From now on templates are started with another program."""
    global _default, _own
    _default, _own = None, True
    _others.clear()
    retire_templates()


def _forget() -> None:
    """In a copy of this process: the import path may be another one by then."""
    global _default
    _default = None


_forks.in_copy(_forget)


# In a template.


def load(names: Iterable[str], thread_count: Callable[[], int]) -> tuple[list[str], list[str]]:
    """Imports modules, and loads objects.

    What is there then is kept from the collector, whose marks would copy its pages in each child.

    Args:
        names: of the modules, and of objects; see `_inherited`. What cannot be loaded is left out; if it is a
            module, it is reported on standard error.
        thread_count: counts the threads of this process.

    Returns:
        The names of those that have left threads; and of those that have opened devices which forked
        processes cannot use, with these.
    """
    import gc

    from . import _devices

    threaded, openers = [], []
    modules: list[str] = []
    objects: list[str] = []
    for name in names:
        (objects if _inherited.is_object(name) else modules).append(name)

    def load_each(names: list[str], how: Callable[[str], str]) -> None:
        for name in names:
            threads, devices = thread_count(), _devices.opened()
            title = how(name)
            if thread_count() > threads:
                threaded.append(title)
            more = _devices.opened() - devices
            if more:
                openers.append(f"{title} ({', '.join(sorted(more))})")

    load_each(modules, _import)
    if modules or objects:
        gc.collect()  # of imports: what objects are made of is no garbage, and may be much
        for name in modules:
            _inherited.keep_data_of(name)
        load_each(objects, _inherited.load)
        gc.freeze()
    return threaded, openers


def _import(name: str) -> str:
    import traceback
    from importlib import import_module

    try:
        import_module(name)
    except BaseException:
        # SystemExit and KeyboardInterrupt as well: no module ends the template.
        text = traceback.format_exc()
        sys.stderr.write(f"forkless: {name} cannot be preloaded; children go on without it\n{text}")
        _inherited.outcome["errors"][name] = f"{name} cannot be preloaded:\n{text}"
    return name
