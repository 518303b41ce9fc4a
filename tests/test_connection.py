"""Connections and descriptors: `forkless.connection`, `forkless.reduction` and what the template keeps."""

from __future__ import annotations

import contextlib
import hmac
import io
import multiprocessing
import multiprocessing.connection as standard
import multiprocessing.reduction
import os
import pickle
import random
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import forkless
import pytest
from forkless import connection, reduction
from forkless.connection import Client, Connection, Listener, Pipe, wait
from support import PATIENCE, Program, eventually, run_program, status_of

METHODS = ("forkserver", "spawn")
KEY = b"the key"


@pytest.fixture(params=METHODS)
def context(request: pytest.FixtureRequest) -> Any:
    return forkless.get_context(request.param)


@pytest.fixture
def ends() -> Iterator[tuple[Connection, Connection]]:
    one, two = Pipe()
    with one, two:
        yield one, two


def echo(end: Connection) -> None:
    with end, contextlib.suppress(EOFError):
        while True:
            end.send(end.recv())


def send_and_close(end: Connection, message: object) -> None:
    end.send(message)
    end.close()


# --- messages -----------------------------------------------------------------------------------------------


def test_a_child_answers(context: Any) -> None:
    here, there = context.Pipe()
    process = context.Process(target=echo, args=(there,))
    process.start()
    there.close()
    with here:
        for message in (None, 1, "two", [3.0], b"x" * 3_000_000):
            here.send(message)
            assert here.recv() == message
    process.join()
    assert process.exitcode == 0


def test_one_way(context: Any) -> None:
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=send_and_close, args=(writer, "hello"))
    process.start()
    writer.close()
    with reader:
        assert reader.recv() == "hello"
        with pytest.raises(EOFError, match="closed"):
            reader.recv(timeout=PATIENCE)
        assert (reader.readable, reader.writable) == (True, False)
        with pytest.raises(OSError, match="read-only"):
            reader.send(1)
    process.join()


def test_definitions_of_main_and_shared_objects_travel() -> None:
    source = """
import forkless
class Thing:
    def __init__(self, value): self.value = value
    def double(self): return 2 * self.value
def serve(end):
    lock = forkless.Lock()
    lock.acquire()
    end.send((Thing(21), lambda: "a lambda", lock, forkless.share(b"bytes")))
    end.recv()
    lock.release()
    end.send("released")
here, there = forkless.Pipe()
process = forkless.Process(target=serve, args=(there,))
process.start()
there.close()
thing, function, lock, shared = here.recv()
print(type(thing) is Thing, thing.double(), function(), lock.locked(), bytes(shared))
here.send(None)
here.recv()
print(lock.acquire(timeout=60))
process.join()
"""
    assert run_program(source).check() == "True 42 a lambda True b'bytes'\nTrue\n"


def test_a_shared_object_survives_its_sender(ends: tuple[Connection, Connection]) -> None:
    here, there = ends

    def send(end: Connection) -> None:
        event = forkless.Event()
        event.set()
        end.send(event)
        end.send("sent")
        os.kill(os.getpid(), signal.SIGKILL)

    process = forkless.Process(target=send, args=(there,))
    process.start()
    process.join()
    assert here.recv().is_set()
    assert here.recv() == "sent"
    process.close()


def test_shared_objects_that_nobody_receives_are_freed() -> None:
    from forkless._forkless import census

    with forkless.Pipe()[0]:
        pass
    before = census()
    here, there = Pipe()
    for _ in range(10):
        here.send(forkless.Lock())
    assert census() > before
    there.recv_bytes()
    assert isinstance(there.recv(), forkless.Lock)
    here.close()
    there.close()
    assert census() == before


def test_messages_of_two_senders_may_cross() -> None:
    here, there = Pipe()
    with here, there:
        for number in (1, 2):
            here.send([forkless.Lock(), number])
        frames = [there.recv_bytes() for _ in range(2)]
        assert [pickle.loads(frame)[1] for frame in reversed(frames)] == [2, 1]
        with pytest.raises(OSError, match="use a lock around recv"):
            pickle.loads(frames[0])


