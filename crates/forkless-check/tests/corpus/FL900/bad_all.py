import multiprocessing as mp
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import cpu_count

WORKERS = max(1, cpu_count() - 1)


def main(workers=None):
    with mp.Pool(mp.cpu_count()) as pool:  # expect: FL900
        pool.map(abs, [1])
    with mp.Pool(processes=WORKERS) as pool:  # expect: FL900
        pool.map(abs, [1])
    with ProcessPoolExecutor(max_workers=workers or os.cpu_count()) as executor:  # expect: FL900
        executor.submit(abs, 1)
