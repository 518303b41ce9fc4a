"""Exceptions of tasks, on their way home."""

from __future__ import annotations

import asyncio
import builtins
import concurrent.futures
import gc
import io
import os
import pdb
import pickle
import subprocess
import sys
import traceback
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import failures
import forkless
import jobs
import pytest
from forkless import _errors, _frames
from forkless.exceptions import RemoteTraceback
from hypothesis import given
from hypothesis import strategies as st
from support import PATIENCE, eventually, run_program

needs_groups = pytest.mark.skipif(sys.version_info < (3, 11), reason="there are no groups yet")


@pytest.fixture(scope="module")
def pool() -> Iterator[forkless.Pool]:
    with forkless.Pool(1) as pool:
        yield pool


def error_of(pool: forkless.Pool, function: Callable[..., object], *args: object, **kwargs: Any) -> Any:
    """What this call raises in a worker."""
    with pytest.raises(BaseException) as caught:
        pool.apply(function, args, kwargs)
    return caught.value


def error_here(function: Callable[..., object], *args: object) -> BaseException:
    with pytest.raises(BaseException) as caught:
        function(*args)
    return caught.value


def travel(error: BaseException) -> Any:
    """An exception after its journey, which leads nowhere."""
    payload, _, buffers = _errors.pack(error)
    whole = payload if isinstance(payload, bytes) else b"".join(payload)
    return _errors.rebuild(pickle.loads(whole, buffers=buffers))


def entries_of(error: BaseException, file: str = failures.__file__) -> list[tuple[Any, ...]]:
    """What a traceback has of one file: places, names, source lines."""
    found = traceback.TracebackException.from_exception(error, capture_locals=False).stack
    return [
        (each.name, each.lineno, each.line, *(getattr(each, name, None) for name in PLACE))
        for each in found
        if each.filename == file
    ]


PLACE = ("end_lineno", "colno", "end_colno")


def tracebacks_of(error: BaseException) -> Iterator[TracebackType]:
    entry = error.__traceback__
    while entry is not None:
        yield entry
        entry = entry.tb_next


# --- tracebacks ---


@pytest.mark.parametrize(
    "function",
    [
        failures.in_function,
        failures.through_function,
        failures.over_lines,
        failures.in_comprehension,
        failures.in_generator,
        failures.in_method,
        failures.with_cause,
        failures.with_context,
    ],
)
def test_a_traceback_is_the_one_of_a_call_here(pool: forkless.Pool, function: Any) -> None:
    there, here = error_of(pool, function, "x"), error_here(function, "x")
    assert entries_of(here)
    assert entries_of(there) == entries_of(here)
    ours = [entry for entry in tracebacks_of(there) if entry.tb_frame.f_code.co_filename == failures.__file__]
    theirs = [
        entry for entry in tracebacks_of(here) if entry.tb_frame.f_code.co_filename == failures.__file__
    ]
    for mine, other in zip(ours, theirs, strict=True):
        stand_in, frame = mine.tb_frame, other.tb_frame
        names = ("co_name", "co_qualname", "co_filename", "co_firstlineno")
        for name in names if sys.version_info >= (3, 11) else names[::2]:
            assert getattr(stand_in.f_code, name) == getattr(frame.f_code, name)
        assert (mine.tb_lineno, stand_in.f_lineno) == (other.tb_lineno, other.tb_lineno)
        assert stand_in.f_globals["__name__"] == "failures"
        assert (stand_in.f_back, dict(stand_in.f_locals)) == (None, {})


def test_the_last_frames_are_those_of_the_task(pool: forkless.Pool) -> None:
    error = error_of(pool, failures.in_method, "x")
    files = [entry.tb_frame.f_code.co_filename for entry in tracebacks_of(error)]
    assert files[-4:] == [failures.__file__] * 4
    assert Path(files[-6]).name == "_results.py"  # of this process; no frame of forkless in the worker
    for function, args in ((int, ("x",)), (map, (jobs.double, 3))):
        files = [
            entry.tb_frame.f_code.co_filename for entry in tracebacks_of(error_of(pool, function, *args))
        ]
        assert Path(files[-1]).name == "_results.py"


