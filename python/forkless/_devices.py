"""Devices that do not survive a fork: which of them this process has open."""

import os

__all__ = ["opened"]

# What the drivers of graphics cards and other accelerators call their devices. The runtime of such a device
# (CUDA, ROCm, Level Zero) keeps state in the process that has opened it, and a forked child cannot use it.
_NAMES = ("nvidia", "kfd", "renderD", "card", "dxg", "accel", "neuron", "davinci", "hl", "kgsl", "mali")


def opened() -> set[str]:
    """The paths of such devices that this process has open."""
    found = set()
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            path = os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:
            continue  # that of the listing, which is closed by now
        if path.startswith("/dev/") and os.path.basename(path).startswith(_NAMES):
            found.add(path)
    return found
