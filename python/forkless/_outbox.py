"""The worker's side of `_output`: standard streams that send what is written to them.

Threads append to the outbox, each by one atomic operation. Who wants to send becomes the *sender* by another.
Who finds that there is one already leaves, because the sender looks again after it has ceased to be it; only
a flush waits for a sender in another thread. One that is further up in the same thread was interrupted, by a
signal handler or a `__del__`, and will go on with what they have added.
"""

import io
import itertools
import os
import pickle
from _thread import get_ident
from collections import deque
from collections.abc import Callable, Iterable
from operator import itemgetter
from time import monotonic, sleep
from typing import Any

# What it is, and text or a pickle.
Part = tuple[int, str | bytes]

# Kinds of parts.
STDOUT, STDERR, FLUSH_STDOUT, FLUSH_STDERR, RECORD, WARNING = range(6)

# So many messages may be sent within so many seconds before lines are collected, until they are so large.
_BURST, _INTERVAL, _ENOUGH = 200, 0.05, 8 << 10
# The size of what is sent in one message, about: characters, and parts.
_PIECE, _PARTS = 64 << 10, 1000
# Writes without a newline that are kept back at most.
_LONG_LINE = 1000
# How often to look whether another thread has sent, and for how long: should it never come back, go on. It
# may wait for an owner whose turn does not come for seconds, and what it sends is to come first.
_PAUSE, _PAUSES = 0.0005, 20_000


class Outbox:
    """What is to be sent, in order.

    Args:
        send: sends one message. What it raises means that it has not, except for `TimeoutError` and what is
            no `Exception`: these come from a signal handler, and are for the task.
        fall_back: gets what could not be sent.
    """

    def __init__(self, send: Callable[[bytes], object], fall_back: Callable[[list[Part]], object]) -> None:
        self.parts: list[Part] = []
        # The thread that sends is under 0; empty if none does. `setdefault` elects it.
        self.sender: dict[int, tuple[int]] = {}
        self._send, self._fall_back = send, fall_back
        self._burst: float = _BURST
        # Estimates: a change that two threads make at once may get lost, which moves a message and no more.
        self._since, self._sent, self._size = 0.0, 0, 0

    def post(self, kind: int, data: str | bytes) -> None:
        """Adds what is complete in itself, and sends it if that is due."""
        self.parts.append((kind, data))
        self._size += len(data)
        now = monotonic()
        if now - self._since >= _INTERVAL:
            self._since, self._sent = now, 0
        if self._sent < self._burst or self._size >= _ENOUGH:
            self.drain()

    def drain(self, wait: bool = False) -> None:
        """Sends what is there, unless somebody does so already.

        Args:
            wait: return only when it has been sent, also if another thread does it. This thread may itself be
                sending, further up, and then goes on with what is there now.
        """
        me = (get_ident(),)
        pauses = 0
        while self.parts or (wait and self.sender):
            sender = self.sender.setdefault(0, me)
            if sender is me:
                try:
                    self._send_some()
                finally:
                    self.sender.pop(0, None)
            elif sender[0] == me[0] or not wait:
                return
            elif pauses < _PAUSES:
                pauses += 1
                sleep(_PAUSE)
            else:
                self.sender.pop(0, None)

    def settle(self) -> None:
        """Sends everything. Called when this thread cannot be sending further up."""
        sender = self.sender.get(0)
        if sender is not None and sender[0] == get_ident():
            # An exception from outside, such as the end of a task's time, came at the worst moment.
            self.sender.pop(0, None)
        self.drain(wait=True)

    def reset(self) -> None:
        """In a copy of this process: what is there is sent by the original."""
        self.parts.clear()
        self.sender.clear()
        self._burst = float("inf")

    def _send_some(self) -> None:
        """Sends one message. Only the sender takes parts out, and others add them at the end."""
        batch: list[Part] = []
        size = 0
        for part in self.parts[:_PARTS]:
            batch.append(part)
            size += len(part[1])
            if size >= _PIECE:
                break
        if not batch:
            return
        payload = pickle.dumps(_merged(batch), protocol=5)
        del self.parts[: len(batch)]
        self._size = self._size - size if self.parts else 0
        self._sent += 1
        try:
            self._send(payload)
        except TimeoutError:
            raise
        except Exception:
            self._fall_back(batch)


def _merged(batch: list[Part]) -> list[Part]:
    """Text for the same stream in one piece, and one flush for several."""
    merged: list[Part] = []
    for kind, parts in itertools.groupby(batch, itemgetter(0)):
        if kind in (STDOUT, STDERR):
            merged.append((kind, "".join(text for _, text in parts if isinstance(text, str))))
        elif kind in (FLUSH_STDOUT, FLUSH_STDERR):
            merged.append((kind, ""))
        else:
            merged.extend(parts)
    return merged


