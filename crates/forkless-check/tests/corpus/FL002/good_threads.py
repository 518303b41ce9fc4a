import queue
import threading
from concurrent.futures import ThreadPoolExecutor


def work(lock):
    with lock:
        pass


with ThreadPoolExecutor() as executor:
    executor.submit(work, threading.Lock())
queue.Queue().put(threading.Lock())
