"""Shared memory of the standard library in our children: attached to, and never registered with a tracker.

Its own way of unpickling one tells the resource tracker of that process, a child's own, which takes the
segment for forgotten when the child ends and unlinks it, under the parent that has made it (CPython issue
82300; there is `track=False` since 3.13). It stays with whoever has made it.
"""

import mmap
import os
import struct
import sys
from functools import partial
from typing import Any


def reduce_memory(obj: Any) -> tuple[Any, ...]:
    """How a `SharedMemory` of the standard library is pickled."""
    return attach, (type(obj), obj.name)


def reduce_list(obj: Any) -> tuple[Any, ...]:
    """How a `ShareableList` of the standard library is pickled."""
    return attach_list, (type(obj), type(obj.shm), obj.shm.name)


def attach(kind: Any, name: str) -> Any:
    """What `kind(name)` is, unknown to any tracker."""
    if sys.version_info >= (3, 13):
        return kind(name, track=False)
    import _posixshmem  # type: ignore[import-not-found,unused-ignore]

    path = f"/{name}"
    shm = kind.__new__(kind)
    shm._name, shm._fd = path, _posixshmem.shm_open(path, os.O_RDWR, mode=0o600)
    shm._size = os.fstat(shm._fd).st_size
    shm._mmap = mmap.mmap(shm._fd, shm._size)
    shm._buf = memoryview(shm._mmap)
    # Its own would also tell the tracker, which knows nothing of it and would say so.
    shm.unlink = partial(_posixshmem.shm_unlink, path)
    return shm


def attach_list(kind: Any, kind_of_memory: Any, name: str) -> Any:
    """What `kind(name=name)` is, unknown to any tracker."""
    shared = kind.__new__(kind)
    shared.shm = attach(kind_of_memory, name)
    shared._list_len = len(shared)
    shared._allocated_offsets = list(struct.unpack_from(shared._format_size_metainfo, shared.shm.buf, 8))
    return shared
