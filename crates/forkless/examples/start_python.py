"""What `start_python.rs` starts: counts under the lock of a Rust program."""

import ctypes

import forkless as mp

lock, go = mp.inherited("lock"), mp.inherited("go")
total = ctypes.c_uint64.from_buffer(mp.inherited("total"))

go.wait()
for _ in range(1000):
    with lock:
        total.value += 1
