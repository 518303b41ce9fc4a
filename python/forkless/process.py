"""Processes: `multiprocessing.Process`, started by the template instead of by forking the caller.

`start` pickles the process object, hands it to the core, and the core's template forks (or execs) a child
that loads it and calls `run`. The caller is never forked, and `__main__` never runs again.
"""

import contextlib
import itertools
import os
import pickle
import signal
import sys
from _thread import _local
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from . import _forks, _stdlib

if TYPE_CHECKING:
    from ._forkless import Child, Coming
    from ._log_setup import Setup
    from ._pickling import Packed
    from .util import _Journal

__all__ = [
    "AuthenticationString",
    "BaseProcess",
    "ForkServerProcess",
    "Process",
    "SpawnProcess",
    "active_children",
    "current_process",
    "parent_process",
    "set_terminate_grace",
]


class AuthenticationString(bytes):
    """A key. It travels to children inside of their process objects, and nowhere else."""

    def __reduce__(self) -> tuple[Any, ...]:
        if not is_packing():
            raise TypeError(
                "an authentication key is not pickled, for security reasons, nor a process object, which has "
                "one: a child already has its parent's key, as current_process().authkey; of a process "
                "send its pid"
            )
        return AuthenticationString, (bytes(self),)


class Process:
    """Activity that runs in a process of its own; the counterpart of `threading.Thread`.

    Differs from `multiprocessing.Process`: the target and the arguments may be lambdas, closures, and
    functions and classes of `__main__`; a daemonic process may have children; a child ends when its parent
    has ended.

    Args:
        group: always None; there for likeness with `threading.Thread`.
        target: what `run` calls, or None.
        name: a name for people; `Process-1`, `Process-2`, … if None.
        args: positional arguments of the target.
        kwargs: keyword arguments of the target.
        daemon: whether the process is terminated when this one exits; inherited from the current process if
            None.
        interpreter: the path of another Python that has forkless installed, to run the child. Of this
            process's import path the child then gets what belongs to the program, not to its installation.
            Code does not travel between versions of Python: target and arguments must be importable there.

    Raises:
        TypeError: `target` is not callable.

    Example:
        >>> process = Process(target=print, args=("hello",))
        >>> process.start()
        >>> process.join()
        >>> process.exitcode
        0
    """

    _start_method: ClassVar[str | None] = None
    # The directory of `util.get_temp_dir`, and how `util.get_logger` is set up, for the child.
    _temp_dir: str | None = None
    _logging: "tuple[int, bool] | None" = None
    # How the program has set up `logging`, for a child of an installation.
    _log_setup: "Setup | None" = None
    # What others have added to what a child gets; see `spawn.luggage`.
    _luggage: Sequence[object] = ()
    _end_is_logged = False

    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] = {},
        *,
        daemon: bool | None = None,
        interpreter: str | os.PathLike[str] | None = None,
    ) -> None:
        if group is not None:
            raise AssertionError("group argument must be None for now")
        if target is not None and not callable(target):
            raise TypeError(f"target must be callable, not {target!r}: pass the function, not its result")
        self._identity: tuple[int, ...] = (*_current._identity, next(_numbers))
        self._daemon: bool = _current._daemon if daemon is None else daemon
        self._parent_pid: int | None = os.getpid()
        self._parent_name: str = _current._name
        # Before the child: the first thing in it that does not pickle is what an error is about.
        self._authkey: AuthenticationString = _current._authkey
        self._child: Child | None = None
        self._closed = False
        self._target = target
        self._args = tuple(args)
        self._kwargs = dict(kwargs)
        self._name: str = name or f"{type(self).__name__}-{':'.join(map(str, self._identity))}"
        if _current._temp_dir is not None:
            self._temp_dir = _current._temp_dir
        self._ignore_interrupt = False
        # Whether somebody else tells of its death, or it has been told.
        self._dies_quietly = False
        # Whether other children may need it: at the exit of this process it ends after them.
        self._serves = False
        self._interpreter = None if interpreter is None else os.fsdecode(interpreter)

    def run(self) -> None:
        """What the child does: calls the target. Subclasses may override it."""
        if self._target:
            self._target(*self._args, **self._kwargs)

    def start(self) -> None:
        """Starts the child; returns as soon as it exists.

        Raises:
            pickle.PicklingError: the target or an argument cannot be sent; the message names it. No process
                is left.
            ProcessError: the system refused: no memory, no processes, no descriptors left.
        """
        coming = self._ask()
        self._arrive(coming)

    def _ask(self) -> "Coming":
        """Asks for the child; `_arrive` takes it in when it exists."""
        self._check_closed()
        if self._child is not None:
            raise AssertionError("cannot start a process twice")
        if self._parent_pid != os.getpid():
            raise AssertionError("can only start a process object created by current process")
        from . import _forkless, _programs, _surroundings

        other = None if self._interpreter is None else _programs.of(self._interpreter)
        surroundings = _surroundings.here(elsewhere=other is not None)
        order = self._pack(_surroundings.handle_of(surroundings), None if other is None else other.stranger)
        _before_start()
        return _forkless.Child.ask(
            _programs.default() if other is None else other.program,
            self._method(),
            order.payload,
            [*order.handles, surroundings],
            buffers=order.buffers,
            name=self._name,
            surroundings=surroundings,
        )

    def _pack(self, surroundings: "tuple[int, ...]", stranger: str | None) -> "Packed":
        from . import _pickling

        if journal is not None:
            self._logging = journal.for_child()
        # Of those whose death somebody else tells of, which are workers, the records are told as well.
        if (
            "logging" in sys.modules
            and _stdlib.aside
            and not self._dies_quietly
            and self._method() != "spawn"
        ):
            from . import _log_setup

            self._log_setup = _log_setup.here()
        spawn: Any = sys.modules.get(f"{__package__}.spawn")
        if spawn is not None:
            self._luggage = spawn.luggage(self._name)
        given = self._args, self._kwargs
        self._args, self._kwargs = _pickling.refer(given) if _pickling.inherited else given
        try:
            return _order(self, surroundings, stranger)
        finally:
            self._args, self._kwargs = given
            # The order holds what these refer to.
            self._log_setup, self._luggage = None, ()

    def _arrive(self, coming: "Coming") -> None:
        self._child = coming.wait()
        if journal is not None:
            journal.info("%s has started with pid %d", self._name, self._child.pid)
        # What the child works on is not needed here any more, and may refer back to this object.
        del self._target, self._args, self._kwargs
        _children.add(self)

    def join(self, timeout: float | None = None) -> None:
        """Waits until the child has ended.

        Args:
            timeout: how long to wait, in seconds; None waits for ever, and zero or less only looks.
        """
        self._check_closed()
        child = self._owned("join")
        if child is None:
            raise AssertionError("can only join a started process")
        if self._has_ended() or _wait(child, timeout):
            self._tell_of_death()
            _children.discard(self)

    def is_alive(self) -> bool:
        """Whether the child has been started and has not ended."""
        self._check_closed()
        if self is _current:
            return True
        child = self._owned("test")
        if child is None:
            return False
        if not self._has_ended():
            return True
        _children.discard(self)
        return False

    def terminate(self, grace: float | None = None) -> None:
        """Asks the child to end, with SIGTERM, and may see to it that it does.

        Differs from `multiprocessing`: a child that ignores SIGTERM, or is too busy to notice, can be killed
        after a while. The template does that, so this call does not wait. (Only if the template has been
        killed must somebody wait for the child, or ask whether it lives.)

        Args:
            grace: after how many seconds to send SIGKILL, if the child has not ended by itself; None: what
                `set_terminate_grace` says, at first never.

        Raises:
            ValueError: the grace is negative, or the process was not started.
        """
        self._signal(signal.SIGTERM, terminate_grace if grace is None else grace)

    def kill(self) -> None:
        """Ends the child at once, with SIGKILL."""
        self._signal(signal.SIGKILL)

    def close(self) -> None:
        """Gives back what this object holds of the system. Only its name can be asked afterwards.

        Raises:
            ValueError: the child still runs.
        """
        if self._child is not None:
            if not self._has_ended():
                raise ValueError(
                    "Cannot close a process while it is still running. "
                    "You should first call join() or terminate()."
                )
            self._child.close()
            self._child = None
            _children.discard(self)
        self._closed = True

    @property
    def name(self) -> str:
        """A name for people, without meaning for the system."""
        return self._name

    @name.setter
    def name(self, name: str) -> None:
        if not isinstance(name, str):
            raise AssertionError("name must be a string")
        self._name = name

    @property
    def daemon(self) -> bool:
        """Whether the child is terminated when this process exits, rather than waited for."""
        return self._daemon

    @daemon.setter
    def daemon(self, daemonic: bool) -> None:
        if self._child is not None:
            raise AssertionError("process has already started")
        self._daemon = daemonic

    @property
    def authkey(self) -> bytes:
        """The key by which processes of one program know each other; random, and inherited by children."""
        return self._authkey

    @authkey.setter
    def authkey(self, key: bytes) -> None:
        self._authkey = AuthenticationString(key)

    @property
    def exitcode(self) -> int | None:
        """The exit code, `-N` if signal N killed the child, None while it runs or before it was started.

        Raises:
            ProcessError: the child has ended but its status is lost, because the template was killed before
                it.
        """
        self._check_closed()
        if self._child is None:
            return None
        code = self._child.poll()
        if code is not None:
            self._tell_of_death()
        return code

    @property
    def stack_at_death(self) -> str | None:
        """The Python stacks of a child that a fatal signal has killed, as `faulthandler` writes them.

        They are also written to this process's standard error, once, when it learns of the death. None for a
        child that runs, that ended in another way, or that could not write them. SIGKILL leaves no time to.
        """
        self._check_closed()
        return None if self._child is None else self._child.last_words()

    @property
    def peak_memory(self) -> int | None:
        """The most memory that a child has had, in bytes, once it has ended; None before, or if that is lost.

        It is what was resident at the worst moment, shared pages included, so pages that all children share
        count in each. A forked child begins with what its template has, a spawned one with the most that its
        template ever had. If a child that it has waited for itself had more, it is the peak of that one. It
        is lost when the template was killed before the child.
        """
        self._check_closed()
        return None if self._child is None else self._child.peak_memory()

    @property
    def ident(self) -> int | None:
        """The process id, None before the start."""
        self._check_closed()
        if self is _current:
            return os.getpid()
        return None if self._child is None else self._child.pid

    pid = ident

    @property
    def sentinel(self) -> int:
        """A descriptor that becomes readable when the child has ended; valid until `close`."""
        self._check_closed()
        if self._child is None:
            raise ValueError("process not started")
        return self._child.sentinel

    @property
    def _popen(self) -> Any:
        """What programs look for by this private name, None before the start."""
        if self._child is None:
            return None
        from . import popen_forkserver, popen_spawn_posix

        spawned = self._method() == "spawn"
        return (popen_spawn_posix if spawned else popen_forkserver).Popen(self)

    @property
    def _config(self) -> dict[str, Any]:
        """What programs look for by this private name; to change it changes nothing."""
        return {"authkey": self._authkey, "daemon": self._daemon, "semprefix": "/mp"}

    def __repr__(self) -> str:
        parts = [type(self).__name__, f"name={self._name!r}"]
        if self._child is not None:
            parts.append(f"pid={self._child.pid}")
        parts += [f"parent={self._parent_pid}", *self._status()]
        if self._daemon:
            parts.append("daemon")
        return f"<{' '.join(parts)}>"

    def _status(self) -> list[str]:
        if self is _current:
            return ["started"]
        if self._closed:
            return ["closed"]
        if self._parent_pid != os.getpid():
            return ["unknown"]
        if self._child is None:
            return ["initial"]
        if not self._has_ended():
            return ["started"]
        code = exit_code(self._child)
        return ["stopped", f"exitcode={'unknown' if code is None else _exit_name(code)}"]

    def _method(self) -> str:
        # "fork" is another name for "forkserver", under an installation.
        return "spawn" if (self._start_method or default_method) == "spawn" else "forkserver"

    def _check_closed(self) -> None:
        if self._closed:
            raise ValueError("process object is closed")

    def _owned(self, verb: str) -> "Child | None":
        if self._parent_pid != os.getpid():
            raise AssertionError(f"can only {verb} a child process")
        return self._child

    def _signal(self, number: int, grace: float | None = None) -> None:
        self._check_closed()
        if self._child is None:
            raise ValueError("process not started")
        # It may end at any moment, also right now: then there is nothing left to do.
        if not self._has_ended():
            with contextlib.suppress(ProcessLookupError):
                self._child.signal(number, grace)

    def _has_ended(self) -> bool:
        if self._child is None or not _has_ended(self._child):
            return False
        self._tell_of_death()
        return True

    def _tell_of_death(self) -> None:
        """Writes to standard error what a child had to say that a fatal signal has killed, once."""
        if journal is not None and self._child is not None and not self._end_is_logged:
            self._end_is_logged = True
            code = exit_code(self._child)
            how = "a lost exit code" if code is None else f"exit code {_exit_name(code)}"
            journal.info("%s (pid %d) has ended with %s", self._name, self._child.pid, how)
        if self._dies_quietly or self._child is None:
            return
        self._dies_quietly = True
        words = self._child.last_words()
        if words is not None and sys.stderr is not None:
            code = exit_code(self._child)
            how = "died" if code is None else f"was killed by {_exit_name(code).removeprefix('-')}"
            sys.stderr.write(
                f"Process {self._name} (pid {self._child.pid}) {how}. Its Python stack when it died:\n{words}"
            )

    def _bootstrap(self) -> int:
        """Runs this object as the current process; returns the exit code."""
        global _current, _parent_is, default_method
        _current = self
        _parent_is = self._parent_name, self._parent_pid or 0, self._authkey
        default_method = self._start_method or default_method
        for begin in beginnings:
            begin()
        if self._logging is not None:
            from . import util

            util.take_over(self._logging)
        if self._log_setup is not None:
            from . import _log_setup

            _log_setup.adopt(self._log_setup)
        try:
            if journal is not None:
                journal.info("child process calling self.run()")
            self.run()
        except SystemExit as end:
            return _exit_code_of(end)
        except BaseException as error:
            report(error)
            return 1
        return 0


