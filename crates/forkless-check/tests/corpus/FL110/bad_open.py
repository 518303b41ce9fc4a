import multiprocessing
from multiprocessing import Pool


def main(items):
    pool = Pool(4)  # expect: FL110
    print(pool.map(abs, items))


def dropped(items):
    return multiprocessing.Pool().map(abs, items)  # expect: FL110


class Runner:
    def __init__(self):
        self.workers = multiprocessing.get_context("spawn").Pool()  # expect: FL110

    def run(self, items):
        return self.workers.map(abs, items)