def test_shared_objects_through_a_listener_are_refused_with_advice() -> None:
    with Listener() as listener, Client(listener.address) as client, listener.accept() as server:
        with pytest.raises(pickle.PicklingError, match="Send it through a Queue or a Pipe"):
            client.send(forkless.Lock())
        client.send("still usable")
        assert server.recv() == "still usable"


def test_bytes(ends: tuple[Connection, Connection]) -> None:
    here, there = ends
    here.send_bytes(b"0123456789", 2, 3)
    here.send_bytes(bytearray(b"0123456789"), offset=8)
    here.send_bytes(memoryview(b"abcd").cast("H"))
    here.send_bytes(memoryview(b"abcd").cast("B", (2, 2)))
    here.send_bytes(b"")
    assert [there.recv_bytes() for _ in range(5)] == [b"234", b"89", b"abcd", b"abcd", b""]
    for wrong in ((11,), (5, 6), (-1,), (0, -1)):
        with pytest.raises(ValueError):
            here.send_bytes(b"0123456789", *wrong)
    target = bytearray(8)
    here.send_bytes(b"abc")
    assert there.recv_bytes_into(target, 2) == 3
    assert target == b"\0\0abc\0\0\0"
    here.send_bytes(b"123456789")
    with pytest.raises(forkless.BufferTooShort) as caught:
        there.recv_bytes_into(target)
    assert caught.value.args == (b"123456789",)
    here.send_bytes(b"12345")
    assert there.recv_bytes(5) == b"12345"
    here.send_bytes(b"12345")
    with pytest.raises(OSError, match="bad message length: 5 bytes, at most 4"):
        there.recv_bytes(4)
    assert (there.readable, there.writable) == (False, True)


def test_a_closed_connection() -> None:
    one, two = Pipe()
    with one as same:
        assert same is one
    assert one.closed
    assert not two.closed
    one.close()
    for call in (one.recv, one.fileno, one.poll, one.recv_bytes):
        with pytest.raises(OSError, match="handle is closed"):
            call()
    with pytest.raises(OSError, match="handle is closed"):
        pickle.dumps(one)
    with pytest.raises(BrokenPipeError, match=r"the other end of .*Connection fd="):
        two.send(1)
    assert two.poll()
    two.close()
    assert "closed" in repr(two)


def test_it_is_one_of_the_standard_library() -> None:
    one, two = Pipe()
    with one, two:
        assert isinstance(one, standard.Connection)
        two.send(1)
        assert standard.wait([one], PATIENCE) == [one]
    with pytest.raises(ValueError, match="handle"):
        Connection(-1)


# --- waiting ------------------------------------------------------------------------------------------------


def test_timeouts(ends: tuple[Connection, Connection]) -> None:
    here, _there = ends
    start = time.monotonic()
    receive: Any
    for receive in (here.recv, here.recv_bytes, partial(here.recv_bytes_into, bytearray(1))):
        with pytest.raises(forkless.TimeoutError, match=r"not received in time by .*Connection fd="):
            receive(timeout=0.05)
    assert time.monotonic() - start >= 0.15
    assert not here.poll(0.01)
    with pytest.raises(ValueError):
        here.recv(timeout=float("nan"))


def test_a_message_that_comes_in_pieces_is_taken_up_again() -> None:
    sock, other = socket.socketpair()
    with sock, Connection(other.detach()) as end:
        frame = struct.pack("!i", 10) + b"0123456789"
        for byte in frame[:-1]:
            sock.sendall(bytes([byte]))
            with pytest.raises(TimeoutError):
                end.recv_bytes(timeout=0)
        with pytest.raises(ValueError, match="has received a part of a message"):
            pickle.dumps(end)
        sock.sendall(frame[-1:])
        assert end.recv_bytes(timeout=PATIENCE) == b"0123456789"
        sock.sendall(struct.pack("!iQ", -1, 3) + b"abc")
        assert end.recv_bytes(timeout=PATIENCE) == b"abc"


