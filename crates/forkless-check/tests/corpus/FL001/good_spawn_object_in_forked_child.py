import multiprocessing as mp

if __name__ == "__main__":
    lock = mp.get_context("spawn").Lock()
    mp.get_context("fork").Process(target=print, args=(lock,)).start()
