import multiprocessing as mp
import os


def work(queue):
    queue.put(1)
    os._exit(0)  # expect: FL082


queue = mp.Queue()
mp.Process(target=work, args=(queue,)).start()
