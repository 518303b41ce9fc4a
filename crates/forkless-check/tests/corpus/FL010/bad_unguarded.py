import multiprocessing as mp
from concurrent.futures import ProcessPoolExecutor

context = mp.get_context("spawn")
with context.Pool(2) as pool:  # expect: FL010
    pool.map(abs, [1])
child = context.Process(target=print)
child.start()  # expect: FL010
with ProcessPoolExecutor(mp_context=context) as executor:  # expect: FL010
    executor.submit(abs, 1)
