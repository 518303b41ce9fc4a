"""Rounds of work for a pool or an executor whose workers are killed and stopped, and the books of it.

Each task notes on a board that it begins, so that when a round is over everybody can see how often it ran.
Each outcome is compared with what the task was to do and with what was done to the workers: a death counts
only if the task was to die or somebody has shot that very process.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any

import forkless
import numpy as np
from forkless import _forkless

TASKS = 400  # of one round, at most
PATIENCE = 60.0  # seconds; whatever takes longer hangs
LARGE = 1 << 20

# What messages are cut from. The template has it, so that no worker makes it again.
CLOTH = random.Random(1).randbytes(2 * LARGE)

# How tasks end that do not return: the exit code of the worker.
DEADLY = {"exit": 7, "kill": -signal.SIGKILL, "abort": -signal.SIGABRT, "terminate": -signal.SIGTERM}

board: Any = None


class Mine(Exception):
    """What a task raises that is to raise."""


def open_books(books: Any) -> None:
    """In a worker: where tasks note that they begin."""
    global board
    board = books


def payload(number: int, size: int) -> bytes:
    """What a task takes and gives back."""
    start = number * 7919 % LARGE
    return CLOTH[start : start + size]


def begin(number: int) -> int:
    """Notes a run; how many there have been."""
    board[number] += 1
    return int(board[number])


def work(number: int, what: str, argument: Any = None, *shared: Any) -> Any:
    """A task: what it does, and what it returns."""
    runs = begin(number)
    if what in ACTS:
        ACTS[what](number, argument, runs, shared)
    elif what in DEADLY:
        if what == "exit":
            os._exit(DEADLY[what])
        os.kill(os.getpid(), -DEADLY[what])
        time.sleep(600)
    elif what == "array":
        return argument * 2
    elif what == "large":
        return payload(number, LARGE)
    return number, argument


def _raise(number: int, argument: Any, runs: int, shared: Any) -> None:
    raise Mine(number)


def _fail_at_first(number: int, argument: Any, runs: int, shared: Any) -> None:
    if runs <= argument:
        raise Mine(number)


def _hang(number: int, argument: Any, runs: int, shared: Any) -> None:
    while True:
        time.sleep(0.01)


def _hang_in_c(number: int, argument: Any, runs: int, shared: Any) -> None:
    # With the interpreter held, so that no handler in Python runs.
    ctypes.PyDLL(None).sleep(600)


def _hang_stubbornly(number: int, argument: Any, runs: int, shared: Any) -> None:
    while True:
        with contextlib.suppress(BaseException):
            _hang(number, argument, runs, shared)


def _sleep(number: int, argument: Any, runs: int, shared: Any) -> None:
    time.sleep(argument)


def _lock(number: int, argument: Any, runs: int, shared: Any) -> None:
    with shared[0]:
        time.sleep(0.0005)


def _put(number: int, argument: Any, runs: int, shared: Any) -> None:
    shared[0].put(number)


ACTS: dict[str, Callable[[int, Any, int, Any], None]] = {
    "raise": _raise,
    "fail at first": _fail_at_first,
    "hang": _hang,
    "hang in C": _hang_in_c,
    "hang stubbornly": _hang_stubbornly,
    "sleep": _sleep,
    "lock": _lock,
    "put": _put,
}


def item(number: int) -> Any:
    """A task of a map, told by its number only; some raise, some die."""
    return work(number, what_of(number))


def what_of(number: int) -> str:
    """What an item of a map does."""
    dice = number * 0x9E3779B1 >> 7 & 255
    return "raise" if dice < 2 else "kill" if dice < 4 else "return"


def count(number: int, end: int) -> Iterator[int]:
    """A stream."""
    begin(number)
    for each in range(end):
        if each % 7 == 3:
            time.sleep(0.0005)
        yield each


def check_value(number: int, what: str, argument: Any, value: Any) -> None:
    """What `work` returned, if it was this."""
    if what == "array":
        assert (value == argument * 2).all(), number
    elif what == "large":
        assert value == payload(number, LARGE), number
    else:
        assert value == (number, argument), (number, what, value)


class Attempt:
    """A task that was submitted, and what may become of it.

    Args:
        number: its place in the books.
        what: what it is to do.
        argument: what it gets.
        timeout: its time limit, if it has one.
        retries: how many times it may be run again.
    """

    def __init__(self, number: int, what: str, argument: Any, timeout: float | None, retries: int) -> None:
        self.number, self.what, self.argument = number, what, argument
        self.timeout, self.retries = timeout, retries
        self.handle: Any = None
        self.cancelled = False
        self.called: list[Any] = []

    def __repr__(self) -> str:
        return f"task {self.number} ({self.what}, timeout {self.timeout}, retries {self.retries})"


class Sniper(threading.Thread):
    """Sends signals to workers at random moments.

    Args:
        scheduler: whose workers.
        dice: what decides.
    """

    def __init__(self, scheduler: Any, dice: random.Random) -> None:
        super().__init__()
        self._scheduler, self._dice = scheduler, dice
        self._over = threading.Event()
        self.shot: set[int] = set()
        self.has_shot_template = False
        self.stopped: list[Any] = []

    def run(self) -> None:
        """Shoots now and then, until told to stop."""
        for _ in range(self._dice.choice([0, 2, 6, 12])):
            if self._over.wait(self._dice.random() ** 2 * 0.03):
                break
            self.shoot()
        for worker in self.stopped:
            self._send(worker, signal.SIGCONT)

    def shoot(self) -> None:
        """Sends a signal to one of those who are at work, or kills the template."""
        if self._dice.random() < 0.02:
            self.shoot_template()
        ready = [
            worker
            for worker, post in list(self._scheduler.staff.workers.items())
            if self._scheduler._entry(post.index)[7]
        ]
        if not ready:
            return
        worker = self._dice.choice(ready)
        number = self._dice.choice(
            [signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP, signal.SIGSTOP]
        )
        if number == signal.SIGSTOP:
            self._send(worker, number)
            if self._dice.random() < 0.7:
                self._over.wait(self._dice.random() * 0.02)
                self._send(worker, self._dice.choice([signal.SIGCONT, signal.SIGCONT, signal.SIGKILL]))
            else:
                self.stopped.append(worker)
        else:
            self._send(worker, number)

    def shoot_template(self) -> None:
        """Kills the template. Nobody may be left who knows how workers end."""
        for pid, _, role in _forkless.processes():
            if role == "template":
                self.has_shot_template = True
                os.kill(pid, signal.SIGKILL)

    def _send(self, worker: Any, number: int) -> None:
        if number in (signal.SIGKILL, signal.SIGTERM):
            self.shot.add(worker.pid)
        with contextlib.suppress(ValueError):
            worker._signal(number)

    def stop(self) -> None:
        """Ends it; those that are stopped go on."""
        self._over.set()
        self.join()


class Reader(threading.Thread):
    """Does something that is to go well."""

    def __init__(self, act: Callable[[], None]) -> None:
        super().__init__()
        self._act = act
        self._failure: BaseException | None = None

    def run(self) -> None:
        """Does it."""
        try:
            self._act()
        except BaseException as error:
            self._failure = error

    def finish(self) -> None:
        """Waits for its end, and raises what it has raised."""
        self.join()
        if self._failure is not None:
            raise self._failure


class Round:
    """One pool or executor and its work.

    Args:
        books: a `RawArray("Q", TASKS)`.
        dice: what decides about everything.
    """

    def __init__(self, books: Any, dice: random.Random) -> None:
        self.books, self.dice = books, dice
        for number in range(TASKS):
            books[number] = 0
        self.number = 0
        self.attempts: list[Attempt] = []
        self.checks: list[Callable[[], None]] = []
        self.lock = forkless.Lock(recover=lambda *_: None)
        self.queue: forkless.Queue[Any] = forkless.Queue()
        self.is_executor = dice.random() < 0.5
        self.size = dice.choice([2, 3, 4])
        self.made = self.make()
        self.scheduler = self.made._scheduler
        self.sniper = Sniper(self.scheduler, random.Random(dice.random()))
        # The end may come before all is done.
        self.is_ended = False

    def make(self) -> Any:
        """A pool or an executor, with some of the things that have workers end by themselves."""
        options: dict[str, Any] = {"initializer": open_books, "initargs": (self.books,)}
        limit = "max_tasks_per_child" if self.is_executor else "maxtasksperchild"
        if self.dice.random() < 0.3:
            options[limit] = self.dice.choice([1, 3, 10])
        if self.dice.random() < 0.3:
            options["idle_timeout"] = self.dice.choice([0, 0.01, 0.1])
        if self.dice.random() < 0.2:
            options["max_memory_per_child"] = 1
        return (forkless.Executor if self.is_executor else forkless.Pool)(self.size, **options)

    # What there is to do.

    def take_numbers(self, count: int) -> range:
        """Places in the books."""
        numbers = range(self.number, self.number + count)
        self.number += count
        return numbers

    def submit(self) -> None:
        """Submits a task of any kind."""
        dice = self.dice
        what = dice.choice(
            ["return"] * 8
            + ["sleep"] * 4
            + ["raise", "fail at first", "lock", "put", "large", "argument", "array"] * 2
            + ["exit", "kill", "abort", "terminate", "hang", "hang"]
            + (["hang in C", "hang stubbornly"] if dice.random() < 0.1 else [])
        )
        timeout = dice.choice([None, None, None, 0.03, 0.2, 5.0])
        retries = dice.choice([0, 0, 0, 1, 2])
        if what.startswith("hang"):
            timeout, retries = dice.choice([0.02, 0.1]), dice.choice([0, 0, 1])
        (number,) = self.take_numbers(1)
        attempt = Attempt(number, what, self.argument(number, what, retries), timeout, retries)
        self.attempts.append(attempt)
        options: dict[str, Any] = {"timeout": timeout, "priority": dice.choice([None, None, -1, 3])}
        if retries:
            options["retries"] = forkless.Retry(retries, delay=dice.choice([0.0, 0.0, 0.01]))
        shared = (self.lock,) if what == "lock" else (self.queue,) if what == "put" else ()
        arguments = (number, what, attempt.argument, *shared)
        if self.is_executor:
            attempt.handle = self.made.options(**options).submit(work, *arguments)
            if dice.random() < 0.5:
                attempt.handle.add_done_callback(attempt.called.append)
                self.checks.append(lambda: self.check_called(attempt))
        else:
            attempt.handle = self.made.apply_async(
                work,
                arguments,
                callback=attempt.called.append,
                error_callback=attempt.called.append,
                **options,
            )
            self.checks.append(lambda: self.check_called(attempt))

    def argument(self, number: int, what: str, retries: int) -> Any:
        """What a task is called with."""
        if what == "sleep":
            return self.dice.random() ** 3 * 0.05
        if what == "fail at first":
            return self.dice.randint(0, retries)
        if what == "argument":
            return payload(number, LARGE)
        if what == "array":
            return np.arange(number, number + self.dice.choice([3, 100_000]))
        return None

    def map(self) -> None:
        """Submits a map."""
        numbers = self.take_numbers(self.dice.choice([3, 20]))
        chunksize = self.dice.choice([1, None, 4])
        called: list[Any] = []
        result = self.made.map_async(item, numbers, chunksize, called.append, called.append)

        def check() -> None:
            try:
                values = result.get(PATIENCE)
            except Exception as error:
                self.check_item_error(numbers, error)
            else:
                assert values == [(number, None) for number in numbers], (numbers, values)
                assert all(self.books[number] == 1 for number in numbers), self.runs(numbers)
            assert all(self.books[number] <= 1 for number in numbers), self.runs(numbers)
            self.await_that(lambda: len(called) == 1, f"{len(called)} calls for {numbers}")

        self.checks.append(check)

    def imap(self) -> None:
        """Submits an imap, whose results are taken when the round ends."""
        numbers = self.take_numbers(self.dice.choice([3, 20]))
        size = self.dice.choice([1, 3])
        is_ordered = self.dice.random() < 0.5
        results = (self.made.imap if is_ordered else self.made.imap_unordered)(item, numbers, size)

        def check() -> None:
            got, failures = [], 0
            while True:
                try:
                    got.append(results.next(PATIENCE)[0])
                except StopIteration:
                    break
                except Exception as error:
                    self.check_item_error(numbers, error)
                    failures += 1
            assert len(set(got)) == len(got), got
            assert set(got) <= set(numbers), got
            assert not is_ordered or got == sorted(got), got
            assert self.is_ended or len(numbers) - failures * size <= len(got) <= len(numbers) - failures, (
                numbers,
                got,
                failures,
            )
            assert all(self.books[number] == 1 for number in got), self.runs(numbers)
            assert all(self.books[number] <= 1 for number in numbers), self.runs(numbers)

        self.checks.append(check)

    def check_item_error(self, numbers: range, error: BaseException) -> None:
        """Whether an error of a map is right."""
        whats = {what_of(number) for number in numbers}
        if isinstance(error, forkless.WorkerDied):
            its_own = "kill" in whats and error.exitcode in (-signal.SIGKILL, None)
            right = error.pid in self.sniper.shot or its_own
        else:
            right = (type(error) is Mine and "raise" in whats) or self.is_of_the_end(error)
        if not right:
            raise AssertionError(f"{numbers}: {error!r}") from error

    def is_of_the_end(self, error: BaseException) -> bool:
        """Whether an error is what those get that are not done when it is ended."""
        return self.is_ended and isinstance(error, (forkless.BrokenPool, ValueError))

    def check_shot(self, error: forkless.WorkerDied) -> None:
        """Whether somebody has shot that worker."""
        if error.pid not in self.sniper.shot:
            raise AssertionError(f"nobody has shot it: {error}; {self.state()}") from error

    def stream(self) -> None:
        """Submits a generator, and takes some of what it yields or all."""
        (number,) = self.take_numbers(1)
        end = self.dice.choice([0, 5, 60])
        stop_at = self.dice.choice([None, None, 3])
        arguments: Any = (count, number, end) if self.is_executor else (count, (number, end))
        stream = self.made.stream(*arguments)

        def check() -> None:
            got: list[Any] = []
            try:
                while stop_at is None or len(got) < stop_at:
                    got.append(stream.next(PATIENCE))
            except StopIteration:
                assert len(got) == end, (number, got)
                assert self.books[number] == 1
            except forkless.WorkerDied as error:
                self.check_shot(error)
            except (forkless.BrokenPool, CancelledError):
                assert self.is_ended
            stream.close()
            assert got == list(range(len(got))), (number, got)
            assert self.books[number] <= 1

        # At once: a worker that is far ahead of who takes its items waits.
        reader = Reader(check)
        reader.start()
        self.checks.append(reader.finish)

    # What becomes of it.

    def play(self) -> dict[str, int]:
        """Does all of it; how many outcomes there were of each kind."""
        self.sniper.start()
        try:
            self.submit_all()
            if self.dice.random() < 0.1:
                self.end_early()
            self.cancel_some()
            outcomes: dict[str, int] = {}
            for attempt in self.attempts:
                kind = self.check_outcome(attempt)
                outcomes[kind] = outcomes.get(kind, 0) + 1
            for check in self.checks:
                check()
        finally:
            self.sniper.stop()
        if not self.is_ended:
            self.check_that_it_works()
        self.end()
        return outcomes

    def end_early(self) -> None:
        """Ends it while there is much to do."""
        time.sleep(self.dice.random() * 0.02)
        self.is_ended = True
        if not self.is_executor:
            self.made.terminate()
        elif self.dice.random() < 0.5:
            self.made.kill_workers()
        else:
            self.made.shutdown(cancel_futures=True, wait=False)

    def submit_all(self) -> None:
        """Submits tasks, with pauses."""
        kinds: list[Callable[[], None]] = [self.submit] * 12 + [self.stream]
        if not self.is_executor:
            kinds += [self.map, self.imap]
        for _ in range(self.dice.choice([5, 30, 60])):
            if self.number < TASKS - 40:
                self.dice.choice(kinds)()
            if self.is_executor and self.attempts and self.dice.random() < 0.1:
                self.cancel(self.dice.choice(self.attempts))
            if self.dice.random() < 0.05:
                time.sleep(self.dice.random() * 0.01)
            if not self.is_executor and self.dice.random() < 0.03:
                self.made.resize(self.dice.randint(1, 4))

    def cancel_some(self) -> None:
        """Cancels futures, whether they are pending or run."""
        if not self.is_executor:
            return
        for attempt in self.dice.sample(self.attempts, len(self.attempts) // 5):
            self.cancel(attempt)
            if self.dice.random() < 0.3:
                time.sleep(self.dice.random() * 0.005)

    def cancel(self, attempt: Attempt) -> None:
        """Cancels a future."""
        was_done = attempt.handle.done()
        attempt.cancelled = attempt.handle.cancel()
        assert attempt.handle.done(), attempt
        assert attempt.cancelled == attempt.handle.cancelled(), attempt
        assert was_done or attempt.cancelled or not attempt.handle.cancelled(), attempt

    def check_outcome(self, attempt: Attempt) -> str:
        """Compares an outcome with what was to be."""
        handle = attempt.handle
        try:
            value = self.outcome_of(handle, PATIENCE)
        except CancelledError:
            assert attempt.cancelled or self.is_ended, attempt
            kind = "cancelled"
        except BaseException as error:
            assert self.is_done(handle), f"{attempt} hangs: {self.state()}"
            kind = self.check_error(attempt, error)
        else:
            kind = self.check_value(attempt, value)
        runs = int(self.books[attempt.number])
        assert not attempt.cancelled or kind == "cancelled", (attempt, kind)
        least = 1 if kind in ("value", "raised") else 0
        assert least <= runs <= 1 + attempt.retries, f"{attempt}: {kind} after {runs} runs"
        return kind

    def is_done(self, handle: Any) -> bool:
        """Whether it has an outcome."""
        return bool(handle.done())

    def check_value(self, attempt: Attempt, value: Any) -> str:
        """What a task returned."""
        what = attempt.what
        check_value(attempt.number, what, attempt.argument, value)
        assert what not in {*DEADLY, "raise", "hang", "hang in C", "hang stubbornly"}, attempt
        return "value"

    def check_error(self, attempt: Attempt, error: BaseException) -> str:
        """What a task failed with."""
        kind, right = type(error).__name__, False
        if isinstance(error, forkless.WorkerDied):
            is_unknown = error.exitcode is None and self.sniper.has_shot_template
            its_own = attempt.what in DEADLY and (is_unknown or DEADLY[attempt.what] == error.exitcode)
            right = its_own or error.pid in self.sniper.shot
        elif type(error) is forkless.TimeoutError:
            right = attempt.timeout is not None
        elif type(error) is Mine:
            right = attempt.what == "raise" or self.is_out_of_attempts(attempt)
            kind = "raised"
        else:
            right = self.is_of_the_end(error)
        if not right:
            raise AssertionError(f"{attempt}: {error!r}; shot: {self.sniper.shot}; {self.state()}") from error
        return kind

    def is_out_of_attempts(self, attempt: Attempt) -> bool:
        """Whether some attempts of a task were lost before they ran, so that there were not enough for it."""
        runs = int(self.books[attempt.number])
        lost = 1 + attempt.retries - runs
        may_be_lost = attempt.timeout is not None or lost <= len(self.sniper.shot)
        return attempt.what == "fail at first" and runs <= attempt.argument and may_be_lost

    def check_called(self, attempt: Attempt) -> None:
        """A callback is called once. It may be under way when the result is there."""
        self.await_that(lambda: bool(attempt.called), f"the callback of {attempt}")
        assert len(attempt.called) == 1, attempt

    def check_that_it_works(self) -> None:
        """Whether it still computes, once those that were shot are dead."""
        for _ in range(20):
            try:
                value = self.outcome_of(self.submit_abs(), PATIENCE)
            except forkless.WorkerDied as error:
                self.check_shot(error)
            else:
                assert value == 3
                return
        raise AssertionError("it does not work any more")

    def submit_abs(self) -> Any:
        """Submits a task that nothing is wrong with."""
        return self.made.submit(abs, -3) if self.is_executor else self.made.apply_async(abs, (-3,))

    def outcome_of(self, handle: Any, timeout: float) -> Any:
        """What became of a task."""
        return handle.result(timeout) if self.is_executor else handle.get(timeout)

    def end(self) -> None:
        """Ends it one way or another."""
        last = [self.submit_abs() for _ in range(0 if self.is_ended else 9)]
        way = self.dice.choice(["close", "close", "terminate"])
        if self.is_executor:
            if way == "terminate":
                self.made.terminate_workers()
            self.made.shutdown()
        else:
            getattr(self.made, way)()
            self.made.join()
        for future in last:
            assert future.done()
            try:
                assert self.outcome_of(future, 0) == 3
            except forkless.BrokenPool:
                assert way == "terminate"
            except forkless.WorkerDied as error:
                self.check_shot(error)
        assert not self.scheduler.workers
        assert self.scheduler._counts() == (0, 0, 0)

    # Helpers.

    def await_that(self, condition: Callable[[], bool], what: str) -> None:
        """Waits for what must come soon."""
        until = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < until, f"{what} did not come; {self.state()}"
            time.sleep(0.0005)

    def runs(self, numbers: range) -> dict[int, int]:
        """How often each has run."""
        return {number: int(self.books[number]) for number in numbers}

    def state(self) -> str:
        """The state of affairs, for a message."""
        return f"{self.made}, {self.scheduler.statistics()}, counts {self.scheduler._counts()}"


def random_round(books: Any, dice: random.Random) -> dict[str, int]:
    """One round."""
    return Round(books, dice).play()
