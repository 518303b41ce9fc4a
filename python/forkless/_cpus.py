"""How many CPUs there are for this process."""

import os

from ._cgroups import groups

# Overrides what the system says: set by users, and by each worker for all that descends from it.
VARIABLE = "FORKLESS_CPU_COUNT"


def cpu_count() -> int:
    """How many CPUs this process may use at the same time; never less than 1.

    The least of what the affinity mask and the CPU quota of every enclosing control group (version 2) allow,
    the quota rounded up. `multiprocessing.cpu_count` returns what the machine has. The environment variable
    `FORKLESS_CPU_COUNT` overrides it.

    In a worker of a pool or an executor it is the worker's share: what its owner has, divided by the number
    of workers, so that pools within pools do not fill the machine several times over. It stands in
    `FORKLESS_CPU_COUNT` there, also for the processes and programs that the worker starts. To count all CPUs
    there, remove the variable: `Pool(env={"FORKLESS_CPU_COUNT": None})`.

    Raises:
        ValueError: `FORKLESS_CPU_COUNT` is not a positive integer.
    """
    text = os.environ.get(VARIABLE)
    if text:
        if not text.isdecimal() or int(text) < 1:
            raise ValueError(f"{VARIABLE} must be a positive integer, not {text!r}")
        return int(text)
    return max(1, min([len(os.sched_getaffinity(0)), *_quotas()]))


def _quotas(root: str = "/sys/fs/cgroup", table: str = "/proc/self/cgroup") -> list[int]:
    """The CPU quotas, in whole CPUs, of this process's control group and of those around it."""
    quotas = []
    for directory in groups(root, table):
        try:
            with open(f"{directory}/cpu.max", encoding="ascii") as file:
                quota, period = file.read().split()
        except (OSError, ValueError):
            continue  # The root has no such file, and a group may lack the controller.
        if quota != "max":
            quotas.append(-(-int(quota) // int(period)))
    return quotas
