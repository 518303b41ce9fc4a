import multiprocessing as mp
import multiprocessing.pool
import subprocess
from concurrent.futures import ProcessPoolExecutor


class NestingPool(multiprocessing.pool.Pool):
    pass


def inner():
    with mp.Pool() as pool:
        pool.map(abs, [1])


def command(item):
    subprocess.run(["date"])


mp.Process(target=inner).start()
with ProcessPoolExecutor() as executor:
    executor.submit(inner)
with NestingPool() as nesting:
    nesting.apply(inner)
with mp.Pool() as pool:
    pool.map(command, [1])
