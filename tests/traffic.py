"""Traffic through one queue by processes that die, stop and go on, and the books that show if it is sound.

Producers note on a board what `put` has confirmed, consumers what they got, so that when all is over every
message is accounted for: `Traffic.settle` asserts that none came twice, out of order, damaged or from
nowhere, and that none is missing but what a consumer had taken when it died.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from queue import Empty, Full
from typing import Any

import forkless
from forkless import _forkless
from support import PATIENCE

MESSAGES = 300  # of one producer, at most
BATCH = 7  # of `put_many` and `get_many`, at most
CREW = 12  # producers of one round, at most; as many consumers

# The board: a flag that ends the work, what each producer was confirmed, each consumer's journal: how many
# messages it got, and which.
STOP = 0
CONFIRMED = 1
JOURNALS = CONFIRMED + CREW
JOURNAL = 1 + CREW * MESSAGES
WORDS = JOURNALS + CREW * JOURNAL

# What messages are cut from. The template has it, so that no child makes it again.
CLOTH = random.Random(1).randbytes(2 << 20)


class Damaged(Exception):
    """A message is not what was sent."""


def body_of(producer: int, number: int) -> Any:
    """What a message carries: mostly little, sometimes nothing, a chunk, a megabyte, a shared buffer."""
    dice = (producer * 7919 + number * 104729 + 12345) * 0x9E3779B97F4A7C15 & (1 << 64) - 1
    kind, size, start = dice >> 59, dice >> 30 & (1 << 20) - 1, dice & (1 << 20) - 1
    limit = [0, 0] + 18 * [200] + 6 * [16 << 10] + 3 * [100_000] + 2 * [1 << 20] + [3000]
    piece = CLOTH[start : start + size % (limit[kind] + 1)]
    if kind == 31:
        return forkless.share(piece or b"-")
    return bytearray(piece) if kind % 5 == 0 else piece


def message(producer: int, number: int) -> tuple[int, int, Any]:
    """As it is put."""
    return producer, number, body_of(producer, number)


def check(item: tuple[int, int, Any]) -> tuple[int, int]:
    """Who sent it and which it is, if it is whole."""
    producer, number, body = item
    wanted = body_of(producer, number)
    if type(body) is not type(wanted) or memoryview(body) != memoryview(wanted):
        raise Damaged(f"message {number} of producer {producer}: {len(body)} bytes")
    return producer, number


def arm(doom: tuple[str, int] | None) -> None:
    """Dooms this process to die at a pass through a point."""
    assert doom is None or _forkless.arm_crash_point(*doom)


def produce(queues: list[Any], board: Any, producer: int, many: bool, doom: tuple[str, int] | None) -> None:
    """Puts messages until it has put all, or the work is over."""
    arm(doom)
    queue = queues.pop()  # given up at the end of this function, and not of the process
    number = 0
    while number < MESSAGES and not board[STOP]:
        if many:
            count = min(1 + number % BATCH, MESSAGES - number)
            queue.put_many([message(producer, number + more) for more in range(count)])
        else:
            count = 1
            queue.put(message(producer, number))
        number += count
        board[CONFIRMED + producer] = number


def consume(
    queues: list[Any],
    board: Any,
    consumer: int,
    many: bool,
    doom: tuple[str, int] | None,
    timeout: float | None,
) -> None:
    """Gets messages until there are none and the work is over, or None comes, or the queue is shut down."""
    arm(doom)
    queue = queues.pop()
    joinable = isinstance(queue, forkless.JoinableQueue)
    journal = JOURNALS + consumer * JOURNAL
    count = 0
    over = False
    while not over:
        try:
            items = queue.get_many(BATCH, timeout=timeout) if many else [queue.get(timeout=timeout)]
        except Empty:
            over = bool(board[STOP])
            continue
        except forkless.ShutDown:
            return
        for item in items:
            if item is None:
                over = True
            else:
                producer, number = check(item)
                board[journal + 1 + count] = producer << 32 | number
                count += 1
                board[journal] = count
            if joinable:
                queue.task_done()


class Traffic:
    """One queue, its producers and its consumers.

    Args:
        board: a `RawArray("Q", WORDS)`.
        dice: what decides about everything that is left to chance.
        many: whether messages go and come in batches.
        kind: the class of the queue; by default any.
    """

    def __init__(self, board: Any, dice: random.Random, many: bool = False, kind: str | None = None) -> None:
        self.board, self.dice, self.many = board, dice, many
        self.batch = BATCH if many else 1
        board[STOP] = 0
        for word in (*range(CONFIRMED, JOURNALS), *range(JOURNALS, WORDS, JOURNAL)):
            board[word] = 0
        self.kind = kind or dice.choice(["Queue", "Queue", "JoinableQueue", "SimpleQueue"])
        limits: dict[str, Any] = {"maxsize": dice.choice([0, 1, 3, 20, 100])}
        if dice.random() < 0.2:
            limits["max_bytes"] = 3 << 20
        self.queue: Any = getattr(forkless, self.kind)(**(limits if self.kind != "SimpleQueue" else {}))
        self.ends = 0
        self.producers: list[forkless.Process] = []
        self.consumers: list[forkless.Process] = []
        self.mine: list[tuple[int, int]] = []
        self.deadline = time.monotonic() + 2 * PATIENCE

    @property
    def crew(self) -> list[forkless.Process]:
        """All that were started."""
        return self.producers + self.consumers

    def add_producer(self, doom: tuple[str, int] | None = None) -> None:
        """Starts a producer."""
        arguments = ([self.queue], self.board, len(self.producers), self.many, doom)
        self.producers.append(forkless.Process(target=produce, args=arguments))
        self.producers[-1].start()

    def add_consumer(self, doom: tuple[str, int] | None = None) -> None:
        """Starts a consumer, which waits for ever or looks up now and then."""
        timeout = self.dice.choice([None, None, 0.0005, 0.005])
        arguments = ([self.queue], self.board, len(self.consumers), self.many, doom, timeout)
        self.consumers.append(forkless.Process(target=consume, args=arguments))
        self.consumers[-1].start()

    def strike(self) -> None:
        """Kills some, stops some for a while, of which some are killed before they go on.

        A process that is stopped may hold the lock of the arena, so this one stays away from the arena until
        it goes on.
        """
        fates = {process: self.dice.choice(["kill", "stop", "none", "none"]) for process in self.crew}
        for process, fate in fates.items():
            if fate != "none":
                self.send(process, signal.SIGSTOP if fate == "stop" else signal.SIGKILL)
        if "stop" in fates.values():
            time.sleep(self.dice.random() * 0.008)
        for process, fate in fates.items():
            if fate == "stop":
                self.send(process, self.dice.choice([signal.SIGCONT, signal.SIGCONT, signal.SIGKILL]))

    def send(self, process: forkless.Process, number: signal.Signals) -> None:
        """Sends a signal to a child, unless it has ended."""
        if process.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid or 0, number)

    def take_some(self) -> None:
        """Takes what is there, as one more consumer."""
        while True:
            try:
                item = self.queue.get_nowait()
            except (Empty, forkless.ShutDown):
                return
            if item is not None:
                self.mine.append(check(item))
            if self.kind == "JoinableQueue":
                self.queue.task_done()

    def wait(self, seconds: float = 0.001) -> None:
        """Lets some time go by, but not for ever."""
        if time.monotonic() > self.deadline:
            alive = [process for process in self.crew if process.is_alive()]
            for process in alive:
                self.send(process, signal.SIGABRT)  # prints its stack
                process.join(5)
            raise TimeoutError(f"{alive} hang; {self.queue}: {self.queue.qsize()} items; {self.books()}")
        time.sleep(seconds)

    def flow(self, messages: int) -> None:
        """Waits until so many more messages have been confirmed, or can be no more."""
        until = self.confirmed() + messages
        while self.confirmed() < until and all(
            any(process.is_alive() for process in side) for side in (self.producers, self.consumers)
        ):
            self.wait(0.0002)

    def confirmed(self) -> int:
        """How many messages their producers know to be in the queue."""
        return sum(self.board[CONFIRMED:JOURNALS])

    def finish(self) -> None:
        """Ends the work: waits for all, and takes what is left."""
        self.board[STOP] = 1
        while any(process.is_alive() for process in self.producers):
            self.take_some()
            self.wait()
        if self.dice.random() < 0.5:
            self.queue.shutdown()
        while any(process.is_alive() for process in self.consumers):
            if self.queue.empty():
                with contextlib.suppress(Full, forkless.ShutDown):
                    self.queue.put_nowait(None)
                    self.ends += 1
            self.wait()
        before = len(self.mine)
        self.take_some()
        self.last = self.mine[before:]

    def settle(self) -> tuple[int, int]:
        """Ends the work and checks the books.

        Returns:
            How many messages have arrived, and how many are lost with consumers that died.
        """
        self.finish()
        for process in self.crew:
            assert process.exitcode in (0, -signal.SIGKILL), f"{process}: {self.books()}"
        dead = sum(process.exitcode != 0 for process in self.consumers)
        arrived: Counter[tuple[int, int]] = Counter()
        for journal in (*map(self.journal, range(len(self.consumers))), self.mine):
            assert in_order(journal), f"out of order: {journal}"
            arrived.update(journal)
        assert set(arrived.values()) <= {1}, f"twice: {[tag for tag in arrived if arrived[tag] > 1]}"
        earlier = set(arrived) - set(self.last)
        lost = 0
        for producer, process in enumerate(self.producers):
            confirmed = self.board[CONFIRMED + producer]
            numbers = {number for sender, number in arrived if sender == producer}
            end = max(numbers, default=-1) + 1
            unconfirmed = 0 if process.exitcode == 0 else self.batch
            case = f"producer {producer} was confirmed {confirmed}, and {end} came; {self.books()}"
            assert end <= confirmed + unconfirmed, case
            lost += max(end, confirmed) - len(numbers)
            # What nobody had taken is the end of what was sent, without gaps.
            rest = sorted(number for sender, number in self.last if sender == producer)
            assert not rest or rest == list(range(rest[0], max(end, confirmed))), case
            assert all(number < rest[0] for sender, number in earlier if rest and sender == producer), case
        assert {sender for sender, _ in arrived} <= set(range(len(self.producers)))
        assert lost <= dead * self.batch, f"{lost} lost, {dead} consumers dead; {self.books()}"
        self.compare(len(arrived), lost)
        for process in self.crew:
            process.close()
        return len(arrived), lost

    def compare(self, arrived: int, lost: int) -> None:
        """Compares the queue's own books with these."""
        its = self.queue.statistics()
        case = f"{its}: {arrived} came, {lost} are lost, {self.ends} ends; {self.books()}"
        assert (its.waiting, its.bytes_waiting, its.received) == (0, 0, its.sent), case
        # Of what was sent and neither confirmed nor seen by anybody, only the queue knows.
        unknown = self.batch * sum(process.exitcode != 0 for process in self.producers)
        assert arrived + lost <= its.sent - self.ends <= arrived + lost + unknown, case
        dead = {process.pid for process in self.consumers if process.exitcode != 0}
        assert its.lost <= len(dead) * self.batch, case
        assert {entry.pid for entry in its.lost_by} <= dead, case
        assert len(its.lost_by) == 8 or sum(entry.count for entry in its.lost_by) == its.lost, case
        if self.kind == "JoinableQueue":
            # What had come but was not reported as done is lost, too.
            assert its.lost >= lost, case
            if its.lost:
                # Who dies in `task_done` may leave what is done among the lost.
                assert self.queue_knows_of() in (dead if lost else dead | {0}), case
            self.queue.join(timeout=PATIENCE)
        else:
            # What had come out of `get` and was not written down is not. What its sender did not live to
            # confirm may be.
            assert its.lost <= its.sent - arrived, case

    def queue_knows_of(self) -> int:
        """The pid of a dead consumer, as `join` tells it, or 0."""
        try:
            self.queue.join(timeout=PATIENCE)
        except forkless.WorkerDied as error:
            return error.pid or 0
        return 0

    def journal(self, consumer: int) -> list[tuple[int, int]]:
        """What a consumer got."""
        base = JOURNALS + consumer * JOURNAL
        tags = self.board[base + 1 : base + 1 + self.board[base]]
        return [(tag >> 32, tag & 0xFFFFFFFF) for tag in tags]

    def books(self) -> str:
        """The state of affairs, for a message."""
        producers = [
            f"{process.exitcode}/{self.board[CONFIRMED + n]}" for n, process in enumerate(self.producers)
        ]
        consumers = [
            f"{process.exitcode}/{self.board[JOURNALS + n * JOURNAL]}"
            for n, process in enumerate(self.consumers)
        ]
        return f"{self.queue}, many {self.many}, producers {producers}, consumers {consumers}"