class Sink(io.BufferedIOBase):
    """Where the bytes of a standard stream go: `sys.stdout.buffer`.

    What it is given is decoded, so that it can be written to any text stream. Bytes that are no text become
    surrogates, and bytes again in the owner.

    Args:
        outbox: where text goes.
        kind: of which stream.
        real: the stream on the descriptor, or None if this process has no such stream.
        prefix: what each line begins with.
    """

    mode = "wb"

    def __init__(self, outbox: Outbox, kind: int, real: Any, prefix: str) -> None:
        self.name = ("<stdout>", "<stderr>")[kind]
        self.encoding: str = getattr(real, "encoding", None) or "utf-8"
        self.descriptor: int | None = real.fileno() if real is not None else None
        # Of the line that is not complete.
        self.rest: deque[bytes] = deque()
        self.unflushed = False
        self.real = real
        self._outbox, self._kind, self._prefix = outbox, kind, prefix
        self._in_line = False

    @property
    def raw(self) -> Any:
        """The file under the real stream: what is written there is not forwarded."""
        buffer = self.real.buffer
        return getattr(buffer, "raw", buffer)

    def fileno(self) -> int:
        """The descriptor of the real stream."""
        if self.descriptor is None:
            raise io.UnsupportedOperation(f"this process has no {self.name[1:-1]}")
        return self.descriptor

    def isatty(self) -> bool:
        """Whether the real stream is a terminal; the owner's usually is, then."""
        return self.real is not None and bool(self.real.isatty())

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any, /) -> int:
        """Takes bytes; sends lines when they are complete."""
        if self.closed:
            raise ValueError("write to closed file")
        if type(data) is not bytes:
            data = bytes(memoryview(data))
        self.unflushed = True
        end = data.rfind(b"\n") + 1
        if end == 0:
            self.rest.append(data)
        else:
            lines = data if end == len(data) else data[:end]
            if self.rest:
                lines = self._take_rest() + lines
            if end < len(data):
                self.rest.append(data[end:])
            self._post(lines)
        if len(self.rest) > _LONG_LINE or len(data) - end > _PIECE:
            self.post_rest()
        return len(data)

    def flush(self) -> None:
        """Sends everything, and has the owner flush its stream."""
        super().flush()
        if self.unflushed:
            self.unflushed = False
            self.post_rest()
            self._outbox.parts.append((FLUSH_STDOUT + self._kind, ""))
        self._outbox.drain(wait=True)

    def post_rest(self) -> None:
        """Gives away what there is of a line."""
        rest = self._take_rest()
        if rest:
            self._post(rest)

    def reset(self) -> None:
        """In a copy of this process: what is there belongs to the original."""
        self.rest.clear()
        self.unflushed = False

    def _take_rest(self) -> bytes:
        # One by one: another thread may do the same, and may add some.
        pieces = []
        while self.rest:
            try:
                pieces.append(self.rest.popleft())
            except IndexError:
                break
        return b"".join(pieces)

    def _post(self, data: bytes) -> None:
        try:
            text = data.decode(self.encoding, "surrogateescape")
        except UnicodeDecodeError:
            # An encoding of more bytes than one, cut by a newline in one of them: these bytes, at least.
            text = data.decode("utf-8", "surrogateescape")
        if self._prefix:
            text = self._tagged(text)
        if len(text) <= _PIECE:
            self._outbox.post(self._kind, text)
            return
        for start in range(0, len(text), _PIECE):
            self._outbox.post(self._kind, text[start : start + _PIECE])

    def _tagged(self, text: str) -> str:
        """The text with the prefix where a line begins."""
        body, end = (text[:-1], "\n") if text.endswith("\n") else (text, "")
        start = "" if self._in_line else self._prefix
        self._in_line = not end
        return start + body.replace("\n", "\n" + self._prefix) + end


class Stream(io.TextIOWrapper):
    """A standard stream of a worker. All that a text stream does, the interpreter's own class does."""

    mode = "w"

    def __init__(self, sink: Sink, errors: str) -> None:
        # It keeps nothing back, and so needs no lock: the sink has the buffer.
        super().__init__(sink, sink.encoding, errors, write_through=True)
        self._unbuffered = bool(getattr(sink.real, "write_through", False))

    @property
    def write_through(self) -> bool:
        """What the real stream has been told, which children are told too. Here, lines are sent as lines."""
        return self._unbuffered

    def reconfigure(self, **options: Any) -> None:
        """Changes encoding, handling of errors, ends of lines or buffering, from here on."""
        super().reconfigure(**options)
        if isinstance(self.buffer, Sink):
            self.buffer.encoding = self.encoding


def fall_back(batch: Iterable[Part], sinks: tuple[Sink, ...]) -> None:
    """Writes to the descriptors that this process has inherited. Without buffers, as they take locks."""
    for kind, data in batch:
        try:
            if kind in (STDOUT, STDERR):
                _write_all(sinks[kind], str(data))
            elif isinstance(data, bytes):
                _write_all(sinks[STDERR], _as_text(kind, data))
        except Exception:
            continue  # There is nobody left to tell.


def _as_text(kind: int, data: bytes) -> str:
    if kind == RECORD:
        from . import _records

        return _records.as_text(data)
    from . import _warned

    return _warned.as_text(data)


def _write_all(sink: Sink, text: str) -> None:
    data = text.encode(sink.encoding, "surrogateescape")
    while data and sink.descriptor is not None:
        data = data[os.write(sink.descriptor, data) :]
