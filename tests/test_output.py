"""Output of workers on its way to the owner: `_output`, between a real process and this one."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import pickle
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import forkless
import pytest
from forkless import _output
from forkless._forkless import Channel
from forkless._outbox import Outbox, Sink, Stream
from support import PATIENCE, Program

log = logging.getLogger("test_output")

# For what type checkers do not expect of the standard streams.
system: Any = sys
# What stands for both streams of the owner, if anything.
screens: list[io.StringIO] = []


def work(channel: Channel, task: Callable[..., object], args: tuple[Any, ...], options: Any) -> None:
    """What the loop of a worker does, for one task."""
    _output.install(channel.send, **options)
    task(*args)
    _output.flush()


def start(task: Callable[..., object], *args: Any, tag: bool = False, **options: Any) -> SimpleNamespace:
    """A worker that runs a task."""
    channel = Channel()
    options = {"tag": tag, "settings": _output.settings()}
    process = forkless.Process(target=work, args=(channel, task, args, options), name="Worker-7")
    process.start()
    return SimpleNamespace(channel=channel, process=process, pid=process.pid)


def deliver_one(worker: SimpleNamespace) -> None:
    message = worker.channel.receive(timeout=PATIENCE)
    assert message is not None
    deliver(message.payload)


def deliver(payload: bytes | memoryview) -> None:
    with contextlib.ExitStack() as stack:
        for screen in screens:
            stack.enter_context(contextlib.redirect_stdout(screen))
            stack.enter_context(contextlib.redirect_stderr(screen))
            # As it is outside of a test.
            stack.enter_context(warnings.catch_warnings())
            vars(warnings)["showwarning"] = show_warning
        _output.deliver(payload, "Worker-7")


def finish(worker: SimpleNamespace, exit_code: int = 0) -> list[bytes]:
    """Waits for a worker, and delivers what it has sent; returns that."""
    worker.process.join(PATIENCE)
    code, payloads = worker.process.exitcode, []
    while (message := worker.channel.receive(block=False)) is not None:
        payloads.append(bytes(message.payload))
        deliver(payloads[-1])
    worker.process.close()
    assert code == exit_code, payloads[-3:]
    return payloads


def show_warning(message: Any, category: Any, filename: str, lineno: int, *_: Any) -> None:
    sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line=""))


def run(task: Callable[..., object], *args: Any, tag: bool = False, exit_code: int = 0) -> list[bytes]:
    return finish(start(task, *args, tag=tag), exit_code)


@pytest.fixture
def screen() -> Iterator[io.StringIO]:
    """What stands for both streams of the owner."""
    screens.append(io.StringIO())
    yield screens[0]
    screens.clear()


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    """What arrives at a logger of the owner."""
    found: list[logging.LogRecord] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record)

    keeper = Keeper()
    log.addHandler(keeper)
    log.setLevel(logging.INFO)
    yield found
    log.removeHandler(keeper)
    log.setLevel(logging.NOTSET)


# --- print ---


def test_lines(capsys: pytest.CaptureFixture[str]) -> None:
    def task() -> None:
        print("one", 1)
        print("two", file=sys.stderr)
        print("not yet", end="")

    run(task)
    assert capsys.readouterr() == ("one 1\nnot yet", "two\n")
    with contextlib.redirect_stdout(io.StringIO()) as elsewhere:
        run(print, "there")
    assert elsewhere.getvalue() == "there\n"


def test_lines_with_a_tag(screen: io.StringIO) -> None:
    def task() -> None:
        print("one\ntwo")
        print("a", end="", flush=True)
        print("b\n", flush=True)
        print("bad", file=sys.stderr)
        print("rest", end="")

    run(task, tag=True)
    name = "[Worker-7] "
    assert screen.getvalue() == f"{name}one\n{name}two\n{name}ab\n{name}\n{name}bad\n{name}rest"


def test_a_line_does_not_wait_for_the_end_of_the_task(screen: io.StringIO) -> None:
    seen = forkless.Event()

    def task() -> None:
        for number in range(100):
            print(number)
        assert seen.wait(PATIENCE)
        print("a part", end="", flush=True)

    worker = start(task)
    while "99\n" not in screen.getvalue():
        deliver_one(worker)
    seen.set()
    finish(worker)
    assert screen.getvalue() == "".join(f"{number}\n" for number in range(100)) + "a part"


def test_many_lines_in_few_messages(screen: io.StringIO) -> None:
    def task() -> None:
        for number in range(100_000):
            print("line", number)

    payloads = run(task)
    assert screen.getvalue() == "".join(f"line {number}\n" for number in range(100_000))
    assert sum(map(len, payloads)) / len(payloads) > 100


def test_when_messages_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("forkless._outbox.monotonic", lambda: now[0])
    sent: list[bytes] = []
    outbox = Outbox(sent.append, lambda _: None)
    for number in range(300):
        outbox.post(0, f"{number}\n")
    assert len(sent) == 200
    now[0] += 0.1
    outbox.post(0, "after a while\n")
    assert len(sent) == 201
    outbox.post(0, "at once\n")
    assert len(sent) == 202
    for _ in range(1000):
        outbox.post(0, "x" * 100)
    assert 202 + 199 < len(sent) < 202 + 199 + 20
    outbox.settle()
    text = "".join(part[1] for payload in sent for part in pickle.loads(payload))
    numbers = "".join(f"{number}\n" for number in range(300))
    assert text == numbers + "after a while\nat once\n" + "x" * 100_000


def test_a_huge_line_comes_in_pieces(screen: io.StringIO) -> None:
    line = "abcdefghi€" * 500_000
    payloads = run(print, line)
    assert screen.getvalue() == line + "\n"
    assert max(map(len, payloads)) < 300_000
    screen.truncate(screen.seek(0))

    def without_end() -> None:
        for _ in range(100_000):
            sys.stdout.write("0123456789")

    assert len(run(without_end)) > 10
    assert screen.getvalue() == "0123456789" * 100_000


def test_the_streams_are_text_streams(screen: io.StringIO) -> None:
    def task() -> None:
        for descriptor, stream in ((1, system.stdout), (2, system.stderr)):
            assert isinstance(stream, io.TextIOWrapper)
            assert stream.fileno() == stream.buffer.fileno() == descriptor
            assert stream.isatty() == os.isatty(descriptor)
            assert (stream.encoding.lower(), stream.mode) == ("utf-8", "w")
            assert stream.writable()
            assert stream.buffer.writable()
            assert not stream.readable()
            assert not stream.closed
            assert not stream.line_buffering
            assert stream.buffer.raw.fileno() == descriptor
        assert system.stdout.errors == system.stdout.buffer.real.errors
        assert system.stderr.errors == "backslashreplace"
        assert system.stdout.name == "<stdout>"
        assert sys.stdout is sys.__stdout__
        assert sys.stderr is sys.__stderr__
        assert system.stdout.write("four") == 4
        system.stdout.writelines([" words", " more\n"])
        system.stdout.reconfigure(newline="\r\n", line_buffering=True)
        print("ends")
        with pytest.raises(TypeError):
            system.stdout.write(b"bytes")
        with pytest.raises(TypeError):
            system.stdout.buffer.write("text")
        with pytest.raises(io.UnsupportedOperation):
            system.stdout.read()

    run(task)
    assert screen.getvalue() == "four words more\nends\r\n"


def test_bytes_come_in_order_with_text(monkeypatch: pytest.MonkeyPatch) -> None:
    def task() -> None:
        print("text")
        sys.stdout.buffer.write(b"\x00\xff\xfe\n")
        sys.stdout.buffer.write(bytearray(b"more"))
        sys.stdout.buffer.write(memoryview(b" and"))
        sys.stdout.buffer.flush()
        print(" more text")
        latin = io.TextIOWrapper(sys.stdout.buffer, encoding="latin-1")
        print("é", file=latin, flush=True)
        latin.detach()
        system.stdout.reconfigure(encoding="latin-1")
        print("é")
        system.stdout.reconfigure(encoding="utf-16-le")
        print("é")

    there = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(there, encoding="utf-8"))
    run(task)
    sys.stdout.flush()
    lines = b"text\n", b"\x00\xff\xfe\n", b"more and more text\n", b"\xe9\n", "é\n".encode()
    assert there.getvalue()[: len(b"".join(lines))] == b"".join(lines)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    run(lambda: sys.stdout.buffer.write(b"\xff!\n"))
    assert system.stdout.getvalue() == "\udcff!\n"


def test_text_that_is_none(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    def task() -> None:
        with pytest.raises(UnicodeEncodeError):
            print("\ud800")
        print("\ud800", file=sys.stderr)
        system.stdout.reconfigure(errors="surrogateescape")
        print("\udcff")

    run(task)
    out, err = capsysbinary.readouterr()
    assert out.lstrip() == b"\xff\n"
    assert err == b"\\ud800\n"


def test_an_owner_whose_encoding_lacks_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    there = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(there, encoding="ascii"))
    run(print, "5 €")
    assert there.getvalue() == b"5 \\u20ac\n"


@pytest.mark.parametrize("state", ["none", "closed", "broken"])
def test_an_owner_without_a_working_stream(state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ("lost", "stdout"), ("seen", "stderr")

    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise SystemExit(text)

        flush = None  # type: ignore[assignment]

    stream = {"none": None, "closed": io.StringIO(), "broken": Broken()}[state]
    if state == "closed" and stream is not None:
        stream.close()
    monkeypatch.setattr(sys, "stdout", stream)
    with contextlib.redirect_stderr(io.StringIO()) as errors:
        run(lambda: [print(text, file=getattr(sys, name)) for text, name in texts])
    assert errors.getvalue() == "seen\n"


def test_what_was_flushed_survives_its_worker(screen: io.StringIO) -> None:
    def task() -> None:
        print("the last words", end="", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

    run(task, exit_code=-signal.SIGKILL)
    assert screen.getvalue() == "the last words"


def test_a_flush_flushes(monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []

    class Counter(io.StringIO):
        def flush(self) -> None:
            flushed.append(self.getvalue())

    def task() -> None:
        print("a")
        sys.stdout.flush()
        sys.stdout.flush()
        print("b", end="", flush=True)
        print("c")

    worker = start(task)
    monkeypatch.setattr(sys, "stdout", Counter())
    finish(worker)
    # The last one is that of a process that ends.
    assert flushed == ["a\n", "a\nb", "a\nbc\n"]


def test_threads(screen: io.StringIO) -> None:
    def task() -> None:
        # Often in the middle of something.
        sys.setswitchinterval(1e-6)

        def say(name: str) -> None:
            for number in range(3000):
                sys.stdout.write(f"{name} {number}\n")
                if number % 100 == 0:
                    sys.stdout.flush()

        threads = [threading.Thread(target=say, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    run(task)
    lines = screen.getvalue().splitlines()
    for name in "abcd":
        assert [line for line in lines if line[0] == name] == [f"{name} {n}" for n in range(3000)]
    assert len(lines) == 12_000


def test_a_flush_waits_for_what_another_thread_sends() -> None:
    entered, go = threading.Event(), threading.Event()
    sent: list[str] = []

    def send(payload: bytes) -> None:
        entered.set()
        assert go.wait(PATIENCE)
        sent.extend(part[1] for part in pickle.loads(payload))

    outbox = Outbox(send, lambda _: None)
    thread = threading.Thread(target=outbox.post, args=(0, "first\n"))
    thread.start()
    assert entered.wait(PATIENCE)
    # This one does not wait, and is not forgotten.
    outbox.post(0, "second\n")
    assert sent == []
    threading.Timer(0.05, go.set).start()
    outbox.drain(wait=True)
    assert sent == ["first\n", "second\n"]
    thread.join()


def test_printing_while_something_is_sent() -> None:
    class Noisy:
        def __del__(self) -> None:
            outbox.post(0, "from __del__\n")
            outbox.drain(wait=True)

    sent: list[str] = []

    def send(payload: bytes) -> None:
        text = [part[1] for part in pickle.loads(payload)]
        if text == ["first\n"]:
            Noisy()
        sent.extend(text)

    outbox = Outbox(send, lambda _: None)
    outbox.post(0, "first\n")
    assert sent == ["first\n", "from __del__\n"]


def test_printing_in_a_signal_handler(screen: io.StringIO) -> None:
    def task() -> None:
        heard = 0

        def handler(*_: object) -> None:
            nonlocal heard
            sys.stdout.write(f"signal {heard}\n")
            sys.stdout.flush()
            heard += 1
            # Not before: one at a time.
            signal.setitimer(signal.ITIMER_REAL, 0.0005)

        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.0005)
        number = 0
        while heard < 200:
            sys.stdout.write(f"line {number}\n")
            number += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.stdout.write(f"{number} {heard}\n")

    run(task)
    *lines, last = screen.getvalue().splitlines()
    number, heard = map(int, last.split())
    assert [line for line in lines if line[0] == "l"] == [f"line {n}" for n in range(number)]
    assert [line for line in lines if line[0] == "s"] == [f"signal {n}" for n in range(heard)]
    assert len(lines) == number + heard


def test_an_exception_from_outside_leaves_everything_in_order() -> None:
    """One that hits while something is sent is the task's, and the next message goes."""
    sent: list[str] = []
    errors: list[type[BaseException]] = [KeyboardInterrupt, TimeoutError]

    def send(payload: bytes) -> None:
        if errors:
            raise errors.pop()
        sent.extend(part[1] for part in pickle.loads(payload))

    outbox = Outbox(send, lambda batch: pytest.fail(f"{batch}"))
    with pytest.raises(TimeoutError):
        outbox.post(0, "hit\n")
    with pytest.raises(KeyboardInterrupt):
        outbox.post(0, "hit\n")
    outbox.post(0, "first\n")
    # At the worst moment: this thread is the sender, but is not sending.
    outbox.sender[0] = (threading.get_ident(),)
    outbox.post(0, "second\n")
    assert sent == ["first\n"]
    outbox.settle()
    assert sent == ["first\n", "second\n"]


