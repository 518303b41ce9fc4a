import multiprocessing as mp
import subprocess
from concurrent.futures import ProcessPoolExecutor


def inner():
    with mp.Pool() as pool:
        pool.map(abs, [1])


def command(item):
    subprocess.run(["date"])


mp.Process(target=inner).start()
with ProcessPoolExecutor() as executor:
    executor.submit(inner)
with mp.Pool() as pool:
    pool.map(command, [1])
