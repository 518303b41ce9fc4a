import queue
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

tasks = queue.Queue()
ready = threading.Condition()


class Server:
    def __init__(self):
        self.lock = threading.Lock()
        self.pool = ThreadPoolExecutor()
        signal.signal(signal.SIGTERM, self.stop)
        signal.signal(signal.SIGINT, lambda *_: tasks.put(None))  # expect: FL042

    def stop(self, number, frame):
        self.lock.acquire()  # expect: FL042
        self.pool.submit(print)  # expect: FL042
