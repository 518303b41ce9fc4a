import multiprocessing as mp


def init(lock):
    global LOCK
    LOCK = lock


def work(item):
    with LOCK:
        return item


def other(queue, item):
    queue.put(item)


def main(items):
    with mp.Pool(2, initializer=init, initargs=(mp.Lock(),)) as pool:
        pool.map(work, items)
    with mp.Manager() as manager, mp.Pool(2) as pool:
        queue = manager.Queue()
        pool.starmap(other, [(queue, item) for item in items])
