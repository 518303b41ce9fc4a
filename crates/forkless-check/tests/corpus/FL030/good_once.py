import multiprocessing as mp
import sys


def choose():
    if sys.platform == "darwin":
        mp.set_start_method("spawn")
    else:
        mp.set_start_method("forkserver")


def early(method):
    if method:
        mp.set_start_method(method)
        return
    mp.set_start_method("spawn")


if __name__ == "__main__":
    choose()