def test_a_message_that_could_not_be_sent_in_time(ends: tuple[Connection, Connection]) -> None:
    here, there = ends
    with pytest.raises(forkless.TimeoutError, match=r"has sent \d+ of the 10000004 bytes .* closed now"):
        here.send_bytes(b"x" * 10_000_000, timeout=0.1)
    assert here.closed
    with pytest.raises(OSError, match="end of file during message"):
        there.recv_bytes()


def test_nothing_is_sent_without_room(ends: tuple[Connection, Connection]) -> None:
    here, there = ends
    sent = 0
    with contextlib.suppress(forkless.TimeoutError):
        while True:
            here.send_bytes(b"x" * 1000, timeout=0)
            sent += 1
    assert not here.closed
    assert [there.recv_bytes(timeout=PATIENCE) for _ in range(sent)] == [b"x" * 1000] * sent
    here.send("goes on")
    assert there.recv() == "goes on"


def test_ctrl_c_ends_every_wait_and_loses_nothing() -> None:
    source = """
import forkless, signal
from forkless.connection import Listener, wait
here, there = forkless.Pipe()
listener = Listener()
for what in (here.recv, here.recv_bytes, lambda: here.poll(None), lambda: wait([here]), listener.accept):
    try:
        print("waiting", flush=True)
        what()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
there.send("after that")
print(here.recv())
"""
    with Program(source) as program:
        for number in range(5):
            assert eventually(lambda: program.stdout().count("waiting") > number)  # noqa: B023
            assert eventually(lambda: sleeps(program.pid))
            program.interrupt()
            assert eventually(lambda: program.stdout().count("interrupted") > number)  # noqa: B023
        assert program.finish().check().endswith("after that\n")


def sleeps(pid: int) -> bool:
    """Whether a process waits for something."""
    return status_of(pid)[0] == "S"


def test_wait_takes_anything(context: Any) -> None:
    here, there = Pipe()
    one, two = socket.socketpair()
    with here, there, one, two:
        process = context.Process(target=signal.pause)
        process.start()
        everything: list[Any] = [here, one, process.sentinel, two.fileno()]
        assert wait(everything, 0) == []
        assert wait(everything, 0.05) == []
        there.send(1)
        assert wait(everything) == [here]
        two.send(b"1")
        assert wait(everything) == [here, one]
        process.kill()
        assert eventually(lambda: wait(everything, 0) == [here, one, process.sentinel])
        one.send(b"1")
        assert wait(iter([*everything, here])) == [*everything, here]
        process.join()
        process.close()
    assert wait([], 0.01) == []
    for closed in (here, one):
        with pytest.raises((OSError, ValueError), match="closed"):
            wait([closed])
    with pytest.raises(ValueError, match="no descriptor"):
        wait(["nothing"])


# --- descriptors on their way -------------------------------------------------------------------------------


def test_a_connection_travels_by_every_way(context: Any) -> None:
    queue: forkless.Queue[Any] = forkless.Queue()
    here, there = Pipe()

    def through_queue(end: Connection) -> Any:
        queue.put([end])
        return queue.get()[0]

    def through_pipe(end: Connection) -> Any:
        here.send(end)
        return there.recv()

    def through_file(end: Connection) -> Any:
        file = io.BytesIO()
        reduction.dump(end, file)
        return pickle.loads(file.getvalue())

    def through_pool(end: Connection) -> Any:
        return pool.apply(identity, (end,))

    with here, there, context.Pool(1) as pool:
        for send in (through_queue, through_pipe, through_file, through_pool):
            one, two = Pipe()
            with one:
                moved = send(two)
                two.close()
                with moved:
                    moved.send("through")
                    assert one.recv(timeout=PATIENCE) == "through"
                    if send != through_file:
                        one.send(forkless.Lock())
                        assert isinstance(moved.recv(timeout=PATIENCE), forkless.Lock)
                        moved.send(forkless.Lock())
                        assert isinstance(one.recv(timeout=PATIENCE), forkless.Lock)
                with pytest.raises(EOFError):
                    one.recv(timeout=PATIENCE)


