from multiprocessing import get_context


def work(lock, queue):
    with lock:
        queue.put(1)


def main():
    fork, spawn = get_context("fork"), get_context("spawn")
    lock = fork.Lock()
    queue = spawn.Queue()
    process = spawn.Process(target=work, kwargs={"lock": lock, "queue": queue})  # expect: FL001
    process.start()


if __name__ == "__main__":
    main()