def test_all_ways_to_print_show_each_frame_once(pool: forkless.Pool) -> None:
    error = error_of(pool, failures.through_function, "x")
    file = io.StringIO()
    traceback.print_exception(type(error), error, error.__traceback__, file=file)
    text = file.getvalue()
    assert text.count("in through_function") == text.count("in in_function") == 1
    assert text.count("return first + in_function(text)") == 1
    assert text.count("Traceback (most recent call last)") == 1
    assert text.startswith("forkless.exceptions.RemoteTraceback: raised in PoolWorker-")
    assert "where the last 2 frames below are from\n" in text
    assert text.endswith("ValueError: invalid literal for int() with base 10: 'x'\n")


def test_the_interpreter_prints_it_as_the_traceback_module_does() -> None:
    source = """
import forkless, sys, traceback
def task(text):
    return [
        1, int(text)]
pool = forkless.Pool(1)
try:
    pool.apply(task, ("x",))
except ValueError as error:
    traceback.print_exception(error, file=sys.stdout)
    sys.stdout.flush()
    sys.__excepthook__(type(error), error, error.__traceback__)
pool.terminate()
"""
    outcome = run_program(source)
    assert outcome.check() == outcome.stderr
    assert "    1, int(text)]\n" in outcome.stderr


def test_a_debugger_finds_the_frames(pool: forkless.Pool) -> None:
    error = error_of(pool, failures.through_function, "x")
    output = io.StringIO()
    debugger = pdb.Pdb(stdin=io.StringIO("where\nup\np __name__\nlist\nq\n"), stdout=output, nosigint=True)
    debugger.reset()
    debugger.interaction(None, error.__traceback__)
    text = output.getvalue()
    assert "failures.py" in text
    assert "'failures'" in text
    assert "->\treturn first + in_function(text)" in text.replace("    return", "return")


def test_pytest_shows_the_frames_of_a_task(tmp_path: Path) -> None:
    test = tmp_path / "test_it.py"
    test.write_text(
        """
import forkless
def task(text):
    return int(text)
def test_task():
    with forkless.Pool(1) as pool:
        pool.apply(task, ("x",))
"""
    )
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(test)]
    output = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path).stdout
    assert ">       return int(text)" in output
    assert "test_it.py:4: ValueError" in output


def test_endless_recursion_is_told_in_short(pool: forkless.Pool) -> None:
    error = error_of(pool, failures.endlessly, 0)
    assert type(error) is RecursionError
    assert len(entries_of(error)) > 500
    assert "repeated" in "".join(traceback.format_exception(type(error), error, error.__traceback__))


