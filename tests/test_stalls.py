"""Processes that stand still, for however long, are not taken for dead, nor anything for broken or late.

A process is stopped at a certain step of what it does, by SIGSTOP, a debugger, or with its whole tree. The
others wait or go on, and when it goes on it finds everything as it should be.
"""

from __future__ import annotations

import select
import time
from pathlib import Path

import forkless
import pytest
from crash_points import needs_points
from forkless import _waiters, connection
from support import run_program

pytestmark = pytest.mark.timeout(180)

HEAD = """
import ctypes, os, signal, subprocess, sys, threading, time
import forkless
from forkless import _forkless

def eventually(condition):
    deadline = time.monotonic() + 20
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True

def template():
    return next((pid for pid, _, role in _forkless.processes() if role == "template"), 0)

def state(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0]
    except OSError:
        return ""

def children(pid):
    return list(map(int, open(f"/proc/{pid}/task/{pid}/children").read().split()))

def stop(pid):
    os.kill(pid, signal.SIGSTOP)
    assert eventually(lambda: state(pid) == "T")
"""

# In whichever process is the first of its kind: it stops at the point that the environment names.
HALT = """
import os
for role in ("SPAWNED", "TEMPLATE"):
    point, mark = os.environ.get("HALT_" + role), os.environ.get("MARK", "") + role
    if point and "FORKLESS_" + role in os.environ:
        from forkless import _forkless
        try:
            open(mark, "x").close()
        except FileExistsError:
            break
        assert _forkless.arm_crash_point(point, halt=True)
        break
"""


@needs_points
def test_a_child_stopped_on_its_way_is_replaced_and_does_no_harm(tmp_path: Path) -> None:
    """Its template dies, nobody knows its id, and in the end it writes into a slot that was its own."""
    (tmp_path / "sitecustomize.py").write_text(HALT)
    source = f"""{HEAD}
os.environ.update(HALT_TEMPLATE="start.forked", HALT_SPAWNED="slot.entered", MARK={str(tmp_path / "mark")!r})
os.environ["PYTHONPATH"] = {str(tmp_path)!r}

def hold(lock, is_held, end):
    with lock:
        is_held.set()
        end.wait()

def strike():
    global stopped
    assert eventually(lambda: state(template()) == "T")
    (stopped,) = children(template())
    assert eventually(lambda: state(stopped) == "T")
    os.kill(template(), signal.SIGKILL)

striker = threading.Thread(target=strike)
striker.start()
context, end = forkless.get_context("spawn"), forkless.Event()
holders = []
for _ in range(4):
    lock, is_held = forkless.Lock(), forkless.Event()
    process = context.Process(target=hold, args=(lock, is_held, end))
    process.start()
    assert is_held.wait(20)
    holders.append((process, lock))
striker.join()
os.kill(stopped, signal.SIGCONT)
assert eventually(lambda: state(stopped) in ("", "Z"))
print([lock.acquire(timeout=0.1) for _, lock in holders], [process.is_alive() for process, _ in holders])
end.set()
for process, _ in holders:
    process.join(20)
print([process.exitcode for process, _ in holders])
"""
    outcome = run_program(source, timeout=60)
    assert outcome.check().splitlines() == [f"{[False] * 4} {[True] * 4}", f"{[0] * 4}"]


