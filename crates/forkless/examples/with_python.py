"""A Python program, a process of its own, and a Rust program count together under one lock.

    cargo build -p forkless --example with_python
    python crates/forkless/examples/with_python.py target/debug/examples/with_python

The Rust program is started with `subprocess`, as any program is, and finds the process tree by itself. It is
told by handles what the two share. In the end it dies with the lock, and this program learns of it.
"""

import subprocess
import sys
from typing import Any

import forkless as mp

TURNS = 1000


def handle(shared: Any) -> str:
    """The name of a shared object, as text that a Rust program reads."""
    return "{:x}-{:x}-{:x}".format(*shared.handle)


lock, ready, go, finale = mp.Lock(), mp.Event(), mp.Event(), mp.Event()
total = mp.Value("Q", 0, lock=lock)


def count() -> None:
    go.wait()
    for _ in range(TURNS):
        with lock:
            total.get_obj().value += 1


# From its first process on, a tree has a name, under which other programs find it.
process = mp.Process(target=count)
process.start()
with subprocess.Popen([sys.argv[1], str(TURNS), *map(handle, (lock, ready, go, finale, total))]) as rust:
    if not ready.wait(timeout=60):
        raise SystemExit("the Rust program is not ready")
    go.set()
    count()
    process.join()
    finale.set()
    rust.wait()
print(f"together they counted to {total.get_obj().value}")
try:
    lock.acquire()
except mp.OwnerDied as death:
    print("the Rust program died with the lock" if death.pid == rust.pid else f"unexpected: {death}")
with lock:
    print("and Python has it now")
