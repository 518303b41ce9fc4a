"""Helpers beside processes: the counterpart of `multiprocessing.util`.

The logger, what is done at the exit of a process, and what is done in a process that was made by a fork.
"""

import itertools
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from . import _exit, _forks, process

if TYPE_CHECKING:
    import logging

__all__ = [
    "SUBDEBUG",
    "SUBWARNING",
    "Finalize",
    "ForkAwareLocal",
    "ForkAwareThreadLock",
    "close_all_fds_except",
    "debug",
    "get_logger",
    "get_temp_dir",
    "info",
    "is_exiting",
    "log_to_stderr",
    "register_after_fork",
    "sub_debug",
    "sub_warning",
]

NOTSET, SUBDEBUG, DEBUG, INFO, SUBWARNING = 0, 5, 10, 20, 25
LOGGER_NAME = "multiprocessing"
DEFAULT_LOGGING_FORMAT = "[%(levelname)s/%(processName)s] %(message)s"

abstract_sockets_supported = True
MAXFD = os.sysconf("SC_OPEN_MAX")

_logger: "logging.Logger | None" = None
_log_to_stderr = False


# --- the logger ------------------------------------------------------------------------------------------


def get_logger() -> "logging.Logger":
    """The logger on which processes say what they do; its name is "multiprocessing".

    Nothing is logged before somebody has asked for it. Then the parent says when a child has started and how
    it has ended, and a child when it begins and ends (INFO); pools say when they start workers, close and end
    (DEBUG). Children of any start method have the level that the logger has when they are started. Records do
    not go on to the root logger: add a handler, or see `log_to_stderr`.

    Example:
        >>> get_logger().setLevel("INFO")
    """
    global _logger
    if _logger is None:
        import logging

        logger = logging.getLogger(LOGGER_NAME)
        logger.propagate = False
        logger.addFilter(_name_process)
        _logger, process.journal = logger, _Journal(logger)
        _exit.register()
    return _logger


def log_to_stderr(level: int | str | None = None) -> "logging.Logger":
    """Has the logger write to standard error, here and in children that are started from now on.

    Args:
        level: the logger's level from now on; it stays as it is if None.

    Returns:
        The logger; see `get_logger`.
    """
    global _log_to_stderr
    import logging

    logger = get_logger()
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(DEFAULT_LOGGING_FORMAT))
    logger.addHandler(handler)
    if level:
        logger.setLevel(level)
    _log_to_stderr = True
    return logger


def sub_debug(msg: object, *args: object) -> None:
    """Logs with the level `SUBDEBUG`, if anybody has asked for the logger."""
    if _logger is not None:
        _logger.log(SUBDEBUG, msg, *args, stacklevel=2)


def debug(msg: object, *args: object) -> None:
    """Logs with the level `DEBUG`, if anybody has asked for the logger."""
    if _logger is not None:
        _logger.log(DEBUG, msg, *args, stacklevel=2)


def info(msg: object, *args: object) -> None:
    """Logs with the level `INFO`, if anybody has asked for the logger."""
    if _logger is not None:
        _logger.log(INFO, msg, *args, stacklevel=2)


def sub_warning(msg: object, *args: object) -> None:
    """Logs with the level `SUBWARNING`, if anybody has asked for the logger."""
    if _logger is not None:
        _logger.log(SUBWARNING, msg, *args, stacklevel=2)


def _name_process(record: "logging.LogRecord") -> bool:
    # `logging` asks `multiprocessing` for it, if that is loaded.
    record.processName = process.current_process().name
    return True


class _Journal:
    """What the rest of forkless says something with, once there is a logger."""

    def __init__(self, logger: "logging.Logger") -> None:
        self._logger = logger
        # Each finds its caller by itself, rather than through this class.
        self.debug, self.info = logger.debug, logger.info

    def for_child(self) -> tuple[int, bool]:
        """What a child needs to have the same: the level, and whether to write to standard error."""
        return self._logger.getEffectiveLevel(), _log_to_stderr


def take_over(settings: tuple[int, bool]) -> None:
    """In a child: sets up the logger as its parent's."""
    level, to_stderr = settings
    logger = log_to_stderr() if to_stderr and not _log_to_stderr else get_logger()
    logger.setLevel(level)


# --- the end of a process --------------------------------------------------------------------------------

# By priority and age. Changed by single steps only, so a collection of garbage may come in between.
_finalizer_registry: "dict[tuple[int | None, int], Finalize]" = {}
_finalizer_counter = itertools.count()


