import multiprocessing as mp
import os
import sys


def flushed(queue):
    queue.put(1)
    queue.close()
    queue.join_thread()
    os._exit(0)


def plain(queue):
    queue.put(1)
    sys.exit(0)


def either(queue, wanted):
    if wanted:
        queue.put(1)
    else:
        os._exit(0)


def simple(queue):
    queue.put(1)
    os._exit(0)


queue = mp.Queue()
mp.Process(target=flushed, args=(queue,)).start()
mp.Process(target=plain, args=(queue,)).start()
mp.Process(target=either, args=(queue, True)).start()
mp.Process(target=simple, args=(mp.SimpleQueue(),)).start()
