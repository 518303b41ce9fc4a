"""Uses an installed wheel as its users do: outside of the source tree, with nothing but its dependencies.

`./dev wheels` runs it with `python -I`, in a directory of its own, for every wheel. It ends with 0 if
everything works, and prints what does not.
"""

from __future__ import annotations

import importlib.metadata
import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import forkless as mp

LIMIT = 120  # seconds for a command
TRAPS = "main-reexecution", "reentrant-queue", "start-method-twice", "pool-in-pool-deadlock"


def check(what: str, found: object, expected: object = True) -> None:
    """Ends the trial unless both are equal."""
    if found != expected:
        sys.exit(f"{what}: {found!r} instead of {expected!r}")


def installation() -> None:
    """The package is the installed one, whole, and says what it is."""
    where = Path(mp.__file__).resolve()
    check("imported from", "site-packages" in where.parts)
    metadata = importlib.metadata.metadata("forkless")
    check("version", mp.__version__, metadata["Version"])
    for name in "py.typed", "_forkless.pyi", "_gallery/programs/inherited-lock/heavy.py":
        check(f"{name} is there", (where.parent / name).is_file())
    names = [name for name in mp.__all__ if getattr(mp, name, None) is None]
    check("names that are nothing", names, [])


def processes() -> None:
    """Processes, queues, locks, values and managers, under both start methods."""
    for method in "forkserver", "spawn":
        with_method(mp.get_context(method), method)


def with_method(context: Any, method: str) -> None:
    """The same, under one."""
    queue, lock, number = context.Queue(), context.Lock(), context.Value("i", 0)
    shared = mp.share([1, "two", 3.0])

    def child(step: int) -> None:
        with lock:
            number.value += step
        queue.put((step, shared[1]))

    children = [context.Process(target=child, args=(step,)) for step in (1, 2, 3)]
    for each in children:
        each.start()
    results = sorted(queue.get(timeout=LIMIT) for _ in children)
    for each in children:
        each.join(LIMIT)
    check(f"results ({method})", results, [(1, "two"), (2, "two"), (3, "two")])
    check(f"exit codes ({method})", [each.exitcode for each in children], [0, 0, 0])
    check(f"value ({method})", number.value, 6)
    with context.Manager() as manager, context.Pool(1) as pool:
        numbers = manager.list([1])
        pool.apply(numbers.append, (2,))
        check(f"list of a manager ({method})", list(numbers), [1, 2])


def pools() -> None:
    """Pools and executors, of functions of `__main__` and lambdas."""
    with mp.Pool(2) as pool:
        check("map", pool.map(lambda n: n * n, range(20)), [n * n for n in range(20)])
        try:
            pool.apply_async(os._exit, (3,)).get(LIMIT)
            sys.exit("a worker that has died was not noticed")
        except mp.WorkerDied as death:
            check("exit code of a worker", death.exitcode, 3)
        check("apply afterwards", pool.apply(pow, (2, 10)), 1024)
    with mp.Executor(max_workers=2) as executor:
        check("submit", executor.options(timeout=LIMIT).submit(sum, [1, 2, 3]).result(LIMIT), 6)
        check("executor.map", list(executor.map(abs, [-1, 2])), [1, 2])
    check("memory report", len(mp.memory_report().processes) >= 1)


def half_converted() -> None:
    """A process of `multiprocessing` uses a queue of forkless."""
    queue: mp.Queue[str] = mp.Queue()
    process = multiprocessing.get_context("spawn").Process(target=queue.put, args=("hello",))
    process.start()
    check("from a process of multiprocessing", queue.get(timeout=LIMIT), "hello")
    process.join(LIMIT)


def command(*arguments: str, expected: int = 0) -> str:
    """What a command of forkless prints."""
    forkless = str(Path(sys.executable).parent / "forkless")
    result = subprocess.run([forkless, *arguments], capture_output=True, text=True, timeout=LIMIT)
    check(f"exit code of forkless {' '.join(arguments)}\n{result.stderr}", result.returncode, expected)
    return result.stdout


def commands() -> None:
    """The command line."""
    check("--version", mp.__version__ in command("--version"))
    trap = Path(mp.__file__).parent / "_gallery" / "programs" / "start-method-twice" / "standard.py"
    Path("trap.py").write_text(trap.read_text())
    check("findings of check", "trap.py:" in command("check", "trap.py", expected=1))
    check("doctor", str(os.getpid()) in command("doctor", str(os.getpid())))
    check("memory", str(os.getpid()) in command("memory", str(os.getpid())))
    Path("script.py").write_text("import multiprocessing; print(multiprocessing.__name__)\n")
    check("forkless script.py", command("./script.py"), "forkless\n")


def gallery() -> None:
    """The traps of the gallery, which are programs in the wheel: each is gone under forkless."""
    for trap in TRAPS:
        report = json.loads(command("gallery", "--only", trap, "--json"))
        check(f"gallery {trap}", bool(report))


if __name__ == "__main__":
    for part in installation, processes, pools, half_converted, commands, gallery:
        part()
        print(f"{part.__name__}: good", flush=True)
