"""A task that submits another one to its own executor and waits, deeper than there are workers."""

import multiprocessing as mp
from concurrent.futures import ProcessPoolExecutor


def total(number):
    return number + executor.submit(total, number - 1).result() if number else 0


if __name__ == "__main__":
    with ProcessPoolExecutor(2, mp_context=mp.get_context("fork")) as executor:
        print("total:", executor.submit(total, 4).result())