class Finalize:
    """Calls a function once: when an object is gone, at the exit of the process, or when it is called.

    Differs from `weakref.finalize` in that it has a priority, and that only the process that made it runs it,
    in pool workers too: they run it when they end in peace.

    Args:
        obj: the object; None for the exit of the process only.
        callback: what to call.
        args: its positional arguments.
        kwargs: its keyword arguments.
        exitpriority: at the exit, those with a higher one are called first, and among equals the latest;
            those with 0 or more before the children are ended. None: it is not called at the exit.

    Raises:
        TypeError: the priority is no int.
        ValueError: there is neither an object nor a priority.

    Example:
        >>> closing = Finalize(None, print, args=("bye",), exitpriority=10)
        >>> closing()
        bye
        >>> closing.still_active()
        False
    """

    def __init__(
        self,
        obj: object,
        callback: Callable[..., Any],
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        exitpriority: int | None = None,
    ) -> None:
        if exitpriority is not None and not isinstance(exitpriority, int):
            raise TypeError(f"Exitpriority ({exitpriority!r}) must be None or int, not {type(exitpriority)}")
        if obj is None and exitpriority is None:
            raise ValueError("Without object, exitpriority cannot be None")
        self._call: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]] | None
        self._call = callback, tuple(args), dict(kwargs or {})
        self._key = exitpriority, next(_finalizer_counter)
        self._pid = os.getpid()
        self._weakref = None if obj is None else weakref.ref(obj, self)
        _finalizer_registry[self._key] = self
        _exit.register()

    # At its end the interpreter may empty this module before an object is gone: what is needed is bound here.
    def __call__(self, wr: object = None, *, _say: Any = sub_debug, _getpid: Any = os.getpid) -> Any:
        """Calls the function, unless that has been done or was cancelled, or this is another process.

        Args:
            wr: what weak references call it with.

        Returns:
            What the function returns, None if it was not called.
        """
        call = self._take()
        if call is None:
            _say("finalizer no longer registered")
            return None
        callback, args, kwargs = call
        if self._pid != _getpid():
            _say("finalizer ignored because different process")
            return None
        _say("finalizer calling %s with args %s and kwargs %s", callback, args, kwargs)
        return callback(*args, **kwargs)

    def cancel(self) -> None:
        """Has the function not called any more."""
        self._take()

    def still_active(self) -> bool:
        """Whether the function is still to be called."""
        return self._key in _finalizer_registry

    def _take(
        self, _registry: "dict[Any, Finalize]" = _finalizer_registry
    ) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]] | None:
        # Of two who call it at the same time only one finds it.
        if _registry.pop(self._key, None) is None:
            return None
        call, self._call, self._weakref = self._call, None, None
        return call

    def __repr__(self) -> str:
        name, call = type(self).__name__, self._call
        if call is None or (self._weakref is not None and self._weakref() is None):
            return f"<{name} object, dead>"
        callback, args, kwargs = call
        text = f"<{name} object, callback={getattr(callback, '__name__', callback)}"
        if args:
            text += f", args={args}"
        if kwargs:
            text += f", kwargs={kwargs}"
        if self._key[0] is not None:
            text += f", exitpriority={self._key[0]}"
        return text + ">"


def _run_finalizers(minpriority: int | None = None) -> None:
    """Runs what is to be called at the exit, the highest priority first; what one raises is reported.

    Args:
        minpriority: those with at least this one; None for all that have one.
    """
    keys = [(priority, age) for priority, age in list(_finalizer_registry) if priority is not None]
    for key in sorted(keys, reverse=True):
        finalizer = _finalizer_registry.get(key)
        if finalizer is None or (minpriority is not None and key[0] < minpriority):
            continue
        sub_debug("calling %s", finalizer)
        try:
            finalizer()
        except Exception:
            import traceback

            traceback.print_exc()
    if minpriority is None:
        # The others are for objects, which from now on go with the interpreter, and modules may before them.
        _finalizer_registry.clear()


def is_exiting() -> bool:
    """Whether this process is about to end: its exit handlers run."""
    return _exit.running


def _finalize(minpriority: int | None) -> None:
    """At the exit: with 0 before the children are ended, with None after."""
    if minpriority is None:
        debug('running the remaining "atexit" finalizers')
    else:
        info("process shutting down")
        debug('running all "atexit" finalizers with priority >= %d', minpriority)
    _run_finalizers(minpriority)


def _exit_function() -> None:
    """Runs all that is to be called at the exit, and ends the children in between.

    For programs that end by `os._exit`. Others, which fork, take it out of the handlers of `atexit`: it is
    not one of those here, as a copy of a process made by `os.fork` ends no children of the original anyway.
    """
    _finalize(0)
    _exit.end_children()
    _finalize(None)