def identity(value: Any) -> Any:
    return value


def test_a_connection_survives_its_sender(context: Any) -> None:
    queue: forkless.Queue[Any] = forkless.Queue()
    here, there = Pipe(duplex=False)

    def send(queue: Any, end: Connection) -> None:
        queue.put(end)
        os.kill(os.getpid(), signal.SIGKILL)

    process = context.Process(target=send, args=(queue, there))
    process.start()
    there.close()
    process.join()
    with here:
        assert not here.poll(), "open: it is on its way"
        with queue.get(timeout=PATIENCE) as end:
            end.send("alive")
        assert here.recv() == "alive"
        with pytest.raises(EOFError):
            here.recv(timeout=PATIENCE)


def test_a_connection_that_nobody_takes_is_closed() -> None:
    queue: forkless.Queue[Any] = forkless.Queue()
    here, there = Pipe()
    with here:
        queue.put(there)
        there.close()
        assert not here.poll()
        del queue
        assert here.poll(PATIENCE)
        with pytest.raises(EOFError):
            here.recv()


@pytest.mark.parametrize("method", METHODS)
def test_a_connection_that_a_function_of_main_uses(method: str) -> None:
    source = f"""
import forkless
forkless.set_start_method({method!r})
here, there = forkless.Pipe()
class Holder:
    end = there
def by_global(): there.send("global")
def by_class(): Holder.end.send("class")
def make(end): return lambda: end.send("closure")
for target in (by_global, by_class, make(there), by_global):
    process = forkless.Process(target=target)
    process.start()
    print(here.recv())
    process.join()
there.close()
try:
    here.recv(timeout=60)
except EOFError:
    print("closed everywhere")
"""
    assert run_program(source).check().split("\n")[:-1] == [
        "global",
        "class",
        "closure",
        "global",
        "closed everywhere",
    ]


@pytest.mark.parametrize("when", ["at once", "running"])
def test_the_end_of_a_killed_process_is_seen(context: Any, when: str) -> None:
    here, there = context.Pipe()
    process = context.Process(target=echo, args=(there,))
    process.start()
    there.close()
    with here:
        if when == "running":
            here.send(1)
            assert here.recv() == 1
        process.kill()
        with pytest.raises(EOFError):
            # The parent keeps the process object, and has not joined it.
            here.recv(timeout=PATIENCE)
    process.join()


def test_unread_messages_make_no_other_error() -> None:
    here, there = Pipe()
    with here:
        here.send("never read")
        there.close()
        with pytest.raises(EOFError):
            here.recv()


def test_grandchildren_and_copies() -> None:
    source = """
import forkless, os
def grandchild(end): end.send("grandchild"); end.close()
def child(end):
    process = forkless.Process(target=grandchild, args=(end,))
    process.start()
    end.send("child")
    end.close()
    process.join()
here, there = forkless.Pipe()
process = forkless.Process(target=child, args=(there,))
process.start()
print(*sorted([here.recv(), here.recv()]))
process.join()
queue = forkless.Queue()
if (pid := os.fork()) == 0:
    queue.put(there)
    there.close()
    queue.get().send(("copy", forkless.Event()))
    one, two = forkless.Pipe()
    queue.put((one, two))
    os._exit(0)
print(here.recv()[0])
os.waitpid(pid, 0)
one, two = queue.get()
one.send("outlives the copy")
print(two.recv())
"""
    assert run_program(source).check() == "child grandchild\ncopy\noutlives the copy\n"


def test_a_template_that_is_retired_still_gives_what_it_keeps() -> None:
    source = """
import forkless
queue = forkless.Queue()
here, there = forkless.Pipe()
queue.put(there)
there.close()
forkless.set_forkserver_preload(["json"])
process = forkless.Process(target=lambda: queue.get().send("taken"))
process.start()
print(here.recv())
process.join()
"""
    assert run_program(source).check() == "taken\n"