# In `multiprocessing` the class above those of the start methods; here that is `Process`.
BaseProcess = Process


class ForkServerProcess(Process):
    """A process forked by the template, whatever the default start method is."""

    _start_method = "forkserver"


class SpawnProcess(Process):
    """A process that starts from a fresh interpreter, whatever the default start method is."""

    _start_method = "spawn"


class _MainProcess(Process):
    """The process that nobody of this tree has started."""

    def __init__(self) -> None:
        self._identity = ()
        self._authkey = self.made_up = AuthenticationString(os.urandom(32))
        self._name = "MainProcess"
        self._daemon = False
        self._parent_pid = None
        self._child = None
        self._closed = False

    def close(self) -> None:
        """Does nothing: there is nothing to give back."""


class _ParentProcess(Process):
    """The process that started this one, as seen from here."""

    def __init__(self, name: str, pid: int, key: AuthenticationString) -> None:
        self._identity = ()
        self._authkey = key
        self._name = name
        self._daemon = False
        self._pid = pid
        self._parent_pid = None
        self._child = None
        self._closed = False

    @property
    def ident(self) -> int:
        """The process id."""
        return self._pid

    pid = ident

    def is_alive(self) -> bool:
        """Whether the parent still runs."""
        return not self._ended_within(0)

    def join(self, timeout: float | None = None) -> None:
        """Waits until the parent has ended. This process is then about to be ended too."""
        self._ended_within(None if timeout is None else max(0.0, timeout))

    def _ended_within(self, timeout: float | None) -> bool:
        import select

        try:
            descriptor = os.pidfd_open(self._pid)
        except ProcessLookupError:
            return True
        try:
            readable, _, _ = select.select([descriptor], [], [], timeout)
        finally:
            os.close(descriptor)
        return bool(readable)


