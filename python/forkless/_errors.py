"""Exceptions on their way from a worker to the process that waits for its answer.

`describe` takes an exception apart, `rebuild` puts it together again: with a real traceback (see `_frames`),
its chain, its notes and the members of groups, each of them with all that too. What cannot be rebuilt (see
`_recipes`) arrives as a `RemoteError`, which has the rest.
"""

import contextlib
import os
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _pickling
from ._interrupted import TaskInterrupted

if TYPE_CHECKING:
    from ._frames import Mark
    from ._pickling import Packed
    from ._recipes import Load, Pack

# Links of a chain are followed up to so many exceptions; a loop that goes on after errors can make it long.
_MOST = 1000
# Characters of `RemoteError.arguments`, and of those in its message.
_LONG, _SHORT = 10_000, 200
# CO_GENERATOR, CO_COROUTINE, CO_ASYNC_GENERATOR
_RESUMABLE = 0x20 | 0x80 | 0x200


class Description(NamedTuple):
    """One exception, taken apart. Others are named by their place in the report."""

    recipe: tuple[Any, ...]
    type_name: str
    arguments: str
    message: str
    frames: Sequence[tuple[Any, ...]] = ()
    members: Sequence[int] = ()
    cause: int | None = None
    context: int | None = None
    suppress_context: bool = False
    notes: Sequence[str] = ()
    ancestors: Sequence[str] = ()


class Report(NamedTuple):
    """An exception on its way home, and those that belong to it."""

    worker: str
    pid: int
    exceptions: list[tuple[Any, ...]]  # of `Description`; the first one is the one that was raised


def pack(error: BaseException, home: bool = True) -> "Packed":
    """What is sent of an exception that a task has raised; `home`: to the process that started this one."""
    return _pickling.pack(describe(error), home=home)


# In the worker.


def of_loading(error: BaseException) -> BaseException:
    """What stands for an error in loading a task: it is none of the task's function, which has not run."""
    if not isinstance(error, (Exception, SystemExit)) or isinstance(error, MemoryError):
        return error  # who breaks off a task wants to find that
    from ._broken import UnreadableTask

    told = UnreadableTask(f"the task has arrived, but what it brings cannot be loaded: {error!r}")
    told.__cause__ = error
    return told


def describe(error: BaseException, home: bool = True, pack: "Pack | None" = None) -> Report:
    """The report of an exception that this process has caught. It is to be pickled with the same `home`.

    `pack`, if given, pickles what the exception consists of instead; `rebuild` needs its counterpart.

    The end of the task may be asked for in the midst of that: then it raises `TaskInterrupted`.

    The exception is done with then: the variables of its frames are cleared, so that the arguments of the
    task are free even if a frame and the exception refer to each other.
    """
    from . import _recipes
    from .process import current_process

    pack = pack or (_recipes.pack_home if home else _recipes.pack_away)
    traceback = error.__traceback__
    # Who keeps the exception is not to keep the frame that has the task's arguments.
    BaseException.with_traceback(error, _without_ours(traceback))
    found = _Found()
    found.number(error)
    descriptions = [tuple(_describe(each, found, pack)) for each in found.exceptions]
    for entries in [traceback, *(each.__traceback__ for each in found.exceptions)]:
        _clear(entries)
    return Report(current_process().name, os.getpid(), descriptions)


class _Found:
    """The exceptions of a report; more are found while these are described."""

    def __init__(self) -> None:
        self.exceptions: list[BaseException] = []
        self._numbers: dict[int, int] = {}

    def number(self, error: BaseException) -> int:
        number = self._numbers.setdefault(id(error), len(self.exceptions))
        if number == len(self.exceptions):
            self.exceptions.append(error)
        return number

    def link(self, error: BaseException | None) -> int | None:
        return None if error is None or len(self.exceptions) >= _MOST else self.number(error)


def _describe(error: BaseException, found: _Found, pack: "Pack") -> Description:
    from . import _frames, _recipes

    try:
        recipe = _recipes.find(error, pack)
        return Description(
            recipe,
            _recipes.name_of(type(error)),
            "" if recipe[0] == "plain" else _arguments(error),
            _shorten(_recipes.message_of(error), _LONG),
            _frames.describe(_without_ours(error.__traceback__)),
            list(map(found.number, _recipes.members_of(error))),
            found.link(error.__cause__),
            found.link(error.__context__),
            error.__suppress_context__,
            _notes(error),
            () if recipe[0] == "plain" else _recipes.ancestors_of(type(error)),
        )
    except TaskInterrupted:
        raise
    except BaseException as problem:
        return Description(("lost", _recipes.describe(problem)), type(error).__name__, "", "")


