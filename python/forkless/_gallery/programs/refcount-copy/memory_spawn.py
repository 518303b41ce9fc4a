"""The memory page: data of the parent, pickled for a spawned child."""

import multiprocessing as mp
import sys

from memory_data import make, watch

if __name__ == "__main__":
    kind, items = sys.argv[1], int(sys.argv[2])
    data = make(kind, items)
    for steps in (["read", "collected"], ["only collected"]):
        child = mp.get_context("spawn").Process(target=watch, args=(data, kind, steps))
        child.start()
        child.join()
        print("child exit code:", child.exitcode)