# Whether this thread is pickling a process object.
_packing = _local()

_main = _MainProcess()
_current: Process = _main
# What is known of the process that started this one, and the object that stands for it, made when needed.
_parent_is: tuple[str, int, AuthenticationString] | None = None
_parent: _ParentProcess | None = None
_numbers = itertools.count(1)
_children: set[Process] = set()

# Where this process was when it began, None if that was removed.
ORIGINAL_DIR: str | None
try:
    ORIGINAL_DIR = os.getcwd()
except FileNotFoundError:
    ORIGINAL_DIR = None

# What children do first, whoever has been loaded into them by then.
beginnings: "list[Callable[[], object]]" = []
# What says on the logger of `util` what happens to processes, once somebody has asked for it.
journal: "_Journal | None" = None

# What `set_start_method` has chosen, or the parent of this process; None: nobody has, so it is "forkserver".
default_method: str | None = None
# Whether this process, or one that it comes from, was told what "fork" means under an installation.
warned_of_fork = False
# What `set_terminate_grace` has chosen.
terminate_grace: float | None = None


def current_process() -> Process:
    """The object of the process that calls this."""
    return _current


def is_made_up(key: bytes) -> bool:
    """Whether a key is the one that this process has begun with, so that nobody else knows it."""
    return key is _main.made_up


