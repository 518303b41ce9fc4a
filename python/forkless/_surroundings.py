"""What a child takes over from its parent: all that a fork would have copied and a pickle does not carry.

That is the directory, the environment, the import path, the command line, what the system keeps for a process
(file mode mask, signal mask, niceness, affinity, limits), and settings of the interpreter (recursion limit,
filters of warnings and others, see `_settings`), each as it was when `start` was called.

It seldom changes. So a parent packs it once, into shared memory, and tells each child where. The template
learns it too, when there is time, and its children find themselves in it already: they compare two handles.
"""

import gc
import os
import pickle
import sys
from importlib.machinery import PathFinder
from typing import IO, TYPE_CHECKING, Any

from . import _forks, _pickling, _programs, _settings, process
from ._forkless import (
    SharedBytes,
    accept_interrupts,
    adopt_attributes,
    attributes,
    has_attributes,
    open_shared,
)

if TYPE_CHECKING:
    Handle = tuple[int, ...]
    Surroundings = dict[str, Any]

# How programs started by this process find its tree; published by the core, not by the parent.
_TREE = b"FORKLESS_TREE"


# In a parent.

# What children were told last, and where that is; those of this interpreter, and those of others.
_told: "dict[bool, tuple[Surroundings, SharedBytes]]" = {}


def here(elsewhere: bool = False) -> SharedBytes:
    """What children take over from this process now; the same object as long as nothing changes.

    Args:
        elsewhere: the children run another interpreter, which has an installation of its own.
    """
    now = _surroundings()
    if elsewhere:
        now.update(elsewhere=True, path=_path_of_program(now["path"]))
    told = _told.get(elsewhere)
    if told is not None and told[0] == now:
        return told[1]
    packed = pickle.dumps(now, protocol=5)
    shared = SharedBytes(len(packed))
    memoryview(shared)[:] = packed
    _told[elsewhere] = now, shared
    return shared


def handle_of(shared: SharedBytes) -> "Handle":
    """By what a child knows what `here` has returned."""
    handle: Handle = shared._reduce()[1]
    return handle


def _surroundings() -> "Surroundings":
    return {
        "directory": _directory(),
        "environment": _environment(),
        "path": list(map(os.fsdecode, sys.path)),
        "arguments": list(getattr(sys, "argv", [])),
        "attributes": attributes(),
        "settings": _settings.here(),
        "main": _pickling.main_spec(),
        "start_method": process.default_method,
        "warned_of_fork": process.warned_of_fork,
        "preloaded": _programs.preloaded,
        "unbuffered": bool(getattr(sys.stdout, "write_through", False)),
    }


