import multiprocessing as mp
import queue
import threading
from concurrent.futures import ProcessPoolExecutor


class Node:
    lock = threading.Lock()

    def __init__(self, results, items, executor):
        self.results = results
        self.items = items
        self.executor = executor

    def __del__(self):
        self.items.put("gone")  # expect: FL040
        self.results.put_nowait("gone")  # expect: FL040
        self.executor.submit(print)  # expect: FL040
        self.close()

    def close(self):
        with self.lock:  # expect: FL040
            pass


node = Node(queue.Queue(), mp.Queue(), ProcessPoolExecutor())
