"""`python -m forkless script.py`: as `python script.py`, and `multiprocessing` means forkless."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support import PROGRAM_PATIENCE, Outcome, Program, run_program

PLAIN = (sys.executable,)
INSTALLED = (sys.executable, "-m", "forkless")

# Each is run in both ways, and must be the same: what it writes, its errors, its exit code.
PROGRAMS = {
    "surroundings": """
import __main__, os, sys
print(sys.argv[1:], os.path.basename(sys.argv[0]), sys.path[0] == os.path.dirname(__file__), __name__)
print(sorted(name for name in globals() if name != "os"), __spec__, __package__, type(__loader__).__name__)
print(__main__.__dict__ is globals(), sys.modules["__main__"] is __main__, __annotations__)
print(os.path.isabs(__file__), sys.stdin.read(), sys.flags)
print("__doc__:", __doc__)
""",
    "exit-number": "import sys\nsys.exit(7)",
    "exit-text": "import sys\nsys.exit('a reason')",
    "exit-none": "raise SystemExit",
    "exit-at-once": "import os\nos._exit(9)",
    "exception": "def inner():\n    raise ValueError('x')\ndef outer():\n    inner()\nouter()",
    "chain": "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise KeyError('k') from error",
    "syntax": "print('never'\nx = = 3",
    "interrupt": "raise KeyboardInterrupt",
    "hook": """
import sys, traceback
def hook(kind, value, trace):
    print(kind, value, [frame.name for frame in traceback.extract_tb(trace)], sys.last_value is value)
sys.excepthook = hook
raise OSError("seen")
""",
    "atexit": """
import atexit, threading, time
class Late:
    def __del__(self):
        print("deleted")
late = Late()
atexit.register(print, "exit handler")
threading.Thread(target=lambda: print("thread ends")).start()
raise RuntimeError("before that")
""",
    "warning": "import warnings as w\nw.warn('look', UserWarning)\nw.warn('old', DeprecationWarning)",
    "signal": "import os, signal\nprint('first', flush=True)\nos.kill(os.getpid(), signal.SIGTERM)",
    "pdb": "import pdb\nx = 6\npdb.set_trace()\nprint('after', x)",
    "future": "from __future__ import annotations\ndef f(x: nothing): pass\nprint(f.__annotations__)",
    "pickle": """
import pickle
class Thing: pass
print(type(pickle.loads(pickle.dumps(Thing()))) is Thing, Thing.__module__)
""",
    "recursion": "import inspect\nprint([frame.function for frame in inspect.stack()][:1])",
}
STDIN = {"pdb": "p x * 7\nc\n"}


def run(source: str, python: tuple[str, ...], stdin: str) -> Outcome:
    return run_program(source, "one", "--two", python=python, stdin=stdin)


def comparable(text: str) -> str:
    """Without the name of the folder that a program ran in."""
    return re.sub(r"/\S*forkless-test-\w+", "FOLDER", text)


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_is_what_python_makes_of_it(name: str) -> None:
    plain, installed = (
        run(PROGRAMS[name], python, STDIN.get(name, "input")) for python in (PLAIN, INSTALLED)
    )
    assert installed.exit_code == plain.exit_code
    assert comparable(installed.stdout) == comparable(plain.stdout)
    assert comparable(installed.stderr) == comparable(plain.stderr)
    assert installed.survivors == ()


def test_it_is_installed_and_functions_of_main_travel() -> None:
    source = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
FACTOR = 3
def times(number):
    import multiprocessing, os
    return number * FACTOR, multiprocessing.__name__, os.getpid()
with multiprocessing.Pool(2) as pool:
    results = pool.map(times, range(3))
with ProcessPoolExecutor(2) as executor:
    results += executor.map(times, range(3))
import os
assert [result[:2] for result in results] == 2 * [(0, "forkless"), (3, "forkless"), (6, "forkless")]
assert os.getpid() not in [result[2] for result in results]
"""
    run_program(source, python=INSTALLED).check()


def test_ctrl_c_ends_it_as_the_shell_expects() -> None:
    source = """
import multiprocessing, time
with multiprocessing.Pool(2) as pool:
    result = pool.map_async(time.sleep, [600, 600])
    print("ready", flush=True)
    result.get()
"""
    with Program(source, python=INSTALLED) as program:
        program.wait_for("ready")
        program.interrupt()
        outcome = program.finish()
    assert outcome.exit_code == -signal.SIGINT
    assert outcome.survivors == ()
    assert outcome.stderr.count("Traceback") == 1
    assert "_program.py" not in outcome.stderr


