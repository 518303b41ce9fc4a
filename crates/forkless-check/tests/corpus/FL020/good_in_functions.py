import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor


class Monitor:
    def __init__(self):
        self.thread = threading.Thread(target=print)
        self.thread.start()

    def stop(self):
        self.thread.join()


def watch(wanted):
    if wanted:
        threading.Thread(target=print).start()


def download(urls):
    with ThreadPoolExecutor() as executor:
        return list(executor.map(print, urls))


def work(items, parallel=False):
    if parallel:
        with multiprocessing.Pool() as pool:
            return pool.map(abs, items)
    return items


def main():
    monitor = Monitor()
    monitor.stop()
    watch(False)
    download([])
    multiprocessing.Process(target=print).start()


def other():
    threading.Thread(target=print).start()
    work([1])


def many():
    threads = [threading.Thread(target=print) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    multiprocessing.Process(target=print).start()
