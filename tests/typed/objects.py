"""Types of what processes share: each assertion fails when what is inferred gets worse; see pools.py."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import forkless as mp
import numpy
from forkless.connection import Connection
from forkless.managers import BaseManager, DictProxy, ListProxy, SyncManager, ValueProxy
from forkless.process import Process
from forkless.sharedctypes import Synchronized, SynchronizedArray, SynchronizedString
from numpy.typing import NDArray
from typing_extensions import assert_type


def processes(target: Callable[[int], None]) -> None:
    process = mp.Process(target=target, args=(1,), name="worker", daemon=True)
    assert_type(process.start(), None)
    assert_type(process.join(timeout=1.5), None)
    assert_type(process.exitcode, int | None)
    assert_type(process.pid, int | None)
    assert_type(process.is_alive(), bool)
    assert_type(mp.active_children(), list[Process])
    assert_type(mp.current_process(), Process)
    assert_type(mp.parent_process(), Process | None)
    mp.Process(target=1)  # type: ignore[arg-type]
    mp.Process(targets=target)  # type: ignore[call-arg]
    process.terminate("now")  # type: ignore[arg-type]


class Counter(mp.Process):
    def __init__(self, queue: mp.Queue[int]) -> None:
        super().__init__(name="counter")
        self.queue = queue

    def run(self) -> None:
        self.queue.put(1)


def queues(context: mp.context.BaseContext) -> None:
    queue: mp.Queue[int] = mp.Queue(maxsize=10)
    queue.put(1, timeout=2.0)
    assert_type(queue.get(), int)
    assert_type(queue.get(block=False), int)
    assert_type(queue.get_many(10), list[int])
    assert_type(queue.qsize(), int)
    joinable: mp.JoinableQueue[str] = mp.JoinableQueue()
    assert_type(joinable.get(), str)
    assert_type(joinable.join(), None)
    other: mp.Queue[bytes] = context.Queue(3)
    assert_type(other.get(), bytes)
    queue.put("text")  # type: ignore[arg-type]
    queue.put_many(["text"])  # type: ignore[list-item]
    queue.get(timeout="soon")  # type: ignore[arg-type]
    print(queue._reader)  # type: ignore[attr-defined]
    Counter(joinable)  # type: ignore[arg-type]


def connections() -> None:
    here, there = mp.Pipe(duplex=False)
    assert_type(here, Connection)
    assert_type(here.recv_bytes(100), bytes)
    assert_type(here.poll(1.0), bool)
    there.send({"any": "thing"}, timeout=1)
    there.send_bytes("text")  # type: ignore[arg-type]


def locks() -> None:
    def repair(death: mp.OwnerDied) -> None:
        print(death)

    with mp.Lock(recover=repair) as acquired:
        assert_type(acquired, bool)
    assert_type(mp.RLock().acquire(timeout=1), bool)
    assert_type(mp.Semaphore(2).get_value(), int)
    assert_type(mp.Event().wait(1.0), bool)
    assert_type(mp.Condition().wait_for(lambda: "value", timeout=1), str)
    assert_type(mp.Barrier(2).wait(), int)
    assert_type(mp.get_context().BoundedSemaphore(3).acquire(), bool)
    mp.Lock(recover=3)  # type: ignore[arg-type]
    mp.Condition(mp.Event())  # type: ignore[arg-type]
    mp.Lock().wait()  # type: ignore[attr-defined]


def ctypes_objects(context: mp.context.BaseContext) -> None:
    assert_type(mp.Value(ctypes.c_int, 1), Synchronized[int])
    assert_type(mp.Value(ctypes.c_double).value, float)
    assert_type(mp.Value("i", 1), Synchronized[Any])
    assert_type(mp.Value(ctypes.c_int, lock=False), ctypes.c_int)
    assert_type(mp.Array(ctypes.c_int, 3), SynchronizedArray[int])
    assert_type(mp.Array(ctypes.c_double, [1.0])[0], float)
    assert_type(mp.Array(ctypes.c_double, [1.0])[:], list[float])
    assert_type(mp.Array("d", 3), SynchronizedArray[Any])
    assert_type(mp.Array("c", b"text"), SynchronizedString)
    assert_type(mp.Array("c", b"text").value, bytes)
    assert_type(mp.RawValue(ctypes.c_int), ctypes.c_int)
    assert_type(mp.RawArray(ctypes.c_int, 3)[0], int)
    assert_type(context.Value(ctypes.c_int, 1).value, int)
    assert_type(context.Array(ctypes.c_bool, 1)[0], bool)
    mp.Value(ctypes.c_int, 1).value = "text"  # type: ignore[assignment]
    mp.Array(ctypes.c_int, 3)[0] = "text"  # type: ignore[call-overload]
    mp.Array(ctypes.c_int)  # type: ignore[call-overload]


def managers() -> None:
    with mp.Manager() as manager:
        assert_type(manager, SyncManager)
        numbers = manager.list([1, 2])
        assert_type(numbers, ListProxy[int])
        assert_type(numbers[0], int)
        assert_type(numbers[1:], list[int])
        assert_type(numbers.pop(), int)
        entries = manager.dict({"a": 1.0})
        assert_type(entries, DictProxy[str, float])
        assert_type(entries["a"], float)
        assert_type(entries.get("b"), float | None)
        assert_type(entries.items(), list[tuple[str, float]])
        assert_type(manager.dict(a=b""), DictProxy[str, bytes])
        assert_type(manager.Value("i", 1), ValueProxy[int])
        assert_type(manager.Value("i", 1).value, int)
        assert_type(manager.Lock().acquire(timeout=1), bool)
        assert_type(manager.Queue(3).qsize(), int)
        numbers.append("text")  # type: ignore[arg-type]
        entries[1] = 1.0  # type: ignore[index]
    BaseManager.register(3)  # type: ignore[arg-type]
    mp.Manager("spawn")  # type: ignore[call-arg]


def shared(array: NDArray[numpy.float64]) -> None:
    assert_type(mp.share(array), NDArray[numpy.float64])
    assert_type(mp.share([1, 2]), mp.SharedList[int])
    assert_type(mp.share(["a"])[0], str)
    assert_type(mp.share([1, 2])[1:], mp.SharedList[int])
    assert_type(mp.share({"a": 1}), mp.SharedDict[str, Any])
    assert_type(mp.share(b"bytes"), mp.SharedBuffer)
    executor = mp.Executor("ray")
    assert_type(executor.share(array), NDArray[numpy.float64])
    assert_type(executor.share([1, 2]), mp.SharedList[int])
    assert_type(memoryview(mp.share(b"bytes")), memoryview[int])
    assert_type(mp.zeros((2, 3), "f8"), NDArray[Any])
    memory = mp.shared_memory.SharedMemory(create=True, size=10)
    assert_type(memory.name, str)
    assert_type(mp.shared_memory.ShareableList([1, 2])[0], int)
    mp.share(object())  # type: ignore[call-overload]
    mp.share([1])[0] = 2  # type: ignore[index]
    mp.share({"a": 1})["a"] = 2  # type: ignore[index]
    mp.share(b"").seal()  # type: ignore[attr-defined]


def reports() -> None:
    assert_type(mp.memory_report().to_json(), str)
    assert_type(mp.cpu_count(), int)
    assert_type(mp.get_start_method(), str)
    mp.preload(modules=[1])  # type: ignore[list-item]
    mp.set_warm_memory("1G")  # type: ignore[arg-type]
