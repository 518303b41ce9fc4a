"""What workers print, log and warn of, on its way to the owner of the pool.

A worker's output ends up where the owner's own does: in a notebook's cell, in what pytest captures, in the
handlers that `logging` has in the owner. What one worker writes arrives in the order in which it was
written, whatever it went through (`print`, standard error, `logging`, `warnings`), and before the result of
the task that wrote it.

- **print, sys.stdout, sys.stderr**: complete lines are written to what `sys.stdout` or `sys.stderr` of the
  owner is at that moment, the rest of a line with `flush` and at the end of the task, with `python -u` too:
  workers do not mix their lines. With `tag`, each line begins with `[name of the worker] `. Who replaces
  `sys.stdout` in a worker gets what they made. What does not go through these objects is not forwarded: what
  C code and subprocesses write goes to the descriptors, which a worker has inherited, and in no order with
  respect to the rest.
- **logging**: a record that reaches the root logger of a worker is handled by the owner's logger of the same
  name, with the owner's levels, filters and handlers, as if it had been logged there; `processName` and
  `process` say who did. Workers start with the levels that the owner had when they did. What a worker sets up
  itself works as ever, beside this: its own handlers, `propagate=False`, `basicConfig`. A record that a
  handler in the worker writes to a standard stream is not sent as a record too: it would be seen twice. Who
  configures the root logger with `dictConfig` replaces the handler that sends.
- **warnings**: those that the worker's filters let through are shown by the owner's `warnings.showwarning`,
  and not filtered again. The message has the attributes `process` and `processName` of a log record, and with
  `tag` begins like a line.

How it works: everything goes through one list, the *outbox*, and from there in messages of one or more parts.
A line is sent when it is complete, so that none waits while its task computes. Only a task that prints more
than 200 lines within 50 ms has the following ones collected, until there are 8 KiB, or a line comes after
those 50 ms, or it flushes, or ends. A message has 64 KiB or little more: what is larger goes in pieces.

There is no lock, so that signal handlers and `__del__` may print while something is being sent; see
`_outbox`. If a message cannot be sent, what is in it goes to the descriptors that the worker has inherited. A
copy of a worker made by `os.fork` in user code forgets what the original has not sent yet, which the original
will; what it writes itself it sends line by line, because nobody flushes at its end.
"""

import pickle
import sys
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any

from . import _forks, _loading, process
from ._outbox import (
    FLUSH_STDERR,
    FLUSH_STDOUT,
    RECORD,
    STDERR,
    STDOUT,
    WARNING,
    Outbox,
    Sink,
    Stream,
    fall_back,
)

if TYPE_CHECKING:
    from ._outbox import Part
    from ._records import Levels

_STREAMS = "stdout", "stderr"


# In a worker.

_outbox: Outbox | None = None
_sinks: tuple[Sink, ...] = ()
_stdout: Stream | None = None
_stderr: Stream | None = None


def settings() -> "Levels | None":
    """What workers have to know, in the owner: the levels of its loggers. To be pickled."""
    # Who has not loaded `logging` has not configured it either.
    if getattr(sys.modules.get("logging"), "root", None) is None:
        return None
    from . import _records

    return _records.levels()


