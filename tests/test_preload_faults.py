"""Preloading what fails, what should not be inherited, and at awkward moments."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import forkless
import numpy as np
import pytest
from forkless import _pickling, _programs
from support import Outcome

HEAD = """
import forkless, os, signal, sys, threading, time
from forkless import _forkless, _inherited, _pickling, _programs

def is_inherited(data):
    return any(data is each for each in _inherited.objects.values())

def template():
    (pid,) = (pid for pid, _, role in _forkless.processes() if role == "template")
    return pid

def nothing_is_preloaded():
    return not (_programs.preloaded or _inherited.objects or _pickling.inherited)

def error_of(*objects, **options):
    try:
        forkless.preload(*objects, **options)
    except forkless.ProcessError as error:
        assert nothing_is_preloaded()
        return str(error)

sys.path.insert(0, sys.argv[1])
"""


@pytest.fixture
def run(run_program: Callable[..., Outcome], tmp_path: Path) -> Callable[[str], str]:
    """Runs a program that finds modules in `tmp_path`, and returns what it writes."""
    return lambda source: run_program(HEAD + source, str(tmp_path)).check()


# What cannot be preloaded.


class WithFinaliser:
    def __del__(self) -> None:
        pass


class Part:
    def __init__(self, **parts: Any) -> None:
        vars(self).update(parts)


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (lambda: [{"a": (1, Part(b=WithFinaliser()))}], r"\[0\]\['a'\]\[1\]\.b"),
        (lambda: {WithFinaliser(): 1}, "the key <"),
        (lambda: np.array([1, WithFinaliser(), None], object), "its state"),
        (lambda: Part(a=Part(b=WithFinaliser())), r"a\.b"),
    ],
    ids=["in containers", "a key", "in an array", "in instances"],
)
def test_one_is_told_how_to_get_to_what_has_a_finaliser(make: Callable[[], Any], path: str) -> None:
    with pytest.raises(TypeError, match=rf"{path}.*WithFinaliser has a finaliser, which would never"):
        forkless.preload(make())
    assert not _pickling.inherited
    assert not _programs.preloaded


def test_objects_of_the_program_with_finalisers_behind_them_are_no_hindrance(
    run: Callable[[str], str],
) -> None:
    """A logger is found by its name; that its handlers have files is nobody's business."""
    assert (
        run("""
import logging
logging.basicConfig(stream=sys.stderr)
DATA = {"logger": logging.getLogger("some"), "numbers": [1, 2]}
print(forkless.preload(DATA).objects)
with forkless.Pool(1) as pool:
    print(pool.apply(is_inherited, (DATA,)))
""")
        == "1\nTrue\n"
    )


def test_a_module_that_fails_is_named_and_left_out(run: Callable[[str], str], tmp_path: Path) -> None:
    (tmp_path / "failing.py").write_text("import colorsys\nraise RuntimeError('as it is meant to')\n")
    assert (
        run("""
error = error_of([1, 2], modules=["failing"])
print("failing cannot be preloaded" in error, "as it is meant to" in error)
print(forkless.preload([1, 2], modules=["wave"]).modules)
""")
        == "True True\n('wave',)\n"
    )


def test_a_module_that_ends_the_template_is_an_error(run: Callable[[str], str], tmp_path: Path) -> None:
    (tmp_path / "ending.py").write_text("import os\nos._exit(3)\n")
    assert (
        run("""
error = error_of(modules=["ending"])
print("ended while it was starting" in error, "To be preloaded: 0 objects, ending" in error)
print(forkless.Pool(1).apply(abs, (-1,)))
""")
        == "True True\n1\n"
    )


def test_what_starts_threads_is_named_and_refused(run: Callable[[str], str], tmp_path: Path) -> None:
    (tmp_path / "threaded.py").write_text("""
import threading, time

def start(*_):
    threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
    return 1

class Starter:
    def __reduce__(self):
        return start, ()
""")
    (tmp_path / "starting.py").write_text("import threaded\nthreaded.start()\n")
    assert (
        run("""
import threaded
error = error_of(modules=["wave", "starting"])
print("has other threads (" in error, "preloaded there (starting)" in error)
error = error_of([1, threaded.Starter()])
print("has other threads (" in error, "preloaded there (an object of builtins.list)" in error)
print(forkless.preload([1, 2], modules=["wave"]).modules)
""")
        == "True True\nTrue True\n('wave',)\n"
    )


@pytest.fixture
def device() -> Iterator[Path]:
    """What has the name of a graphics card's device, somewhere in /dev."""
    folder = Path(f"/dev/shm/fl-{uuid.uuid4().hex[:12]}")
    folder.mkdir()
    try:
        yield folder / "nvidia0"
    finally:
        (folder / "nvidia0").unlink(missing_ok=True)
        folder.rmdir()


def test_what_opens_a_gpu_is_named_and_refused(
    run: Callable[[str], str], tmp_path: Path, device: Path
) -> None:
    (tmp_path / "gpu.py").write_text(f"driver = open({str(device)!r}, 'w')\n")
    (tmp_path / "model.py").write_text("""
class Model:
    def __reduce__(self):
        return __import__, ("gpu",)
""")
    assert (
        run("""
import model
error = error_of(modules=["wave", "gpu"])
print("has a device open that no forked process can use" in error, ": gpu (/dev/" in error)
error = error_of([model.Model()])
print("an object of builtins.list (/dev/" in error)
forkless.set_forkserver_preload(["gpu"])
child = forkless.get_context("spawn").Process(target=int)
child.start()
child.join()
print(child.exitcode)
try:
    forkless.Process(target=int).start()
except forkless.ProcessError as error:
    print('use the "spawn" start method' in str(error))
forkless.set_forkserver_preload([])
print(forkless.preload([1]).objects)
""")
        == "True True\nTrue\n0\nTrue\n1\n"
    )


