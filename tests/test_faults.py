"""Bad input and faults: each ends in a clear exception or cleanly, soon, and leaves nothing.

Most of these are real programs in process groups of their own; `Outcome.check` fails on what outlives them.
What they could leave in the directory for temporary files is looked at here, /dev/shm after every test.
"""

from __future__ import annotations

import functools
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import forkless
import jobs
import pytest
from support import PATIENCE, Outcome, Program, run_program, started

METHODS = pytest.mark.parametrize("method", ["forkserver", "spawn"])

# Prepended to every program: `within` asserts that what follows took less than a minute.
PRELUDE = """
import contextlib, os, resource, signal, sys, time
import forkless
from forkless import _forkless

@contextlib.contextmanager
def within(seconds=60):
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds, time.monotonic() - start

def template():
    return next((pid for pid, _, role in _forkless.processes() if role == "template"), None)

def set_and_hang(event):
    event.set()
    while True:
        signal.pause()

def spin(event):
    event.set()
    while True:
        pass
"""


@pytest.fixture
def run(tmp_path: Path) -> functools.partial[Outcome]:
    return functools.partial(run_faulty, tmp_path)


def run_faulty(tmp_path: Path, source: str, python: Sequence[str] = (sys.executable,)) -> Outcome:
    outcome = run_program(PRELUDE + source, python=python, environ={"TMPDIR": str(tmp_path)})
    assert os.listdir(tmp_path) == []
    return outcome


# --- bad input ---


@pytest.mark.parametrize("call", [forkless.get_context, forkless.set_start_method])
def test_asking_for_fork(call: object) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=r"never forks.*'forkserver'"):
        call("fork")


@METHODS
def test_an_unpicklable_argument(method: str) -> None:
    context = forkless.get_context(method)
    before = started()
    with pytest.raises((TypeError, pickle.PicklingError), match="lock"):
        context.Process(target=jobs.double, args=(threading.Lock(),)).start()
    assert started() == before
    with context.Pool(1) as pool, pytest.raises((TypeError, pickle.PicklingError), match="lock"):
        pool.apply_async(jobs.double, (threading.Lock(),)).get(PATIENCE)
    with context.Executor(1) as executor, pytest.raises((TypeError, pickle.PicklingError), match="lock"):
        executor.submit(jobs.double, threading.Lock()).result(PATIENCE)


def test_a_target_that_is_not_callable() -> None:
    for context in map(forkless.get_context, ("forkserver", "spawn")):
        with pytest.raises(TypeError, match="callable"):
            context.Process(target="print")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="callable"):
            context.Pool(1, initializer="print")  # type: ignore[arg-type]


def test_a_negative_timeout_is_a_look() -> None:
    """As in `multiprocessing`: no wait, and no other error than that of a wait that was too short."""
    ready = forkless.Event()
    child = forkless.Process(target=jobs.set_and_hang, args=(ready,))
    child.start()
    assert ready.wait(PATIENCE), child
    child.join(-1)
    assert child.is_alive()
    child.kill()
    child.join(PATIENCE)
    child.join(-1)
    with forkless.Pool(1) as pool:
        result = pool.apply_async(jobs.hang)
        result.wait(-1)
        with pytest.raises(forkless.TimeoutError):
            result.get(-1)


# --- scarce resources ---

USE_EVERYTHING = """
def double(value):
    return value + value

for method in ("forkserver", "spawn"):
    context = forkless.get_context(method)
    with within():
        queue = context.Queue()
        process = context.Process(target=queue.put, args=(bytes(1_000_000),))
        process.start()
        assert len(queue.get(timeout=60)) == 1_000_000
        process.join()
        assert process.exitcode == 0
        process.close()
        with context.Pool(2) as pool:
            assert pool.map(double, range(100)) == list(range(0, 200, 2))
        with context.Executor(2) as executor:
            assert executor.submit(double, "a").result(60) == "aa"
shared = forkless.share(bytes(1_000_000))
assert len(memoryview(shared)) == 1_000_000
print("done")
"""


def test_an_address_space_of_4_gib(run: functools.partial[Outcome]) -> None:
    limit = "resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))"
    assert run(limit + USE_EVERYTHING).check() == "done\n"


@pytest.mark.parametrize("left", [1, 16, 256])
def test_hardly_any_address_space_left(run: functools.partial[Outcome], left: int) -> None:
    outcome = run(f"""
# Python itself cannot load a module in what is left.
import subprocess
forkless.Process, forkless.Event, forkless.ProcessError
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + ({left} << 20),) * 2)
with within():
    try:
        forkless.Event()
        process = forkless.Process(target=int)
        process.start()
        process.join()
        print("worked", process.exitcode)
    except (forkless.ProcessError, MemoryError, OSError) as error:
        # The interpreter's own MemoryError says nothing.
        print("refused", type(error) is MemoryError or len(str(error)) > 5)
""")
    assert outcome.check() in ("refused True\n", "worked 0\n")


def test_64_descriptors(run: functools.partial[Outcome]) -> None:
    limit = "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))"
    assert run(limit + USE_EVERYTHING).check() == "done\n"


