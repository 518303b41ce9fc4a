"""The Pythons that programs run under: found by version, name or path, and asked who they are."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from platform import python_implementation, python_version

# What an interpreter says of itself; the extension is imported too, as it is built for one version only.
_ASK = """
import json, platform, sys
answer = {"implementation": platform.python_implementation(), "version": platform.python_version()}
try:
    import forkless, forkless._forkless
    answer["forkless"] = forkless.__version__
except ImportError as error:
    answer["error"] = str(error)
print(json.dumps(answer))
"""
_PATIENCE = 30.0  # seconds: a shim that waits for something is no interpreter


@dataclass(frozen=True)
class Interpreter:
    """A Python that has forkless.

    Attributes:
        executable: Its path.
        implementation: "CPython".
        version: "3.12.1".
        forkless: The version of forkless that it imports.
    """

    executable: str
    implementation: str
    version: str
    forkless: str

    def __str__(self) -> str:
        return f"{self.implementation} {self.version}"

    @property
    def minor(self) -> tuple[int, int]:
        """Major and minor version: (3, 12)."""
        major, minor, *_ = self.version.split(".")
        return int(major), int(minor)


def current() -> Interpreter:
    """The one that runs this."""
    from .. import __version__

    return Interpreter(sys.executable, python_implementation(), python_version(), __version__)


def find(name: str) -> Interpreter:
    """The first interpreter of this name that has forkless.

    Args:
        name: A version ("3.12", "3.12.1"), a command ("python3.12"), or the path of an interpreter or of an
            environment. A version is looked for in this environment and those beside it (`.venv-3.12`), on
            PATH, and among the versions of pyenv.

    Returns:
        What it says of itself.

    Raises:
        LookupError: There is no such interpreter, or none that has forkless; the message says what to do.
    """
    lacking: list[str] = []
    for path in dict.fromkeys(_candidates(name)):
        answer = _ask(path)
        if answer is None or (_is_version(name) and not f"{answer['version']}.".startswith(f"{name}.")):
            continue
        if "forkless" in answer:
            return Interpreter(path, answer["implementation"], answer["version"], answer["forkless"])
        lacking.append(
            f"{path} ({answer['implementation']} {answer['version']}) has no forkless ({answer['error']}): "
            f"install it there with `{path} -m pip install forkless`"
        )
    if lacking:
        raise LookupError(lacking[0])
    raise LookupError(f"there is no Python {name!r}: give a version (3.12), a command (python3.12) or a path")


def _candidates(name: str) -> Iterator[str]:
    """Paths where an interpreter of this name may be, the likeliest first."""
    if "/" in name:
        yield str(Path(name, "bin", "python") if Path(name).is_dir() else Path(name).absolute())
    elif _is_version(name):
        yield from _of_version(name)
    else:
        yield from _on_path(name)


def _of_version(version: str) -> Iterator[str]:
    yield sys.executable
    environment = Path(sys.prefix)
    beside = f"{environment.name.partition('-')[0]}-{version}"
    yield str(environment.with_name(beside) / "bin" / "python")
    yield from _on_path("python" + ".".join(version.split(".")[:2]))
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    for folder in (version, f"{version}.*"):
        yield from map(str, sorted(pyenv.glob(f"versions/{folder}/bin/python"), reverse=True))


def _on_path(command: str) -> Iterator[str]:
    for folder in os.get_exec_path():
        if found := shutil.which(command, path=folder):
            yield found


def _is_version(name: str) -> bool:
    return name[:1].isdigit()


def _ask(path: str) -> dict[str, str] | None:
    """What the interpreter at a path says of itself; None if nothing there runs Python."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONHOME"}
    try:
        answer = subprocess.run(
            [path, "-c", _ASK],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE,
            env=environ,
        )
        found: dict[str, str] = json.loads(answer.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return found
