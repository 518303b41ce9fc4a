import multiprocessing
from concurrent import futures
from functools import partial
from itertools import repeat


def work(lock, item):
    with lock:
        return item


def main(items):
    lock = multiprocessing.Lock()
    with multiprocessing.Pool() as pool:
        pool.apply(work, (lock, 1))  # expect: FL002
        pool.starmap(work, [(lock, item) for item in items])  # expect: FL002
        pool.map(partial(work, lock), items)  # expect: FL002
        pool.starmap(work, zip(repeat(lock), items))  # expect: FL002
    with futures.ProcessPoolExecutor() as executor:
        executor.submit(work, multiprocessing.Queue(), 1)  # expect: FL002
