"""What it costs to pickle a function, a class or plain data, and to load it in another process.

    python benches/pickling.py -p 5 -n 3 -w 1
    python benches/pickling.py -o result.json; pyperf stats result.json

The comparison is with pickle and cloudpickle. What belongs to `__main__` pickles with pickle as well, but
fails in the child, so it is left out there. Measured is what happens again and again, in a pool for instance:
the same function with each task, its definition sent and loaded before. Each row checks its own answer first.
"""

import os.path
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import cloudpickle
import pyperf  # type: ignore[import-untyped]
from forkless import _pickling

FACTOR = 3


def helper(x: int) -> int:
    return x + FACTOR


def function(x: int) -> int:
    return helper(x) * FACTOR


class Item:
    default = 5

    def __init__(self, value: int) -> None:
        self.value = value

    def get(self) -> int:
        return helper(self.value) + self.default

    def many(self) -> list[int]:
        return [self.get() for _ in range(3)]


ROWS: dict[str, Any] = {
    "importable function": os.path.join,
    "small tuple": (1, "a", 2.0),
    "function of main": function,
    "class of main": Item,
}


def dumps(obj: object) -> bytes:
    return _pickling.dumps(obj)[0]


def standard(obj: object) -> bytes:
    return pickle.dumps(obj, 5)


PICKLERS: dict[str, Callable[[object], bytes]] = {
    "pickle": standard,
    "cloudpickle": cloudpickle.dumps,
    "forkless": dumps,
}


def from_another_process(pickler: str, row: str) -> bytes:
    command = [sys.executable, __file__, "--send", pickler, row]
    return subprocess.run(command, capture_output=True, check=True).stdout


def load(loops: int, pickler: str, row: str) -> float:
    payload = from_another_process(pickler, row)
    found, expected = pickle.loads(payload), ROWS[row]
    assert getattr(found, "__qualname__", found) == getattr(expected, "__qualname__", expected)
    start = pyperf.perf_counter()
    for _ in range(loops):
        pickle.loads(payload)
    elapsed: float = pyperf.perf_counter() - start
    return elapsed


def main() -> None:
    if sys.argv[1:2] == ["--send"]:
        sys.stdout.buffer.write(PICKLERS[sys.argv[2]](ROWS[sys.argv[3]]))
        return
    runner = pyperf.Runner()
    for row, obj in ROWS.items():
        for pickler, pickled in PICKLERS.items():
            if pickler != "pickle" or "main" not in row:
                runner.bench_func(f"{row}: {pickler}", pickled, obj)
                runner.bench_time_func(f"{row}: {pickler}, loading", load, pickler, row)


main()
