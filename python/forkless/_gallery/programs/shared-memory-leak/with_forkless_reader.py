"""A child reads a segment, then two independent programs do, one after the other."""

import pickle
import subprocess
import sys
import time

import forkless as mp

READER = """
import pickle, sys
segment = pickle.loads(bytes.fromhex(sys.argv[1]))
print("program reads", bytes(memoryview(segment)[:5]))
"""


def read(segment):
    print("child reads", bytes(memoryview(segment)[:5]))


segment = mp.share(b"hello" + bytes(9_999_995))
child = mp.Process(target=read, args=(segment,))
child.start()
child.join()
print("child exit code:", child.exitcode)
for _ in range(2):
    program = subprocess.run([sys.executable, "-c", READER, pickle.dumps(segment).hex()])
    print("child exit code:", program.returncode)
    time.sleep(0.5)  # the next one comes a little later
