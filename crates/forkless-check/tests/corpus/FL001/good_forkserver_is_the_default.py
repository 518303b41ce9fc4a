# target: 3.14
import multiprocessing as mp

if __name__ == "__main__":
    event = mp.Event()
    mp.get_context("spawn").Process(target=print, args=(event,)).start()
