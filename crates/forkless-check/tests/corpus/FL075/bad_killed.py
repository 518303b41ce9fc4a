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


def leave():
    with lock:
        os._exit(1)  # expect: FL075