def test_a_killed_template_is_named() -> None:
    source = """
import forkless, os, signal
from forkless._forkless import processes
queue = forkless.Queue()
here, there = forkless.Pipe()
queue.put(there)
(template,) = (pid for pid, _, role in processes() if role == "template")
os.kill(template, signal.SIGKILL)
os.waitid(os.P_PID, template, os.WEXITED | os.WNOWAIT)
try:
    queue.get()
except forkless.ProcessError as error:
    print(f"template (pid {template})" in str(error), "Send it again" in str(error))
queue.put(there)
with queue.get() as end:
    end.send("with a new one")
print(here.recv())
"""
    assert run_program(source).check() == "True True\nwith a new one\n"


def test_what_a_template_keeps_is_bounded() -> None:
    source = """
import forkless, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
queue = forkless.Queue()
here, there = forkless.Pipe()
count = 0
try:
    while True:
        queue.put(there)
        count += 1
except forkless.ProcessError as error:
    print("RLIMIT_NOFILE" in str(error), 100 < count < 256)
process = forkless.Process(target=print, args=("starts", ), kwargs={"flush": True})
process.start()
process.join()
for _ in range(count):
    queue.get().close()
for _ in range(1000):
    queue.put(there)
    queue.get().close()
print("goes on")
"""
    assert run_program(source).check() == "True True\nstarts\ngoes on\n"


def test_descriptors_are_not_left_with_children(context: Any) -> None:
    """A child has what it was given, and nothing else of what is on its way."""
    queue: forkless.Queue[Any] = forkless.Queue()
    here, there = Pipe()
    with here, there, context.Pool(1) as pool:
        for _ in range(10):
            queue.put(there)
        assert pool.apply(count_sockets) <= 1  # that of the child to its template
        del queue


def count_sockets() -> int:
    links = []
    for entry in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            links.append(os.readlink(f"/proc/self/fd/{entry}"))
    return sum(link.startswith("socket:") for link in links)


def test_sockets_and_connections_of_the_standard_library(context: Any) -> None:
    def use(sock: socket.socket, end: Any) -> None:
        end.send((type(end).__module__, sock.gettimeout(), sock.type.name))
        sock.sendall(b"from a child")
        sock.close()

    for timeout in (None, 5.0, 0.0):
        one, two = socket.socketpair()
        three, four = standard.Pipe()
        two.settimeout(timeout)
        with one, two, three, four:
            process = context.Process(target=use, args=(two, four))
            process.start()
            two.close()
            four.close()
            assert three.recv() == ("multiprocessing.connection", timeout, "SOCK_STREAM")
            assert one.recv(100) == b"from a child"
            assert one.recv(100) == b"", "closed everywhere"
            process.join()


def test_duplicates() -> None:
    queue: forkless.Queue[Any] = forkless.Queue()
    reader, writer = os.pipe()
    queue.put(reduction.DupFd(writer))
    os.close(writer)
    writer = queue.get().detach()
    os.write(writer, b"x")
    os.close(writer)
    assert os.read(reader, 2) == b"x"
    assert os.read(reader, 2) == b""
    os.close(reader)
    with pytest.raises(OSError, match=f"descriptor {reader} is not open"):
        reduction.DupFd(reader)
    one, two = socket.socketpair()
    queue.put(reduction.DupSocket(two))
    two.close()
    with one, queue.get().detach() as moved:
        moved.sendall(b"moved")
        assert one.recv(10) == b"moved"


def test_other_pickles_are_for_one_receiver() -> None:
    one, two = Pipe()
    with one:
        pickled = bytes(reduction.ForkingPickler.dumps(two))
        two.close()
        assert not one.poll()
        reduction.ForkingPickler.loads(pickled).close()
        assert one.poll(PATIENCE), "nothing has it any more, although this process made the pickle"
        with pytest.raises(forkless.ProcessError, match="has taken it"):
            pickle.loads(pickled)


class Registered:
    pass


def make_registered() -> str:
    return "registered"