def in_order(journal: list[tuple[int, int]]) -> bool:
    """Whether each producer's messages come in the order in which they were sent."""
    latest: dict[int, int] = {}
    for producer, number in journal:
        if latest.get(producer, -1) >= number:
            return False
        latest[producer] = number
    return True


def random_round(board: Any, dice: random.Random) -> tuple[int, int]:
    """Two or three of each, struck up to three times at random moments, and joined by others."""
    traffic = Traffic(board, dice, many=dice.choice([False, True]))
    for _ in range(dice.choice([1, 2, 3])):
        traffic.add_producer()
        traffic.add_consumer()
    for strike in range(dice.choice([1, 2, 3])):
        # On a busy machine they would else be dead before they have begun.
        traffic.flow(dice.choice([1, dice.randrange(1, 100)]))
        # Not for synchronisation: a random moment.
        time.sleep(dice.random() * 0.012)
        traffic.strike()
        if strike < 2 and dice.random() < 0.5:
            traffic.add_producer()
            traffic.add_consumer()
    return traffic.settle()


def doomed_round(
    board: Any, dice: random.Random, dooms: list[tuple[str, str, int]], many: bool
) -> tuple[int, int]:
    """For each (role, point, pass) one that is to die there, and one healthy process of each role.

    The work goes on until the doomed have met their fate or there is nothing left to do.
    """
    traffic = Traffic(board, dice, many, "JoinableQueue")
    for role, point, passes in dooms:
        (traffic.add_producer if role == "producer" else traffic.add_consumer)((point, passes))
    doomed = traffic.crew
    traffic.add_producer()
    traffic.add_consumer()

    def busy() -> bool:
        return any(process.is_alive() for process in traffic.producers) or not traffic.queue.empty()

    while any(process.is_alive() for process in doomed) and busy():
        traffic.wait()
    return traffic.settle()


# Who passes a point that only one side passes.
SIDES = {".send.": "producer", ".receive.": "consumer", ".task.": "consumer", ".account.": "consumer"}


def every_doom(points: list[str]) -> Iterator[tuple[list[tuple[str, str, int]], bool]]:
    """All rounds in which somebody dies at one of these points."""
    for many in (False, True):
        for point in points:
            roles = [role for part, role in SIDES.items() if part in point]
            for role in roles or ["producer", "consumer"]:
                if point == "channel.inherited":
                    # Only after somebody who died with the lock; and who takes it from those dies too.
                    first = "channel.send.written" if role == "producer" else "channel.receive.read"
                    for passes in (1, 9):
                        yield [(role, first, passes), *3 * [(role, point, 1)]], many
                else:
                    for passes in (1, 2, 3, 8, 21, 55):
                        yield [(role, point, passes)], many
