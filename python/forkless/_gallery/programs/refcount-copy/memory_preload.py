"""The memory page: data of the parent, preloaded, so that children find it as it is."""

import sys

import forkless as mp
from memory_data import make, watch

kind, items = sys.argv[1], int(sys.argv[2])
data = make(kind, items)
mp.preload(data)
for steps in (["read", "collected"], ["only collected"]):
    child = mp.Process(target=watch, args=(data, kind, steps))
    child.start()
    child.join()
    print("child exit code:", child.exitcode)