def test_a_template_that_ends_slowly_is_followed_by_another(tmp_path: Path) -> None:
    """It has closed its sockets, and lives: with much memory to give back that may take seconds."""
    (tmp_path / "closing.py").write_text(
        """
import ctypes, os, signal

@ctypes.CFUNCTYPE(None, ctypes.c_int)
def close(number):
    null = os.open(os.devnull, os.O_RDWR)
    for each in map(int, os.listdir("/proc/self/fd")):
        try:
            if os.readlink(f"/proc/self/fd/{each}").startswith("socket:"):
                os.dup2(null, each)
        except OSError:
            pass
    while True:
        os.kill(os.getpid(), signal.SIGSTOP)

ctypes.CDLL(None).signal(signal.SIGUSR1, close)
"""
    )
    source = f"""{HEAD}
sys.path.insert(0, {str(tmp_path)!r})
forkless.set_forkserver_preload(["closing"])
first = forkless.get_context("spawn").Process(target=time.sleep, args=(60,))
first.start()
slow = template()
# It waits for requests, and holds no lock.
assert eventually(lambda: "poll" in open(f"/proc/{{slow}}/wchan").read())
os.kill(slow, signal.SIGUSR1)
assert eventually(lambda: state(slow) == "T")
for method in ("spawn", "forkserver"):
    process = forkless.get_context(method).Process(target=sys.exit, args=(3,))
    process.start()
    process.join(20)
    print(process.exitcode)
ours, theirs = forkless.Pipe()
process = forkless.Process(target=forkless.connection.Connection.send, args=(theirs, "sent"))
process.start()
print(ours.recv())
first.kill()
os.kill(slow, signal.SIGKILL)
first.join(20)
"""
    outcome = run_program(source, timeout=60)
    assert outcome.check().splitlines() == ["3", "3", "sent"]


