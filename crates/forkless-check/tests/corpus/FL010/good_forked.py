import multiprocessing as mp

with mp.Pool() as pool:
    pool.map(abs, [1])
with mp.get_context("fork").Pool() as pool:
    pool.map(abs, [1])
