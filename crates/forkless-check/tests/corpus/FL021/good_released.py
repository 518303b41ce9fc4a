import multiprocessing as mp
import os
import threading

lock = threading.Lock()
other = threading.Lock()


def work():
    with lock:
        print("child")


def main():
    lock.acquire()
    lock.release()
    mp.Process(target=work).start()
    with other:
        mp.Process(target=work).start()
    with lock:
        mp.get_context("spawn").Process(target=work).start()


def raw():
    with lock:
        pid = os.fork()
    if pid == 0:
        os._exit(0)