def call(*arguments: str, cwd: Path, python: tuple[str, ...] = INSTALLED) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*python, *arguments], cwd=cwd, capture_output=True, text=True, timeout=PROGRAM_PATIENCE
    )


SHOW = "import multiprocessing, sys\nprint(__name__, multiprocessing.__name__, sys.argv, sys.path[0])\n"


def test_modules_packages_archives_and_code(tmp_path: Path) -> None:
    (tmp_path / "single.py").write_text(SHOW)
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(SHOW + "print(__package__, __spec__.name)\n")
    with zipfile.ZipFile(tmp_path / "archive.pyz", "w") as archive:
        archive.writestr("__main__.py", SHOW)
    for arguments in (
        ("-m", "single", "a"),
        ("-m", "package", "a", "-b"),
        ("./package", "a"),
        ("archive.pyz", "a"),
        ("-c", SHOW, "a"),
        ("single.py", "a"),
        ("./single.py",),
        ("package/../single.py",),
    ):
        plain, installed = call(*arguments, cwd=tmp_path, python=PLAIN), call(*arguments, cwd=tmp_path)
        assert plain.returncode == installed.returncode == 0, (arguments, installed.stderr)
        assert installed.stdout == plain.stdout.replace(" multiprocessing ", " forkless ")


def test_its_directory_is_not_in_the_path_when_python_keeps_it_out(tmp_path: Path) -> None:
    (tmp_path / "single.py").write_text("import sys\nprint(sys.path[0])\n")
    # An isolated interpreter does not see PYTHONPATH either, but finds what is installed.
    shown = [
        call("single.py", cwd=tmp_path, python=(sys.executable, "-I", *way)) for way in ((), INSTALLED[1:])
    ]
    assert shown[0].stdout == shown[1].stdout, shown[1].stderr


def test_what_is_neither_a_command_nor_a_program(tmp_path: Path) -> None:
    refused = call("galery", cwd=tmp_path)
    assert refused.returncode == 2
    assert "'galery' is neither a command (gallery, check, doctor, memory) nor a program" in refused.stderr
    assert "./galery" in refused.stderr
    assert "-m galery" in refused.stderr
    missing = call("nothing.py", cwd=tmp_path)
    assert (missing.returncode, missing.stderr) == (
        2,
        "forkless: can't open file 'nothing.py': [Errno 2] No such file or directory\n",
    )
    assert call("-m", cwd=tmp_path).stderr == "forkless: argument expected for the -m option\n"
    module = call("-m", "no_such_module", cwd=tmp_path)
    assert (module.returncode, module.stderr) == (1, f"{sys.executable}: No module named no_such_module\n")


def test_commands_are_still_commands(tmp_path: Path) -> None:
    assert call("--version", cwd=tmp_path).stdout.startswith("forkless ")
    (tmp_path / "check").write_text("")
    assert "usage: forkless check" in call("check", "--help", cwd=tmp_path).stdout


def test_the_installed_command_does_the_same(tmp_path: Path) -> None:
    command = os.path.join(os.path.dirname(sys.executable), "forkless")
    (tmp_path / "single.py").write_text(SHOW)
    shown = subprocess.run(
        [command, "single.py", "a"], cwd=tmp_path, capture_output=True, text=True, timeout=PROGRAM_PATIENCE
    )
    assert shown.stdout == f"__main__ forkless ['single.py', 'a'] {tmp_path}\n", shown.stderr


def test_a_module_that_was_imported_by_the_program_is_quiet_at_exit() -> None:
    # Its `__main__` is in a cycle with itself, and so lives until the names of modules mean nothing any more.
    source = """
import __main__, multiprocessing
class Thing: pass
def make():
    return Thing()
with multiprocessing.Pool(1) as pool:
    pool.apply(make)
"""
    for python in (PLAIN, INSTALLED):
        outcome = run_program(source.replace("import __main__", "import __main__, forkless"), python=python)
        assert (outcome.check(), outcome.stderr) == ("", "")