def test_a_fork_in_a_worker(screen: io.StringIO) -> None:
    def task() -> None:
        print("from the original ", end="")
        if os.fork() == 0:
            print("from the copy")
            logging.getLogger("test_output").error("logged %d", os.getpid())
            os._exit(0)
        os.wait()
        print("to its end")

    run(task)
    lines = screen.getvalue().splitlines()
    assert lines[0] == "from the copy"
    assert lines[-1] == "from the original to its end"
    assert len(lines) <= 3


def test_what_a_copy_logs_is_its_own(records: list[logging.LogRecord]) -> None:
    def task() -> None:
        pid = os.fork()
        if pid == 0:
            log.info("copy")
            os._exit(0)
        os.waitpid(pid, 0)
        log.info("%d", pid)

    run(task)
    copy, original = records
    assert original.getMessage() == str(copy.process)
    assert copy.process != original.process


def test_what_a_user_puts_in_place_of_the_streams(screen: io.StringIO, capfd: Any) -> None:
    def task() -> None:
        mine = open(1, "w", closefd=False)  # noqa: SIM115
        sys.stdout = mine
        print("to the descriptor")
        _output.flush()
        sys.stdout = sys.__stdout__
        print("back again")
        os.write(2, b"past Python\n")

        class Strange:
            def flush(self) -> None:
                raise ValueError

        system.stderr = Strange()

    run(task)
    assert screen.getvalue() == "back again\n"
    assert capfd.readouterr() == ("to the descriptor\n", "past Python\n")