def parent_process() -> Process | None:
    """The object of the process that started this one; None in the main process."""
    global _parent
    if _parent is None and _parent_is is not None:
        _parent = _ParentProcess(*_parent_is)
    return _parent


def active_children() -> list[Process]:
    """The children of this process that have not ended; forgets those that have."""
    from . import _forkless

    _forkless.bury_templates()
    for process in list(_children):
        if process._child is None or process._has_ended():
            _children.discard(process)
    return list(_children)


def set_terminate_grace(seconds: float | None) -> None:
    """Sets how long children may take to end once they are asked to, before they are killed.

    It is what `Process.terminate` does if it is not told otherwise, and what happens to daemons, pool workers
    and interrupted children at the exit of the interpreter.

    Args:
        seconds: the grace in seconds; None, as at first: `terminate` alone kills nobody, and the exit allows
            one second, or half a second after a Ctrl-C.

    Raises:
        ValueError: it is negative, or not a number.
    """
    global terminate_grace
    if seconds is not None and not 0 <= seconds < float("inf"):
        raise ValueError(f"grace must be a number of seconds, 0 or more, not {seconds!r}")
    terminate_grace = seconds


def report(error: BaseException) -> None:
    """Writes what ended this process to standard error, in one piece: processes do not mix their lines.

    Ctrl-C is not worth a traceback from every child: the parent shows its own.
    """
    if isinstance(error, KeyboardInterrupt):
        from . import _exit

        _exit.interrupted = True
        return
    if sys.stderr is None:
        return
    import traceback

    text = "".join(traceback.format_exception(error))
    sys.stderr.write(f"Process {_current._name}:\n{text}")


