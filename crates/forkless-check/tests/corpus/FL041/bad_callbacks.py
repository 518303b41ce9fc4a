import threading
import weakref
from multiprocessing import Queue

results = Queue()
lock = threading.Lock()


def gone(reference):
    with lock:  # expect: FL041
        results.put("gone")  # expect: FL041


class Node:
    def __init__(self):
        weakref.finalize(self, results.put, "gone")  # expect: FL041
        self.reference = weakref.ref(self, gone)
        weakref.ref(self, lambda reference: results.put(1))  # expect: FL041