def test_children_of_a_worker_have_its_descriptors(screen: io.StringIO, capfd: Any) -> None:
    unbuffered = system.stdout.write_through

    def task() -> None:
        child = forkless.Process(target=lambda: print("child", system.stdout.write_through))
        child.start()
        child.join()

    run(task)
    assert screen.getvalue() == ""
    assert capfd.readouterr().out == f"child {unbuffered}\n"


def test_a_program_without_standard_streams(screen: io.StringIO) -> None:
    def task() -> None:
        system.stdout = None
        channel = Channel()
        _output.install(channel.send, tag=False)
        assert system.stdout.encoding == "utf-8"
        assert not system.stdout.isatty()
        with pytest.raises(OSError, match="no stdout"):
            system.stdout.fileno()
        print("there")
        message = channel.receive(timeout=PATIENCE)
        assert message is not None
        assert pickle.loads(message.payload) == [(0, "there\n")]

    process = forkless.Process(target=task)
    process.start()
    process.join()
    assert process.exitcode == 0


def test_what_cannot_be_sent_goes_to_the_descriptors(capfd: pytest.CaptureFixture[str]) -> None:
    def task(channel: Channel) -> None:
        broken = [True]

        def send(payload: bytes) -> None:
            if broken:
                raise OSError("the owner is gone")
            channel.send(payload)

        _output.install(send, tag=False)
        print("one")
        print("two", file=sys.stderr)
        logging.getLogger("some").warning("three %s", 3)
        logging.getLogger("some").debug("not seen")
        warnings.warn_explicit("four", UserWarning, "file.py", 4)
        sys.stdout.buffer.write(b"five\n")
        broken.clear()
        print("six")

    channel = Channel()
    process = forkless.Process(target=task, args=(channel,))
    process.start()
    process.join()
    assert process.exitcode == 0
    out, err = capfd.readouterr()
    assert out == "one\nfive\n"
    assert err == "two\nthree 3\nfile.py:4: UserWarning: four\n"
    message = channel.receive(block=False)
    assert message is not None
    assert pickle.loads(message.payload) == [(0, "six\n")]


