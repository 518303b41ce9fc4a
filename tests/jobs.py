"""What the tests run in other processes; light, as every child that runs one of these loads this file."""

from __future__ import annotations

import itertools
import os
import pickle
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from forkless import Event, JoinableQueue, Lock, Queue, Semaphore

PATIENCE = 60.0  # as in `support`, which is not light


def double(value: Any) -> Any:
    return value + value


def add(left: int, right: int = 0) -> int:
    return left + right


def make_set(value: Any) -> set[Any]:
    return {value}


def refuse(value: object) -> NoReturn:
    raise ValueError(f"no {value}")


def throw(error: BaseException) -> NoReturn:
    raise error


def refuse_three(value: int) -> int:
    if value == 3:
        raise ValueError("three")
    return value


def exit_with(code: Any) -> NoReturn:
    sys.exit(code)


def die(number: int = signal.SIGKILL) -> NoReturn:
    os.kill(os.getpid(), number)
    time.sleep(600)
    raise AssertionError("should be dead")


def die_on_three(value: int) -> int:
    if value == 3:
        die()
    return value


def hang(*_: object) -> NoReturn:
    while True:
        signal.pause()


def stubborn(ready: Event) -> NoReturn:
    """Ends for nothing but SIGKILL."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ready.set()
    hang()


def set_and_hang(event: Event) -> NoReturn:
    event.set()
    hang()


def wait_for(event: Event, value: Any = None) -> Any:
    if not event.wait(PATIENCE):
        raise TimeoutError("nobody set the event")
    return value


def wait_if(event: Event | None, value: Any) -> Any:
    return value if event is None else wait_for(event, value)


def mark(number: int, ran: Semaphore, go: Event) -> int:
    """Counts that it ran; all but the first then wait."""
    ran.release()
    return number if number == 0 else wait_for(go, number)


def meet(mine: Event, other: Event) -> int:
    """Comes back only if two of these run at the same time."""
    mine.set()
    wait_for(other)
    return os.getpid()


_kept: Any = None


def keep(event: Any) -> None:
    """An initializer; the standard library's events do not travel in tasks."""
    global _kept
    _kept = event


def wait_for_kept(value: Any = None) -> Any:
    if not _kept.wait(PATIENCE):
        raise TimeoutError("nobody set the event")
    return value


class Refuses:
    """Does not pickle."""

    def __reduce__(self) -> NoReturn:
        raise RuntimeError("not this one")


def pid(_: object = None) -> int:
    return os.getpid()


def put(queue: Queue[Any], value: Any) -> None:
    queue.put(value)


def put_many(queue: Queue[Any], sender: int, count: int) -> None:
    for number in range(count):
        queue.put((sender, number))


def put_range(queue: Queue[Any], count: int) -> None:
    queue.put_many(range(count))


def put_range_slowly(queue: Queue[Any], count: int) -> None:
    for number in range(count):
        time.sleep(0.002)  # so that the receiver waits for most
        queue.put(number)


def put_sizes(queue: Queue[Any], sizes: list[int]) -> None:
    for size in sizes:
        queue.put(bytes(size))


def put_list(queue: Queue[Any], results: Queue[Any]) -> None:
    results.put(list(queue))


def echo_all(there: Queue[Any], back: Queue[Any]) -> None:
    for item in there:
        back.put(item)
    back.shutdown()


def wait_in_loop(queue: Queue[Any], started: Semaphore) -> None:
    import asyncio  # heavy

    async def main() -> None:
        waiting = asyncio.create_task(queue.aget())
        await asyncio.sleep(0)  # the other task runs until it waits
        started.release()
        await waiting

    asyncio.run(main())


def report_end(call: Callable[[], object], started: Semaphore, outcomes: Queue[str]) -> None:
    started.release()
    try:
        call()
    except Exception as error:
        outcomes.put(type(error).__name__)


def do_tasks(queue: JoinableQueue[Any]) -> None:
    for _ in queue:
        queue.task_done()


def take(queue: Queue[Any], count: int, taken: Event, wait: bool) -> None:
    for _ in range(count):
        queue.get()
    taken.set()
    if wait:
        time.sleep(600)


def take_by_one_and_finish_by_another(queue: JoinableQueue[Any]) -> None:
    other = pickle.loads(pickle.dumps(queue))
    for _ in range(2):
        queue.get()
    del queue
    for _ in range(2):
        other.task_done()


def _refuse() -> None:
    raise RuntimeError("on purpose")


class Unloadable:
    def __reduce__(self) -> tuple[Any, ...]:
        return _refuse, ()


class Deadly:
    def __reduce__(self) -> tuple[Any, ...]:
        return die, ()


def holding(lock: Lock) -> bool:
    return lock.locked()