def _without_ours(traceback: TracebackType | None) -> TracebackType | None:
    """A traceback without the frames of forkless, which are no news to anybody, that it begins with."""
    while traceback is not None:
        module = traceback.tb_frame.f_globals.get("__name__")
        if not isinstance(module, str) or module.partition(".")[0] != __package__:
            break
        traceback = traceback.tb_next
    return traceback


def _notes(error: BaseException) -> list[str]:
    notes = getattr(error, "__notes__", None)
    return [note for note in notes if type(note) is str] if type(notes) is list else []


def _arguments(error: BaseException) -> str:
    try:
        return _shorten(", ".join(map(repr, error.args)), _LONG)
    except TaskInterrupted:
        raise
    except BaseException as problem:
        return f"<arguments without a repr: {type(problem).__name__}>"


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}…"


def _clear(traceback: TracebackType | None) -> None:
    """Clears the variables of frames that are done; a generator may go on, and would be ended by this."""
    while traceback is not None:
        frame = traceback.tb_frame
        if not frame.f_code.co_flags & _RESUMABLE:
            with contextlib.suppress(RuntimeError):  # it is still running
                frame.clear()
        traceback = traceback.tb_next


# In the process that waits.


def rebuild(report: Report, load: "Load | None" = None) -> BaseException:
    """The exception that a report tells of, or a `RemoteError` in its place. Raises nothing itself.

    `load` is the counterpart of the `pack` with which it was described.

    Its cause is a `RemoteTraceback`, unless it has a cause of its own, or a context that is to be shown.
    """
    from . import _recipes

    made = _Made(report, load or _recipes.load)
    try:
        return made.whole()
    except BaseException as problem:
        return made.stand_in(made.descriptions[0], _recipes.describe(problem))


class _Made:
    """The exceptions of a report that have been rebuilt."""

    def __init__(self, report: Report, load: "Load") -> None:
        self._load = load
        self.descriptions = [Description(*each) for each in report.exceptions]
        self._worker, self._pid = report.worker, report.pid
        self._made: dict[int, BaseException] = {}

    def whole(self) -> BaseException:
        """The first one, with all that belongs to it."""
        from ._frames import Mark
        from ._recipes import set_attributes
        from .exceptions import RemoteTraceback

        mark = Mark()
        for number, description in enumerate(self.descriptions):
            self._link(self._get(number), description, None if number else mark)
        error, first = self._get(0), self.descriptions[0]
        if error.__cause__ is None and (error.__context__ is None or error.__suppress_context__):
            cause = RemoteTraceback(
                _Text(first), self._worker, self._pid, len(first.frames), mark if first.frames else None
            )
            set_attributes(error, __cause__=cause)
        return error

    def stand_in(self, description: Description, reason: str) -> BaseException:
        """What comes in place of an exception that cannot be rebuilt."""
        from .exceptions import RemoteError

        name, arguments = description.type_name, description.arguments
        return RemoteError(
            f"{name}({_shorten(arguments, _SHORT)}) was raised in {self._worker} (pid {self._pid}) and "
            f"cannot be rebuilt here: {reason}. An exception travels if its arguments and attributes do, or "
            "as the __reduce__ of its class says",
            name,
            arguments,
            _Text(description)(),
            tuple(description.ancestors),
        )

    def _get(self, number: int) -> BaseException:
        if number not in self._made:
            self._made[number] = self._make(self.descriptions[number])
        return self._made[number]

    def _make(self, description: Description) -> BaseException:
        from . import _recipes

        whole = description.recipe[0] == "pickle"  # then the members of a group are in the pickle
        members = [] if whole else list(map(self._get, description.members))
        try:
            error = _recipes.follow(description.recipe, members, self._load)
        except _recipes.Lost as lost:
            return self.stand_in(description, str(lost))
        if whole:
            self._made.update(zip(description.members, _recipes.members_of(error), strict=False))
        return error

    def _link(self, error: BaseException, description: Description, mark: "Mark | None") -> None:
        """Gives an exception its traceback, its notes, and the exceptions that it followed."""
        from . import _frames
        from ._recipes import set_attributes

        others = {"__cause__": description.cause, "__context__": description.context}
        links = {name: self._get(number) for name, number in others.items() if number is not None}
        set_attributes(error, **links, __suppress_context__=description.suppress_context)
        BaseException.with_traceback(error, _frames.rebuild(description.frames, mark))
        if description.notes and not hasattr(error, "__notes__"):
            set_attributes(error, __notes__=list(description.notes))


class _Text:
    """A traceback as text, made when it is asked for."""

    def __init__(self, description: Description) -> None:
        self._frames = description.frames
        name, message = description.type_name.removeprefix("__main__."), description.message
        self._end = [f"{name}: {message}" if message else name, *description.notes]

    def __call__(self) -> str:
        from traceback import format_tb

        from ._frames import rebuild

        lines = format_tb(rebuild(self._frames))
        return "".join(["Traceback (most recent call last):\n", *lines, *(f"{line}\n" for line in self._end)])
