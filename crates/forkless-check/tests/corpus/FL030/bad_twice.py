import multiprocessing as mp
from multiprocessing import set_start_method


def library():
    mp.set_start_method("fork")


def loop(methods):
    for method in methods:
        set_start_method(method)  # expect: FL030


class Trainer:
    def __init__(self):
        mp.set_start_method("spawn")  # expect: FL030


def path():
    mp.set_start_method("fork")  # expect: FL030
    library()
    mp.set_start_method("fork")  # expect: FL030
