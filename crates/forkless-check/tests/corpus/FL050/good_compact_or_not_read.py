import multiprocessing as mp
from array import array

numbers = array("q", range(10_000_000))
unread = list(range(10_000_000))
few = list(range(1000))
spawned = list(range(10_000_000))


def work(key):
    return numbers[key] + few[key]


def other(key):
    return spawned[key]


if __name__ == "__main__":
    with mp.Pool() as pool:
        pool.map(work, [1])
    with mp.get_context("spawn").Pool() as pool:
        pool.map(other, [1])
