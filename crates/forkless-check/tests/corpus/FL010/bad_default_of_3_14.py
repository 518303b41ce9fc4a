# target: 3.14
import multiprocessing

with multiprocessing.Pool() as pool:  # expect: FL010
    pool.map(abs, [1])
