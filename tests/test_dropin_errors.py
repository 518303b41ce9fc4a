"""Errors that programs written for the standard library expect, and find by its names."""

from __future__ import annotations

import logging
import logging.handlers
import pickle
import traceback
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import forkless
import pytest
from support import PATIENCE


def fail(what: type[BaseException]) -> None:
    raise what("on arrival")


class Arrives:
    """Cannot be loaded where it arrives."""

    def __init__(self, what: type[BaseException] = pickle.UnpicklingError) -> None:
        self.what = what

    def __reduce__(self) -> tuple[Any, ...]:
        return fail, (self.what,)


@pytest.mark.parametrize("what", [pickle.UnpicklingError, SystemExit])
def test_a_task_that_cannot_be_loaded_breaks_itself_only(what: type[BaseException]) -> None:
    with forkless.Executor(1) as executor:
        first = executor.submit(pow, 2, 3)
        broken = executor.submit(id, Arrives(what))
        with pytest.raises(
            BrokenProcessPool, match=r"what it brings cannot be loaded: .*on arrival"
        ) as caught:
            broken.result()
        assert isinstance(caught.value, forkless.RemoteError)
        assert type(caught.value.__cause__) is what, "with its own traceback"
        assert "fail" in [frame.name for frame in traceback.extract_tb(caught.value.__cause__.__traceback__)]
        assert (first.result(), executor.submit(pow, 2, 4).result()) == (8, 16)


def test_what_an_interrupted_task_finds_is_no_error_of_loading() -> None:
    from forkless import _errors

    for error in (forkless.TaskInterrupted("now"), MemoryError(), KeyboardInterrupt()):
        assert _errors.of_loading(error) is error


def test_a_result_that_cannot_be_loaded_breaks_itself_only() -> None:
    with forkless.Executor(1) as executor:
        with pytest.raises(BrokenProcessPool, match=r"the result of .*Arrives.* cannot be loaded") as caught:
            executor.submit(Arrives).result()
        assert isinstance(caught.value, forkless.RemoteError)
        assert executor.submit(pow, 2, 4).result() == 16


def divide() -> float:
    return 1 / 0  # in the worker


def test_a_traceback_that_was_taken_away_is_shown_as_text() -> None:
    with forkless.Executor(1) as executor:
        error = executor.submit(divide).exception()
    assert error is not None
    cause = error.__cause__
    assert "in the worker" in "".join(traceback.format_exception(error)), "as frames of the error"
    assert "in the worker" not in str(cause)
    taken = error.with_traceback(None)
    del error
    assert "return 1 / 0  # in the worker" in str(cause)
    assert "return 1 / 0  # in the worker" in "".join(traceback.format_exception(taken))


def listen_and_fail(queue: Any) -> None:
    logger = logging.getLogger("concurrent.futures")
    logger.addHandler(logging.handlers.QueueHandler(queue))
    logger.propagate = False
    raise ValueError("in an initializer")


def test_who_listens_is_told_of_an_initializer_that_fails() -> None:
    records: forkless.Queue[logging.LogRecord] = forkless.Queue()
    with forkless.Executor(1, initializer=listen_and_fail, initargs=(records,)) as executor:
        with pytest.raises(BrokenProcessPool):
            executor.submit(pow, 2, 3).result()
        record = records.get(timeout=PATIENCE)
    assert record.levelno == logging.CRITICAL
    assert "ValueError: in an initializer" in record.getMessage()


def test_a_closed_queue_that_was_used_does_not_say_whether_it_is_empty() -> None:
    unused, used = forkless.Queue[int](), forkless.JoinableQueue[int]()
    unused.close()
    assert unused.empty()
    used.put(1)
    used.close()
    with pytest.raises(OSError, match="is closed"):
        used.empty()
