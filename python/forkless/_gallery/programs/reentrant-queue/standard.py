"""Objects that report through a queue when the garbage collector finds them."""

import gc
import multiprocessing as mp


class Node:
    def __init__(self, queue):
        self.itself = self
        self.queue = queue

    def __del__(self):
        self.queue.put("from __del__")


def count(queues, answer):
    answer.put(sum(queue.get() is not None for queue in queues for _ in range(2)))


if __name__ == "__main__":
    queues, answer = [mp.Queue() for _ in range(100)], mp.Queue()
    child = mp.Process(target=count, args=(queues, answer))
    child.start()
    for allocations, queue in enumerate(queues, 1):
        # A collection can start at any allocation: here at the first, the second, the third, …
        gc.set_threshold(allocations)
        Node(queue)
        queue.put("from the loop")
    gc.collect()
    print("put 200 items, received", answer.get())
    child.join()
    print("child exit code:", child.exitcode)
