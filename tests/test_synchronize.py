"""Locks, semaphores, conditions and barriers: as in the standard library, and when processes die.

The first part runs against `multiprocessing` too; what follows has no counterpart there.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.heap import BufferWrapper
from typing import Any

import forkless
import pytest
from forkless import _forkless
from support import PATIENCE, eventually, run_program

BOTH = pytest.mark.parametrize(
    "mp", [multiprocessing.get_context("spawn"), forkless], ids=["standard", "forkless"]
)
LOCKS = pytest.mark.parametrize("kind", [forkless.Lock, forkless.RLock])


@pytest.fixture(scope="module", autouse=True)
def standard_heap() -> Iterator[None]:
    """Keeps the standard library's memory file open for as long as tests count descriptors."""
    block = BufferWrapper(8)
    yield
    del block


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Lets go of the standard library's semaphores before its tracker of them is stopped."""
    yield
    gc.collect()


def in_thread(function: Callable[..., Any], *args: Any) -> Any:
    """What a function returns, or raises, in another thread."""
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(function(*args))
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if isinstance(results[0], BaseException):
        raise results[0]
    return results[0]


def start(target: Callable[..., object], *args: Any) -> Any:
    """A process of ours."""
    process = forkless.Process(target=target, args=args)
    process.start()
    return process


def kill(process: Any) -> None:
    process.kill()
    process.join()
    process.close()


def finish(process: Any, exitcode: int = 0) -> None:
    process.join(PATIENCE)
    assert process.exitcode == exitcode
    process.close()


# --- as in the standard library ---


@BOTH
def test_lock(mp: Any) -> None:
    lock = mp.Lock()
    assert lock.acquire() is True
    assert lock.acquire(False) is False
    assert lock.acquire(True, 0.01) is False
    assert lock.acquire(timeout=-1) is False
    assert in_thread(lock.release) is None
    with pytest.raises(ValueError, match="released too many times"):
        lock.release()
    with lock as entered:
        assert entered is True
        assert lock.acquire(block=False) is False


@BOTH
def test_rlock(mp: Any) -> None:
    lock = mp.RLock()
    for _ in range(3):
        assert lock.acquire() is True
    assert in_thread(lock.acquire, False) is False
    with pytest.raises(AssertionError, match="not owned by thread"):
        in_thread(lock.release)
    for _ in range(3):
        assert lock.release() is None
    with pytest.raises(AssertionError, match="not owned by thread"):
        lock.release()
    with lock, lock:
        assert in_thread(lock.acquire, True, 0.01) is False
    assert in_thread(lock.acquire, False) is True


@BOTH
def test_semaphore(mp: Any) -> None:
    semaphore = mp.Semaphore(2)
    assert semaphore.get_value() == 2
    assert [semaphore.acquire(), semaphore.acquire(), semaphore.acquire(False)] == [True, True, False]
    assert semaphore.acquire(timeout=0.01) is False
    assert semaphore.get_value() == 0
    for value in (1, 2, 3):
        assert semaphore.release() is None
        assert semaphore.get_value() == value
    with semaphore as entered:
        assert (entered, semaphore.get_value()) == (True, 2)
    assert semaphore.get_value() == 3
    assert mp.Semaphore().get_value() == 1


@BOTH
def test_bounded_semaphore(mp: Any) -> None:
    semaphore = mp.BoundedSemaphore(2)
    with pytest.raises(ValueError, match="released too many times"):
        semaphore.release()
    assert semaphore.acquire()
    semaphore.release()
    with pytest.raises(ValueError, match="released too many times"):
        semaphore.release()
    with semaphore:
        assert semaphore.get_value() == 1
    assert repr(semaphore).endswith("BoundedSemaphore(value=2, maxvalue=2)>")


