"""A library with a lock of its own, like thousands of others."""

import threading

lock = threading.Lock()


def record(entry):
    with lock:
        print("recorded:", entry)
