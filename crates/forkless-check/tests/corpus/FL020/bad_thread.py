import multiprocessing as mp
import os
import threading
from threading import Thread


def main():
    thread = Thread(target=print)
    thread.start()
    mp.Process(target=print).start()  # expect: FL020
    thread.join()


def other():
    threading.Thread(target=print, daemon=True).start()
    if os.fork() == 0:  # expect: FL020
        os._exit(0)
