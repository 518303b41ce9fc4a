import contextlib
from multiprocessing.managers import SharedMemoryManager
from multiprocessing.shared_memory import SharedMemory


def sure(fill):
    segment = SharedMemory(create=True, size=10)
    try:
        fill(segment.buf)
    finally:
        segment.close()
        segment.unlink()


def managed():
    with SharedMemoryManager() as manager:
        manager.SharedMemory(size=10)


def stacked(stack: contextlib.ExitStack):
    segment = SharedMemory(create=True, size=10)
    stack.callback(segment.unlink)


def made():
    segment = SharedMemory(create=True, size=10)
    return segment


def ambiguous(name, is_first):
    segment = None
    if is_first:
        segment = SharedMemory(create=True, size=10)
    else:
        segment = SharedMemory(name)
    segment.unlink()


def expected(case):
    with case.assertRaises(ValueError):
        SharedMemory(create=True, size=-1)


def attached(name, create):
    SharedMemory(name).close()
    SharedMemory(name, create=create, size=10)


class Store:
    def __init__(self):
        self.segment = SharedMemory(create=True, size=10)

    def close(self):
        self.segment.unlink()
