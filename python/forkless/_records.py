"""Log records of workers, on their way to the owner's handlers. Loaded where `logging` is; see `_output`."""

import io
import logging
import os
import pickle
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import process

if TYPE_CHECKING:
    # The levels of loggers by name, "" for the root, and what `logging.disable` was told.
    Levels = tuple[dict[str, int], int]

# What can be sent as it is, and is the same when it arrives.
_PLAIN = {str, int, float, bool, bytes, type(None)}


# In a worker.


class Forwarder(logging.Handler):
    """The handler of a worker's root logger that sends records to the owner.

    Args:
        post: adds a record to what is sent.
        drain: sends what is there.
        kind: what to say to `post`.
    """

    def __init__(
        self, post: Callable[[int, bytes], object], drain: Callable[[bool], object], kind: int
    ) -> None:
        super().__init__()
        self._post, self._drain, self._kind = post, drain, kind

    def createLock(self) -> None:  # noqa: N802
        """Makes none: a `__del__` may log in the middle of sending a record, and another thread may fork."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Sends the record if the filters let it through."""
        passed: Any = self.filter(record)
        if passed:
            self.emit(passed if isinstance(passed, logging.LogRecord) else record)
        return bool(passed)

    def emit(self, record: logging.LogRecord) -> None:
        """Sends the record, unless the user sees it already because a handler here writes it to a stream."""
        try:
            if _is_printed(record):
                return
            packed = pack(record)
        except RecursionError:
            raise
        except Exception:
            self.handleError(record)
            return
        # Not in the `try`: the end of a task's time must get through.
        self._post(self._kind, packed)

    def flush(self) -> None:
        """Sends what is there."""
        self._drain(True)


def watch(
    post: Callable[[int, bytes], object],
    drain: Callable[[bool], object],
    kind: int,
    levels: "Levels | None",
) -> None:
    """Has the records of this worker sent; see `Forwarder` for the arguments.

    Args:
        post: adds a record to what is sent.
        drain: sends what is there.
        kind: what to say to `post`.
        levels: those of the owner.
    """
    if levels is not None:
        for name, level in levels[0].items():
            logging.getLogger(name).setLevel(level)
        logging.disable(levels[1])
    forwarder = Forwarder(post, drain, kind)
    logging.root.addHandler(forwarder)
    original = logging.basicConfig

    def basicConfig(**options: Any) -> None:  # noqa: N802
        # It does nothing if the root logger has handlers, and the user has added none.
        there = forwarder in logging.root.handlers
        logging.root.removeHandler(forwarder)
        try:
            original(**options)
        finally:
            if there:
                logging.root.addHandler(forwarder)

    basicConfig.__doc__ = original.__doc__
    logging.basicConfig = basicConfig


def pack(record: logging.LogRecord) -> bytes:
    """The record in a form that arrives anywhere, as `logging.handlers.QueueHandler.prepare` makes one.

    Message and arguments stay apart if the arguments are plain. An exception becomes its traceback in text.
    All other attributes are kept; one that is neither plain nor can be pickled, as what `repr` says of it.
    """
    values = record.__dict__.copy()
    if not _are_plain(record.args):
        values.update(msg=record.getMessage(), args=())
    elif type(record.msg) is not str:
        values["msg"] = str(record.msg)
    if record.exc_info:
        # Formatters add this text where they would have made it.
        values["exc_text"] = record.exc_text or logging.Formatter().formatException(record.exc_info)
        values["exc_info"] = None
    # The first one is what `logging` calls every process that has not loaded `multiprocessing`.
    if record.processName in ("MainProcess", None):
        values["processName"] = process.current_process().name
    values["process"] = record.process or os.getpid()
    others = [name for name, value in values.items() if type(value) not in _PLAIN and name != "args"]
    return pickle.dumps((values, {name: _pack_value(values.pop(name)) for name in others}), protocol=5)


def as_text(data: bytes) -> str:
    """A packed record as the handler of last resort would show it."""
    record = _unpack(data)
    if record.levelno < logging.WARNING:
        return ""
    return f"{logging.Formatter().format(record)}\n"


def _is_printed(record: logging.LogRecord) -> bool:
    """Whether a handler in this process writes the record to a standard stream that is forwarded."""
    from ._outbox import Stream

    logger: Any = logging.root.manager.loggerDict.get(record.name)
    if not isinstance(logger, logging.Logger):
        logger = logging.root
    while logger is not None:
        for handler in logger.handlers:
            if isinstance(getattr(handler, "stream", None), Stream) and record.levelno >= handler.level:
                return True
        logger = logger.parent
    return False


def _are_plain(args: Any) -> bool:
    # A single mapping may stand for all arguments.
    values = args.values() if type(args) is dict else args
    return values is None or (type(args) in (tuple, dict) and all(type(value) in _PLAIN for value in values))


def _pack_value(value: Any) -> tuple[bytes | None, str]:
    try:
        text = repr(value)
    except Exception:
        text = object.__repr__(value)
    try:
        return pickle.dumps(value, protocol=5), text
    except Exception:
        return None, text


# In the owner.


def levels() -> "Levels":
    """The levels that the loggers of this process have been given."""
    found = {"": logging.root.level}
    for name, logger in logging.root.manager.loggerDict.copy().items():
        if isinstance(logger, logging.Logger) and logger.level != logging.NOTSET:
            found[name] = logger.level
    return found, logging.root.manager.disable


def handle(data: bytes) -> None:
    """Has the logger of this process by the same name handle a worker's record."""
    record = _unpack(data)
    logger = logging.getLogger(record.name)
    try:
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)
    except Exception:
        # Handlers report their errors themselves; filters, and handlers that do not, come here.
        logging.NullHandler().handleError(record)


def _unpack(data: bytes) -> logging.LogRecord:
    values, others = pickle.loads(data)
    for name, (pickled, text) in others.items():
        values[name] = text if pickled is None else _unpack_value(pickled, text)
    return logging.makeLogRecord(values)


def _unpack_value(pickled: bytes, text: str) -> Any:
    try:
        return _Unpickler(io.BytesIO(pickled)).load()
    except Exception:
        return text


class _Unpickler(pickle.Unpickler):
    """Loads no modules: importing one for a log record could take long, or wait for what waits for us."""

    def find_class(self, module: str, name: str, /) -> Any:
        if module not in sys.modules:
            raise pickle.UnpicklingError(f"{module} is not loaded here")
        return super().find_class(module, name)