def get_temp_dir() -> str:
    """A directory for temporary files of this process, and of the children it starts from now on.

    It is removed at the exit of the process that made it, so not if that is killed.
    """
    current = process.current_process()
    if current._temp_dir is None:
        import shutil
        import tempfile

        current._temp_dir = path = tempfile.mkdtemp(prefix="pymp-")
        info("created temp directory %s", path)
        Finalize(None, _remove_temp_dir, (shutil.rmtree, path), exitpriority=-100)
    return current._temp_dir


def _remove_temp_dir(rmtree: Callable[[str], None], path: str) -> None:
    rmtree(path)
    process.current_process()._temp_dir = None


# --- after a fork ----------------------------------------------------------------------------------------

_afterfork_registry: "weakref.WeakValueDictionary[tuple[int, int, Any], Any]" = weakref.WeakValueDictionary()
_afterfork_counter = itertools.count()


def register_after_fork(obj: Any, func: Callable[[Any], object]) -> None:
    """Has `func(obj)` called in each process that has a copy of the object by a fork.

    A child that forkless starts has no copy of anything, unless a preloaded module made it: the function is
    called there before the child's target, and in copies that user code makes with `os.fork`. An exception is
    logged.

    Args:
        obj: an object that can be referred to weakly; the function is forgotten with it.
        func: called with the object.
    """
    _afterfork_registry[next(_afterfork_counter), id(obj), func] = obj


def _run_after_forkers() -> None:
    for (_, _, func), obj in sorted(_afterfork_registry.items(), key=lambda item: item[0][0]):
        try:
            func(obj)
        except Exception as error:
            info("after forker raised exception %s", error)


def _after_fork() -> None:
    """In a child, or in a copy of a process: what was to be done at the exit of the original is not ours."""
    for key, finalizer in list(_finalizer_registry.items()):
        if finalizer._pid != os.getpid():
            _finalizer_registry.pop(key, None)
    if _logger is not None or _finalizer_registry:
        _exit.register()
    _run_after_forkers()


class ForkAwareThreadLock:
    """A lock between threads that is free in a copy of the process, whoever held it when that was forked."""

    def __init__(self) -> None:
        self._renew()
        register_after_fork(self, ForkAwareThreadLock._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self.acquire, self.release = self._lock.acquire, self._lock.release

    def __enter__(self) -> bool:
        return self._lock.__enter__()

    def __exit__(self, *args: Any) -> None:
        self._lock.__exit__(*args)


class ForkAwareLocal(threading.local):
    """Variables of each thread by itself, which are gone in a copy of the process. Pickles as empty."""

    def __init__(self) -> None:
        register_after_fork(self, lambda self: self.__dict__.clear())

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()


# --- descriptors -----------------------------------------------------------------------------------------


def is_abstract_socket_namespace(address: str | bytes | None) -> bool:
    """Whether an address of a Unix socket is an abstract name rather than a path.

    Raises:
        TypeError: it is neither text nor bytes.
    """
    if not address:
        return False
    if isinstance(address, bytes):
        return address[0] == 0
    if isinstance(address, str):
        return address[0] == "\0"
    raise TypeError(f"address type of {address!r} unrecognized")


def close_all_fds_except(fds: Iterable[int]) -> None:
    """Closes all descriptors of this process but these. What forkless needs is closed too."""
    kept = sorted([-1, *fds, MAXFD])
    if kept[-1] != MAXFD:
        raise AssertionError("fd too large")
    for low, high in itertools.pairwise(kept):
        if low + 1 < high:  # `closerange` takes an empty range at 0 for all that there are.
            os.closerange(low + 1, high)


def close_fds(*fds: int) -> None:
    """Closes these descriptors."""
    for fd in fds:
        os.close(fd)


def spawnv_passfds(path: str | bytes, args: Iterable[str | bytes], passfds: Iterable[int]) -> int:
    """Starts another program that inherits these descriptors and no others; see `multiprocessing.util`.

    Returns:
        Its process id; whoever calls this has to wait for it.
    """
    from ._stdlib import util as _standard

    return _standard.spawnv_passfds(os.fsencode(path), args, passfds)  # type: ignore[arg-type]


def _flush_std_streams() -> None:
    process.flush_streams()


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name != "_args_from_interpreter_flags":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from subprocess import _args_from_interpreter_flags

        return _args_from_interpreter_flags


process.beginnings.append(_after_fork)
_forks.in_copy(_after_fork)
_exit.finalize = _finalize
_exit.register()
