import multiprocessing as mp
import sys
from concurrent.futures import ProcessPoolExecutor


def main():
    sys.exit(0)


def work(item):
    try:
        sys.exit(1)
    except SystemExit:
        return item


def limited():
    sys.exit(1)


with mp.Pool() as pool:
    pool.map(work, [1])
    result = pool.apply_async(limited)
    result.get(timeout=10)
with ProcessPoolExecutor() as executor:
    executor.submit(main).result()
mp.Process(target=main).start()
