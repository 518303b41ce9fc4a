import multiprocessing as mp
from functools import partial


class Worker:
    def work(self, item):
        return item


def work(item):
    return item


def make():
    global made

    def made(item):
        return item


if __name__ == "__main__":
    make()
    with mp.get_context("spawn").Pool() as pool:
        pool.map(work, [1])
        pool.map(partial(work), [1])
        pool.map(Worker().work, [1])
        pool.map(made, [1])
