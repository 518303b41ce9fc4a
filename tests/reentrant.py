"""A flow that uses a queue while all that can interrupt it does so too, in the middle of anything.

That is: finalisers, weakref callbacks, a signal handler, and the pickling and unpickling of its own items.
Everything that is put carries a number of its own, and every number that comes out is noted: in the end each
must have come out exactly once.
"""

from __future__ import annotations

import gc
import itertools
import os
import random
import signal
import time
import weakref
from collections import Counter, deque
from queue import Empty, Full
from typing import Any

# More than that waiting: what interrupts takes rather than puts, so that the queue stays short.
PLENTY = 50
# What may interrupt a flow, and how often each has to before the flow ends.
KINDS, ENOUGH = ("del", "weakref", "signal", "reduce", "load", "drop"), 20


class Loud:
    """An item that puts another while it is pickled, and one more when the receiver drops it."""

    def __init__(self, flow: Flow, number: int) -> None:
        self.flow, self.number = flow, number

    def __reduce__(self) -> tuple[Any, ...]:
        self.flow.interrupt("reduce")
        return arrive, (self.number,)


class Arrived:
    """What a `Loud` is after its journey."""

    flow: Flow | None = None

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        if self.flow is not None:
            self.flow.interrupt("drop")


def arrive(number: int) -> Arrived:
    """Rebuilds a `Loud`; what happens while an item is unpickled is an interruption as well."""
    if Arrived.flow is not None:
        Arrived.flow.interrupt("load")
    return Arrived(number)


class Cycle:
    """Garbage that only the collector finds, whenever something is allocated."""

    def __init__(self, flow: Flow, finalizer: bool) -> None:
        self.me, self.flow = self, flow
        if finalizer:
            self.finalizer = Finalizer(flow)


