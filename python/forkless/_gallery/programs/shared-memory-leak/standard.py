"""The owner of a segment, and whoever uses it, killed: by the memory killer, by a scheduler, by `kill -9`."""

import multiprocessing as mp
import os
import signal
from multiprocessing.shared_memory import SharedMemory


def use(name, ready):
    segment = SharedMemory(name)
    print("child reads", bytes(segment.buf[:5]))
    ready.set()
    signal.pause()


if __name__ == "__main__":
    if os.getpgrp() != os.getpid():
        os.setpgrp()  # so that the shell that started this is not killed too
    segment = SharedMemory(create=True, size=10_000_000)
    segment.buf[:5] = b"hello"
    print("segment", segment.name)
    ready = mp.Event()
    mp.Process(target=use, args=(segment.name, ready)).start()
    ready.wait()
    os.killpg(0, signal.SIGKILL)
