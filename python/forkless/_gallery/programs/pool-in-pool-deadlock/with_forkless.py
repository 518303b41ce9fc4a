"""A task that submits another one to its own executor and waits, deeper than there are workers."""

import forkless as mp


def total(number):
    return number + executor.submit(total, number - 1).result() if number else 0


with mp.Executor(2) as executor:
    print("total:", executor.submit(total, 4).result())