def test_a_spawned_worker(screen: io.StringIO) -> None:
    channel = Channel()
    process = forkless.get_context("spawn").Process(
        target=work, args=(channel, print, ("spawned",), {"tag": True}), name="Spawned"
    )
    process.start()
    finish(SimpleNamespace(channel=channel, process=process))
    assert screen.getvalue() == "[Spawned] spawned\n"


def test_a_message_that_is_damaged(capsys: pytest.CaptureFixture[str]) -> None:
    _output.deliver(b"nonsense", "Worker-7")
    assert "output of Worker-7 is lost: UnpicklingError" in capsys.readouterr().err
    _output.deliver(pickle.dumps([(99, b"?")]))


def test_a_flush_without_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[bool] = []
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(flush=lambda: flushed.append(True)))
    _output.flush()
    assert flushed == [True]


def test_closing_a_stream() -> None:
    sent: list[bytes] = []
    stream = Stream(Sink(Outbox(sent.append, lambda _: None), 0, None, ""), "strict")
    stream.write("a part")
    stream.close()
    assert [part for payload in sent for part in pickle.loads(payload)] == [(0, "a part"), (2, "")]
    with pytest.raises(ValueError, match="closed"):
        stream.write("more")


# --- logging ---


def test_logging_is_not_loaded_before_it_is_needed() -> None:
    source = """
import sys, forkless
from forkless import _output
from forkless._forkless import Channel

def part():
    _output.install(channel.send, tag=False, settings=levels)
    assert "logging" not in sys.modules
    finders = len(sys.meta_path)
    import logging
    assert len(sys.meta_path) == finders - 1
    loader, spec = logging.__loader__, logging.__spec__
    assert loader is spec.loader and "forkless" not in type(loader).__module__
    logging.getLogger("a").info("%s", logging.getLogger("a.b").getEffectiveLevel())

channel = Channel()
import logging
logging.basicConfig(level=logging.INFO, format="%(processName)s: %(message)s")
levels = _output.settings()
process = forkless.Process(target=part)
process.start()
process.join()
_output.deliver(bytes(channel.receive(timeout=60).payload))
"""
    with Program(source) as program:
        outcome = program.finish()
    outcome.check()
    assert outcome.stderr == "Process-1: 20\n"


