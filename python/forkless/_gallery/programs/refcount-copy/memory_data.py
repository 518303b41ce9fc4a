"""The memory page: its data, how a child reads all of it, and what it measures of itself meanwhile."""

import gc
import json
import os
import time


class Node:
    def __init__(self, number):
        self.number = number
        self.tags = [number, number + 1]


def make(kind, items):
    if kind == "ints":
        return list(range(items))
    if kind == "dicts":
        return [{"number": number, "name": f"number {number}"} for number in range(items)]
    return [Node(number) for number in range(items)]


def read(data, kind):
    if kind == "ints":
        return sum(data)
    if kind == "dicts":
        return sum(row["number"] for row in data if row["name"])
    return sum(node.number + len(node.tags) for node in data)


def watch(data, kind, steps, read=read):
    """In the child: does nothing but these steps, and measures itself before and after each."""
    tell("idle", memory())
    for step in steps:
        begun = time.perf_counter()
        total = read(data, kind) if step == "read" else gc.collect()
        tell(step, {"seconds": time.perf_counter() - begun, "total": total, **memory()})
    tell("all processes", {"pss": all_processes()})


def memory(pid="self"):
    with open(f"/proc/{pid}/smaps_rollup") as rollup:
        size = {line.split()[0]: int(line.split()[1]) * 1024 for line in rollup if line.endswith("kB\n")}
    return {
        "rss": size["Rss:"],
        "pss": size["Pss:"],
        "uss": size["Private_Clean:"] + size["Private_Dirty:"],
        "private_dirty": size["Private_Dirty:"],
    }


def all_processes():
    """What this program takes: all of its session. Each page is counted once."""
    total = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.getsid(int(pid)) == os.getsid(0):
                total += memory(pid)["pss"]
        except OSError:  # it has just ended
            continue
    return total


def tell(moment, figures):
    print(json.dumps({"moment": moment, **figures}), flush=True)