def test_a_very_long_traceback_lacks_its_middle() -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(4000)
    try:
        error = error_here(failures.endlessly, 0)
    finally:
        sys.setrecursionlimit(limit)
    names = [entry.tb_frame.f_code.co_name for entry in tracebacks_of(travel(error))]
    assert len(names) == _frames._MOST + 1
    assert names[_frames._MOST // 2].endswith("frames left out>")


@given(
    st.integers(1, 10**6),
    st.integers(-(10**5), 10**5),
    st.integers(0, 10**4),
    st.none() | st.integers(0, 10**4),
    st.integers(0, 10**4),
)
def test_any_place_can_be_stood_in_for(
    first: int, delta: int, more: int, column: int | None, width: int
) -> None:
    line = max(first + delta, 1)
    end = None if column is None else column + width
    frame = ("m", "f.py", "f", "c.f", first, line, line + more, column, end)
    entry = _frames.rebuild([frame])
    assert entry is not None
    code: Any = entry.tb_frame.f_code
    assert (code.co_firstlineno, entry.tb_lineno, entry.tb_frame.f_lineno) == (first, line, line)
    if sys.version_info >= (3, 11):
        place = (line, line if column is None else line + more, column, end)
        assert set(code.co_positions()) == {place}


def test_a_traceback_survives_several_journeys(pool: forkless.Pool) -> None:
    error = travel(travel(error_of(pool, failures.with_cause, "x")))
    here = error_here(failures.with_cause, "x")
    assert entries_of(error) == entries_of(here)
    assert entries_of(error.__cause__) == entries_of(here.__cause__)  # type: ignore[arg-type]


# --- causes, contexts, notes, groups ---


def test_the_cause_says_where_it_was_raised(pool: forkless.Pool) -> None:
    (worker,) = pool._pool
    error = error_of(pool, jobs.refuse, "luck")
    cause = error.__cause__
    assert isinstance(cause, RemoteTraceback)
    assert (cause.worker, cause.pid) == (worker.name, worker.pid)
    assert cause.tb.startswith("Traceback (most recent call last):\n")
    assert "in refuse\n" in cause.tb
    assert cause.tb.endswith("\nValueError: no luck\n")
    copy = pickle.loads(pickle.dumps(cause))
    assert (copy.worker, copy.pid, copy.tb, str(copy)) == (cause.worker, cause.pid, cause.tb, str(cause))


def test_a_remote_traceback_can_be_made_of_text() -> None:
    made = RemoteTraceback("text\n")
    assert (made.tb, str(made)) == ("text\n", '\n"""\ntext\n"""')


def test_a_cause_of_its_own_stays(pool: forkless.Pool) -> None:
    error = error_of(pool, failures.with_cause, "x")
    assert type(error) is LookupError
    assert type(error.__cause__) is ValueError
    assert error.__cause__ is error.__context__
    assert error.__cause__.__cause__ is None
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    assert text.count("in in_function") == 1
    assert "direct cause" in text


def test_a_context_of_its_own_stays(pool: forkless.Pool) -> None:
    error = error_of(pool, failures.with_context, "x")
    assert (error.__cause__, error.__suppress_context__) == (None, False)
    assert type(error.__context__) is ValueError
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    assert "During handling" in text
    hidden = error_of(pool, failures.with_hidden_context, "x")
    assert isinstance(hidden.__cause__, RemoteTraceback)
    assert (type(hidden.__context__), hidden.__suppress_context__) == (ValueError, True)


def test_a_chain_may_be_a_circle(pool: forkless.Pool) -> None:
    error = error_of(pool, failures.in_a_circle)
    assert str(error.__context__) == "first"
    assert error.__context__.__cause__ is error


def test_a_chain_has_a_limit() -> None:
    error: Any = ValueError("last")
    first = error
    for _ in range(2 * _errors._MOST):
        error.__context__ = ValueError("earlier")
        error = error.__context__
    error, length = travel(first), 0
    while error is not None:
        error, length = error.__context__, length + 1
    assert length == _errors._MOST


def test_notes_travel(pool: forkless.Pool) -> None:
    assert error_of(pool, failures.with_notes).__notes__ == ["one", "two"]
    error = failures.Locked()
    error.__notes__ = ["kept", 3]  # type: ignore[attr-defined,unused-ignore]
    assert travel(error).__notes__ == ["kept"]
    error = failures.SaysHow(1, 2)  # type: ignore[assignment]
    error.__notes__ = ["kept"]  # type: ignore[attr-defined,unused-ignore]
    assert travel(error).__notes__ == ["kept"]


def test_a_cause_that_is_lost(pool: forkless.Pool) -> None:
    error = error_of(pool, failures.with_lost_cause)
    assert type(error) is ValueError
    assert isinstance(error.__cause__, forkless.RemoteError)
    assert error.__cause__.type_name == "failures.Locked"


@needs_groups
def test_a_group_brings_its_members(pool: forkless.Pool) -> None:
    plain, base = (getattr(builtins, name) for name in ("ExceptionGroup", "BaseExceptionGroup"))
    for kind in (plain, base, type("Own", (plain,), {})):
        error = error_of(pool, failures.group, kind)
        here: Any = error_here(failures.group, kind)
        assert type(error) is type(here)
        assert error.message == "outer"
        first, lost, inner = error.exceptions
        assert entries_of(first) == entries_of(here.exceptions[0])
        assert entries_of(first.__context__) == entries_of(here.exceptions[0].__context__)
        assert isinstance(lost, forkless.RemoteError)
        assert entries_of(lost) == entries_of(here.exceptions[1])
        assert isinstance(inner.exceptions[0], failures.NeedsTwo)
        assert error.subgroup(failures.NeedsTwo) is not None


# --- classes ---


def everything_of(error: Any) -> tuple[Any, ...]:
    attributes = {name: value for name, value in vars(error).items() if name != "lock"}
    names = ("errno", "strerror", "filename", "filename2", "code", "value", "name", "path", "msg", "start")
    slots = [getattr(error, name, None) for name in names]
    return type(error), error.args, attributes, str(error), repr(error), slots


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        ValueError(),
        KeyError("k", 1, None, 2.5, (1, b"x"), [True]),
        OSError(2, "no", "file", None, "other"),
        OSError("text"),
        PermissionError(13, "no"),
        UnicodeDecodeError("utf-8", b"x", 0, 1, "reason"),
        UnicodeEncodeError("ascii", "ä", 0, 1, "reason"),
        ImportError("no", name="module", path="/x"),
        StopIteration(3),
        SystemExit(3),
        SystemExit(),
        SyntaxError("bad", ("file", 3, 4, "text", 3, 5)),
        AttributeError("no"),
        NameError("no", name="n") if sys.version_info >= (3, 10) else NameError("no"),
        ValueError(float("nan")),
        ValueError(ValueError),
        ValueError({1: {2, 3}}),
        asyncio.CancelledError("x"),
        concurrent.futures.TimeoutError("x"),
        subprocess.CalledProcessError(3, ["x"], "out"),
        forkless.TimeoutError("x"),
    ],
    ids=repr,
)
def test_errors_of_libraries_arrive_as_they_are(error: BaseException) -> None:
    error.extra = "x"  # type: ignore[attr-defined]
    there, here = everything_of(travel(error)), everything_of(error)
    assert repr(there) == repr(here)
    assert there[0] is here[0]


