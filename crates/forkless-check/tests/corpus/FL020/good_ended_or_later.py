import multiprocessing as mp
import threading
from concurrent.futures import ThreadPoolExecutor


def joined():
    thread = threading.Thread(target=print)
    thread.start()
    thread.join()
    mp.Process(target=print).start()


def later():
    mp.Process(target=print).start()
    threading.Thread(target=print).start()


def left():
    with ThreadPoolExecutor() as threads:
        threads.submit(print)
    mp.Process(target=print).start()


def either(use_threads):
    if use_threads:
        worker = threading.Thread(target=print)
        worker.start()
    else:
        worker = mp.Process(target=print)
        worker.start()