def test_a_record(records: list[logging.LogRecord]) -> None:
    worker = start(lambda: log.info("%s and %d", "text", 7))
    finish(worker)
    (record,) = records
    assert (record.msg, record.args) == ("%s and %d", ("text", 7))
    assert (record.name, record.levelname, record.funcName) == ("test_output", "INFO", "<lambda>")
    assert record.pathname == __file__
    assert (record.processName, record.process) == ("Worker-7", worker.pid)
    assert record.threadName == "MainThread"


class Unpicklable:
    def __str__(self) -> str:
        return "unpicklable"

    def __reduce__(self) -> Any:
        raise TypeError("not this one")


class Unreadable(Exception):
    def __repr__(self) -> str:
        raise ValueError("no")

    __str__ = __repr__


def test_arguments(records: list[logging.LogRecord]) -> None:
    def task() -> None:
        log.info("it is %s", Unpicklable())
        log.info("%(a)s %(b)s", {"a": 1, "b": "two"})
        log.info("%(a)s", {"a": Unpicklable()})
        log.info(Unpicklable())
        log.info("%s", [1, 2])
        log.info("100 %")

    run(task)
    assert [record.getMessage() for record in records] == [
        "it is unpicklable", "1 two", "unpicklable", "unpicklable", "[1, 2]", "100 %"
    ]  # fmt: skip
    assert all(type(record.msg) is str for record in records)