@pytest.mark.parametrize(
    ("make", "args", "kwargs"),
    [
        (failures.NeedsTwo, ("bread", "butter"), {}),
        (failures.OnlyKeywords, (), {"code": 3}),
        (failures.Wraps, ("text",), {}),
        (failures.Slotted, (1, 2), {}),
        (failures.Frozen, (1, "reason"), {}),
        (failures.Missing, ("file", True), {}),
        (failures.Undecodable, (b"data",), {}),
        (failures.New, (), {"code": 3}),
        (failures.RefusesToPickle, ("text",), {}),
        (failures.SaysHow, ("bread", "butter"), {}),
        (failures.ExitsWhenLoaded, ("text",), {}),
    ],
)
def test_errors_that_pickle_gets_wrong_arrive_as_they_are(
    pool: forkless.Pool, make: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    error = error_of(pool, failures.call, make, *args, **kwargs)
    assert everything_of(error) == everything_of(make(*args, **kwargs))
    assert entries_of(error)[-1][0] == "call"


def test_no_constructor_is_called_once_more(pool: forkless.Pool) -> None:
    errors = [error_of(pool, failures.call, failures.Counts) for _ in range(3)]
    assert [error.args for error in errors] == [(1,), (2,), (3,)]
    assert failures.Counts.made == 0


def test_errors_of_classes_that_travel_by_value(pool: forkless.Pool) -> None:
    class Own(failures.NeedsTwo):
        pass

    assert type(error_of(pool, failures.call, Own, 1, 2)) is Own
    error = error_of(pool, failures.throw_local)
    assert (type(error).__name__, error.args, error.both) == ("Local", (1, 2), (1, 2))


def test_errors_of_main() -> None:
    source = """
import forkless
class Mine(Exception):
    def __init__(self, *, code):
        self.code = code
def task():
    raise Mine(code=7)
with forkless.Executor(1) as executor:
    try:
        executor.submit(task).result()
    except Mine as error:
        print(error.code)
"""
    assert run_program(source).check() == "7\n"


def test_large_data_and_shared_objects_of_an_error_travel(pool: forkless.Pool) -> None:
    numpy = pytest.importorskip("numpy")
    lock = forkless.Lock()
    error = error_of(pool, failures.call, ValueError, numpy.arange(10**6), lock, bytes(10**6))
    assert error.args[0].sum() == 10**6 * (10**6 - 1) // 2
    assert error.args[2] == bytes(10**6)
    with error.args[1]:
        assert not lock.acquire(block=False)


def test_large_data_travels_beside_the_pickle() -> None:
    numpy = pytest.importorskip("numpy")
    packed = _errors.pack(ValueError(numpy.zeros(10**6)))
    assert sum(memoryview(each).nbytes for each in packed.buffers) == 8 * 10**6


# --- what cannot be rebuilt ---


@pytest.mark.parametrize("make", [failures.Locked, failures.LockedAttribute])
def test_an_error_that_holds_what_cannot_travel(pool: forkless.Pool, make: Any) -> None:
    (worker,) = pool._pool
    error = error_of(pool, failures.call, make)
    assert isinstance(error, forkless.RemoteError)
    assert error.type_name == f"failures.{make.__name__}"
    assert error.arguments.startswith("'it holds a lock', <" if make is failures.Locked else "'look'")
    assert "in call\n" in error.traceback
    assert f"\nfailures.{make.__name__}: " in error.traceback
    assert entries_of(error)[-1][0] == "call"
    assert isinstance(error.__cause__, RemoteTraceback)
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.type_name, copy.traceback) == (error.type_name, error.traceback)
    text = str(error)
    for part in (worker.name, str(worker.pid), make.__name__, "lock", "__reduce__"):
        assert part in text