def test_registered_reductions_hold_for_everything() -> None:
    reduction.register(Registered, lambda _: (make_registered, ()))
    try:
        queue: forkless.Queue[Any] = forkless.Queue()
        queue.put(Registered())
        assert queue.get() == "registered"
    finally:
        del vars(multiprocessing.reduction.ForkingPickler)["_extra_reducers"][Registered]


def test_handles_are_sent_to_a_process(ends: tuple[Connection, Connection]) -> None:
    here, there = ends

    def receive(end: Connection) -> None:
        descriptor = reduction.recv_handle(end)
        os.write(descriptor, b"here it is")
        os.close(descriptor)

    process = forkless.Process(target=receive, args=(there,))
    process.start()
    reader, writer = os.pipe()
    assert process.pid is not None
    reduction.send_handle(here, writer, process.pid)
    os.close(writer)
    assert os.read(reader, 100) == b"here it is"
    os.close(reader)
    process.join()
    assert reduction.HAVE_SEND_HANDLE


# --- listeners, clients, and peers of the standard library --------------------------------------------------


@contextlib.contextmanager
def in_thread(function: Any, *args: Any) -> Iterator[list[Any]]:
    """Runs a function beside this; afterwards the list has its result, or its exception."""
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(function(*args))
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield results
    finally:
        thread.join()


@pytest.mark.parametrize("family", connection.families)
@pytest.mark.parametrize("theirs", ["nobody", "listener", "client"])
@pytest.mark.parametrize("key", [None, KEY])
def test_peers(family: str, theirs: str, key: bytes | None) -> None:
    listen: Any = standard.Listener if theirs == "listener" else Listener
    connect: Any = standard.Client if theirs == "client" else Client
    with (
        listen(family=family, authkey=key) as listener,
        in_thread(connect, listener.address, None, key) as found,
    ):
        server = listener.accept()
    (client,) = found
    big = os.urandom(300_000)
    with server, client:
        for one, other in ((server, client), (client, server)):
            for message in ({"plain": [1, 2.5, None, len]}, big, b""):
                with in_thread(one.send, message):
                    assert other.recv() == message
            with in_thread(one.send_bytes, big):
                assert other.recv_bytes() == big
        server.close()
        with pytest.raises(EOFError):
            client.recv()


@pytest.mark.parametrize("theirs", ["nobody", "listener", "client"])
def test_a_wrong_key(theirs: str) -> None:
    listen: Any = standard.Listener if theirs == "listener" else Listener
    connect: Any = standard.Client if theirs == "client" else Client
    with listen(authkey=KEY) as listener:
        for key in (b"wrong", b""):
            with in_thread(connect, listener.address, None, key) as found:
                refused = multiprocessing.AuthenticationError
                with pytest.raises(refused):
                    listener.accept()
            assert isinstance(found[0], refused)
        with in_thread(connect, listener.address, None, KEY) as found, listener.accept() as server:
            server.send("the next one is served")
        with found[0] as client:
            assert client.recv() == "the next one is served"


def legacy_answer(end: Any, key: bytes) -> None:
    """As Python 3.11 does it."""
    message = end.recv_bytes(256)
    assert message.startswith(b"#CHALLENGE#")
    end.send_bytes(hmac.new(key, message.removeprefix(b"#CHALLENGE#"), "md5").digest())
    assert end.recv_bytes(256) == b"#WELCOME#"


def legacy_deliver(end: Any, key: bytes) -> None:
    message = os.urandom(20)
    end.send_bytes(b"#CHALLENGE#" + message)
    right = end.recv_bytes(256) == hmac.new(key, message, "md5").digest()
    end.send_bytes(b"#WELCOME#" if right else b"#FAILURE#")


def test_peers_that_know_md5_only(ends: tuple[Connection, Connection]) -> None:
    here, there = ends
    with in_thread(legacy_answer, there, KEY) as found:
        connection.deliver_challenge(here, KEY)
    assert found == [None]
    for key in (KEY, b"wrong"):
        with in_thread(legacy_deliver, there, KEY):
            if key == KEY:
                connection.answer_challenge(here, key)
            else:
                with pytest.raises(forkless.AuthenticationError, match="same authkey"):
                    connection.answer_challenge(here, key)


