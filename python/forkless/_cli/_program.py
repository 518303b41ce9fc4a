"""`python -m forkless script.py`: runs a program as `python script.py` does, under an installation.

It gets a `__main__` of its own, its arguments and its directory in `sys.path`. What ends it is shown, and
ends this process, as the interpreter would have done it, without a frame of ours.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import BuiltinImporter, SourceFileLoader, SourcelessFileLoader
from types import ModuleType, TracebackType
from typing import Any

_ENDINGS = ".py", ".pyc", ".pyz", ".zip"


def is_one(arguments: Sequence[str]) -> bool:
    """Whether a command line is that of a program: commands of ours have neither a path nor an ending."""
    first = arguments[0] if arguments else ""
    if first.startswith("-"):
        return first in _STARTS
    return os.sep in first or first.endswith(_ENDINGS)


def run(arguments: Sequence[str]) -> int:
    """Runs a program to its end.

    Args:
        arguments: `script.py`, `-m module` or `-c code`, and what the program gets.

    Returns:
        The exit code: 1 if an exception has ended it, 2 if there is no such script.

    Raises:
        SystemExit: the program has raised it.
    """
    import forkless

    option, *rest = arguments if arguments[0] in _STARTS else ("", *arguments)
    if not rest:
        print(f"forkless: argument expected for the {option} option", file=sys.stderr)
        return 2
    main = ModuleType("__main__")
    main.__dict__.update(__builtins__=sys.modules["builtins"], __annotations__={})
    try:
        start = _STARTS[option](rest[0], main)
    except OSError as error:
        print(
            f"forkless: can't open file {rest[0]!r}: [Errno {error.errno}] {error.strerror}", file=sys.stderr
        )
        return 2
    sys.argv[:] = [option or rest[0], *rest[1:]]
    # The module that was `__main__` stays: this very function is one of its callees.
    _before.append(sys.modules["__main__"])
    sys.modules["__main__"] = main
    forkless.install()
    return _end_of(start)


_before: list[ModuleType] = []


def _script(path: str, main: ModuleType) -> Callable[[], object]:
    if os.path.isdir(path) or path.endswith((".pyz", ".zip")):
        return _package(path)
    full = os.path.join(os.getcwd(), path.removeprefix("./"))
    compiled = path.endswith(".pyc")
    loader = (SourcelessFileLoader if compiled else SourceFileLoader)("__main__", full)
    data = loader.get_data(full)
    _set_first_path(os.path.dirname(os.path.realpath(path)))
    main.__dict__.update(__file__=full, __cached__=None, __loader__=loader)

    def start() -> None:
        code: Any = (
            loader.get_code("__main__") if compiled else compile(data, full, "exec", dont_inherit=True)
        )
        exec(code, main.__dict__)

    return start


def _package(path: str) -> Callable[[], object]:
    """A folder or an archive with a `__main__.py`."""
    import runpy

    os.stat(path)
    _set_first_path(os.path.join(os.getcwd(), path))
    return lambda: runpy._run_module_as_main("__main__", alter_argv=False)  # type: ignore[attr-defined]


def _module(name: str, main: ModuleType) -> Callable[[], object]:
    import runpy

    _set_first_path(os.getcwd())
    # What the interpreter itself calls for `-m`.
    return lambda: runpy._run_module_as_main(name)  # type: ignore[attr-defined]


def _code(source: str, main: ModuleType) -> Callable[[], object]:
    _set_first_path("")
    main.__loader__ = BuiltinImporter
    return lambda: exec(compile(source, "<string>", "exec", dont_inherit=True), main.__dict__)


_STARTS: dict[str, Callable[[str, ModuleType], Callable[[], object]]] = {
    "": _script,
    "-m": _module,
    "-c": _code,
}


def _set_first_path(entry: str) -> None:
    # By -I and -P there is none.
    if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
        sys.path[0] = entry


def _end_of(start: Callable[[], object]) -> int:
    try:
        start()
    except SystemExit:
        raise  # The interpreter shows no frames of it.
    except BaseException as error:
        _show(error)
        if isinstance(error, KeyboardInterrupt):
            _end_by_interrupt()
        return 1
    return 0


def _show(error: BaseException) -> None:
    """What the interpreter does with an exception that nobody catches."""
    trace: TracebackType | None = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, trace
    if sys.version_info >= (3, 12):
        sys.last_exc = error
    sys.excepthook(type(error), error.with_traceback(trace), trace)


def _end_by_interrupt() -> None:
    """Has the interpreter end this process by SIGINT when all else is done, so that shells see Ctrl-C."""
    with contextlib.suppress(KeyboardInterrupt):
        # A `KeyboardInterrupt` that leaves the outermost frame of a program text is what it remembers.
        exec("raise KeyboardInterrupt")
