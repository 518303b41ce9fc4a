"""A child started while another thread of its parent imports the module that the child needs."""

import multiprocessing as mp
import sys
import threading
import time


def load():
    import heavy

    return heavy.__name__


def work():
    print("child imported", load())


if __name__ == "__main__":
    thread = threading.Thread(target=load)
    thread.start()
    while "heavy" not in sys.modules:
        time.sleep(0.001)
    child = mp.Process(target=work)
    child.start()
    thread.join()
    child.join()
    print("child exit code:", child.exitcode)
