import multiprocessing as mp

LOCK = mp.Lock()


def work(lock):
    with lock:
        pass


if __name__ == "__main__":
    mp.set_start_method("spawn")
    mp.Process(target=work, args=(LOCK,)).start()  # expect: FL001
