"""Programs of the standard library that hang, one function each, and some that only look like it.

Run as `python standard.py NAME`. Each prints "ready" when nothing but the hang is to come.
"""

import collections
import ctypes
import logging
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

mp = multiprocessing.get_context("fork")


def ready():
    print("ready", flush=True)


# --- dead owner -------------------------------------------------------------------------------------------


def take_and_die(lock):
    lock.acquire()
    os.kill(os.getpid(), signal.SIGKILL)


def dead_owner():
    lock = mp.Lock()
    child = mp.Process(target=take_and_die, args=(lock,))
    child.start()
    child.join()
    ready()
    with lock:
        pass


def dead_owner_spawned():
    spawning = multiprocessing.get_context("spawn")
    lock = spawning.RLock()
    child = spawning.Process(target=take_and_die, args=(lock,))
    child.start()
    child.join()
    ready()
    with lock:
        pass


def die_in_get(messages):
    messages._rlock.acquire()  # as in the middle of get
    os.kill(os.getpid(), signal.SIGKILL)


def dead_owner_of_queue():
    messages = mp.Queue()
    child = mp.Process(target=die_in_get, args=(messages,))
    child.start()
    child.join()
    messages.put("never received")
    ready()
    messages.get()


# --- cycles -----------------------------------------------------------------------------------------------


def take_both(first, second, barrier):
    with first:
        barrier.wait()
        with second:
            pass


def cycle_of_processes():
    left, right, barrier = mp.Lock(), mp.Lock(), mp.Barrier(3)
    pairs = ((left, right), (right, left))
    children = [mp.Process(target=take_both, args=(*pair, barrier)) for pair in pairs]
    for child in children:
        child.start()
    barrier.wait()
    ready()
    for child in children:
        child.join()


def cycle_of_threads():
    left, right, barrier = threading.Lock(), threading.Lock(), threading.Barrier(3)

    def forth():
        with left:
            barrier.wait()
            with right:
                pass

    def back():
        with right:
            barrier.wait()
            with left:
                pass

    threads = [threading.Thread(target=target) for target in (forth, back)]
    for thread in threads:
        thread.start()
    barrier.wait()
    ready()
    for thread in threads:
        thread.join()


# --- locks inherited through fork -------------------------------------------------------------------------

ledger = threading.Lock()


def record():
    with ledger:
        pass


def inherited_lock():
    held = threading.Event()

    def hold():
        with ledger:
            held.set()
            time.sleep(3600)

    threading.Thread(target=hold, daemon=True).start()
    held.wait()
    child = mp.Process(target=record)
    child.start()
    ready()
    child.join()


class Slow(logging.Handler):
    """A handler that guards what it writes to by a lock of its own, as those of many libraries do."""

    lines = threading.Lock()
    inside = threading.Event()

    def emit(self, record):
        with self.lines:
            self.inside.set()
            time.sleep(3600)


def log():
    logging.getLogger().warning("from the child")


def inherited_logging_lock():
    logging.getLogger().addHandler(Slow())
    threading.Thread(target=log, daemon=True).start()
    Slow.inside.wait()
    child = mp.Process(target=log)
    child.start()
    ready()
    child.join()


# --- queues -----------------------------------------------------------------------------------------------


def put_much(messages):
    messages.put(bytes(10_000_000))


def join_before_drain():
    messages = mp.Queue()
    child = mp.Process(target=put_much, args=(messages,))
    child.start()
    ready()
    child.join()
    messages.get()


class Interrupted(collections.deque):
    """What a queue keeps its items in: here a signal arrives while one is put."""

    def append(self, item):
        super().append(item)
        if item == "interrupted":
            ready()
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(0)


def reentrant_queue():
    messages = queue.Queue()
    messages.queue = Interrupted()
    signal.signal(signal.SIGUSR1, lambda *_: messages.put("from the handler"))
    messages.put("interrupted")


def reentrant_mp_queue():
    messages = mp.Queue()
    messages._buffer = Interrupted()
    signal.signal(signal.SIGUSR1, lambda *_: messages.put("from the handler"))
    messages.put("to start the feeder")
    messages.put("interrupted")


def reentrant_thread_lock():
    lock = threading.Lock()
    lock.acquire()
    ready()
    lock.acquire()


def reentrant_lock():
    lock = mp.Lock()
    with lock:
        ready()
        with lock:
            pass