def test_fewer_descriptors_than_workers(run: functools.partial[Outcome]) -> None:
    outcome = run("""
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
with within():
    try:
        forkless.Pool(100)
    except (forkless.ProcessError, OSError) as error:
        text = str(error).lower()
        print(type(error).__name__, "descriptor" in text or "open files" in text)
with within(), forkless.Pool(2) as pool:
    print(pool.map(abs, [-1]))
""")
    assert outcome.check() in ("ProcessError True\n[1]\n", "OSError True\n[1]\n")


def test_no_descriptor_is_lost_over_many_children() -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = descriptors()
    for number in range(30):
        child = forkless.Process(target=os._exit, args=(number,))
        child.start()
        child.join()
        assert child.exitcode == number
    del child
    assert descriptors() == before


def without_shared_memory() -> list[str]:
    """What to put before a command so that nothing can be made in /dev/shm."""
    # The mount point itself belongs to everybody and stays.
    script = 'mount -t tmpfs -o ro,size=4k none /dev/shm && exec "$0" "$@"'
    probe = "import os; assert os.statvfs('/dev/shm').f_flag & os.ST_RDONLY"
    for options in ("-m", "-rm"):
        command = ["unshare", options, "sh", "-c", script, sys.executable]
        try:
            if subprocess.run([*command, "-c", probe], capture_output=True).returncode == 0:
                return command
        except FileNotFoundError:
            pytest.skip("there is no unshare(1) to take /dev/shm away with")
    pytest.skip("not permitted to take /dev/shm away in a mount namespace of its own")


def test_no_dev_shm(run: functools.partial[Outcome]) -> None:
    assert run(USE_EVERYTHING, python=without_shared_memory()).check() == "done\n"


def test_dev_shm_is_never_used(run: functools.partial[Outcome]) -> None:
    outcome = run("""
with forkless.Pool(2) as pool:
    pool.map(abs, range(10))
    shared = forkless.share(bytes(5_000_000))
    for pid, _, role in _forkless.processes():
        if role == "standby":
            continue  # it may be gone
        with open(f"/proc/{pid}/maps") as maps:
            assert "/dev/shm" not in maps.read(), role
        for entry in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                assert "/dev/shm" not in os.readlink(f"/proc/{pid}/fd/{entry}"), role
    print("done")
""")
    assert outcome.check() == "done\n"


# --- killed processes ---


@METHODS
def test_a_killed_worker(run: functools.partial[Outcome], method: str) -> None:
    outcome = run(f"""
forkless.set_start_method({method!r})
ready = forkless.Event()
with forkless.Pool(2) as pool:
    others = pool.map_async(abs, range(100), 1)
    result = pool.apply_async(set_and_hang, (ready,))
    assert ready.wait(60)
    others.get(60)
    guilty = [worker for worker in pool._pool]
    with within():
        for worker in guilty:
            worker.kill()
        try:
            result.get(60)
        except forkless.WorkerDied as error:
            print(error.task, error.exitcode, "SIGKILL" in str(error), error.pid in [w.pid for w in guilty])
        print(pool.map(abs, [-1, -2], 1))
""")
    assert outcome.check() == "set_and_hang -9 True True\n[1, 2]\n"


@METHODS
def test_a_killed_template(run: functools.partial[Outcome], method: str) -> None:
    outcome = run(f"""
context = forkless.get_context({method!r})
go, ready = context.Event(), context.Event()
def wait(go, ready):
    ready.set()
    sys.exit(7 if go.wait(60) else 1)
before = context.Process(target=wait, args=(go, ready))
before.start()
assert ready.wait(60)
first = template()
os.kill(first, signal.SIGKILL)
with within():
    # More than could have been standing by when it was killed.
    for code in range(4):
        after = context.Process(target=sys.exit, args=(code,))
        after.start()
        after.join()
        print("after", after.exitcode)
    assert template() != first
with within():
    assert before.is_alive()
    go.set()
    before.join()
    assert not before.is_alive()
    try:
        print("before", before.exitcode)
    except forkless.ProcessError as error:
        assert "status" in str(error), error
        print("before 7")
""")
    assert outcome.check() == "after 0\nafter 1\nafter 2\nafter 3\nbefore 7\n"


@METHODS
def test_a_pool_whose_template_is_killed_goes_on(run: functools.partial[Outcome], method: str) -> None:
    outcome = run(f"""
forkless.set_start_method({method!r})
ready = forkless.Event()
with forkless.Pool(2) as pool:
    print(pool.map(abs, range(5)))
    os.kill(template(), signal.SIGKILL)
    with within():
        print(pool.map(abs, range(5)))
    result = pool.apply_async(set_and_hang, (ready,))
    assert ready.wait(60)
    with within():
        for worker in pool._pool:
            worker.kill()
        try:
            result.get(60)
        except forkless.WorkerDied:
            print("lost one")
        print(pool.map(abs, range(5)))
""")
    assert outcome.check() == "[0, 1, 2, 3, 4]\n" * 2 + "lost one\n" + "[0, 1, 2, 3, 4]\n"


