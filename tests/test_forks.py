"""Copies of a process that its own code makes with `os.fork`."""

from __future__ import annotations

import sys

from support import run_program

# Whatever Python thinks of forks in general.
PYTHON = (sys.executable, "-W", "ignore")

HEAD = """
import forkless, gc, os, signal, sys, time

def copy(part):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            part()
            code = 0
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return pid

def end(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def churn():
    kept = [forkless.Lock() for _ in range(100)] + [forkless.share(bytes(1000)) for _ in range(10)]
    kept += [forkless.Array("q", range(100)) for _ in range(10)] + [forkless.Queue() for _ in range(10)]
    for queue in kept[-10:]:
        queue.put(b"x" * 100_000)
"""


def check(source: str, expected: str) -> None:
    assert run_program(HEAD + source, python=PYTHON).check() == expected


def test_a_copy_goes_on_with_what_the_original_lets_go() -> None:
    source = """
go, ready = forkless.Event(), forkless.Event()
lock, queue, event, condition = forkless.Lock(), forkless.Queue(), forkless.Event(), forkless.Condition()
value, array, buffer = forkless.Value("i", 7), forkless.Array("q", range(50)), forkless.share(b"z" * 70_000)
semaphore, barrier = forkless.Semaphore(3), forkless.Barrier(1)
queue.put("small"); queue.put(b"y" * 300_000)
view = memoryview(buffer)

def part():
    ready.set()
    assert go.wait(60)
    with lock, condition, semaphore:
        condition.notify_all()
    assert queue.get(timeout=60) == "small"
    assert queue.get(timeout=60) == b"y" * 300_000
    assert (value.value, array[:], bytes(view)) == (7, list(range(50)), b"z" * 70_000)
    assert (event.is_set(), semaphore.get_value(), barrier.wait(60)) == (False, 3, 0)
    churn()
    assert bytes(view) == b"z" * 70_000

pid = copy(part)
assert ready.wait(60)
del lock, queue, event, condition, value, array, buffer, view, semaphore, barrier
gc.collect()
churn()
go.set()
print(end(pid))
"""
    check(source, "0\n")


def test_what_a_copy_lets_go_stays_the_originals() -> None:
    source = """
lock, buffer, value = forkless.Lock(), forkless.share(b"z" * 5000), forkless.Value("i", 7)

def part():
    global lock, buffer, value
    lock.acquire()
    lock.release()
    del lock, buffer, value
    gc.collect()
    churn()

assert end(copy(part)) == 0
churn()
with lock:
    print(bytes(buffer) == b"z" * 5000, value.value)
"""
    check(source, "True 7\n")


def test_the_dead_copy_is_an_owner_like_any_other() -> None:
    source = """
lock = forkless.Lock()
copied = copy(lambda: (lock.acquire(), os.kill(os.getpid(), signal.SIGKILL)))
assert end(copied) == -signal.SIGKILL
try:
    lock.acquire()
except forkless.OwnerDied as death:
    print(death.pid == copied)
with lock:
    print("free")
"""
    check(source, "True\nfree\n")


def test_a_lock_held_during_the_fork_is_the_originals() -> None:
    source = """
lock, rlock = forkless.Lock(), forkless.RLock()

def part():
    assert not (lock.acquire(timeout=0.01) or rlock.acquire(timeout=0.01))
    try:
        rlock.release()
    except AssertionError:
        print("not mine", flush=True)

with lock, rlock:
    assert end(copy(part)) == 0
    print(rlock.acquire())
    rlock.release()
"""
    check(source, "not mine\nTrue\n")


def test_a_semaphore_held_during_the_fork_is_not_given_back_twice() -> None:
    source = """
semaphore = forkless.Semaphore(2)

def part():
    assert semaphore.get_value() == 1
    with semaphore:
        assert semaphore.get_value() == 0
    assert semaphore.get_value() == 1

with semaphore:
    assert end(copy(part)) == 0
    assert end(copy(lambda: os.kill(os.getpid(), signal.SIGKILL))) == -9
    print(semaphore.get_value())
print(semaphore.get_value())
"""
    check(source, "1\n2\n")


def test_a_pool_of_the_original_is_refused() -> None:
    source = """
executor = forkless.Executor(1)
assert executor.submit(abs, -1).result() == 1
with forkless.Pool(1) as pool:
    assert pool.apply(abs, (-1,)) == 1
    go = forkless.Event()
    pending = pool.apply_async(go.wait)

    def part():
        calls = [
            lambda: pool.apply(abs, (-1,)), lambda: pool.map(abs, [1]), lambda: next(pool.imap(abs, [1])),
            lambda: executor.submit(abs, -1), pending.get, pool.close, pool.terminate, executor.shutdown,
        ]
        for call in calls:
            try:
                call()
            except (ValueError, AssertionError, forkless.ProcessError) as error:
                print(type(error).__name__, flush=True)
            else:
                print("quiet", flush=True)
        with forkless.Pool(1) as own:
            print(own.apply(abs, (-5,)), flush=True)

    assert end(copy(part)) == 0
    go.set()
    print(pool.apply(abs, (-2,)))
"""
    # Nothing waits for a worker that is not there, and the original's pool is as it was.
    refused = ["BrokenPool"] * 4 + ["ProcessError"] + ["quiet"] * 3
    assert run_program(HEAD + source, python=PYTHON).check().split() == [*refused, "5", "2"]


def test_children_of_the_original_are_not_the_copys() -> None:
    source = """
go = forkless.Event()
child = forkless.Process(target=go.wait, args=(60,))
child.start()

def part():
    assert forkless.active_children() == []
    for call in (child.join, child.is_alive):
        try:
            call()
        except AssertionError as error:
            print(error, flush=True)

assert end(copy(part)) == 0
assert child.is_alive()
go.set()
child.join()
print(child.exitcode)
"""
    check(source, "can only join a child process\ncan only test a child process\n0\n")


def test_a_fork_in_a_child() -> None:
    source = """
def nested(lock, queue):
    def part():
        with lock:
            queue.put(os.getpid())
    pid = copy(part)
    assert end(pid) == 0
    assert queue.get(timeout=60) == pid
    process = forkless.Process(target=lambda: queue.put("deeper"))
    process.start()
    process.join()

queue = forkless.Queue()
process = forkless.Process(target=nested, args=(forkless.Lock(), queue))
process.start()
process.join()
print(process.exitcode, queue.get(timeout=60))
"""
    check(source, "0 deeper\n")


def test_copies_of_copies() -> None:
    source = """
value, queue = forkless.Value("i", 1), forkless.Queue()

def part(depth):
    with value.get_lock():
        value.value *= 2
    if depth:
        assert end(copy(lambda: part(depth - 1))) == 0
    queue.put(depth)

assert end(copy(lambda: part(3))) == 0
print(value.value, [queue.get(timeout=60) for _ in range(4)])
"""
    check(source, "16 [0, 1, 2, 3]\n")


def test_a_fork_while_other_threads_use_everything() -> None:
    source = """
import threading
lock, queue, stop = forkless.Lock(), forkless.Queue(), False

def busy():
    while not stop:
        with lock:
            queue.put(b"x" * 20_000)
        queue.get()
        forkless.Lock()

threads = [threading.Thread(target=busy) for _ in range(3)]
for thread in threads:
    thread.start()

def part():
    # The lock may be held by a thread of the original, which gives it back.
    with lock:
        pass
    forkless.Queue().put(1)

codes = [end(copy(part)) for _ in range(30)]
stop = True
for thread in threads:
    thread.join()
print(set(codes))
"""
    check(source, "{0}\n")
