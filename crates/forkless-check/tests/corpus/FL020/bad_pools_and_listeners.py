import logging.handlers
import multiprocessing
import queue
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor


def main():
    with ThreadPoolExecutor() as threads:
        threads.submit(print)
        with ProcessPoolExecutor() as processes:  # expect: FL020
            processes.submit(print)


def listen():
    listener = logging.handlers.QueueListener(queue.Queue())
    listener.start()
    with multiprocessing.get_context("fork").Pool() as pool:  # expect: FL020
        pool.map(abs, [1])
    listener.stop()