class Finalizer:
    """Uses the queue in `__del__`."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow

    def __del__(self) -> None:
        self.flow.interrupt("del")


class Flow:
    """One process's use of the queue.

    Attributes:
        sent: the numbers that were put.
        got: the numbers that came out.
        interruptions: how many there were of each kind.
    """

    def __init__(self, queue: Any, many: bool, flow: int) -> None:
        self.queue, self.many = queue, many
        self.sent: set[int] = set()
        self.got: list[int] = []
        self.interruptions: Counter[str] = Counter()
        self.numbers = itertools.count(flow << 40)
        self.references: deque[weakref.ref[Cycle]] = deque(maxlen=1000)
        self.joinable = hasattr(queue, "task_done")
        self.depth = 0

    def put(self, loud: bool = False, **options: Any) -> None:
        """Puts one item."""
        number = next(self.numbers)
        # Noted first: it may have been taken, and noted there, before `put` returns.
        self.sent.add(number)
        try:
            self.queue.put(Loud(self, number) if loud else number, **options)
        except Full:
            self.sent.remove(number)

    def put_many(self, count: int, **options: Any) -> None:
        """Puts some items."""
        numbers = [next(self.numbers) for _ in range(count)]
        self.sent.update(numbers)
        try:
            self.queue.put_many(numbers, **options)
        except Full as full:
            self.sent.difference_update(numbers[full.sent :])  # type: ignore[attr-defined]

    def get(self, **options: Any) -> bool:
        """Gets one item, if there is one."""
        try:
            self.note([self.queue.get(**options)])
        except Empty:
            return False
        return True

    def get_many(self, **options: Any) -> bool:
        """Gets some items, if there are any."""
        try:
            self.note(self.queue.get_many(**options))
        except Empty:
            return False
        return True

    def note(self, items: list[Any]) -> None:
        """Writes down what came."""
        self.got.extend(item.number if isinstance(item, Arrived) else item for item in items)
        if self.joinable:
            for _ in items:
                self.queue.task_done()

    def interrupt(self, kind: str) -> None:
        """What finalisers, callbacks and handlers do."""
        self.interruptions[kind] += 1
        # What interrupts may be interrupted in turn, but not for ever.
        if self.depth > 3:
            return
        self.depth += 1
        try:
            self.use()
        finally:
            self.depth -= 1

    def use(self) -> None:
        """Puts, or gets, or both; it never waits for what only the main flow could do."""
        choice = next(self.numbers) % 4
        if choice != 0 and self.queue.qsize() < PLENTY:
            if self.many and choice == 1:
                self.put_many(3, block=False)
            else:
                self.put(block=False)
        if choice != 1:
            if self.many and choice == 2:
                self.get_many(max_items=3, block=False)
            else:
                self.get(block=False)

    def make_garbage(self) -> None:
        """Two cycles for the collector."""
        Cycle(self, finalizer=True)
        # The reference has to live for its callback to run.
        self.references.append(weakref.ref(Cycle(self, finalizer=False), self.forget))

    def forget(self, _: weakref.ref[Cycle]) -> None:
        """The callback of a weak reference."""
        self.interrupt("weakref")

    def is_lacking(self) -> bool:
        """Whether something has not interrupted it often enough."""
        return any(self.interruptions[kind] < ENOUGH for kind in KINDS)

    def run(self, seconds: float) -> None:
        """The main flow, among interruptions by everything; so long, and longer where a machine is slow."""
        Arrived.flow = self
        threshold = gc.get_threshold()
        gc.set_threshold(20)
        signal.signal(signal.SIGALRM, lambda *_: self.interrupt("signal"))
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        until = time.monotonic() + seconds
        dice = random.Random(os.getpid())
        try:
            while time.monotonic() < until or self.is_lacking():
                self.make_garbage()
                self.step(dice.randrange(6))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            gc.set_threshold(*threshold)
        gc.collect()
        # From here on, nothing interrupts.
        self.depth = 100

    def step(self, choice: int) -> None:
        """One of the things that a main flow does; half of them wait."""
        if choice == 0:
            self.put(loud=True, timeout=0.002)
        elif choice == 1:
            self.put_many(5, timeout=0.002) if self.many else self.put(timeout=0.002)
        elif choice == 2:
            self.put(block=False)
        elif choice == 3:
            self.get(timeout=0.002)
        elif choice == 4:
            self.get_many(timeout=0.002) if self.many else self.get(timeout=0.002)
        else:
            self.get(block=False)

    def drain(self) -> None:
        """Takes what is left."""
        while self.get(block=False):
            pass


def partner(queue: Any, many: bool, flow: int, seconds: float, results: Any) -> None:
    """The same in another process."""
    mine = Flow(queue, many, flow)
    mine.run(seconds)
    results.put((mine.sent, mine.got, mine.interruptions))


def main(kind: str, maxsize: int, many: bool, processes: int, seconds: float) -> Counter[str]:
    """Runs this process's flow, and those of others at the same time, and checks that every item came once.

    Returns:
        How many interruptions of each kind there were.
    """
    import forkless

    queue = getattr(forkless, kind)(*([maxsize] if maxsize else []))
    results: Any = forkless.Queue()
    partners = [
        forkless.Process(target=partner, args=(queue, many, flow, seconds, results))
        for flow in range(1, processes)
    ]
    for process in partners:
        process.start()
    mine = Flow(queue, many, 0)
    mine.run(seconds)
    for process in partners:
        process.join(200)
        assert process.exitcode == 0, process
    mine.drain()
    sent, got, interruptions = mine.sent, mine.got, mine.interruptions
    for _ in partners:
        its_sent, its_got, its_interruptions = results.get(timeout=60)
        sent, got, interruptions = sent | its_sent, got + its_got, interruptions + its_interruptions
    if mine.joinable:
        queue.join(timeout=60)
    missing, surplus = Counter(sent) - Counter(got), Counter(got) - Counter(sent)
    assert (missing, surplus) == (Counter(), Counter()), (
        f"missing {missing}, too many {surplus}; {interruptions}"
    )
    assert queue.empty()
    return interruptions + Counter(items=len(got))
