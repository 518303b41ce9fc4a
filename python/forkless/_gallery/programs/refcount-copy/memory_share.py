"""The memory page: data of the parent, as columns in shared memory. Objects become rows: a dict each."""

import sys

import forkless as mp
from memory_data import make, read, watch


def read_shared(data, kind):
    if kind == "objects":
        return sum(row["number"] + len(row["tags"]) for row in data)
    return read(data, kind)


def shareable(data, kind):
    return [vars(node) for node in data] if kind == "objects" else data


kind, items = sys.argv[1], int(sys.argv[2])
data = mp.share(shareable(make(kind, items), kind))
for steps in (["read", "collected"], ["only collected"]):
    child = mp.Process(target=watch, args=(data, kind, steps, read_shared))
    child.start()
    child.join()
    print("child exit code:", child.exitcode)
