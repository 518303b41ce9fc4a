import multiprocessing as mp
from concurrent.futures import ProcessPoolExecutor


def init(lock):
    global LOCK
    LOCK = lock


if __name__ == "__main__":
    lock = mp.Lock()
    context = mp.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context, initializer=init, initargs=(lock,)) as executor:  # expect: FL001
        executor.submit(print, 1)
    with context.Pool(2, init, (lock,)) as pool:  # expect: FL001
        pool.map(print, [1])