@pytest.mark.parametrize("digest", ["md5", "sha256", "sha384", "sha3_256", "sha3_384"])
def test_every_digest(digest: str, ends: tuple[Connection, Connection]) -> None:
    here, there = ends
    with in_thread(connection.answer_challenge, there, KEY) as found:
        connection.deliver_challenge(here, KEY, digest)
    assert found == [None]
    with pytest.raises(ValueError, match="sha1"):
        connection.deliver_challenge(here, KEY, "sha1")


@pytest.mark.parametrize(
    "said", [b"", b"#WELCOME#", b"#CHALLENGE#", b"#CHALLENGE#short", b"#CHALLENGE#{sha1}" + bytes(40)]
)
def test_clients_do_not_answer_nonsense(said: bytes, ends: tuple[Connection, Connection]) -> None:
    here, there = ends
    there.send_bytes(said)
    with pytest.raises(forkless.AuthenticationError):
        connection.answer_challenge(here, KEY)


def test_a_silent_client_does_not_keep_others_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    with Listener(authkey=KEY) as listener, socket.socket(socket.AF_UNIX) as silent:
        silent.connect(listener.address)
        with monkeypatch.context() as hasty:
            hasty.setattr(connection, "_HANDSHAKE", 0.2)
            with pytest.raises(forkless.AuthenticationError, match="did not show within"):
                listener.accept()
        with pytest.raises(forkless.TimeoutError, match=r"nobody connected to .*Listener"):
            listener.accept(timeout=0.05)
        silent.close()
        with socket.socket(socket.AF_UNIX) as gone:
            gone.connect(listener.address)
        with pytest.raises((EOFError, BrokenPipeError)):
            listener.accept()


