import multiprocessing as mp


def work(queue):
    queue.put("result")


def consume(queue):
    queue.get()


def one():
    queue = mp.Queue()
    process = mp.Process(target=work, args=(queue,))
    process.start()
    print(queue.get())
    process.join()


def limited():
    queue = mp.Queue()
    process = mp.Process(target=work, args=(queue,))
    process.start()
    process.join(10)
    print(queue.get())


def consumer():
    queue = mp.Queue()
    process = mp.Process(target=consume, args=(queue,))
    process.start()
    queue.put(1)
    process.join()
    queue.get(timeout=1)


def managed():
    queue = mp.Manager().Queue()
    process = mp.Process(target=work, args=(queue,))
    process.start()
    process.join()
    print(queue.get())