def _path_of_program(path: list[str]) -> list[str]:
    """The entries that belong to the program, and not to the installation of this interpreter."""
    installed = {os.path.realpath(prefix) for prefix in (sys.prefix, sys.base_prefix, sys.exec_prefix)}
    installed.add(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

    def belongs(entry: str) -> bool:
        real = os.path.realpath(entry or os.curdir)
        return not any(real == prefix or real.startswith(prefix + os.sep) for prefix in installed)

    return [os.path.abspath(entry) for entry in path if belongs(entry)]


def _directory() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None  # Somebody has removed it: the child stays where the template is.


def _environment() -> dict[bytes, bytes]:
    # Under its mapping is a dictionary of bytes: a copy of that costs 1 µs, decoding every entry 20 to 60.
    data: dict[bytes, bytes] | None = getattr(os.environ, "_data", None)
    if data is None:
        environment = {os.fsencode(name): os.fsencode(value) for name, value in os.environ.items()}
    else:
        environment = data.copy()
    environment.pop(_TREE, None)
    return environment


# In a template and in children.

# What this process is in already, and whether the system's part of it is, too.
_learned: "tuple[Handle, Surroundings, bool] | None" = None


def learn(shared: SharedBytes) -> None:
    """In a template, while it has the standard streams of children to come: takes over what they will."""
    global _learned
    surroundings = pickle.loads(memoryview(shared))
    _enter(surroundings)
    _open_streams(surroundings["unbuffered"])
    # Those of the template stay as they are: limits would bind it too.
    _learned = handle_of(shared), surroundings, has_attributes(surroundings["attributes"])
    # Where modules are: the finders remember what they have seen, and look again if a directory has changed.
    PathFinder.find_spec("forkless_has_no_such_module")
    # Or the collector would write to what is shared.
    gc.collect()
    gc.freeze()


def adopt(handle: "Handle", has_streams: bool) -> None:
    """In a child: takes over what its template has not learned. Ctrl-C counts from here on.

    Args:
        handle: where its parent's surroundings are.
        has_streams: whether the standard streams are those that the template has opened.
    """
    learned = _learned is not None and _learned[0] == handle
    if _learned is not None and learned:
        _, surroundings, has_all = _learned
    else:
        shared: Any = open_shared(*handle)
        surroundings, has_all = pickle.loads(memoryview(shared)), False
        _enter(surroundings)
    if not (learned and has_streams):
        _open_streams(surroundings["unbuffered"])
    if has_all:
        accept_interrupts()
    else:
        adopt_attributes(surroundings["attributes"])


def _enter(surroundings: "Surroundings") -> None:
    if surroundings["directory"] is not None:
        os.chdir(surroundings["directory"])
    _adopt_environment(surroundings["environment"])
    _settings.adopt(surroundings["settings"])
    if "elsewhere" not in surroundings:
        sys.path[:] = surroundings["path"]
    else:
        # First, as the directory of the script is.
        sys.path[:] = [*surroundings["path"], *(e for e in sys.path if e not in surroundings["path"])]
    sys.argv[:] = surroundings["arguments"]
    process.default_method = surroundings["start_method"]
    process.warned_of_fork = surroundings["warned_of_fork"]
    _programs.preloaded = surroundings["preloaded"]
    _pickling.adopt_main(surroundings["main"])


def _adopt_environment(environment: dict[bytes, bytes]) -> None:
    """Makes `os.environ` equal to the parent's, except for what the core keeps there."""
    own = os.environb
    for name in [name for name in own if name not in environment and name != _TREE]:
        del own[name]
    for name, value in environment.items():
        if own.get(name) != value:
            own[name] = value


_nothing: IO[str] | None = None  # what the standard input is


def _open_streams(unbuffered: bool) -> None:
    """Opens the standard streams on the descriptors this child was given.

    The objects of a forked child are its template's, opened on other files. Standard input is empty, as in
    `multiprocessing`: what the parent reads from must not vanish into a child.
    """
    global _nothing
    if _nothing is None or _nothing.closed:
        _nothing = open(os.devnull, encoding="utf-8")  # noqa: SIM115
    sys.stdin = sys.__stdin__ = _nothing  # type: ignore[misc,assignment]
    sys.stdout = sys.__stdout__ = _open_stream(sys.stdout, 1, unbuffered)  # type: ignore[assignment,misc]
    sys.stderr = sys.__stderr__ = _open_stream(sys.stderr, 2, unbuffered)  # type: ignore[assignment,misc]


def _open_stream(old: Any, descriptor: int, unbuffered: bool) -> IO[str] | None:
    import io

    try:
        raw = io.FileIO(descriptor, "w", closefd=False)
    except OSError:
        return None  # The parent runs without this stream, and so does the child.
    encoding, errors = (old.encoding, old.errors) if old else ("utf-8", "backslashreplace")
    return io.TextIOWrapper(
        raw if unbuffered else io.BufferedWriter(raw),
        encoding=encoding,
        errors=errors,
        line_buffering=descriptor == 2 or raw.isatty(),
        write_through=unbuffered,
    )


def _forget() -> None:
    """In a copy of this process: what was told is the memory of the original."""
    _told.clear()


_forks.in_copy(_forget)