@pytest.mark.parametrize("action", failures.actions)
def test_an_error_that_does_harm_when_it_is_loaded_here(pool: forkless.Pool, action: str) -> None:
    error = error_of(pool, failures.throw_at_home, action, os.getpid())
    assert isinstance(error, forkless.RemoteError)
    assert error.type_name == "ValueError"
    assert pool.apply(jobs.add, (1, 2)) == 3


@pytest.mark.parametrize("action", failures.actions)
def test_an_error_that_does_harm_when_it_is_loaded_there(pool: forkless.Pool, action: str) -> None:
    error = error_of(pool, failures.throw_at_home, action)
    assert isinstance(error, forkless.RemoteError)
    assert pool.apply(jobs.add, (1, 2)) == 3


def test_an_error_that_takes_for_ever_to_load_holds_up_its_task_alone() -> None:
    with forkless.Pool(2) as pool:
        stuck = pool.apply_async(failures.throw_and_hang)
        assert pool.map(jobs.double, range(20), 1) == [2 * number for number in range(20)]
        assert not stuck.ready()


@pytest.mark.parametrize("make", [failures.BecomesAnother, failures.BecomesNone, failures.Hostile])
def test_an_error_that_is_not_what_it_seems(pool: forkless.Pool, make: Any) -> None:
    error = error_of(pool, failures.call, make)
    assert isinstance(error, forkless.RemoteError)
    assert error.type_name.endswith(make.__name__)
    assert pool.apply(jobs.add, (1, 2)) == 3


def test_an_error_of_a_module_that_is_not_here(pool: forkless.Pool, tmp_path: Path) -> None:
    (tmp_path / "only_there.py").write_text("class Error(Exception):\n    pass\n")
    error = error_of(pool, failures.throw_of_a_module_that_is_only_there, str(tmp_path))
    assert isinstance(error, forkless.RemoteError)
    assert (error.type_name, error.arguments) == ("only_there.Error", "'from afar'")
    assert "No module named 'only_there'" in str(error)


# --- what is no ordinary error ---


class Base(BaseException):
    pass


SPECIAL = [
    SystemExit(3),
    SystemExit("text"),
    KeyboardInterrupt(),
    GeneratorExit("x"),
    asyncio.CancelledError("x"),
    StopIteration(3),
    StopAsyncIteration(3),
    TimeoutError("x"),
    concurrent.futures.TimeoutError("x"),
    concurrent.futures.CancelledError("x"),
    Base("x"),
]