def test_exceptions_and_stacks(records: list[logging.LogRecord]) -> None:
    def task() -> None:
        try:
            getattr(Unpicklable(), "not" + "hing")
        except AttributeError:
            log.exception("it failed")
        log.info("here", stack_info=True)

    run(task)
    failed, here = records
    assert failed.exc_info is None
    text = logging.Formatter().format(failed)
    assert text.startswith("it failed\nTraceback (most recent call last):\n")
    assert text.endswith("AttributeError: 'Unpicklable' object has no attribute 'nothing'")
    assert "in task" in logging.Formatter().format(here)


def test_extra_attributes(records: list[logging.LogRecord]) -> None:
    def task() -> None:
        import colorsys

        local = type("Local", (), {"__module__": "colorsys"})
        vars(colorsys)["Local"] = local
        extra = {
            "plain": 1,
            "deep": {"a": [1, 2]},
            "number": complex(1, 2),
            "unpicklable": Unpicklable(),
            "unreadable": [Unreadable()],
            "unknown": local(),
        }
        log.info("more", extra=extra)

    assert "colorsys" not in sys.modules
    run(task)
    values = vars(records[0])
    assert (values["plain"], values["deep"], values["number"]) == (1, {"a": [1, 2]}, 1 + 2j)
    assert "Unpicklable object at" in values["unpicklable"]
    assert isinstance(values["unreadable"][0], Unreadable)
    assert "colorsys.Local object at" in values["unknown"]
    assert "colorsys" not in sys.modules


def test_levels_are_the_owner_s(records: list[logging.LogRecord]) -> None:
    other = logging.getLogger("test_output.quiet")
    other.setLevel(logging.ERROR)

    def task() -> None:
        assert log.level == logging.INFO
        assert not log.isEnabledFor(logging.DEBUG)
        for name in ("test_output", "test_output.quiet", "test_output.sub"):
            logging.getLogger(name).warning("%s", name)
        # What only the worker wants, the owner does not show.
        log.setLevel(logging.DEBUG)
        log.debug("too small")

    try:
        run(task)
    finally:
        other.setLevel(logging.NOTSET)
    assert [record.getMessage() for record in records] == ["test_output", "test_output.sub"]
    assert records[1].name == "test_output.sub"


def test_a_disabled_level(records: list[logging.LogRecord]) -> None:
    logging.disable(logging.INFO)
    try:
        worker = start(lambda: [logger(text) for logger, text in ((log.info, "no"), (log.warning, "yes"))])
    finally:
        logging.disable(logging.NOTSET)
    payloads = finish(worker)
    assert len(payloads) == 1
    assert [record.getMessage() for record in records] == ["yes"]


def test_handlers_of_a_worker(records: list[logging.LogRecord], tmp_path: Any, screen: io.StringIO) -> None:
    path = str(tmp_path / "log")

    def task() -> None:
        log.addHandler(logging.FileHandler(path))
        log.info("both")
        to_stream = logging.StreamHandler()
        to_stream.setLevel(logging.ERROR)
        log.addHandler(to_stream)
        log.info("still both")
        log.error("as a line, and in the file")
        apart = logging.getLogger("test_output.apart")
        apart.propagate = False
        apart.addHandler(logging.FileHandler(path))
        apart.error("the file alone")

    run(task)
    assert [record.getMessage() for record in records] == ["both", "still both"]
    assert screen.getvalue() == "as a line, and in the file\n"
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines == ["both", "still both", "as a line, and in the file", "the file alone"]


