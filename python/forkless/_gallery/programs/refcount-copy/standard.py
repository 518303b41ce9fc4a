"""Ten million integers in the parent, read by forked children: without and with `gc.freeze`."""

import gc
import multiprocessing as mp
import sys


def memory(when):
    with open("/proc/self/smaps_rollup") as rollup:
        size = {line.split()[0]: int(line.split()[1]) for line in rollup if line.endswith("kB\n")}
    uss = size["Private_Clean:"] + size["Private_Dirty:"]
    print(f"memory {when}: RSS {size['Rss:']} PSS {size['Pss:']} USS {uss} dirty {size['Private_Dirty:']} kB")


def read(data, kind):
    memory(f"of the {kind} before reading")
    print("child reads a total of", sum(data))
    memory(f"of the {kind} after reading")


if __name__ == "__main__":
    data = list(range(int(sys.argv[1]) if sys.argv[1:] else 10_000_000))
    print("parent reads a total of", sum(data))
    for kind in ("child", "frozen child"):
        if kind == "frozen child":
            gc.freeze()
        child = mp.Process(target=read, args=(data, kind))
        child.start()
        child.join()
        print("child exit code:", child.exitcode)
