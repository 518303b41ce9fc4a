"""Tasks that do to their worker what no task should; light, as those workers load this file."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import re
import resource
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forkless import Event, Lock, Queue, SharedBuffer


# Copies of the worker, and other programs in its place.


def fork_and_return() -> str:
    return "copy" if os.fork() == 0 else "original"


def fork_and_exit() -> str:
    if os.fork() == 0:
        sys.exit(3)
    return "original"


def fork_and_raise() -> str:
    if os.fork() == 0:
        raise ValueError("of the copy")
    return "original"


def fork_and_exec() -> str:
    pid = os.fork()
    if pid == 0:
        os.execv("/bin/true", ["true"])
    return "original" if os.waitpid(pid, 0)[1] == 0 else "failed"


def fork_and_hang() -> int:
    pid = os.fork()
    while pid == 0:
        signal.pause()
    return pid


def become(*command: str) -> NoReturn:
    os.execvp(command[0], command)


# What a worker has: descriptors, directories, streams, signals, settings.


def close_descriptors(first: int) -> str:
    os.closerange(first, 65536)
    return "closed"


def close_descriptors_and_spin(ready: Event) -> NoReturn:
    os.closerange(3, 65536)
    ready.set()
    while True:
        pass


def change_directory() -> str:
    os.chdir("/")
    return os.getcwd()


def delete_directory(path: str) -> str:
    os.mkdir(path)
    os.chdir(path)
    os.rmdir(path)
    return "deleted"


def without_streams() -> str:
    sys.stdout = sys.stderr = None
    return "none"


def close_streams() -> str:
    sys.stdout.close()
    sys.stderr.close()
    return "closed"


class Broken:
    def write(self, _: str) -> NoReturn:
        raise RuntimeError("no writing")

    flush = write


def replace_streams() -> str:
    sys.stdout = sys.stderr = Broken()
    return "replaced"


def ignore_signals() -> str:
    for number in range(1, signal.NSIG):
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_IGN)
    return "ignored"


def ignore_signals_and_hang() -> NoReturn:
    ignore_signals()
    while True:
        time.sleep(600)


def block_signals() -> str:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    return "blocked"


def block_signals_and_hang() -> NoReturn:
    block_signals()
    while True:
        time.sleep(600)


def set_alarm() -> NoReturn:
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    while True:
        signal.pause()


def leave_thread(daemon: bool) -> str:
    threading.Thread(target=threading.Event().wait, name="endless", daemon=daemon).start()
    return "left"


def at_exit(queue: Queue[str]) -> str:
    atexit.register(queue.put, "at exit")
    return "registered"


def change_settings() -> str:
    sys.path[:] = []
    os.environ.clear()
    sys.setswitchinterval(1e-6)
    sys.setrecursionlimit(80)
    sys.settrace(lambda *_: None)
    sys.setprofile(lambda *_: None)
    return f"niceness {os.nice(1) - os.nice(0)}"


def forbid_descriptors() -> str:
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    return "forbidden"


def clear_modules() -> str:
    sys.modules.clear()
    return "cleared"


class RaisesInDel:
    def __del__(self) -> None:
        raise ValueError("in __del__")


def raise_in_del() -> str:
    RaisesInDel()
    return "dropped"


def recurse(depth: int = 0) -> int:
    return recurse(depth + 1) + 1


def limit_memory(size: int) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size, most))


def exhaust_memory() -> NoReturn:
    with open("/proc/self/statm", encoding="ascii") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    limit_memory(used + (64 << 20))
    kept = []
    while True:
        kept.append(bytes(1 << 20))


def ask_for_much(size: int) -> int:
    limit_memory(size)
    return len(bytes(size))


# Tasks that do not want to end.


def hold_interpreter() -> int:
    return sum(itertools.repeat(0))


def match_for_ever() -> object:
    return re.match("(a+)+$", "a" * 64 + "b")


def catch_everything() -> NoReturn:
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(600)


def ignore_terminate() -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    catch_everything()


def clean_up(queue: Queue[str], ready: Event | None = None) -> NoReturn:
    try:
        if ready is not None:
            ready.set()
        while True:
            time.sleep(600)
    finally:
        queue.put("cleaned up")


def sleep(seconds: float, value: Any = None) -> Any:
    time.sleep(seconds)
    return value


# Tasks that fail at first. `attempts` is in shared memory.


def fail_at_first(attempts: Any, failures: int, how: Any) -> int:
    attempts.value += 1
    if attempts.value <= failures:
        if how == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "sleep":
            time.sleep(600)
        raise how(f"attempt {attempts.value}")
    return int(attempts.value)


def use_and_die(attempts: Any, lock: Lock, shared: SharedBuffer, array: Any) -> tuple[int, bytes, float]:
    """Uses up its arguments each time; all but the third one die after that."""
    with lock:
        attempts.value += 1
    found = attempts.value, bytes(shared), float(array.sum())
    array[:] = 0
    if attempts.value < 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return found


# Generators.


def count(progress: Any, closed: Queue[str] | None = None) -> Iterator[int]:
    try:
        for number in itertools.count():
            progress.value = number + 1
            yield number
    finally:
        if closed is not None:
            closed.put("closed")


def yield_and_die(items: int) -> Iterator[int]:
    yield from range(items)
    os.kill(os.getpid(), signal.SIGKILL)


def yield_and_raise(items: int) -> Iterator[int]:
    yield from range(items)
    raise ValueError("after the last one")


def yield_lock() -> Iterator[Any]:
    yield 1
    yield [threading.Lock()]


def raise_stop_iteration() -> Iterator[int]:
    yield 1
    raise StopIteration


# What does not pickle.


class Holds(Exception):
    pass


def raise_unpicklable(_: object = None) -> NoReturn:
    raise Holds(threading.Lock())


def return_unpicklable(_: object = None) -> Any:
    return {"lock": threading.Lock()}


# What takes for ever to be taken apart, in one way or another.


class Slow(Exception):
    def __init__(self, how: str, begun: Event) -> None:
        super().__init__(how, begun)
        self.how, self.begun = how, begun

    def take_time(self, how: str) -> None:
        if self.how == how:
            self.begun.set()
            time.sleep(3600)

    def __reduce__(self) -> Any:
        self.take_time("pickled")
        return Slow, self.args

    def __str__(self) -> str:
        self.take_time("printed")
        return "slow"


class SlowArgument:
    def __init__(self, begun: Event) -> None:
        self.begun = begun

    def __repr__(self) -> str:
        self.begun.set()
        time.sleep(3600)
        return "slow"


def raise_slowly(how: str, begun: Event) -> NoReturn:
    raise ValueError(SlowArgument(begun)) if how == "an argument" else Slow(how, begun)


def count_and_clean_up(progress: Any, cleaned: Any) -> Iterator[int]:
    """Takes a while to clean up, and says whether it could do so to the end."""
    try:
        for number in itertools.count():
            progress.value = number
            yield number
    finally:
        end = time.monotonic() + 0.1
        while time.monotonic() < end:
            pass
        cleaned.put("cleaned up")