def test_basic_config_in_a_worker(records: list[logging.LogRecord], screen: io.StringIO) -> None:
    def task() -> None:
        logging.basicConfig(level=logging.DEBUG, format="%(levelname)s from the worker: %(message)s")
        logging.basicConfig(level=logging.ERROR)
        log.setLevel(logging.NOTSET)
        log.debug("formatted")

    run(task)
    assert screen.getvalue() == "DEBUG from the worker: formatted\n"
    assert records == []


def test_basic_config_with_a_file(records: list[logging.LogRecord], tmp_path: Any) -> None:
    def task() -> None:
        logging.basicConfig(filename=str(tmp_path / "log"), force=True)
        log.info("twice")

    run(task)
    assert (tmp_path / "log").read_text() == "INFO:test_output:twice\n"
    assert [record.getMessage() for record in records] == ["twice"]


def test_dict_config_in_a_worker(records: list[logging.LogRecord], screen: io.StringIO) -> None:
    def task() -> None:
        import logging.config

        handler = {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}
        config = {"version": 1, "handlers": {"h": handler}, "root": {"handlers": ["h"], "level": "INFO"}}
        logging.config.dictConfig(config)
        logging.getLogger("test_output.new").info("the worker's own")

    run(task)
    assert screen.getvalue() == "the worker's own\n"
    assert records == []


def test_a_logger_of_the_owner_that_does_not_propagate(records: list[logging.LogRecord]) -> None:
    log.propagate = False
    try:
        run(lambda: log.info("here"))
    finally:
        log.propagate = True
    assert len(records) == 1


def test_an_owner_who_never_loaded_logging() -> None:
    source = """
import sys, forkless
from forkless import _output
from forkless._forkless import Channel

channel = Channel()
assert _output.settings() is None
def part():
    _output.install(channel.send, tag=False)
    import logging
    logging.getLogger("a").warning("last resort")
    logging.getLogger("a").info("nothing")

process = forkless.Process(target=part)
process.start()
process.join()
assert "logging" not in sys.modules
_output.deliver(bytes(channel.receive().payload))
assert channel.receive(block=False) is None
"""
    with Program(source) as program:
        outcome = program.finish()
    outcome.check()
    assert outcome.stderr == "last resort\n"