def test_listeners(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with Listener(path) as listener:
        assert (listener.address, os.path.exists(path)) == (path, True)
        with Client(path), listener.accept():
            pass
        with pytest.raises(OSError, match="in use"):
            Listener(path)
        assert path in repr(listener)
    assert not os.path.exists(path)
    for use in (listener.accept, lambda: listener.address):
        with pytest.raises(OSError, match="listener is closed"):
            use()
    with pytest.raises(FileNotFoundError):
        Client(path)
    with Listener(family="AF_INET") as listener:
        assert listener.address[0] == "127.0.0.1"
        with (
            Client(listener.address, timeout=PATIENCE) as client,
            listener.accept(),
            socket.socket(fileno=os.dup(client.fileno())) as sock,
        ):
            assert listener.last_accepted == sock.getsockname()
    with pytest.raises(TypeError, match="authkey"):
        Listener(authkey="text")  # type: ignore[arg-type]
    for wrong in ("AF_PIPE", "AF_NONSENSE", "nonsense"):
        with pytest.raises(ValueError, match="not recognized"):
            Listener(family=wrong)
    with pytest.raises(ValueError, match="unrecognized"):
        connection.address_type(5)


def test_a_client_waits_for_its_place() -> None:
    with Listener(backlog=1) as listener, contextlib.ExitStack() as clients:
        # As many as have a place, which is one more than was asked for.
        for _ in range(2):
            clients.enter_context(Client(listener.address))
        with pytest.raises(forkless.TimeoutError, match="no connection to"):
            Client(listener.address, timeout=0.05)
        with in_thread(Client, listener.address, None, None, PATIENCE) as found, listener.accept():
            pass
        with found[0]:
            pass


def test_a_connection_of_a_listener_carries_connections() -> None:
    with Listener() as listener, Client(listener.address) as client, listener.accept() as server:
        one, two = Pipe()
        with one:
            client.send(two)
            two.close()
            with server.recv() as moved:
                moved.send("moved")
            assert one.recv(timeout=PATIENCE) == "moved"
            with pytest.raises(EOFError):
                one.recv(timeout=PATIENCE)


def test_a_connection_that_could_not_be_sent_is_not_kept() -> None:
    with Listener() as listener, Client(listener.address) as client:
        listener.accept().close()
        one, two = Pipe()
        with one:
            with pytest.raises(BrokenPipeError):
                client.send(two)
            two.close()
            assert one.poll(PATIENCE)
            with pytest.raises(EOFError):
                one.recv()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_nobody_else_gets_in_by_an_address_that_was_made_up() -> None:
    with Listener() as listener:
        stranger = f"""
import os, socket
os.setuid(65534)
socket.socket(socket.AF_UNIX).connect({listener.address!r})
"""
        subprocess.run([sys.executable, "-W", "ignore", "-c", stranger], check=True)
        with pytest.raises(forkless.TimeoutError):
            listener.accept(timeout=0.1)
        with Client(listener.address), listener.accept(timeout=PATIENCE):
            pass


# --- peers that lie -----------------------------------------------------------------------------------------


def peak() -> int:
    """The most memory that this process has had, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.parametrize("size", [(1 << 31) - 1, 1 << 31, 1 << 62, (1 << 64) - 1])
def test_no_memory_for_what_a_peer_announces(size: int) -> None:
    header = struct.pack("!i", size) if size < 1 << 31 else struct.pack("!iQ", -1, size)
    sock, other = socket.socketpair()
    before = peak()
    with Connection(other.detach()) as end:
        late = pytest.raises(forkless.TimeoutError)
        with sock, in_thread(sock.sendall, header + bytes(1_000_000)), late:
            end.recv(timeout=0.2)
        with pytest.raises(OSError, match="end of file during message"):
            end.recv_bytes(timeout=PATIENCE)
    assert peak() - before < 32 << 20


def throw(address: Any, data: bytes) -> None:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
        sock.connect(address)
        sock.sendall(data)


def frame(dice: random.Random) -> bytes:
    """A frame that is mostly right, so that what follows is looked at too."""
    body = dice.randbytes(dice.choice((0, 1, 16, 20, 60, 300)))
    kind = dice.random()
    if kind < 0.999:
        return struct.pack("!i", len(body)) + body
    wrong = dice.randbytes(8), struct.pack("!iQ", -1, dice.getrandbits(64)), struct.pack("!i", -2)
    return dice.choice(wrong) + body


def test_random_frames_do_no_harm() -> None:
    dice = random.Random(20240229)
    before = peak()
    received = 0
    with Listener(backlog=16) as listener:
        for _ in range(50):
            data = b"".join(frame(dice) for _ in range(2000))
            with in_thread(throw, listener.address, data), listener.accept() as server:
                error: Exception | None = None
                while error is None:
                    try:
                        server.recv_bytes(maxlength=1 << 20)
                        received += 1
                    except (EOFError, OSError) as found:
                        error = found
                assert str(error)
        with Client(listener.address) as client, listener.accept() as server:
            client.send("served")
            assert server.recv() == "served"
    assert received > 10_000
    assert peak() - before < 64 << 20


def test_random_bytes_do_not_pass_for_a_key() -> None:
    dice = random.Random(1729)
    before = peak()
    with Listener(authkey=KEY, backlog=16) as listener:
        for _ in range(300):
            data = frame(dice) if dice.random() < 0.7 else dice.randbytes(300)
            refused = pytest.raises((forkless.AuthenticationError, EOFError, BrokenPipeError))
            with in_thread(throw, listener.address, data), refused as caught:
                listener.accept()
            assert str(caught.value)
        with in_thread(Client, listener.address, None, KEY) as found, listener.accept() as server:
            server.send("served")
        with found[0] as client:
            assert client.recv() == "served"
    assert peak() - before < 64 << 20


def test_nothing_blocks_that_is_not_blocking(ends: tuple[Connection, Connection]) -> None:
    """Whoever made a descriptor may have made it so that it does not block."""
    here, there = ends
    for end in ends:
        os.set_blocking(end.fileno(), False)
    data = os.urandom(3_000_000)
    with in_thread(here.send_bytes, data):
        assert select.select([there], [], [], PATIENCE)[0]
        assert there.recv_bytes() == data
