"""The programs of `standard.py` with forkless: most of them cannot hang, and end.

Run as `python with_forkless.py NAME`. Each prints "ready" before what hangs with the standard library.
"""

import contextlib
import os
import queue
import signal
import sys
import threading
import time

import forkless as mp


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
    with contextlib.suppress(mp.OwnerDied), lock:
        pass


def die_after_get(messages):
    messages.get()
    os.kill(os.getpid(), signal.SIGKILL)


def dead_owner_of_queue():
    messages = mp.Queue()
    messages.put("for the child")
    child = mp.Process(target=die_after_get, args=(messages,))
    child.start()
    child.join()
    messages.put("received")
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
    left, right, barrier = mp.Lock(), mp.Lock(), threading.Barrier(3)

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

# What a library has: the child imports it anew, and so has a lock of its own.
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))


def record():
    import library

    with library.ledger:
        pass


def inherited_lock():
    import library

    held = threading.Event()

    def hold():
        with library.ledger:
            held.set()
            time.sleep(3600)

    threading.Thread(target=hold, daemon=True).start()
    held.wait()
    child = mp.Process(target=record)
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


class Interrupting:
    """What a queue pickles: here a signal arrives while one is put."""

    def __reduce__(self):
        ready()
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(0)
        return (int, ())


def reentrant_queue():
    messages = mp.Queue()
    signal.signal(signal.SIGUSR1, lambda *_: messages.put("from the handler"))
    messages.put(Interrupting())


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
    with contextlib.suppress(mp.QueueAbandoned, queue.Empty):
        messages.get()


# --- pools ------------------------------------------------------------------------------------------------


def end_or_work(number):
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def lost_worker():
    with mp.Pool(2) as pool:
        ready()
        with contextlib.suppress(mp.WorkerDied):
            pool.map(end_or_work, range(4), chunksize=1)


def nested(executor, number):
    return executor.submit(nested, executor, number - 1).result() if number else 0


def pool_in_pool():
    with mp.Executor(2) as executor:
        ready()
        executor.submit(nested, executor, 4).result()


# --- states -----------------------------------------------------------------------------------------------


def take_and_stop(lock, held):
    with lock:
        held.set()
        os.kill(os.getpid(), signal.SIGSTOP)


def stopped_holder():
    lock, held = mp.Lock(), mp.Event()
    child = mp.Process(target=take_and_stop, args=(lock, held))
    child.start()
    held.wait()
    ready()
    with lock:
        pass


def zombies():
    children = [mp.Process(target=os._exit, args=(3,)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
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
