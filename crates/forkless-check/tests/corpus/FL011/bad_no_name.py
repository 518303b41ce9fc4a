import multiprocessing as mp
from concurrent.futures import ProcessPoolExecutor


def main():
    def local(item):
        return item

    with mp.Pool() as pool:
        pool.map(lambda item: item + 1, [1])  # expect: FL011
        pool.apply_async(local, (1,)).get(10)  # expect: FL011
    with ProcessPoolExecutor() as executor:
        executor.submit(local, 1)  # expect: FL011
    mp.get_context("spawn").Process(target=local).start()  # expect: FL011
