import atexit
import contextlib
import weakref
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import Pool


def entered(items):
    with Pool() as pool:
        return pool.map(abs, items)


def later(items):
    pool = Pool()
    with pool:
        return pool.map(abs, items)


def closed(items):
    pool = Pool()
    try:
        return pool.map(abs, items)
    finally:
        pool.terminate()


def returned():
    pool = Pool()
    pool.map(abs, [1])
    return pool


def given(run):
    pool = Pool()
    run(pool)


def stacked(stack: contextlib.ExitStack):
    return stack.enter_context(Pool())


def at_exit():
    pool = Pool()
    atexit.register(pool.terminate)
    pool.map(abs, [1])


def executor(items):
    workers = ProcessPoolExecutor()
    return workers.map(abs, items)


class Runner:
    def __init__(self):
        self.pool = Pool()

    def __exit__(self, *error):
        self.pool.close()


class Other:
    def __init__(self):
        self.workers = Pool()
        weakref.finalize(self, self.workers.terminate)
