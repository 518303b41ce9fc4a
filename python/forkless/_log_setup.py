"""How a program has set up `logging`, on its way to a `Process`: under an installation, as a fork copies it.

A program that was written for a fork sets `logging` up once and lets processes log: without this their
records would be lost without a word. Workers of pools are not concerned, their records go to the owner (see
`_output`), nor are processes that are started by "spawn", which have always had to set it up themselves.

A handler travels if what it is made of does. Those for standard streams write to the child's, and those for
files to the same open file, with one position for all: opened again it would be written over. Others stay
behind, as one for a stream in memory. Nothing is loaded for this before the child loads `logging`.
"""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from logging import Handler, Logger

    from ._forkless import Shared
    from .reduction import DupFd

_STREAMS = "stdout", "stderr", "__stdout__", "__stderr__"


class Setup(NamedTuple):
    """What `here` returns.

    Attributes:
        disabled: what `logging.disable` was told.
        loggers: for each the name ("" for the root), level, whether it hands records on and is disabled, and
            its handlers, each a pickle of class, state and stream.
        handles: the shared objects that the pickles refer to, which this keeps.
    """

    disabled: int
    loggers: "list[tuple[str, int, bool, bool, list[bytes]]]"
    handles: "list[Shared]"


def here() -> Setup | None:
    """That of this process; None if nobody has set up anything."""
    logging: Any = sys.modules.get("logging")
    if getattr(logging, "root", None) is None:
        return None
    handles: list[Shared] = []
    loggers = []
    for name, logger in _loggers(logging):
        handlers = [packed for handler in logger.handlers if (packed := _pack(logging, handler, handles))]
        if handlers or logger.level or logger.disabled or not logger.propagate:
            loggers.append((name, logger.level, logger.propagate, logger.disabled, handlers))
    if not any(handlers for *_, handlers in loggers):
        return None
    return Setup(logging.root.manager.disable, loggers, handles)


def _loggers(logging: Any) -> "Iterator[tuple[str, Logger]]":
    yield "", logging.root
    for name, logger in list(logging.root.manager.loggerDict.items()):
        # That of `util` has a way of its own; what only stands between others is no logger.
        if isinstance(logger, logging.Logger) and name != "multiprocessing":
            yield name, logger


def _pack(logging: Any, handler: "Handler", handles: "list[Shared]") -> bytes | None:
    from . import _pickling

    state = {name: value for name, value in vars(handler).items() if name not in ("lock", "stream")}
    try:
        stream = _stream(handler.stream) if isinstance(handler, logging.StreamHandler) else None
        payload, found = _pickling.dumps((type(handler), state, stream))
    except Exception:
        return None
    handles += found
    return payload


def _stream(stream: Any) -> "str | DupFd | None":
    """What the child has it by; None for a file that is not open."""
    from .reduction import DupFd

    if stream is None:
        return None
    standard = next((name for name in _STREAMS if getattr(sys, name) is stream), None)
    return DupFd(stream.fileno()) if standard is None else standard


def adopt(setup: Setup) -> None:
    """In a child: sets up `logging` in the same way, once it is loaded."""
    from ._loading import when_loaded

    when_loaded({"logging": lambda: _set_up(setup)})


def _set_up(setup: Setup) -> None:
    import logging

    logging.disable(setup.disabled)
    for name, level, propagate, disabled, handlers in setup.loggers:
        logger = logging.getLogger(name)
        # A module that was loaded meanwhile may have set it up.
        if not logger.handlers:
            logger.setLevel(level)
            logger.propagate, logger.disabled = propagate, disabled
            for packed in handlers:
                logger.addHandler(_unpack(packed))


def _unpack(packed: bytes) -> "Handler":
    from . import _pickling

    kind, state, stream = _pickling.loads(packed)
    handler: Any = kind.__new__(kind)
    vars(handler).update(state)
    handler.createLock()
    if isinstance(stream, str):
        handler.stream = getattr(sys, stream)
    elif stream is not None:
        handler.stream = open(  # noqa: SIM115
            stream.detach(), "w", encoding=state.get("encoding"), errors=state.get("errors")
        )
    elif "baseFilename" in state:
        handler.stream = None  # It opens the file for its first record.
    return handler  # type: ignore[no-any-return]