@needs_points
def test_how_a_process_ended_is_known_once_its_template_goes_on(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(HALT)
    source = f"""{HEAD}
os.environ.update(HALT_TEMPLATE="template.reaped", MARK={str(tmp_path / "mark")!r})
os.environ["PYTHONPATH"] = {str(tmp_path)!r}
process = forkless.get_context("spawn").Process(target=sys.exit, args=(7,))
process.start()
assert eventually(lambda: state(template()) == "T")
print(process.join(0.1), process.exitcode in (7, None))
os.kill(template(), signal.SIGCONT)
process.join(20)
print(process.exitcode)
"""
    assert run_program(source).check().splitlines() == ["None True", "7"]


def test_whoever_joins_a_tree_waits_for_a_template_that_is_stopped() -> None:
    source = f"""{HEAD}
lock, start = forkless.Lock(), forkless.Process(target=int)
start.start()
start.join()
import pickle
stop(template())
code = "import pickle, sys; print(pickle.load(sys.stdin.buffer).acquire())"

def stranger():
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE)
    process.stdin.write(data)
    process.stdin.close()
    def has_socket():
        try:
            return any(os.readlink(f"/proc/{{process.pid}}/fd/{{each}}").startswith("socket:")
                for each in os.listdir(f"/proc/{{process.pid}}/fd"))
        except OSError:
            return False
    # From then on it waits to be let in.
    assert eventually(has_socket)
    return process

data = pickle.dumps(lock)
impatient, patient = stranger(), stranger()
impatient.send_signal(signal.SIGINT)
assert impatient.wait(20) in (1, -signal.SIGINT), impatient.returncode
print(b"KeyboardInterrupt" in impatient.stderr.read())
os.kill(template(), signal.SIGCONT)
print(patient.wait(20), patient.stdout.read())
"""
    assert run_program(source).check().splitlines() == ["True", "0 b'True\\n'"]


def test_the_first_objects_of_two_threads_are_in_one_tree() -> None:
    source = """
import threading
import forkless
from forkless import _forks

# Both are about to make the arena.
meeting, expect = threading.Barrier(2, timeout=20), _forks.expect
def late():
    expect()
    meeting.wait()
_forks.expect = late
made = []
threads = [threading.Thread(target=lambda: made.append(forkless.Queue())) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
_forks.expect = expect
process = forkless.Process(target=lambda one, other: other.put(one.get()), args=made)
process.start()
made[0].put("moved")
print(made[1].get(timeout=20))
"""
    assert run_program(source).check() == "moved\n"


@needs_points
@pytest.mark.parametrize("is_last_item", [True, False])
def test_what_came_before_all_others_had_gone_is_found(tmp_path: Path, is_last_item: bool) -> None:
    """The only process with the other end does its part and ends, while this one was about to look."""
    fifo = tmp_path / "fifo"
    source = f"""{HEAD}
def work(carrier, is_ready):
    queue = carrier.get()
    is_ready.set()
    open({str(fifo)!r}).read()
    queue.put("last") if {is_last_item} else print(queue.get(), flush=True)

os.mkfifo({str(fifo)!r})
queue, carrier, is_ready = forkless.Queue(1), forkless.Queue(), forkless.Event()
process = forkless.Process(target=work, args=(carrier, is_ready))
process.start()
# Not an argument, which is held for a process until its end is known.
carrier.put(queue)
assert is_ready.wait(20)
if not {is_last_item}:
    queue.put("first")
script = '''
until grep -q "T (stopped)" /proc/$1/status; do :; done
echo go > {fifo}
while test -e /proc/$2; do :; done
until grep -q poll /proc/$3/wchan; do :; done
kill -CONT $1
'''
helper = subprocess.Popen(["sh", "-c", script, "sh", *map(str, (os.getpid(), process.pid, template()))])
# The second look is the first at which it asks whether others are there.
assert _forkless.arm_crash_point("queue.waited", 2, halt=True)
print(queue.get() if {is_last_item} else queue.put("second"))
process.join(20)
print(helper.wait())
"""
    lines = run_program(source).check().splitlines()
    assert lines == (["last", "0"] if is_last_item else ["first", "None", "0"])


def test_time_in_which_all_stood_still_makes_no_task_late() -> None:
    source = f"""{HEAD}
def work(begun, go_on):
    begun.set()
    go_on.wait()
    return "done"

begun, go_on = forkless.Event(), forkless.Event()
with forkless.Executor(1) as executor:
    assert executor.submit(int).result() == 0
    future = executor.options(timeout=4).submit(work, begun, go_on)
    assert begun.wait(20)
    tree = " ".join(map(str, [os.getpid(), *(pid for pid, _, _ in _forkless.processes())]))
    subprocess.run(["sh", "-c", f"kill -STOP {{tree}}; sleep 5; kill -CONT {{tree}}"], check=True)
    go_on.set()
    print(future.result(20))
    late = executor.options(timeout=0.2).submit(time.sleep, 60)
    print(type(late.exception(20)).__name__)
"""
    assert run_program(source, timeout=60).check().splitlines() == ["done", "TimeoutError"]


DEBUGGER = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
pid = int(sys.argv[1])
for request in (0x4206, 0x4207):  # PTRACE_SEIZE, PTRACE_INTERRUPT
    if libc.ptrace(request, pid, None, None):
        sys.exit(os.strerror(ctypes.get_errno()))
os.waitpid(pid, 0)
print("stopped", flush=True)
sys.stdin.read()
"""


def test_a_task_in_a_debugger_is_not_late() -> None:
    source = f"""{HEAD}
def work(pid, go_on):
    pid.value = os.getpid()
    go_on.wait()
    return "done"

pid, go_on = forkless.Value("i", 0), forkless.Event()
with forkless.Executor(1) as executor:
    future = executor.options(timeout=1).submit(work, pid, go_on)
    assert eventually(lambda: pid.value)
    debugger = subprocess.Popen([sys.executable, "-c", {DEBUGGER!r}, str(pid.value)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if debugger.stdout.readline() != "stopped\\n":
        print("no debugger:", debugger.stderr.read())
        os._exit(0)
    time.sleep(1.5)  # longer than the task may take
    print(future.done())
    go_on.set()
    debugger.communicate()
    print(future.result(20))
"""
    text = run_program(source, timeout=60).check()
    if text.startswith("no debugger"):
        pytest.skip(f"this system lets no process debug another: {text}")
    assert text.splitlines() == ["False", "done"]


def test_a_number_that_another_process_has_by_now_says_nothing_of_its_end() -> None:
    """The template hears late that a stranger has ended, whose number a copy of the main process has."""
    source = f"""{HEAD}
lock, start = forkless.Lock(), forkless.Process(target=int)
start.start()
start.join()
import pickle
stranger = subprocess.Popen([sys.executable, "-c", "import pickle, sys; lock = pickle.load(sys.stdin.buffer);"
    "print(lock.acquire(), lock.release(), flush=True); sys.stdin.read()"], stdin=subprocess.PIPE,
    stdout=subprocess.PIPE)
stranger.stdin.write(pickle.dumps(lock))
stranger.stdin.flush()
assert stranger.stdout.readline() == b"True None\\n"
stop(template())
stranger.stdin.close()
stranger.wait()
is_held, end = forkless.Event(), forkless.Event()

def hold():
    with lock:
        is_held.set()
        end.wait(20)

for _ in range(200):
    try:
        with open("/proc/sys/kernel/ns_last_pid", "w") as last:
            last.write(str(stranger.pid - 1))
    except OSError as error:
        print("no numbers:", error, flush=True)
        os.kill(template(), signal.SIGCONT)
        os._exit(0)
    copy = os.fork()
    if copy == 0:
        if os.getpid() == stranger.pid:
            hold()
        os._exit(0)
    if copy == stranger.pid:
        break
    os.waitpid(copy, 0)
else:
    print("no numbers: others take them", flush=True)
    os.kill(template(), signal.SIGCONT)
    os._exit(0)
assert is_held.wait(20)
os.kill(template(), signal.SIGCONT)
# It has seen to the stranger when it has started and reaped another process.
after = forkless.get_context("spawn").Process(target=int)
after.start()
after.join(20)
print(lock.acquire(timeout=0.1), copy in [pid for pid, _, _ in _forkless.processes()])
end.set()
print(os.waitpid(copy, 0)[1])
"""
    text = run_program(source, timeout=60).check()
    if text.startswith("no numbers"):
        pytest.skip(f"which number a process gets cannot be chosen here: {text}")
    assert text.splitlines() == ["False True", "0"]


def test_a_manager_that_is_stopped_while_it_welcomes_somebody_is_no_stranger() -> None:
    source = f"""{HEAD}
from forkless import connection
connection._HANDSHAKE = 0.2
with forkless.Manager() as manager:
    numbers, found = manager.list([1]), []
    stop(manager._process.pid)
    thread = threading.Thread(target=lambda: found.append(numbers[0]))
    thread.start()
    thread.join(0.5)
    print(thread.is_alive())
    os.kill(manager._process.pid, signal.SIGCONT)
    thread.join(20)
    print(found)
"""
    assert run_program(source).check().splitlines() == ["True", "[1]"]


class Clock:
    """A clock that jumps when told to, as that of a machine that was paused.

    Args:
        monkeypatch: puts it in the place of that of `time`.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._ahead, self._monotonic = 0.0, time.monotonic
        monkeypatch.setattr(time, "monotonic", lambda: self._monotonic() + self._ahead)

    def jump(self) -> None:
        """An hour has passed."""
        self._ahead += 3600


def test_who_waits_for_a_thread_looks_after_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    looks: list[None] = []

    def ready() -> bool:
        looks.append(None)
        if len(looks) == 1:
            clock.jump()
        return len(looks) > 1

    assert _waiters.Waiters().wait(ready, 60)


def test_who_waits_for_a_connection_looks_after_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = forkless.Pipe()
    clock, poll = Clock(monkeypatch), select.poll

    class Late:
        """What comes does so when the first look is over, and so is the time."""

        def __init__(self) -> None:
            self._poll = poll()
            self.register = self._poll.register

        def poll(self, timeout: float) -> list[tuple[int, int]]:
            found: list[tuple[int, int]] = self._poll.poll(0)
            if not found:
                theirs.send("come")
                clock.jump()
            return found

    monkeypatch.setattr(select, "poll", Late)
    with ours, theirs:
        assert connection.wait([ours], 60) == [ours]
