"""A child makes a segment, says where it is, and ends: the work of most pipelines."""

import multiprocessing as mp
import time
from multiprocessing.shared_memory import SharedMemory


def produce(queue):
    segment = SharedMemory(create=True, size=10_000_000)
    segment.buf[:5] = b"hello"
    queue.put(segment.name)


if __name__ == "__main__":
    queue = mp.Queue()
    child = mp.Process(target=produce, args=(queue,))
    child.start()
    name = queue.get()
    child.join()
    print("child exit code:", child.exitcode)
    time.sleep(0.5)  # the parent has other things to do
    segment = SharedMemory(name)
    print("parent reads", bytes(segment.buf[:5]))
    segment.unlink()
