import multiprocessing as mp
import os

lock = mp.Lock()


def alone():
    process = mp.Process(target=print, args=(1,))
    process.start()
    process.kill()


def last():
    queue = mp.Queue()
    process = mp.Process(target=print, args=(queue,))
    process.start()
    print(queue.get())
    process.terminate()


def leave():
    with lock:
        pass
    os._exit(1)