@BOTH
def test_condition_needs_its_lock(mp: Any) -> None:
    for lock in (None, mp.Lock(), mp.RLock()):
        condition = mp.Condition(lock)
        for call in (condition.wait, condition.notify, condition.notify_all):
            with pytest.raises(AssertionError, match=r"must acquire\(\) condition|not owned|lock is not"):
                call()
        with condition as entered:
            assert entered is True
            assert condition.wait(0.01) is False
            assert condition.wait_for(lambda: 0, 0.01) == 0
            assert condition.wait_for(lambda: 7) == 7
            condition.notify(5)
        assert condition.acquire() is True
        condition.release()


@BOTH
def test_condition_wakes_as_many_as_it_notifies(mp: Any) -> None:
    condition = mp.Condition()
    sleeping, woken = mp.Semaphore(0), mp.Semaphore(0)

    def wait() -> None:
        with condition, condition:  # all levels of the lock are given back
            sleeping.release()
            condition.wait()
            woken.release()

    threads = [threading.Thread(target=wait) for _ in range(4)]
    for thread in threads:
        thread.start()
        assert sleeping.acquire(timeout=PATIENCE)
    for count, total in ((1, 1), (2, 3), (9, 4)):
        with condition:
            condition.notify(count)
        assert eventually(partial(has_value, woken, total))
        assert not eventually(partial(has_value, woken, total + 1), 0.05)
    for thread in threads:
        thread.join()


def has_value(semaphore: Any, value: int) -> bool:
    return bool(semaphore.get_value() == value)


@BOTH
def test_condition_wait_for_across_processes(mp: Any) -> None:
    condition, count = mp.Condition(), mp.Semaphore(0)
    process = mp.Process(target=count_to_four, args=(condition, count))
    process.start()
    with condition:
        assert condition.wait_for(lambda: count.get_value() == 4, 20)
    process.join()
    assert process.exitcode == 0


def count_to_four(condition: Any, count: Any) -> None:
    for _ in range(4):
        with condition:
            count.release()
            condition.notify()