def test_what_a_template_cannot_load_travels_as_before(run: Callable[[str], str]) -> None:
    assert (
        run("""
class Picky:
    def __init__(self):
        self.owner = os.getpid()
    def __setstate__(self, state):
        if threading.main_thread().name == "MainThread" and os.getppid() == state["owner"]:
            raise RuntimeError("not here")
        vars(self).update(state)

DATA = [Picky()]
error = error_of(DATA)
print("an object cannot be preloaded" in error, "RuntimeError: not here" in error)
with forkless.Pool(1) as pool:
    print(pool.apply(lambda: DATA[0].owner) == os.getpid())
""")
        == "True True\nTrue\n"
    )


def test_libraries_that_stop_their_threads_for_a_fork_are_no_hindrance(
    run_program: Callable[..., Outcome], tmp_path: Path
) -> None:
    """OpenBLAS has threads and handlers that end them; loading an array, or its module, starts them."""
    source = """
import numpy
MATRIX = numpy.ones((500, 500))
print(forkless.preload([MATRIX], modules=["numpy", "numpy.linalg"]).modules)
with forkless.Pool(2) as pool:
    print({float((part[0] @ part[0]).sum()) for part in pool.map(list, [[MATRIX]] * 4)})
    print(pool.map(lambda _: float((MATRIX @ MATRIX).sum()), range(4)))
"""
    outcome = run_program(HEAD + source, str(tmp_path), environ={"OPENBLAS_NUM_THREADS": "2"})
    assert outcome.check() == "('numpy', 'numpy.linalg')\n{125000000.0}\n" + f"{[125000000.0] * 4}\n"


# Awkward moments.


def test_the_next_template_loads_all_of_it_again(run: Callable[[str], str]) -> None:
    assert (
        run("""
DATA, MORE = [1, 2], {"a": 3}
forkless.preload(DATA, modules=["wave"])
forkless.preload(MORE)
first = template()
os.kill(first, signal.SIGKILL)
with forkless.Pool(1) as pool:
    print(pool.map(is_inherited, [DATA, MORE, [1, 2]]), pool.apply(lambda: "wave" in sys.modules))
print(template() != first)
""")
        == "[True, True, False] True\nTrue\n"
    )


def test_twice_is_once(run: Callable[[str], str]) -> None:
    assert (
        run("""
DATA = [1, 2]
print(forkless.preload(DATA, DATA, modules=["wave", "wave"]).objects)
first = template()
report = forkless.preload(DATA, modules=["wave"])
print(report.objects, report.modules, template() == first)
report = forkless.preload([3], DATA)
print(report.objects, report.modules, template() == first)
with forkless.Pool(1) as pool:
    print(pool.apply(is_inherited, (DATA,)))
""")
        == "1\n1 ('wave',) True\n2 ('wave',) False\nTrue\n"
    )


def test_modules_that_are_chosen_later_do_not_end_it(run: Callable[[str], str]) -> None:
    assert (
        run("""
DATA = [1, 2]
forkless.preload(DATA, modules=["wave"])
forkless.set_forkserver_preload(["colorsys"])
with forkless.Pool(1) as pool:
    print(pool.apply(is_inherited, (DATA,)), pool.apply(lambda: "colorsys" in sys.modules))
""")
        == "True True\n"
    )


@pytest.mark.parametrize("who", ["a child", "a task"])
def test_a_child_may_preload_for_its_own_children(run: Callable[[str], str], who: str) -> None:
    assert (
        run(f"""
OURS = [1, 2]
forkless.preload(OURS)

def preload_and_look():
    theirs = [3, 4]
    report = forkless.preload(theirs)
    with forkless.Pool(1) as pool:
        return report.objects, pool.apply(is_inherited, (theirs,)), pool.apply(len, (OURS,))

if {who!r} == "a task":
    with forkless.Pool(1) as pool:
        print(pool.apply(preload_and_look))
else:
    queue = forkless.Queue()
    child = forkless.Process(target=lambda: queue.put(preload_and_look()))
    child.start()
    print(queue.get(timeout=60))
    child.join()
with forkless.Pool(1) as pool:
    print(pool.apply(is_inherited, (OURS,)))
""")
        == "(1, True, 2)\nTrue\n"
    )


def test_workers_have_what_was_there_when_it_was_preloaded(run: Callable[[str], str]) -> None:
    """Whether they have inherited it, or load it by themselves as they were there before."""
    assert (
        run("""
DATA = {"a": [1]}
with forkless.Pool(1) as before:
    before.apply(abs, (-1,))
    forkless.preload(DATA)
    DATA["a"].append(2)
    with forkless.Pool(1) as after:
        print(before.apply(dict, (DATA,)), after.apply(dict, (DATA,)), after.apply(lambda: DATA))
        print(after.apply(dict, (dict(DATA),)))
""")
        == "{'a': [1]} {'a': [1]} {'a': [1]}\n{'a': [1, 2]}\n"
    )
