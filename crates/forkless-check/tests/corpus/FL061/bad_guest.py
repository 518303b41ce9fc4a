from multiprocessing.shared_memory import SharedMemory


def read(name):
    segment = SharedMemory(name)
    print(segment.buf[0])
    segment.unlink()  # expect: FL061


class Reader:
    def __init__(self, name):
        self.segment = SharedMemory(name=name, create=False)

    def close(self):
        self.segment.unlink()  # expect: FL061
