import multiprocessing as mp
import os

lock = mp.Lock()


def work(queue):
    queue.put(1)


def main():
    queue = mp.Queue()
    process = mp.Process(target=work, args=(queue,))
    process.start()
    process.terminate()  # expect: FL075
    print(queue.get(timeout=1))


class Runner:
    def __init__(self):
        self.results = mp.Queue()
        self.workers = []

    def start(self):
        worker = mp.Process(target=work, args=(self.results,))
        self.workers.append(worker)

    def fail(self):
        for worker in self.workers:
            worker.kill()  # expect: FL075
        self.drain()

    def drain(self):
        while not self.results.empty():
            self.results.get()


def leave():
    with lock:
        os._exit(1)  # expect: FL075
