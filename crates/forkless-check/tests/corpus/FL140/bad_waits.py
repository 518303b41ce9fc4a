from concurrent.futures import ProcessPoolExecutor
from multiprocessing import Pool

pool = Pool()
executor = ProcessPoolExecutor()


def leaf(item):
    return item


def node(item):
    future = executor.submit(leaf, item)  # expect: FL140
    return future.result()


def other(item):
    return helper(item)


def helper(item):
    return pool.map(leaf, [item])  # expect: FL140


executor.submit(node, 1)
pool.apply_async(other, (1,))
pool.close()