def surroundings(queue: Queue[Any]) -> None:
    """What a child shares with its parent."""
    mask = os.umask(0)
    queue.put((os.getcwd(), os.environ.get("FORKLESS_JOB"), "HOME" in os.environ, mask, sys.argv, sys.path))


def relatives(queue: Queue[Any]) -> None:
    """Who a child takes itself and its parent for."""
    import forkless

    me, parent = forkless.current_process(), forkless.parent_process()
    assert parent is not None
    queue.put((me.name, me.pid, me.is_alive(), parent.name, parent.pid, parent.is_alive()))


def streams(queue: Queue[Any]) -> None:
    sys.stdout.write("to stdout ")
    sys.stderr.write("to stderr ")
    queue.put(sys.stdin.read())


def thread_and_exit_handler(queue: Queue[Any]) -> None:
    """Leaves a thread and an exit handler behind, which both have to run."""
    import atexit

    release = threading.Event()

    def last_words() -> None:
        release.wait(PATIENCE)
        queue.put("thread")

    atexit.register(queue.put, "exit handler")
    threading.Thread(target=last_words).start()
    release.set()


def grandparent(queue: Queue[Any]) -> None:
    """Has a child of its own."""
    import forkless

    child = forkless.Process(target=put, args=(queue, os.getpid()))
    child.start()
    child.join()
    queue.put(child.exitcode)


def sum_in_pool(values: list[int]) -> int:
    """Has a pool of its own."""
    import forkless

    with forkless.Pool(2) as pool:
        return sum(pool.map(double, values))


initialized: list[object] = []


def initialize(*values: object) -> None:
    initialized.extend(values)


def what_was_initialized(_: object = None) -> list[object]:
    return initialized


def return_unpicklable(_: object = None) -> object:
    return threading.Lock()


class OnlyThere:
    """Can be loaded in a worker only."""

    def __init__(self, owner: int) -> None:
        self.owner = owner

    def __setstate__(self, state: dict[str, int]) -> None:
        if os.getpid() == state["owner"]:
            raise ValueError("not here")
        self.__dict__ = state


class Explosive:
    """Cannot be loaded anywhere."""

    def __reduce__(self) -> tuple[Any, ...]:
        return refuse, ("such object",)


def tell_interpreter(queue: Queue[tuple[str, int]], lock: Lock) -> None:
    with lock:
        queue.put((sys.executable, os.getpid()))


def take_for_ever(_: object = None) -> Any:
    while True:
        pass


def catch_everything(begun: Event) -> None:
    while True:
        try:
            begun.set()
            time.sleep(600)
        except BaseException:
            pass


def ignore_every_signal(_: object) -> None:
    for number in (signal.SIGTERM, signal.SIGRTMIN + 11):
        signal.signal(number, signal.SIG_IGN)
    hang()


def never_leave_c(_: object) -> None:
    max(itertools.repeat(0))  # with the interpreter held


def hold(lock: Lock, left: Event) -> None:
    try:
        with lock:
            time.sleep(600)
    finally:
        left.set()


def fail_at_first(count: Any, times: int = 2) -> list[int]:
    with count.get_lock():
        count.value += 1
        if count.value <= times:
            raise ValueError(f"attempt {count.value}")
    return [count.value]


def die_or_hang_at_first(count: Any, data: bytes, how: str) -> int:
    with count.get_lock():
        count.value += 1
        first = count.value == 1
    if first and how == "die":
        die()
    if first:
        hang()
    return len(data)


def note(given: Any) -> list[str]:
    queue, label = given
    queue.put(label)
    return [label]


def rest(seconds: float) -> None:
    time.sleep(seconds)


def speak(value: Any) -> Any:
    print("printed", value)
    print("complained", value, file=sys.stderr)
    return value


def speak_and_die(value: Any) -> None:
    print("last words", value)
    die()


def count_up(_: object) -> int:
    from forkless import current_worker

    state: list[int] = current_worker().state
    state.append(len(state))
    return state[-1]


hoard = bytearray()


def grow(size: int) -> None:
    hoard.extend(b"1" * size)


def count_down(start: int) -> Iterator[int]:
    """Down to one; then it fails."""
    for number in range(start, -1, -1):
        1 / number
        yield number


def count_for_ever() -> Iterator[int]:
    """From zero."""
    yield from itertools.count()


# Tasks within tasks of the same pool.


def fibonacci(executor: Any, n: int) -> int:
    if n < 2:
        return n
    return sum(future.result() for future in [executor.submit(fibonacci, executor, n - k) for k in (1, 2)])


def chain(executor: Any, n: int) -> int:
    return n if n == 0 else 1 + executor.submit(chain, executor, n - 1).result()


def fibonacci_of_pool(pool: Any, n: int) -> int:
    if n < 2:
        return n
    return sum(
        result.get() for result in [pool.apply_async(fibonacci_of_pool, (pool, n - k)) for k in (1, 2)]
    )
