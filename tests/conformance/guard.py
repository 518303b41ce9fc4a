"""What every interpreter of a run loads at its start: installs forkless, watches, and leaves evidence.

A program is installed here. A child of forkless is not: its parent must have seen to that. Before it runs
anything, it writes down whether `multiprocessing` is forkless to it. So does what the tests fork themselves.
Processes and semaphores of the standard library are refused, and that is written down as well.
"""

import os
import sys
from typing import Any

EVIDENCE = "FORKLESS_CONFORMANCE_EVIDENCE"  # the variable with the path of the file

# The variables of which a template or a spawned child has one.
_CHILDREN = "FORKLESS_TEMPLATE", "FORKLESS_SPAWNED"

_path = os.environ.get(EVIDENCE)
_is_child = any(name in os.environ for name in _CHILDREN)


def _write(what: str) -> None:
    """Appends a line: who it is, and what there is to say."""
    descriptor = os.open(_path or os.devnull, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, f"{os.getpid()} {what}\n".encode())
    finally:
        os.close(descriptor)


def _testify(role: str) -> None:
    import forkless

    is_forkless = sys.modules.get("multiprocessing") is forkless and forkless.installed()
    _write(f"{role} {'forkless' if is_forkless else 'standard'}")


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "import":
        return
    if arguments[0] == "forkless._child":
        # The first module of a child of its own; templates have it before their children.
        _testify("child" if "FORKLESS_SPAWNED" in os.environ else "template")
    elif arguments[0] == "forkless._standard_multiprocessing.popen_fork":
        _refuse("process")


def _refuse(what: str) -> None:
    _write(f"made a {what} of the standard library")
    raise AssertionError(f"a {what} of the standard library was made: this does not test forkless")


def _begin() -> None:
    import _multiprocessing  # type: ignore[import-not-found,unused-ignore]

    original = _multiprocessing.SemLock

    class SemLock(original):  # type: ignore[misc,valid-type]
        def __new__(cls, *arguments: object, **options: object) -> Any:
            _refuse("semaphore")

    _multiprocessing.SemLock = SemLock  # type: ignore[misc,attr-defined,unused-ignore]
    sys.addaudithook(_watch)
    os.register_at_fork(after_in_child=lambda: _testify("child"))
    if not _is_child:
        import forkless

        forkless.install()
        _testify("program")


if _path:
    _begin()
