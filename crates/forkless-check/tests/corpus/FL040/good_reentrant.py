import collections
import queue
import threading


class Node:
    lock = threading.RLock()
    plain = threading.Lock()

    def __init__(self):
        self.items = queue.SimpleQueue()
        self.gone = collections.deque()

    def __del__(self):
        self.items.put("gone")
        self.gone.append("gone")
        with self.lock:
            pass
        if self.plain.acquire(blocking=False):
            self.plain.release()

    def close(self):
        queue.Queue().put(1)
