"""What travels between an executor and the nodes of its cluster: tasks there, replies back.

Both are *messages*: plain bytes, which engines carry as they are, or a tuple of bytes and a `Block` for each
large buffer, which they need not copy. In the bytes are pickles of our own (`pickles`). `run` is the task as
the engines know it; it is all that runs on a node.
"""

import os
import pickle
import socket
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from .. import _errors
from .._pickling import PicklingError
from .blocks import Block, arrived
from .pickles import Packed, loads, pack

__all__ = ["FORMAT", "Job", "Message", "Reply", "decode", "encode", "run"]

# Changed whenever nodes could not understand what is sent any more.
FORMAT = 2

Message = bytes | tuple[bytes | Block, ...]


class Job(NamedTuple):
    """A task on its way.

    Attributes:
        format: `FORMAT` of the sender.
        function: parts of the pickled function of a `map`; None if it is in the call.
        call: parts of the pickled call, (function, args, kwargs), or (args, kwargs) where the function is
            by itself, or of the items of a chunk.
        is_chunk: whether it is a chunk.
        timeout: after how many seconds to break it off; None for never.
        tokens: of the shared memory that comes with it, in order.
        worker: what messages call a process that runs it.
    """

    format: int
    function: tuple[Any, ...] | None
    call: tuple[Any, ...]
    is_chunk: bool
    timeout: float | None
    tokens: tuple[str, ...]
    worker: str


class Reply(NamedTuple):
    """What comes back.

    Attributes:
        done: whether the value is the result, rather than a report of an exception.
        value: the parts of its pickle.
        node: the host on which it ran.
        pid: the process in which it ran.
        seconds: how long it ran.
    """

    done: bool
    value: tuple[Any, ...]
    node: str
    pid: int
    seconds: float


def encode(what: Job | Reply) -> Message:
    """The message that is sent for it."""
    large: list[pickle.PickleBuffer] = []
    # As a plain tuple: where another version of forkless is, its class may be another one.
    head = pickle.dumps((*what,), 5, buffer_callback=large.append)
    return (head, *map(Block, large)) if large else head


def decode(message: Message) -> tuple[Any, ...]:
    """The fields of a `Job` or `Reply`."""
    head, *large = (message,) if isinstance(message, bytes) else message
    fields: tuple[Any, ...] = pickle.loads(head, buffers=[block.view for block in large])  # type: ignore[arg-type, union-attr]
    return fields


# On a node.


def run(message: Message, *memory: Any) -> Message:
    """Runs a task, or those of a chunk. Raises nothing.

    Args:
        message: of a `Job`.
        memory: what its tokens stand for: what `blocks.portable` made.

    Returns:
        The message of a `Reply`.
    """
    started = time.monotonic()
    sent = Job(*decode(message))
    try:
        if sent.format != FORMAT:
            raise RuntimeError(
                f"forkless on {socket.gethostname()} is of another version than where the task was "
                "submitted: install the same one on all nodes"
            )
        table = {token: arrived(token, each) for token, each in zip(sent.tokens, memory, strict=True)}
        done, value = True, _pack_result(_limited(sent, table))
    except BaseException as error:
        done, value = False, _pack_report(error, sent.worker)
    seconds = time.monotonic() - started
    return encode(Reply(done, value.parts, socket.gethostname(), os.getpid(), seconds))


def _limited(job: Job, table: dict[str, Any]) -> Any:
    if job.timeout is None:
        return _call(job, table)
    from .limit import run_for

    return run_for(job.timeout, lambda: _call(job, table))


def _call(job: Job, table: dict[str, Any]) -> Any:
    if job.function is None:
        function, args, kwargs = _loaded(job.call, table)
        return function(*args, **kwargs)
    (function,) = _loaded(job.function, table)
    if not job.is_chunk:
        args, kwargs = _loaded(job.call, table)
        return function(*args, **kwargs)
    return [function(*each) for each in _loaded(job.call, table)]


def _loaded(parts: Sequence[Any], table: dict[str, Any]) -> Any:
    try:
        return loads(parts, table)
    except ModuleNotFoundError as error:
        if hasattr(error, "add_note"):  # From 3.11 on.
            error.add_note(
                f"Where the task came from there may be such a module; on {socket.gethostname()} is none. "
                "Install it on all nodes, or have the engine take it along (Ray: runtime_env, Dask: "
                "Client.upload_file)."
            )
        raise


def _pack_result(result: Any) -> Packed:
    try:
        return pack((result,), ("the result",))
    except PicklingError as error:
        from .._unsendable import error_of

        raise error_of(error, result) from error.__cause__


def _pack_report(error: BaseException, worker: str) -> Packed:
    report = _errors.describe(error, pack=_pack_part)
    return pack((report._replace(worker=f"{worker} on {socket.gethostname()}"),))


def _pack_part(obj: object, names: Sequence[str]) -> tuple[bytes, list[Any], list[Any]]:
    """Of an exception; for `_errors.describe`."""
    packed = pack(obj, names)
    return packed.payload, [], [bytes(buffer.view) for buffer in packed.buffers]
