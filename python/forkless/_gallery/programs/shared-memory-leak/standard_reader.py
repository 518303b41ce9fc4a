"""A child reads a segment, then two independent programs do, one after the other."""

import multiprocessing as mp
import subprocess
import sys
import time
from multiprocessing.shared_memory import SharedMemory

READER = """
import sys
from multiprocessing.shared_memory import SharedMemory
segment = SharedMemory(sys.argv[1])
print("program reads", bytes(segment.buf[:5]))
segment.close()
"""


def read(segment):
    print("child reads", bytes(segment.buf[:5]))


if __name__ == "__main__":
    segment = SharedMemory(create=True, size=10_000_000)
    segment.buf[:5] = b"hello"
    child = mp.Process(target=read, args=(segment,))
    child.start()
    child.join()
    print("child exit code:", child.exitcode)
    for _ in range(2):
        program = subprocess.run([sys.executable, "-c", READER, segment.name])
        print("child exit code:", program.returncode)
        time.sleep(0.5)  # the next one comes a little later
    segment.unlink()
