import sys
from multiprocessing import Pool


def work():
    exit(3)  # expect: FL070


with Pool(1) as pool:
    result = pool.apply_async(work)
    print(result.get())
