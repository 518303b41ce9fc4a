import multiprocessing as mp
from concurrent.futures import ProcessPoolExecutor


def inner():
    with mp.Pool() as pool:  # expect: FL100
        pool.map(abs, [1])


def outer(item):
    inner()


def other():
    mp.Process(target=print).start()  # expect: FL100


def third():
    with ProcessPoolExecutor() as executor:  # expect: FL100
        executor.submit(print)


with mp.Pool() as pool:
    pool.map(outer, [1])
mp.Process(target=other, daemon=True).start()
late = mp.Process(target=third)
late.daemon = True
late.start()
