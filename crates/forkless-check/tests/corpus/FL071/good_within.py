from concurrent.futures import ProcessPoolExecutor
from multiprocessing import Pool


def early(items):
    with Pool() as pool:
        result = pool.map_async(abs, items)
        return result.get()


def closed(items):
    with Pool() as pool:
        result = pool.map_async(abs, items)
        pool.close()
        pool.join()
    return result.get()


def waits(items):
    with ProcessPoolExecutor() as executor:
        future = executor.submit(abs, 1)
    return future.result()
