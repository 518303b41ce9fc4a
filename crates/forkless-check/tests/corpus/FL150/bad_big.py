import multiprocessing as mp
from functools import partial
from itertools import repeat

import numpy as np


def work(table, item):
    return table[item]


def main():
    queue = mp.Queue()
    queue.put(bytes(3 * 2**30))  # expect: FL150
    reader, writer = mp.Pipe()
    data = b"x" * (3 << 30)
    writer.send_bytes(data)  # expect: FL150
    table = np.zeros((2000, 1000))
    with mp.Pool() as pool:
        pool.starmap(work, [(table, item) for item in range(10)])  # expect: FL150
        pool.map(partial(work, table), range(10))  # expect: FL150
        pool.starmap(work, zip(repeat(table), range(10)))  # expect: FL150
        for item in range(10):
            pool.apply_async(work, (table, item))  # expect: FL150
    queue.get()
    reader.recv_bytes()
