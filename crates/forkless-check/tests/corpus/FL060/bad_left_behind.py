from multiprocessing import shared_memory
from multiprocessing.shared_memory import SharedMemory


def never(queue):
    segment = SharedMemory(create=True, size=10)  # expect: FL060
    queue.put(segment.name)


def only_if_all_is_well(fill):
    segment = shared_memory.SharedMemory("name", True, 10)  # expect: FL060
    fill(segment.buf)
    segment.close()
    segment.unlink()


class Store:
    def __init__(self):
        self.segment = SharedMemory(create=True, size=10)  # expect: FL060

    def close(self):
        self.segment.close()
