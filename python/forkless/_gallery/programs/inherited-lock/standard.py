"""A child started while another thread of its parent holds a library's lock."""

import multiprocessing as mp
import threading

import ledger


def hold():
    with ledger.lock:
        held.set()
        started.wait()


if __name__ == "__main__":
    held, started = threading.Event(), threading.Event()
    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = mp.Process(target=ledger.record, args=("hello",))
    child.start()
    started.set()
    thread.join()
    child.join()
    print("child exit code:", child.exitcode)
