"""A lock that travels through a queue."""

import forkless as mp


def take(queue):
    with queue.get():
        print("child holds the lock")


queue = mp.Queue()
child = mp.Process(target=take, args=(queue,))
child.start()
queue.put(mp.Lock())
child.join()
print("child exit code:", child.exitcode)