def produce(messages):
    messages.put("the only one")


def producer_gone():
    messages = mp.Queue()
    child = mp.Process(target=produce, args=(messages,))
    child.start()
    messages.get()
    child.join()
    ready()
    messages.get()


# --- pools ------------------------------------------------------------------------------------------------


def end_or_work(number):
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def lost_worker():
    with mp.Pool(2) as pool:
        ready()
        pool.map(end_or_work, range(4), chunksize=1)


def nested(number):
    return executor.submit(nested, number - 1).result() if number else 0


def pool_in_pool():
    global executor
    with ProcessPoolExecutor(2, mp_context=mp) as executor:
        ready()
        executor.submit(nested, 4).result()


def pool_in_pool_of_threads():
    global executor
    with ThreadPoolExecutor(2) as executor:
        ready()
        executor.submit(nested, 4).result()


# --- states -----------------------------------------------------------------------------------------------


def take_and_stop(lock):
    with lock:
        os.kill(os.getpid(), signal.SIGSTOP)


def stopped_holder():
    lock = mp.Lock()
    child = mp.Process(target=take_and_stop, args=(lock,))
    child.start()
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
    ready()
    with lock:
        pass


def zombies():
    # Not by Process: each start of one reaps those that have ended.
    children = [os.fork() or os._exit(3) for _ in range(3)]
    for child in children:
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    ready()
    time.sleep(3600)


# --- nothing wrong ----------------------------------------------------------------------------------------


def spin(started):
    started.set()
    while True:
        pass


def healthy_busy():
    started = [mp.Event() for _ in range(2)]
    for event in started:
        mp.Process(target=spin, args=(event,), daemon=True).start()
    for event in started:
        event.wait()
    ready()
    spin(started[0])


def healthy_pool():
    with mp.Pool(3) as pool:
        pool.map(abs, range(10))
        ready()
        sys.stdin.readline()


def healthy_working_pool():
    with mp.Pool(2) as pool:
        ready()
        pool.map(time.sleep, [3600] * 4)


def serve(requests, answers):
    while True:
        answers.put(requests.get())


def healthy_server():
    requests, answers = mp.Queue(), mp.Queue()
    for _ in range(3):
        mp.Process(target=serve, args=(requests, answers), daemon=True).start()
    requests.put("one")
    answers.get()
    ready()
    threading.Event().wait()


def healthy_sleep():
    child = mp.Process(target=time.sleep, args=(3600,), daemon=True)
    child.start()
    ready()
    child.join()


def healthy_input():
    ready()
    input()


def hold_for_long(lock, held):
    with lock:
        held.set()
        time.sleep(3600)


def healthy_contention():
    lock, held = mp.Lock(), mp.Event()
    mp.Process(target=hold_for_long, args=(lock, held), daemon=True).start()
    held.wait()
    ready()
    with lock:
        pass


def hold_beside_traces(lock, held, older):
    # What freed objects leave behind: all but the count of references, which becomes a pointer, or nothing.
    older.clear()
    traces = []
    for number in range(20_000):
        first = (0, id(traces))[number % 2].to_bytes(8, sys.byteorder)
        traces.append(first + ctypes.string_at(id(lock._semlock) + 8, 57))
    hold_for_long(lock, held)


def healthy_traces_of_freed_locks():
    older = [bytes(65) for _ in range(10_000)]  # so that some traces lie before the lock, and some behind it
    lock, held = mp.Lock(), mp.Event()
    mp.Process(target=hold_beside_traces, args=(lock, held, older), daemon=True).start()
    held.wait()
    ready()
    with lock:
        pass


def take_in_turns(lock, started):
    started.release()
    while True:
        with lock:
            sum(range(1000))


def healthy_contended_lock():
    lock, started = mp.Lock(), mp.Semaphore(0)
    for _ in range(4):
        mp.Process(target=take_in_turns, args=(lock, started), daemon=True).start()
    for _ in range(4):
        started.acquire()
    ready()
    time.sleep(3600)


def slow_consumer(messages):
    while True:
        messages.get()
        time.sleep(3600)


def healthy_long_queue():
    messages = mp.Queue()
    for _ in range(2):
        mp.Process(target=slow_consumer, args=(messages,), daemon=True).start()
    for _ in range(10_000):
        messages.put(bytes(1000))
    ready()
    time.sleep(3600)


if __name__ == "__main__":
    globals()[sys.argv[1]]()
