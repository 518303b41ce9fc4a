import multiprocessing as mp
import os
import threading

lock = threading.Lock()


def work():
    with lock:
        print("child")


def main():
    with lock:
        mp.Process(target=work).start()  # expect: FL021


def raw():
    lock.acquire()
    pid = os.fork()  # expect: FL021
    if pid == 0:
        lock.acquire()
        os._exit(0)
    lock.release()
