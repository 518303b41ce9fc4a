"""A child makes a segment, says where it is, and ends: the work of most pipelines."""

import time

import forkless as mp


def produce(queue):
    segment = mp.share(b"hello" + bytes(9_999_995))
    queue.put(segment)


queue = mp.Queue()
child = mp.Process(target=produce, args=(queue,))
child.start()
segment = queue.get()
child.join()
print("child exit code:", child.exitcode)
time.sleep(0.5)  # the parent has other things to do
print("parent reads", bytes(memoryview(segment)[:5]))
