"""A script without a `__main__` guard, and a pool of spawned workers."""

import forkless as mp


def square(number):
    return number * number


with mp.get_context("spawn").Pool(2) as pool:
    print(pool.map(square, range(5)))
