"""The template behind `forkserver`: what it learns and loads, and when it is replaced."""

from __future__ import annotations

import os
import platform
import stat
import subprocess
import sys
import sysconfig
from pathlib import Path

import forkless
import jobs
import pytest
from support import Program, eventually, processes, run_program, status_of

# Ends the thread that calls it, and no other: `exit(2)`, by its number.
EXIT_ONE_THREAD = {"x86_64": 60, "aarch64": 93}

HEAD = f"""
import os, sys, time
sys.path.insert(0, {str(Path(__file__).resolve().parent)!r})
import forkless
from forkless import _forkless

def templates():
    return [pid for pid, _, role in _forkless.processes() if role == "template"]

def run(target, *args, **options):
    process = forkless.Process(target=target, args=args, **options)
    process.start()
    process.join()
    return process.exitcode
"""


def test_a_preloaded_module_is_there() -> None:
    source = f"""{HEAD}
forkless.set_forkserver_preload(["fractions", "__main__"])
forkless.set_forkserver_preload(["fractions"])
def look():
    return sys.exit(0 if "fractions" in sys.modules else 3)
print([run(look) for _ in range(4)], len(templates()))
print(run(lambda: sys.exit(len(sys.argv))))
print(forkless.get_context("spawn").Process(target=look).start())
"""
    assert run_program(source).check() == "[0, 0, 0, 0] 1\n1\nNone\n"


def test_a_child_has_its_parents_preload_and_template() -> None:
    source = f"""{HEAD}
forkless.set_forkserver_preload(["fractions"])
def nested():
    forkless.set_forkserver_preload(["fractions"])
    code = run(lambda: sys.exit(0 if "fractions" in sys.modules else 3))
    sys.exit(code or len(templates()))
print(run(nested))
"""
    assert run_program(source).check() == "1\n"


def test_a_module_that_cannot_be_preloaded_is_named() -> None:
    source = f"""{HEAD}
forkless.set_forkserver_preload(["no_such_module", "fractions"])
print(run(lambda: sys.exit(0 if "fractions" in sys.modules else 3)))
"""
    outcome = run_program(source)
    assert outcome.check() == "0\n"
    assert "no_such_module cannot be preloaded" in outcome.stderr
    assert "ModuleNotFoundError: No module named 'no_such_module'" in outcome.stderr


def test_names_of_modules_are_strings() -> None:
    with pytest.raises(TypeError, match="list of strings"):
        forkless.set_forkserver_preload([os])  # type: ignore[list-item]


def test_another_preload_means_another_template() -> None:
    source = f"""{HEAD}
go = forkless.Event()
first = forkless.Process(target=lambda: (go.wait(), os._exit(7)))
first.start()
old = templates()
forkless.set_forkserver_preload(["fractions"])
assert run(lambda: sys.exit(0 if "fractions" in sys.modules else 3)) == 0
assert first.is_alive()
assert len(templates()) == 2
go.set()
first.join()
print(first.exitcode)
until = time.monotonic() + 60
while len(templates()) > 1:
    assert time.monotonic() < until
    time.sleep(0.01)
assert templates() != old
while os.path.exists(f"/proc/{{old[0]}}"):
    assert time.monotonic() < until
    forkless.active_children()
"""
    assert run_program(source).check() == "7\n"


def test_a_template_without_children_ends_at_once_when_it_is_replaced() -> None:
    source = f"""{HEAD}
run(int)
old = templates()
forkless.set_executable(sys.executable)
assert run(lambda: sys.exit(5)) == 5
until = time.monotonic() + 60
while set(old) & set(templates()):
    assert time.monotonic() < until
    time.sleep(0.01)
print(len(templates()))
"""
    assert run_program(source).check() == "1\n"


def test_a_module_that_leaves_a_thread_is_named_and_refused(tmp_path: Path) -> None:
    (tmp_path / "threaded.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(3600,), daemon=True).start()\n"
    )
    source = f"""{HEAD}
sys.path.insert(0, {str(tmp_path)!r})
forkless.set_forkserver_preload(["fractions", "threaded"])
try:
    run(int)
except forkless.ProcessError as error:
    print(error)
print(forkless.get_context("spawn").Process(target=int).start())
forkless.set_forkserver_preload([])
print(run(int))
"""
    text = run_program(source).check()
    assert "has other threads (" in text
    assert "left by what was preloaded there (threaded)" in text
    assert text.endswith("None\n0\n")


def test_threads_that_a_library_stops_for_a_fork_are_no_hindrance() -> None:
    """OpenBLAS has as many threads as there are processors, and a fork handler that ends them."""
    pytest.importorskip("numpy")
    source = f"""{HEAD}
forkless.set_forkserver_preload(["numpy"])
def multiply():
    import numpy
    matrix = numpy.ones((300, 300))
    assert (matrix @ matrix == 300).all()
print([run(multiply) for _ in range(5)])
"""
    environ = {"OPENBLAS_NUM_THREADS": "2"}
    assert run_program(source, environ=environ).check() == "[0, 0, 0, 0, 0]\n"


# --- another interpreter ---


