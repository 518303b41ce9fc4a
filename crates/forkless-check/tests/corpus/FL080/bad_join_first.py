import multiprocessing as mp


def work(queue):
    queue.put("result")


def one():
    queue = mp.Queue()
    process = mp.Process(target=work, args=(queue,))
    process.start()
    process.join()  # expect: FL080
    print(queue.get())


def many(count):
    queue = mp.Queue()
    processes = [mp.Process(target=work, args=(queue,)) for _ in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()  # expect: FL080
    return [queue.get() for _ in processes]
