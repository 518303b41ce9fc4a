import multiprocessing as mp


def work(lock, queue):
    with lock:
        queue.put(1)


if __name__ == "__main__":
    context = mp.get_context("spawn")
    lock, queue = context.Lock(), context.Queue()
    context.Process(target=work, args=(lock, queue)).start()
    print(queue.get())