@pytest.mark.parametrize("error", SPECIAL, ids=repr)
def test_every_exception_is_delivered_as_it_is(pool: forkless.Pool, error: BaseException) -> None:
    found: list[BaseException] = []
    found.append(error_of(pool, failures.throw, error))
    found.append(error_here(pool.map, failures.throw, [error]))
    result = pool.apply_async(failures.throw, (error,), error_callback=found.append)
    result.wait(PATIENCE)
    assert not result.successful()
    for each in found:
        assert (type(each), each.args) == (type(error), error.args)
    assert len(found) == 3
    assert pool.apply(jobs.add, (1, 2)) == 3


@pytest.mark.parametrize("error", SPECIAL, ids=repr)
def test_every_exception_is_delivered_by_imap_and_the_loop_goes_on(
    pool: forkless.Pool, error: BaseException
) -> None:
    for method in (pool.imap, pool.imap_unordered):
        results = method(failures.throw, [error, error])
        for _ in range(2):
            found = error_here(next, results)
            if isinstance(error, StopIteration):
                assert type(found) is RuntimeError
                assert found.__cause__ is not None
                found = found.__cause__
            assert (type(found), found.args) == (type(error), error.args)
        with pytest.raises(StopIteration):
            next(results)


def test_every_exception_is_delivered_by_futures() -> None:
    with forkless.Executor(1) as executor:
        for error in SPECIAL:
            future = executor.submit(failures.throw, error)
            found = future.exception(PATIENCE)
            assert (type(found), found.args) == (type(error), error.args)  # type: ignore[union-attr]
            assert error_here(future.result) is found
        assert executor.submit(jobs.add, 1, 2).result(PATIENCE) == 3


def test_callbacks_that_raise_what_they_got_end_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, *_: told.append(kind))
    with forkless.Executor(1) as executor, forkless.Pool(1) as pool:
        for error in (SystemExit(3), KeyboardInterrupt(), GeneratorExit()):
            event = forkless.Event()
            future = executor.submit(_wait_and_throw, event, error)
            future.add_done_callback(concurrent.futures.Future.result)
            event.set()
            assert type(future.exception(PATIENCE)) is type(error)
            pool.apply_async(failures.throw, (error,), error_callback=failures.throw).wait(PATIENCE)
        assert executor.submit(jobs.add, 1, 2).result(PATIENCE) == 3
        assert pool.apply(jobs.add, (1, 2)) == 3
    assert set(told) == {SystemExit, KeyboardInterrupt, GeneratorExit}


def _wait_and_throw(event: forkless.Event, error: BaseException) -> None:
    jobs.wait_for(event)
    raise error


# --- what is left ---


@pytest.mark.parametrize(
    "function",
    [
        failures.refer_to_each_other,
        failures.refer_to_each_other_by_a_chain,
        failures.lost_with,
        failures.keep_the_error,
    ],
)
@pytest.mark.parametrize("by_map", [False, True])
def test_the_arguments_of_a_failed_task_are_freed_before_the_next(function: Any, by_map: bool) -> None:
    with forkless.Pool(1, gc.disable) as pool:
        for number in range(1, 4):
            watched = failures.Watched()
            error = error_here(pool.map, function, [watched]) if by_map else error_of(pool, function, watched)
            assert isinstance(error, (ValueError, LookupError, forkless.RemoteError))
            assert pool.apply(failures.how_many_are_alive) == (0, number)


def test_a_generator_that_was_in_the_traceback_goes_on(pool: forkless.Pool) -> None:
    assert type(error_of(pool, failures.leave_a_generator)) is ValueError
    assert pool.apply(failures.go_on_with_the_generator) == "went on"


def test_an_error_is_freed_here_without_the_collector(pool: forkless.Pool) -> None:
    def fail(call: Callable[[], object]) -> weakref.ref[BaseException]:
        try:
            call()
        except failures.NeedsTwo as error:
            return weakref.ref(error)
        raise AssertionError("it should have raised")

    gc.disable()
    try:
        for call in (
            lambda: pool.apply(failures.throw_needs_two, (1,)),
            lambda: pool.map(failures.throw_needs_two, [1]),
            lambda: next(pool.imap(failures.throw_needs_two, [1])),
        ):
            # The thread that has brought it may just be done with it.
            assert eventually(partial(_is_gone, fail(call)))
    finally:
        gc.enable()


def _is_gone(reference: weakref.ref[BaseException]) -> bool:
    return reference() is None