def flush_streams() -> None:
    """Empties the buffers of standard output and error, whatever has become of them."""
    # A stream may be None, closed, a broken pipe, or in the middle of a write that a signal handler broke
    # into. Written out, since each function that a child calls costs it some pages.
    try:  # noqa: SIM105
        sys.stdout.flush()
    except Exception:
        pass
    try:  # noqa: SIM105
        sys.stderr.flush()
    except Exception:
        pass


def exit_code(child: "Child") -> int | None:
    """The exit code of a child that has ended, None if the system has lost it."""
    try:
        return child.poll()
    except _process_error():
        return None


def is_packing() -> bool:
    """Whether this thread is pickling a process for its child."""
    return getattr(_packing, "now", False)


def pack(process: Process, stranger: str | None = None) -> "Packed":
    """A process object for its child, with its authentication key, which no other pickle has."""
    from . import _pickling

    outer, _packing.now = is_packing(), True
    try:
        return _pickling.pack(process, stranger=stranger)
    finally:
        _packing.now = outer


def _order(process: Process, surroundings: "tuple[int, ...]", stranger: str | None) -> "Packed":
    """The message that `_child.run` understands: a pickle, then one that needs the right surroundings."""
    from . import _pickling

    body = pack(process, stranger)
    identity = f"{_pickling.identity}.{process._identity[-1]}"
    ignore_interrupt = process._ignore_interrupt or signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    head = pickle.dumps((process._name, identity, ignore_interrupt, surroundings), protocol=5)
    parts = [body.payload] if isinstance(body.payload, bytes) else body.payload
    return _pickling.Packed([len(head).to_bytes(8, "little"), head, *parts], body.handles, body.buffers)


def _before_start() -> None:
    """What the first start of a process needs, and what every start does."""
    from . import _exit

    _exit.register()
    active_children()
    flush_streams()


def _has_ended(child: "Child") -> bool:
    try:
        return child.poll() is not None
    except _process_error():
        return True  # It has ended, only nobody knows how.


def _wait(child: "Child", timeout: float | None) -> bool:
    try:
        return child.wait(None if timeout is None else max(0.0, timeout)) is not None
    except _process_error():
        return True


def _process_error() -> type[Exception]:
    # Called only while an exception is being matched, so a program without one never loads the module.
    from .exceptions import ProcessError

    return ProcessError


def _exit_code_of(end: SystemExit) -> int:
    if end.code is None:
        return 0
    if isinstance(end.code, int):
        return end.code
    if sys.stderr is not None:
        sys.stderr.write(f"{end.code}\n")
    return 1


def _exit_name(code: int) -> str:
    try:
        return f"-{signal.Signals(-code).name}" if code < 0 else str(code)
    except ValueError:
        return str(code)


def _forget_family() -> None:
    """In a process that user code has forked: the children belong to the process it was forked from."""
    global _children
    _children = set()


_forks.in_copy(_forget_family)