def install(send: Callable[[bytes], object], *, tag: bool, settings: "Levels | None" = None) -> None:
    """From now on the output of this worker goes to the owner. Called once, before user code runs.

    Args:
        send: sends one message, to be given to `deliver`; may be called from any thread, and from signal
            handlers. What it raises is not seen by the user.
        tag: whether lines begin with the name of the worker.
        settings: what `settings` has returned in the owner.
    """
    global _outbox, _sinks, _stdout, _stderr
    prefix = f"[{process.current_process().name}] " if tag else ""
    outbox = _outbox = Outbox(send, lambda batch: fall_back(batch, _sinks))
    real = sys.stdout, sys.stderr
    _sinks = tuple(Sink(outbox, kind, real[kind], prefix) for kind in (STDOUT, STDERR))
    errors = [getattr(stream, "errors", None) or "backslashreplace" for stream in real]
    # Those that a program goes back to after it had others are these as well.
    _stdout = sys.stdout = sys.__stdout__ = Stream(_sinks[0], errors[0])  # type: ignore[misc]
    _stderr = sys.stderr = sys.__stderr__ = Stream(_sinks[1], errors[1])  # type: ignore[misc]
    _forks.in_copy(_reset)

    def watch_logging() -> None:
        from . import _records

        _records.watch(outbox.post, outbox.drain, RECORD, settings)

    def watch_warnings() -> None:
        from . import _warned

        _warned.watch(outbox.post, WARNING, prefix)

    _loading.when_loaded({"logging": watch_logging, "warnings": watch_warnings})


def flush() -> None:
    """Sends all that this worker has written, so that it is with the owner before what is sent next.

    Empties the standard streams in any case, also those that are not ours.
    """
    outbox = _outbox
    if outbox is None:
        process.flush_streams()
        return
    if sys.stdout is not _stdout or sys.stderr is not _stderr:
        _flush_others()
    for sink in _sinks:
        if sink.rest:
            sink.post_rest()
    if outbox.parts or outbox.sender:
        outbox.settle()


def _flush_others() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not isinstance(stream, Stream):
            try:  # noqa: SIM105
                stream.flush()
            except Exception:  # It is whatever the user has made.
                pass


def _reset() -> None:
    if _outbox is not None:
        _outbox.reset()
        for sink in _sinks:
            sink.reset()


# In the owner.


def deliver(payload: bytes | memoryview, worker: str | None = None) -> None:
    """Does with a worker's output what would have been done with the owner's own. Raises nothing.

    What goes wrong in the user's handlers is reported as `logging` does, what goes wrong in
    `warnings.showwarning` by `sys.excepthook`; a stream that is closed or broken is ignored.

    Args:
        payload: a message that a worker has sent.
        worker: its name, for messages.
    """
    try:
        parts: list[Part] = pickle.loads(payload)
        for kind, data in parts:
            _deliver(kind, data)
    except BaseException as error:
        # The thread that calls this collects the results of a pool, and must live.
        _report(RuntimeError(f"output of {worker or 'a worker'} is lost: {error!r}"))


def _deliver(kind: int, data: Any) -> None:
    if kind in (STDOUT, STDERR):
        _write(getattr(sys, _STREAMS[kind], None), data)
    elif kind in (FLUSH_STDOUT, FLUSH_STDERR):
        _flush(getattr(sys, _STREAMS[kind - FLUSH_STDOUT], None))
    elif kind == RECORD:
        from . import _records

        _guarded(_records.handle, data)
    elif kind == WARNING:
        from . import _warned

        _guarded(_warned.show, data)


def _guarded(function: Callable[[bytes], object], data: bytes) -> None:
    try:
        function(data)
    except BaseException as error:
        _report(error)


def _report(error: BaseException) -> None:
    try:  # noqa: SIM105
        sys.excepthook(type(error), error, error.__traceback__)
    except BaseException:
        pass


def _write(stream: IO[str] | None, text: str) -> None:
    if stream is None:
        return
    try:
        try:
            stream.write(text)
        except UnicodeEncodeError:
            _write_bytes(stream, text)
    except BaseException:
        pass


def _write_bytes(stream: IO[str], text: str) -> None:
    """Writes what the stream's encoding has no characters for."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        data = text.encode(encoding, "surrogateescape")
    except UnicodeEncodeError:
        data = text.encode(encoding, "backslashreplace")
    buffer = getattr(stream, "buffer", None)
    if buffer is None:
        stream.write(data.decode(encoding, "backslashreplace"))
    else:
        stream.flush()
        buffer.write(data)


def _flush(stream: IO[str] | None) -> None:
    try:
        if stream is not None:
            stream.flush()
    except BaseException:
        pass
