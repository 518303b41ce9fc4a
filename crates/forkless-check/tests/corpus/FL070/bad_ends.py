import multiprocessing as mp
import os
import sys


def fail():
    os._exit(1)  # expect: FL070


def work(item):
    if not item:
        sys.exit("no item")  # expect: FL070
    fail()


def main(items):
    with mp.Pool() as pool:
        pool.map(work, items)
        for worker in pool._pool:
            worker.terminate()  # expect: FL070
        pool.map(abs, items)
