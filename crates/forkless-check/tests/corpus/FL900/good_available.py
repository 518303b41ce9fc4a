import multiprocessing as mp
import os
from concurrent.futures import ThreadPoolExecutor


def main(workers):
    with mp.Pool(len(os.sched_getaffinity(0))) as pool:
        pool.map(abs, [1])
    with mp.Pool(workers) as pool:
        pool.map(abs, [1])
    with ThreadPoolExecutor(os.cpu_count()) as executor:
        executor.submit(abs, 1)
    print(os.cpu_count())
