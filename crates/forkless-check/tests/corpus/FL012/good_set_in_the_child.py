import multiprocessing as mp

settings = None
shared = open("shared").read()


def init(value):
    global settings
    settings = value


def work(item):
    return settings, shared, item


if __name__ == "__main__":
    settings = 1
    with mp.get_context("spawn").Pool(1, init, (1,)) as pool:
        pool.map(work, [1])