def test_errors_in_handlers_are_reported(
    records: list[logging.LogRecord], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(record: logging.LogRecord) -> bool:
        raise RuntimeError(f"refused {record.msg}")

    def log_and_print() -> None:
        log.info("me")
        print("goes on")

    log.addFilter(refuse)
    try:
        run(log_and_print)
        out, err = capsys.readouterr()
        monkeypatch.setattr(logging, "raiseExceptions", False)
        run(lambda: log.info("me"))
    finally:
        log.removeFilter(refuse)
    assert out == "goes on\n"
    assert "--- Logging error ---" in err
    assert "RuntimeError: refused me" in err
    assert capsys.readouterr().err == ""
    assert records == []


def test_errors_in_a_worker_are_reported_there(records: list[logging.LogRecord], screen: io.StringIO) -> None:
    def task() -> None:
        log.info("%d", Unpicklable())
        log.info("next")

    run(task)
    assert "--- Logging error ---" in screen.getvalue()
    assert [record.getMessage() for record in records] == ["next"]


def test_filters_on_the_handler_of_a_worker(records: list[logging.LogRecord]) -> None:
    def task() -> None:
        (ours,) = logging.root.handlers
        ours.addFilter(lambda record: "secret" not in record.getMessage())
        log.info("a secret")
        log.info("public")
        ours.flush()

    run(task)
    assert [record.getMessage() for record in records] == ["public"]


# --- warnings ---


class Mine(UserWarning):
    pass


class Particular(RuntimeWarning):
    def __init__(self, text: str, more: int) -> None:
        super().__init__(text)


def test_warnings() -> None:
    def task() -> None:
        warnings.warn("careful", stacklevel=1)
        warnings.warn(Mine("mine"), stacklevel=1)
        warnings.warn(Particular("many arguments", 2), stacklevel=1)
        local = type("Local", (FutureWarning,), {"__module__": "nowhere"})
        warnings.warn_explicit("of no module", local, "file.py", 12)

    worker = start(task)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("error")
        finish(worker)
    found = [(warning.category, str(warning.message)) for warning in caught]
    assert found == [
        (UserWarning, "careful"),
        (Mine, "mine"),
        (RuntimeWarning, "Particular: many arguments"),
        (FutureWarning, "Local: of no module"),
    ]
    assert (caught[0].filename, caught[3].filename, caught[3].lineno) == (__file__, "file.py", 12)
    message: Any = caught[0].message
    assert (message.process, message.processName) == (worker.pid, "Worker-7")


def test_warnings_with_a_tag(screen: io.StringIO) -> None:
    run(lambda: warnings.warn_explicit("careful", UserWarning, "file.py", 12), tag=True)
    assert screen.getvalue() == "file.py:12: UserWarning: [Worker-7] careful\n"


def test_the_owner_s_way_of_showing_warnings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def show(message: Warning | str, *rest: object) -> None:
        raise RuntimeError(f"shown {message}")

    monkeypatch.setattr(warnings, "showwarning", show)
    run(lambda: warnings.warn("careful", stacklevel=1))
    assert "RuntimeError: shown careful" in capsys.readouterr().err


def test_a_worker_s_way_of_showing_warnings(screen: io.StringIO) -> None:
    def task() -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.warn("kept", stacklevel=1)
        assert len(caught) == 1
        warnings.showwarning("aside", UserWarning, "file.py", 1, file=sys.stdout)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(UserWarning):
                warnings.warn("raised", stacklevel=1)
        warnings.showwarning = lambda message, *_: print("own way:", message)
        warnings.warn("mine", stacklevel=1)

    run(task)
    assert re.sub(r"\n  .*", "", screen.getvalue()) == "file.py:1: UserWarning: aside\nown way: mine\n"


def test_captured_warnings_are_records(records: list[logging.LogRecord]) -> None:
    def task() -> None:
        logging.captureWarnings(True)
        logging.getLogger("py.warnings").name = "test_output"
        warnings.warn("logged", stacklevel=1)

    run(task)
    assert "UserWarning: logged" in records[0].getMessage()


# --- all of it ---


def test_everything_comes_in_order(screen: io.StringIO, records: list[logging.LogRecord]) -> None:
    to_screen = logging.StreamHandler(screen)
    log.addHandler(to_screen)

    def task() -> None:
        for number in range(0, 3000, 4):
            print(number)
            print(number + 1, file=sys.stderr)
            log.info("%d", number + 2)
            sys.stdout.buffer.write(b"%d\n" % (number + 3))
        warnings.warn_explicit("3000", UserWarning, "file.py", 12)

    try:
        run(task)
    finally:
        log.removeHandler(to_screen)
    expected = [*map(str, range(3000)), "file.py:12: UserWarning: 3000"]
    assert screen.getvalue().splitlines() == expected


def test_a_worker_of_a_worker(records: list[logging.LogRecord], screen: io.StringIO) -> None:
    def inner() -> None:
        print("inner")
        log.info("logged")
        warnings.warn_explicit("careful", UserWarning, "file.py", 12)

    def outer() -> None:
        channel = Channel()
        process = forkless.Process(
            target=work,
            args=(channel, inner, (), {"tag": True, "settings": _output.settings()}),
            name="Inner",
        )
        process.start()
        process.join()
        while (message := channel.receive(block=False)) is not None:
            _output.deliver(message.payload)
        print("outer")

    run(outer, tag=True)
    assert screen.getvalue() == (
        "[Worker-7] [Inner] inner\nfile.py:12: UserWarning: [Worker-7] [Inner] careful\n[Worker-7] outer\n"
    )
    assert [(record.getMessage(), record.processName) for record in records] == [("logged", "Inner")]
