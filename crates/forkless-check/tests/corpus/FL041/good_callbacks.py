import atexit
import queue
import weakref

waiting = queue.SimpleQueue()
results = queue.Queue()


class Node:
    def __init__(self):
        weakref.finalize(self, waiting.put, "gone")
        weakref.ref(self, self.__dict__.pop)
        atexit.register(results.put, "end")
