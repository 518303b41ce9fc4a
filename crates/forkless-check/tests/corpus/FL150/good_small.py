import multiprocessing as mp
from functools import partial

import numpy as np


def work(table, item):
    return table[item]


def init(table):
    global TABLE
    TABLE = table


def main():
    mp.Queue().put(bytes(1000))
    table, small = np.zeros((2000, 1000)), np.zeros(10)
    with mp.Pool(2, init, (table,)) as pool:
        pool.map(partial(work, small), range(10))
        pool.apply(work, (table, 1))