def test_a_thread_on_its_way_out_is_no_hindrance() -> None:
    """It may be listed still when `pthread_join` has returned; a main thread is, until the process ends."""
    source = f"""{HEAD}
import ctypes, threading
from support import eventually
main = threading.get_native_id()
def has_ended():
    with open(f"/proc/self/task/{{main}}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "Z"
def look():
    both = _forkless.thread_count()
    go.set()
    ended = eventually(has_ended)
    print(both, ended, len(os.listdir("/proc/self/task")), _forkless.thread_count(), flush=True)
    os._exit(0)
go = threading.Event()
threading.Thread(target=look).start()
go.wait()
ctypes.CDLL(None).syscall({EXIT_ONE_THREAD[platform.machine()]}, 0)
"""
    assert run_program(source).check() == "2 True 2 1\n"


@pytest.fixture
def other_python(tmp_path: Path) -> str:
    """An interpreter in an environment of its own that has forkless."""
    directory = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(directory)], check=True)
    package = Path(forkless.__file__).parent
    found_in = {"base": str(directory), "platbase": str(directory)}
    site = Path(sysconfig.get_path("purelib", vars=found_in))
    site.joinpath("forkless").symlink_to(package)
    return str(directory / "bin" / "python")


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_a_worker_under_another_interpreter(method: str, other_python: str) -> None:
    source = f"""{HEAD}
sys.path.insert(0, {str(Path(jobs.__file__).parent)!r})
import jobs
queue, lock = forkless.Queue(), forkless.Lock()
# Those of our own go on beside it.
for interpreter in (None, {other_python!r}, None, {other_python!r}):
    process = forkless.get_context({method!r}).Process(
        target=jobs.tell_interpreter, args=(queue, lock), interpreter=interpreter
    )
    process.start()
    process.join()
    assert process.exitcode == 0
    assert queue.get(timeout=60) == (interpreter or sys.executable, process.pid)
print(len(templates()))
"""
    assert run_program(source).check() == "2\n"


def test_an_interpreter_without_forkless(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path)], check=True)
    path = tmp_path / "bin" / "python"
    process = forkless.Process(target=int, interpreter=path)
    with pytest.raises(forkless.ProcessError, match=r"No module named 'forkless'; install forkless there"):
        process.start()


def fake(path: Path, answer: str) -> Path:
    path.write_text(f"#!/bin/sh\necho {answer}\n")
    path.chmod(stat.S_IRWXU)
    return path


def test_what_travels_by_value_is_refused_by_another_version(tmp_path: Path) -> None:
    from forkless._forkless import VERSION

    path = fake(tmp_path / "python", f"{VERSION} 00ff 3.99.1")
    process = forkless.Process(target=lambda: None, interpreter=path)
    with pytest.raises(TypeError, match=r"Python 3\.99\.1 \(.*\) cannot run; put them into a module"):
        process.start()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("9.9.9 00ff 3.11.1", "has forkless 9.9.9, this process has"),
        ("hello", "is not a Python interpreter that answers"),
    ],
)
def test_strange_interpreters(tmp_path: Path, answer: str, reason: str) -> None:
    process = forkless.Process(target=int, interpreter=fake(tmp_path / "python", answer))
    with pytest.raises(forkless.ProcessError, match=reason):
        process.start()
    process = forkless.Process(target=int, interpreter="/no/such/python")
    with pytest.raises(forkless.ProcessError, match="is not a Python interpreter"):
        process.start()


# --- copies of the process ---


def test_a_copy_made_by_os_fork_has_a_template_of_its_own() -> None:
    """Otherwise its children would end with the process it was copied from."""
    source = f"""{HEAD}
assert run(int) == 0
queue = forkless.Queue()
if os.fork() == 0:
    go = forkless.Event()
    child = forkless.Process(target=lambda: (go.wait(), queue.put("alive")))
    child.start()
    queue.put((child.pid, len(templates())))
    while os.getppid() == {{parent}}:
        time.sleep(0.01)
    go.set()
    child.join()
    print(queue.get(timeout=60), child.exitcode, flush=True)
    sys.exit()
pid, count = queue.get(timeout=60)
print(count, flush=True)
os._exit(0)
""".replace("{parent}", "parent").replace("queue = forkless", "parent = os.getpid()\nqueue = forkless")
    outcome = run_program(source, python=(sys.executable, "-W", "ignore"))
    assert (outcome.exit_code, outcome.stdout, outcome.survivors) == (0, "2\nalive 0\n", ()), outcome


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_children_of_a_process_that_gave_up_privileges_have_none() -> None:
    source = f"""{HEAD}
import forkless.exceptions, traceback
assert run(lambda: sys.exit(os.geteuid())) == 0
os.setegid(65534)
os.seteuid(65534)
try:
    print(run(lambda: sys.exit(os.geteuid() == 65534)))
except forkless.ProcessError as error:
    # Its interpreter may be out of reach for that user.
    print(1)
os.seteuid(0)
"""
    assert run_program(source).check() == "1\n"


def test_nobody_forks_while_a_copy_waits() -> None:
    """The template of a process is not the parent of what user code has forked."""
    source = f"""{HEAD}
run(int)
template = templates()[0]
if os.fork() == 0:
    time.sleep(3600)
print(template, flush=True)
os._exit(0)
"""
    with Program(source, python=(sys.executable, "-W", "ignore")) as program:
        template = int(program.wait_for(r"\d+\n"))
        assert eventually(lambda: template not in processes() or status_of(template)[0] in "ZX")
        outcome = program.finish(grace=0.1)
    # It was ours to end: the copy holds nothing that keeps the tree alive.
    assert len(outcome.survivors) == 1, outcome
