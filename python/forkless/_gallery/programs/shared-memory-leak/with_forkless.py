"""The owner of a segment, and whoever uses it, killed: by the memory killer, by a scheduler, by `kill -9`."""

import os
import signal

import forkless as mp


def use(segment, ready):
    print("child reads", bytes(memoryview(segment)[:5]))
    ready.set()
    signal.pause()


if os.getpgrp() != os.getpid():
    os.setpgrp()  # so that the shell that started this is not killed too
segment = mp.share(b"hello" + bytes(9_999_995))
ready = mp.Event()
mp.Process(target=use, args=(segment, ready)).start()
ready.wait()
os.killpg(0, signal.SIGKILL)
