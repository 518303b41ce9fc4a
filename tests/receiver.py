"""A child at the other end of a pipe, with an empty `__main__` and a loop that answers calls.

For programs under test: `Child` is the parent's side, `serve` the child's.
"""

from __future__ import annotations

import pickle
import struct
import subprocess
import sys
import traceback
from collections.abc import Callable
from typing import IO, Any

from forkless import _pickling
from typing_extensions import Self


class Child:
    """A process that calls what it is sent, one call after the other."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", "import receiver; receiver.serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdin
        assert self.process.stdout
        self.to, self.back = self.process.stdin, self.process.stdout
        write(self.to, pickle.dumps(_pickling.main_spec()))

    def __call__(self, function: Callable[..., Any], *args: object) -> Any:
        """Calls the function there; its result, or what it raised."""
        return self.deliver(self.pack(function, *args))

    @staticmethod
    def pack(function: Callable[..., Any], *args: object) -> bytes:
        """The message for a call, not sent yet."""
        return _pickling.dumps((function, args))[0]

    def deliver(self, payload: bytes) -> Any:
        """Sends a message, maybe again."""
        write(self.to, payload)
        succeeded, value = _pickling.loads(read(self.back))
        if succeeded:
            return value
        raise value if isinstance(value, BaseException) else AssertionError(value)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.to.close()
        self.process.wait()
        self.back.close()


def serve() -> None:
    """The life of the child."""
    source, target = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr
    _pickling.adopt_main(pickle.loads(read(source)))
    while True:
        try:
            payload = read(source)
        except EOFError:
            return
        write(target, answer(payload))


def answer(payload: bytes) -> bytes:
    try:
        function, args = _pickling.loads(payload)
        return _pickling.dumps((True, function(*args)))[0]
    except BaseException as error:
        try:
            return _pickling.dumps((False, error))[0]
        except BaseException:
            return pickle.dumps((False, traceback.format_exc()))


def write(file: IO[bytes], data: bytes) -> None:
    file.write(struct.pack("N", len(data)) + data)
    file.flush()


def read(file: IO[bytes]) -> bytes:
    header = file.read(struct.calcsize("N"))
    if not header:
        raise EOFError
    return file.read(struct.unpack("N", header)[0])
