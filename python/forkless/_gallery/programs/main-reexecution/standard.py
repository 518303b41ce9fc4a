"""A script whose module level has side effects, and a global that the parent sets."""

import multiprocessing as mp
import os


class Announcer:
    def __init__(self):
        print("module level runs in process", os.getpid())


def read():
    print("child sees answer =", answer)


Announcer()
answer = None

if __name__ == "__main__":
    answer = 42
    child = mp.get_context("spawn").Process(target=read)
    child.start()
    child.join()
    print("child exit code:", child.exitcode)
