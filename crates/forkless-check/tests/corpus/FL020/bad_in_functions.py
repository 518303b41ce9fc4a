import multiprocessing
import threading


class Monitor:
    def __init__(self):
        self.thread = threading.Thread(target=print, daemon=True)
        self.thread.start()


def watch():
    threading.Thread(target=print).start()


def work(items):
    with multiprocessing.Pool() as pool:
        return pool.map(abs, items)


def main():
    watch()
    work([1])  # expect: FL020


def other():
    Monitor()
    multiprocessing.Process(target=print).start()  # expect: FL020


def many():
    threads = []
    for _ in range(3):
        thread = threading.Thread(target=print)
        threads.append(thread)
    for thread in threads:
        thread.start()
    with multiprocessing.Pool() as pool:  # expect: FL020
        pool.map(abs, [1])