@BOTH
def test_barrier(mp: Any) -> None:
    done: list[int] = []
    barrier = mp.Barrier(3, partial(done.append, 1))
    assert (barrier.parties, barrier.n_waiting, barrier.broken) == (3, 0, False)
    indices: list[int] = []
    threads = [threading.Thread(target=lambda: indices.append(barrier.wait())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(indices) == [0, 0, 1, 1, 2, 2]
    assert done == [1, 1]


@BOTH
def test_barrier_breaks(mp: Any) -> None:
    barrier = mp.Barrier(2)
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait(0.01)
    assert barrier.broken is True
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait()
    barrier.reset()
    assert (barrier.broken, barrier.n_waiting) == (False, 0)
    for end in (barrier.abort, barrier.reset):
        thread = threading.Thread(target=lambda: eventually(lambda: barrier.n_waiting == 1) and end())  # noqa: B023
        thread.start()
        with pytest.raises(threading.BrokenBarrierError):
            barrier.wait()
        thread.join()
        assert barrier.broken is (end == barrier.abort)
        barrier.reset()


@BOTH
def test_a_barrier_whose_action_fails_is_broken(mp: Any) -> None:
    barrier = mp.Barrier(2, partial(int, "x"))
    outcomes: list[type] = []

    def wait() -> None:
        try:
            barrier.wait()
        except Exception as error:
            outcomes.append(type(error))

    threads = [threading.Thread(target=wait) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(outcomes) == {ValueError, threading.BrokenBarrierError}
    assert barrier.broken


@BOTH
def test_a_barrier_has_a_timeout_of_its_own(mp: Any) -> None:
    barrier = mp.Barrier(2, timeout=0.01)
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait()


def test_bad_arguments() -> None:
    for kind in (forkless.Semaphore, forkless.BoundedSemaphore):
        with pytest.raises(ValueError, match="at least 0"):
            kind(-1)
    for parties in (0, -1):
        with pytest.raises(ValueError, match="parties"):
            forkless.Barrier(parties)
    with pytest.raises(TypeError, match="callable"):
        forkless.Barrier(1, 5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="callable"):
        forkless.Lock(recover=5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Lock or RLock of forkless"):
        forkless.Condition(threading.Lock())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not a number"):
        forkless.Semaphore(0).acquire(timeout=float("nan"))


def test_everything_pickles_anywhere() -> None:
    lock, semaphore, bounded = forkless.RLock(), forkless.Semaphore(3), forkless.BoundedSemaphore(1)
    condition, barrier = forkless.Condition(lock), forkless.Barrier(1, partial(print, end=""), 5.0)
    copies = pickle.loads(pickle.dumps([lock, semaphore, bounded, condition, barrier]))
    with copies[0]:
        assert in_thread(lock.acquire, False) is False
        copies[3].notify()
    copies[1].acquire()
    assert semaphore.get_value() == 2
    with copies[2]:
        assert bounded.get_value() == 0
    assert type(copies[2]) is forkless.BoundedSemaphore
    assert copies[4].wait() == 0


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_everything_works_in_children(method: str) -> None:
    context = forkless.get_context(method)
    objects = (
        context.RLock(),
        context.BoundedSemaphore(1),
        context.Condition(context.Lock()),
        context.Barrier(2),
    )
    process = context.Process(target=use_all, args=objects)
    process.start()
    _, semaphore, condition, barrier = objects
    barrier.wait()
    with condition:
        while semaphore.get_value():
            condition.wait()
    semaphore.release()
    finish(process)


def use_all(lock: Any, semaphore: Any, condition: Any, barrier: Any) -> None:
    with lock, lock:
        barrier.wait()
        with condition:
            semaphore.acquire()
            condition.notify()


def test_thousands_cost_no_descriptors() -> None:
    before = len(os.listdir("/proc/self/fd"))
    locks = [forkless.Lock() for _ in range(10_000)]
    assert len(os.listdir("/proc/self/fd")) == before
    assert all(lock.acquire(False) for lock in locks)


# --- signals and re-entrance ---


WAITS = """
import forkless, signal, sys, threading, time
lock, rlock, semaphore = forkless.Lock(), forkless.RLock(), forkless.Semaphore(0)
condition, barrier = forkless.Condition(), forkless.Barrier(2)
lock.acquire()
thread = threading.Thread(target=rlock.acquire)
thread.start()
thread.join()

def in_condition():
    with condition:
        try:
            condition.wait()
        finally:
            condition.notify()  # the lock is held again

waits = dict(lock=lock.acquire, rlock=rlock.acquire, semaphore=semaphore.acquire, held=semaphore.__enter__,
    condition=in_condition, barrier=barrier.wait)
def interrupt(*args):
    raise KeyboardInterrupt
signal.signal(signal.SIGALRM, interrupt)
for name, wait in waits.items():
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        wait()
    except KeyboardInterrupt:
        print(name)
assert barrier.n_waiting == 0 and not barrier.broken
assert condition.acquire(False)
"""


def test_every_wait_is_interruptible() -> None:
    assert run_program(WAITS).check().split() == [
        "lock",
        "rlock",
        "semaphore",
        "held",
        "condition",
        "barrier",
    ]


REENTRANT = """
import forkless, gc, signal, sys, weakref
condition, semaphore, lock = forkless.Condition(), forkless.Semaphore(1000), forkless.RLock()
value, event, queue = forkless.Value("i"), forkless.Event(), forkless.Queue()
inside = 0

def use(*args):
    global inside
    if inside > 20:
        return  # a hook that meets itself in all it does
    inside += 1
    with lock, semaphore:
        semaphore.acquire(False)
        semaphore.release()
        with condition:
            condition.wait(0)
            condition.notify_all()
        with value.get_lock():
            value.value += 1
        event.set()
        queue.put("item")
        queue.get()
    inside -= 1

def trace(frame, what, argument):
    use()
    return trace

class Finalised:
    def __init__(self):
        self.me = self
    def __del__(self):
        use()
"""

# What interrupts, and what is done meanwhile.
HOOKS = {
    "signal": """
signal.signal(signal.SIGALRM, use)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
for _ in range(500):
    use()
signal.setitimer(signal.ITIMER_REAL, 0)
""",
    "finalizer": """
gc.set_threshold(10)
for _ in range(500):
    Finalised()
    use()
gc.collect()
""",
    "weak reference": """
class Plain:
    pass
references = []
for _ in range(500):
    plain = Plain()
    references.append(weakref.ref(plain, use))
    del plain
    use()
""",
    "trace function": """
sys.settrace(trace)
for _ in range(20):
    use()
sys.settrace(None)
""",
    "profile function": """
sys.setprofile(trace)
for _ in range(200):
    use()
sys.setprofile(None)
""",
}


@pytest.mark.parametrize("hook", HOOKS)
def test_everything_is_reentrant(hook: str) -> None:
    source = f"""{REENTRANT}{HOOKS[hook]}
before, inside = value.value, 0
assert before >= 500, before
assert semaphore.get_value() == 1000
use()
assert value.value == before + 1
print("done")
"""
    assert run_program(source).check() == "done\n"


# Daemon threads are in the middle of something when the interpreter goes.
KILLED_AT_EXIT = """
import forkless, random, sys, threading, time
lock, rlock = forkless.Lock(), forkless.RLock()
semaphore, condition = forkless.Semaphore(2), forkless.Condition()
value, event, queue = forkless.Value("i"), forkless.Event(), forkless.Queue()
shared = lock, rlock, semaphore, condition, value, event, queue

def use(lock, rlock, semaphore, condition, value, event, queue):
    with lock, semaphore:
        pass
    with rlock, rlock, condition:
        condition.wait(0.0001)
        condition.notify_all()
    with value.get_lock():
        value.value += 1
    event.set()
    event.clear()
    event.wait(0.0001)
    queue.put(bytes(200))
    queue.get(timeout=60)

def use_for_ever(*shared):
    while True:
        use(*shared)

def leave_threads(delay, *shared):
    for _ in range(4):
        threading.Thread(target=use_for_ever, args=shared, daemon=True).start()
    time.sleep(delay)

for _ in range(30):
    child = forkless.Process(target=leave_threads, args=(random.random() / 50, *shared))
    child.start()
    child.join(60)
    assert child.exitcode == 0, child
    for attempt in range(10):
        try:
            use(*shared)
            break
        except forkless.OwnerDied:
            pass
    else:
        sys.exit("more owners died than there are locks")
# And the same here.
leave_threads(0.01, *shared)
print("done", flush=True)
"""


def test_threads_that_the_end_of_the_interpreter_kills_keep_nothing() -> None:
    outcome = run_program(KILLED_AT_EXIT)
    assert (outcome.check(), outcome.stderr) == ("done\n", ""), outcome


# --- owners that die ---


def hold_for_ever(lock: Any, ready: Any, depth: int = 1) -> None:
    for _ in range(depth):
        lock.acquire()
    ready.set()
    signal.pause()


@LOCKS
def test_the_next_owner_is_told_once_and_does_not_hold(kind: Any) -> None:
    lock, ready = kind(), forkless.Event()
    before = time.time()
    child = start(hold_for_ever, lock, ready)
    assert ready.wait(PATIENCE)
    pid, name = child.pid, child.name
    child.kill()
    child.join()  # from here on everybody knows how it has ended
    with pytest.raises(
        forkless.OwnerDied, match=r"SIGKILL.*test_synchronize.py|test_synchronize.py.*SIGKILL"
    ) as caught:
        lock.acquire(timeout=PATIENCE)
    died = caught.value
    assert (died.pid, died.name, died.exitcode) == (pid, name, -signal.SIGKILL)
    assert died.made_at is not None
    assert died.made_at.startswith("test_synchronize.py:")
    assert died.held_since is not None
    assert before - 1 < died.held_since < time.time()
    assert str(pickle.loads(pickle.dumps(died))) == str(died)
    assert not lock.locked()
    with lock:
        pass
    child.close()


@LOCKS
def test_a_waiter_is_told(kind: Any) -> None:
    lock, ready = kind(), forkless.Event()
    child = start(hold_for_ever, lock, ready, 1 if kind is forkless.Lock else 3)
    assert ready.wait(PATIENCE)
    timer = threading.Timer(0.2, child.kill)
    timer.start()
    with pytest.raises(forkless.OwnerDied), lock:
        pass
    timer.join()
    with lock:
        assert in_thread(lock.acquire, False) is False
    assert not lock.locked()
    kill(child)


@LOCKS
def test_recover_repairs_while_the_lock_is_held(kind: Any) -> None:
    seen: list[Any] = []
    free: list[bool] = []

    def repair(info: forkless.OwnerDied) -> None:
        seen.append(info)
        free.append(in_thread(lock.acquire, False))

    lock, ready = kind(recover=repair), forkless.Event()
    # The child's copy carries the function too; it is this process's that runs.
    child = start(hold_for_ever, lock, ready)
    assert ready.wait(PATIENCE)
    pid = child.pid
    kill(child)
    with lock:
        assert free == [False]
        assert in_thread(lock.acquire, False) is False
    assert in_thread(lock.acquire, False) is True
    assert [(type(info), info.pid, info.exitcode) for info in seen] == [(forkless.OwnerDied, pid, -9)]


@LOCKS
def test_recover_that_fails_gives_the_lock_back(kind: Any) -> None:
    def repair(info: forkless.OwnerDied) -> None:
        raise info

    lock, ready = kind(recover=repair), forkless.Event()
    child = start(hold_for_ever, lock, ready)
    assert ready.wait(PATIENCE)
    kill(child)
    with pytest.raises(forkless.OwnerDied):
        lock.acquire()
    assert not lock.locked()
    with lock:
        pass


def test_recover_travels_with_the_lock() -> None:
    value = forkless.RawValue("i", 0)

    def repair(info: forkless.OwnerDied) -> None:
        value.value += 1

    lock, ready = forkless.Lock(recover=repair), forkless.Event()
    child = start(hold_for_ever, lock, ready)
    assert ready.wait(PATIENCE)
    kill(child)
    finish(start(take_once, lock))
    assert value.value == 1


def take_once(lock: Any) -> None:
    with lock:
        pass


def test_a_lock_and_its_recovery_are_garbage_together() -> None:
    import weakref

    class Guarded:
        def __init__(self) -> None:
            self.locks = forkless.Lock(recover=self.repair), forkless.RLock(recover=self.repair)
            self.barrier = forkless.Barrier(1, self.act)

        def repair(self, info: forkless.OwnerDied) -> None: ...

        def act(self) -> None: ...

    reference = weakref.ref(Guarded())
    gc.collect()
    assert reference() is None


def test_a_semaphore_gets_back_what_the_dead_held() -> None:
    semaphore, ready = forkless.BoundedSemaphore(2), forkless.Event()
    child = start(hold_semaphore, semaphore, ready)
    assert ready.wait(PATIENCE)
    assert semaphore.get_value() == 0
    kill(child)
    assert eventually(lambda: semaphore.get_value() == 1), "what was only acquired is gone, as a signal"
    # At a normal end, too.
    finish(start(exit_inside, semaphore), 3)
    assert eventually(lambda: semaphore.get_value() == 1)


def hold_semaphore(semaphore: Any, ready: Any) -> None:
    semaphore.acquire()
    with semaphore:
        ready.set()
        signal.pause()


def exit_inside(semaphore: Any) -> None:
    with semaphore:
        os._exit(3)


@pytest.mark.parametrize("point", ["semaphore.logged", "semaphore.changed", "semaphore.counted"])
def test_a_semaphore_survives_a_death_at_any_step(point: str) -> None:
    semaphore = forkless.BoundedSemaphore(1)
    for passes in (1, 2):
        child = start(die_in_semaphore, semaphore, point, passes)
        child.join(PATIENCE)
        if child.exitcode == 77:
            pytest.skip("this build has no crash points")
        assert child.exitcode == -signal.SIGKILL
        child.close()
        assert eventually(lambda: semaphore.get_value() == 1)
        with semaphore:
            pass


def die_in_semaphore(semaphore: Any, point: str, passes: int) -> None:
    if not _forkless.arm_crash_point(point, passes):
        os._exit(77)
    with semaphore:
        pass


# --- conditions ---


def wait_in(condition: Any, sleeping: Any, woken: Any) -> None:
    with condition:
        sleeping.release()
        condition.wait()
    woken.release()


def test_a_killed_waiter_takes_no_notification_with_it() -> None:
    condition = forkless.Condition()
    sleeping, woken = forkless.Semaphore(0), forkless.Semaphore(0)
    children = []
    for _ in range(3):
        children.append(start(wait_in, condition, sleeping, woken))
        assert sleeping.acquire(timeout=PATIENCE)
    with condition:
        pass  # now the third one waits, too
    kill(children[0])
    with condition:
        condition.notify()
    assert woken.acquire(timeout=PATIENCE)
    with condition:
        # Killed after it was chosen, before it could take the lock back.
        condition.notify()
        children[2].kill()
        children[2].join()
    late = start(wait_in, condition, sleeping, woken)
    assert sleeping.acquire(timeout=PATIENCE)
    if not woken.acquire(timeout=PATIENCE):
        pytest.fail("the notification of the dead has reached nobody")
    for child in (children[1], late):
        finish(child)


@LOCKS
def test_wait_raises_owner_died_and_holds_the_lock(kind: Any) -> None:
    lock = kind()
    condition, ready = forkless.Condition(lock), forkless.Event()
    with condition:
        child = start(hold_for_ever, condition, ready)
        killer = threading.Thread(target=lambda: ready.wait(PATIENCE) and child.kill())
        killer.start()
        with pytest.raises(forkless.OwnerDied, match="holds the lock again"):
            condition.wait()
        assert lock.locked()
        condition.notify()
    assert not lock.locked()
    killer.join()
    kill(child)


def test_wait_recovers() -> None:
    seen: list[forkless.OwnerDied] = []
    condition, ready = forkless.Condition(forkless.Lock(recover=seen.append)), forkless.Event()
    with condition:
        child = start(hold_for_ever, condition, ready)
        killer = threading.Thread(target=lambda: ready.wait(PATIENCE) and child.kill())
        killer.start()
        assert condition.wait_for(lambda: seen)
        assert [info.pid for info in seen] == [child.pid]
    killer.join()
    kill(child)


def test_a_killed_notifier() -> None:
    condition = forkless.Condition(forkless.Lock(recover=lambda info: None))
    sleeping, woken = forkless.Semaphore(0), forkless.Semaphore(0)
    child = start(wait_in, condition, sleeping, woken)
    assert sleeping.acquire(timeout=PATIENCE)
    notifier = start(die_notifying, condition)
    notifier.join(PATIENCE)
    if notifier.exitcode == 77:
        with condition:
            condition.notify()
    assert woken.acquire(timeout=PATIENCE)
    finish(child)
    kill(notifier)


def die_notifying(condition: Any) -> None:
    armed = _forkless.arm_crash_point("condition.notified")
    with condition:
        if not armed:
            os._exit(77)
        condition.notify()


# --- barriers ---


def wait_at(barrier: Any, broken: Any) -> None:
    try:
        barrier.wait()
    except threading.BrokenBarrierError:
        broken.release()


def test_a_party_that_dies_breaks_the_barrier() -> None:
    barrier, broken = forkless.Barrier(4), forkless.Semaphore(0)
    children = [start(wait_at, barrier, broken) for _ in range(3)]
    assert eventually(lambda: barrier.n_waiting == 3)
    children[1].kill()
    for _ in range(2):
        assert broken.acquire(timeout=PATIENCE)
    assert barrier.broken
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait()
    for child in children:
        kill(child)


def test_a_party_that_dies_in_the_action_breaks_the_barrier() -> None:
    barrier, broken = forkless.Barrier(2, partial(os._exit, 5)), forkless.Semaphore(0)
    children = [start(wait_at, barrier, broken) for _ in range(2)]
    assert broken.acquire(timeout=PATIENCE)
    assert barrier.broken
    for child in children:
        child.join(PATIENCE)
    assert sorted(child.exitcode for child in children) == [0, 5]
    for child in children:
        child.close()