def test_a_template_that_is_killed_again_and_again(run: functools.partial[Outcome]) -> None:
    outcome = run("""
codes, killed = [], set()
for number in range(12):
    with within():
        process = forkless.Process(target=sys.exit, args=(number,))
        process.start()
        process.join()
        codes.append(process.exitcode)
        # None while a child that stood by has made one unnecessary.
        victim = template()
        if victim:
            os.kill(victim, signal.SIGKILL)
            killed.add(victim)
print(codes == list(range(12)), len(killed) >= 4)
""")
    assert outcome.check() == "True True\n"


def test_a_killed_template_and_then_the_exit(run: functools.partial[Outcome]) -> None:
    outcome = run("""
ready = forkless.Event()
process = forkless.Process(target=set_and_hang, args=(ready,), daemon=True)
process.start()
pool = forkless.Pool(2)
pool.apply_async(spin, (ready,))
assert ready.wait(60)
os.kill(template(), signal.SIGKILL)
""")
    assert (outcome.check(), outcome.stderr) == ("", "")


BUSY = {
    "process": """
forkless.Process(target=set_and_hang, args=(ready,)).start()
""",
    "busy process": """
forkless.Process(target=spin, args=(ready,)).start()
""",
    "stubborn process": """
def stubborn(event):
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    set_and_hang(event)
forkless.Process(target=stubborn, args=(ready,)).start()
""",
    "pool": """
pool = forkless.Pool(2)
result = pool.map_async(spin, [ready] * 4, 1)
""",
    "executor": """
executor = forkless.Executor(2)
futures = [executor.submit(spin, ready) for _ in range(4)]
""",
    "grandchild": """
def parent(ready):
    child = forkless.Process(target=spin, args=(ready,))
    child.start()
    child.join()
forkless.Process(target=parent, args=(ready,)).start()
""",
    "waiting for a queue": """
def consumer(queue, ready):
    ready.set()
    queue.get()
forkless.Process(target=consumer, args=(forkless.Queue(), ready)).start()
""",
}


@METHODS
@pytest.mark.parametrize("busy", BUSY)
def test_a_killed_parent(tmp_path: Path, method: str, busy: str) -> None:
    source = f"""
forkless.set_start_method({method!r})
ready = forkless.Event()
{BUSY[busy]}
assert ready.wait(60)
print("ready", flush=True)
time.sleep(600)
"""
    with Program(PRELUDE + source, environ={"TMPDIR": str(tmp_path)}) as program:
        program.wait_for("ready")
        program.signal(signal.SIGKILL)
        outcome = program.finish()
    assert (outcome.exit_code, outcome.survivors, outcome.stderr) == (-signal.SIGKILL, (), "")
    assert os.listdir(tmp_path) == []


def test_a_killed_parent_whose_template_was_killed_before(tmp_path: Path) -> None:
    source = """
ready = forkless.Event()
process = forkless.Process(target=spin, args=(ready,))
process.start()
assert ready.wait(60)
os.kill(template(), signal.SIGKILL)
print("ready", flush=True)
time.sleep(600)
"""
    with Program(PRELUDE + source, environ={"TMPDIR": str(tmp_path)}) as program:
        program.wait_for("ready")
        program.signal(signal.SIGKILL)
        outcome = program.finish()
    assert (outcome.exit_code, outcome.survivors) == (-signal.SIGKILL, ())


def test_children_of_a_killed_child(run: functools.partial[Outcome]) -> None:
    outcome = run("""
ready = forkless.Event()
pids = forkless.Queue()
def parent(ready, pids):
    child = forkless.Process(target=spin, args=(ready,))
    child.start()
    pids.put(child.pid)
    child.join()
process = forkless.Process(target=parent, args=(ready, pids))
process.start()
assert ready.wait(60)
descriptor = os.pidfd_open(pids.get(timeout=60))
with within():
    process.kill()
    import select
    print(bool(select.select([descriptor], [], [], 60)[0]))
process.join()
""")
    assert outcome.check() == "True\n"


def test_a_worker_killed_while_it_holds_a_lock(run: functools.partial[Outcome]) -> None:
    outcome = run("""
lock = forkless.Lock()
def grab(lock):
    lock.acquire()
    os.kill(os.getpid(), signal.SIGKILL)
with forkless.Pool(1) as pool, within():
    try:
        pool.apply(grab, (lock,))
    except forkless.WorkerDied:
        print("lost")
    try:
        lock.acquire(timeout=60)
    except forkless.OwnerDied:
        print("owner died")
    print(lock.acquire(timeout=60))
""")
    assert outcome.check() == "lost\nowner died\nTrue\n"


def test_the_parent_ends_in_the_middle_of_everything(run: functools.partial[Outcome]) -> None:
    """Without any clean-up of Python: `os._exit` runs no exit handler."""
    outcome = run("""
ready = forkless.Event()
pool = forkless.Pool(2)
results = [pool.apply_async(spin, (ready,)) for _ in range(10)]
forkless.Process(target=set_and_hang, args=(ready,)).start()
assert ready.wait(60)
os._exit(0)
""")
    assert (outcome.check(), outcome.stderr) == ("", "")
