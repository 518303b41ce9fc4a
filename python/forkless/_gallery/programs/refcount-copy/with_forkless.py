"""Ten million integers in the parent, read by a child."""

import sys
from array import array

import forkless as mp


def memory(when):
    with open("/proc/self/smaps_rollup") as rollup:
        size = {line.split()[0]: int(line.split()[1]) for line in rollup if line.endswith("kB\n")}
    uss = size["Private_Clean:"] + size["Private_Dirty:"]
    print(f"memory {when}: RSS {size['Rss:']} PSS {size['Pss:']} USS {uss} dirty {size['Private_Dirty:']} kB")


def read(data, kind):
    memory(f"of the {kind} before reading")
    print("child reads a total of", sum(memoryview(data)))
    memory(f"of the {kind} after reading")
    print(f"forkless.memory_report():\n{mp.memory_report()}")


data = mp.share(array("q", range(int(sys.argv[1]) if sys.argv[1:] else 10_000_000)))
print("parent reads a total of", sum(memoryview(data)))
for kind in ("child",):
    child = mp.Process(target=read, args=(data, kind))
    child.start()
    child.join()
    print("child exit code:", child.exitcode)
