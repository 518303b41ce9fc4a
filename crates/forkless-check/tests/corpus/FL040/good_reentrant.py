import collections
import queue
import threading


class Node:
    lock = threading.RLock()
    plain = threading.Lock()

    def __init__(self):
        self.items = queue.SimpleQueue()
        self.gone = collections.deque()
        self.own = threading.Lock()

    def __del__(self):
        self.items.put("gone")
        self.gone.append("gone")
        # Who uses this lock through the object keeps that alive.
        with self.own:
            pass
        with self.lock:
            pass
        if self.plain.acquire(blocking=False):
            self.plain.release()

    def close(self):
        queue.Queue().put(1)
