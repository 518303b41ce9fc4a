"""The traps of the gallery: what each program shows, and what counts as falling into the trap."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from ._run import ASLEEP, Half

# What a program that fell into the trap did, in a few words; None if it did something else.
Symptom = Callable[[Half], "str | None"]
# What is wrong with a program under forkless beyond its output and its end; None if nothing is.
Promise = Callable[[Half, int], "str | None"]


@dataclass(frozen=True)
class Case:
    """One program, written for the standard library and for forkless.

    Attributes:
        name: Tells the cases of a trap apart; also the end of the programs' file names, except for the first.
        title: What the program does.
        expected: What the standard library was seen to do, as the object of "instead of".
        symptom: Recognises that in a run.
        shows: The line of the forkless half's output that tells most, as a pattern; the first one by default.
        promise: What must hold beyond the exact output and a clean end.
        measured: The name of that check.
        killed: The program ends by killing its own process group.
        on_stdin: The interpreter reads the program from standard input.
        takes_items: Its argument is the number of items.
        standard_limit: Seconds after which the standard half is killed, if that is enough to see.
    """

    name: str
    title: str
    expected: str
    symptom: Symptom
    shows: str = ".+"
    promise: Promise | None = None
    measured: str = ""
    killed: bool = False
    on_stdin: bool = False
    takes_items: bool = False
    standard_limit: float | None = None


@dataclass(frozen=True)
class Trap:
    """A trap of the standard library.

    Attributes:
        slug: Its name everywhere in forkless.
        title: The trap in a few words.
        why: Why it exists.
        instead: What forkless does.
        cases: The programs, the most telling one first.
        page: The files of its memory page, if it has one.
    """

    slug: str
    title: str
    why: str
    instead: str
    cases: tuple[Case, ...] = field(default=())
    page: tuple[str, ...] = ()

    def file(self, half: str, case: Case) -> str:
        """The path of a program below the folder of programs; `half` is "standard" or "with_forkless"."""
        suffix = "" if case is self.cases[0] else f"_{case.name}"
        return f"{self.slug}/{half}{suffix}.py"


# Symptoms.


def hang(half: Half) -> str | None:
    """It does not end."""
    if not half.stopped:
        return None
    return describe_end(half)


def error(name: str, after: str = "") -> Symptom:
    """It ends with this exception, and had got far enough to print `after`."""
    return lambda half: (
        half.error
        if half.exit_code and after in half.stdout and (half.error or "").startswith(name)
        else None
    )


def child_signal(name: str) -> Symptom:
    """A child is killed by this signal."""
    return lambda half: describe_end(half) if any(child.signal == name for child in half.children) else None


def main_twice(half: Half) -> str | None:
    """The module level runs in the child too."""
    runs = half.stdout.count("module level runs in process")
    answer = re.search(r"^child sees (.+)$", half.stdout, re.M)
    return f"module level ran {runs} times; child sees {answer[1]}" if runs > 1 and answer else None


def storm(half: Half) -> str | None:
    """Workers are started, and fail, for ever."""
    if not half.stopped or "freeze_support" not in half.stderr:
        return None
    lines = f"{half.stderr_lines:,} lines of errors in {half.seconds:.0f} s"
    return f"workers fail and are respawned for ever: {lines}"


def child_failed(half: Half) -> str | None:
    """A child ends with an error."""
    if not any(child.exit_code > 0 for child in half.children):
        return None
    return f"the child fails: {half.error}" if half.error else "the child fails"


def gone_after_first(half: Half) -> str | None:
    """The first program reads the segment, the second one does not find it."""
    codes = [child.exit_code for child in half.children]
    return f"the second program fails: {half.error}" if codes == [0, 0, 1] else None


def copied(half: Half) -> str | None:
    """Children copy the data that they read."""
    growths = {kind: growth(half, kind) for kind in ("child", "frozen child")}
    sizes = {kind: size for kind, size in growths.items() if size is not None and size >= _COPIED}
    if not sizes:
        return None
    return "reading copies " + ", ".join(f"{megabytes(size)} in the {kind}" for kind, size in sizes.items())


def leak(half: Half) -> str | None:
    """Names are left in /dev/shm."""
    count = len(half.left_segments)
    return (
        f"{count} name{'s'[: count > 1]} left in /dev/shm: {', '.join(half.left_segments)}" if count else None
    )


# Promises.

_COPIED = 8 << 20  # bytes; the smallest number of items accepted costs a standard child four times as much


def not_copied(half: Half, items: int) -> str | None:
    """The child's private memory grows by less than a byte an item while it reads: 10 MB for ten million."""
    grown = growth(half, "child")
    if grown is None:
        return "the child did not report its memory"
    return None if grown < items else f"reading copied {megabytes(grown)} into the child"


def growth(half: Half, kind: str) -> int | None:
    """By how many bytes the private dirty memory of a child grew while it read."""
    dirty = {memory.when: memory.private_dirty for memory in half.memory}
    try:
        return dirty[f"{kind} after reading"] - dirty[f"{kind} before reading"]
    except KeyError:
        return None


# In words.


def describe_end(half: Half) -> str:
    """How a program and its children ended, in a few words."""
    for child in half.children:
        if child.signal is not None:
            return f"child killed by {child.signal}"
    if half.ended == "hang":
        return f"hang: no thread has moved for {ASLEEP:.0f} s"
    if half.ended == "timeout":
        return f"not finished after {half.seconds:.0f} s" + (f" ({half.error})" if half.error else "")
    if half.signal is not None:
        return f"killed by {half.signal}"
    if half.error is not None:
        return half.error
    if failed := child_failed(half):
        return failed
    return f"exit code {half.exit_code}"


def megabytes(size: float) -> str:
    """Bytes as megabytes (10⁶ bytes): "307.2 MB"."""
    return f"{size / 1e6:,.1f} MB"


TRAPS = (
    Trap(
        "context-mismatch",
        "locks, events and queues belong to one start method",
        why="""\
The objects of multiprocessing that synchronise are POSIX semaphores. Made under fork they have no
name, as a forked child inherits them; a spawned child finds them by name. An object made under
one start method is useless, or fatal, in a child of another one: up to 3.11.4 the child attached
to nothing and crashed, since then pickling it raises. For the same reason they travel only while
a child is started, never through a queue or in a task.""",
        instead="""\
A lock, an event or a queue is a place in the shared memory of the process tree, with a handle of
three integers. It belongs to no start method and no parent, and can be pickled at any time: in
arguments, queues and tasks.""",
        cases=(
            Case(
                "process",
                "an event made anywhere, used in forkserver and spawn children",
                "SIGSEGV of the child",
                child_signal("SIGSEGV"),
            ),
            Case("queue", "a lock through a queue", "a hang", hang),
            Case("pool", "an event in a task of a pool", "a RuntimeError", error("RuntimeError")),
        ),
    ),
    Trap(
        "main-reexecution",
        "children execute the main module again",
        why="""\
A spawned child gets its target by name, and has to import the module of that name: the script
itself. So everything at its module level happens again in each child, and what the parent has
assigned since is missing. A script that starts processes there would start them for ever; a guard
in every program prevents that, or an error, which a Pool answers with a new worker, for ever. A
program on standard input has no file to import.""",
        instead="""\
The main module never runs in a child. Its functions and classes travel by value, with the globals
that they use as they are at that moment. No guard is needed, and it does not matter where the
program comes from.""",
        cases=(
            Case(
                "globals",
                "module level with a side effect, a global set later, a spawned child",
                "a second run of the module level",
                main_twice,
                shows="child sees .+",
            ),
            Case(
                "unguarded",
                "a pool of spawned workers, without a guard",
                "endless respawning",
                storm,
                standard_limit=4.0,
            ),
            Case(
                "stdin",
                "a program on standard input, with a spawned child",
                "a child that fails",
                child_failed,
                on_stdin=True,
            ),
        ),
    ),
    Trap(
        "inherited-lock",
        "a forked child inherits locks that nobody will release",
        why="""\
fork copies the memory of a process, but only the thread that calls it. A lock that another thread
held at that moment stays locked in the child for ever, as its owner does not exist there. Every
library has such locks, the import system has one for each module, and so have allocators and
native libraries. From 3.12 on there may be a DeprecationWarning.""",
        instead="""\
Your process is never forked. Children come from a template, a fresh single-threaded process that
counts its threads before each fork, or from an interpreter of their own. The child imports what
it needs by itself.""",
        cases=(
            Case("library", "a thread holds the lock of a library, the child needs it", "a hang", hang),
            Case("import", "a thread imports a module, the child imports it too", "a hang", hang),
        ),
    ),
    Trap(
        "start-method-twice",
        "the start method can be set only once",
        why="""\
The start method is one global of the process, and setting it a second time raises, even to the
same value: a library that sets it breaks the program that sets it too, or the other way round, by
the order of imports.""",
        instead="""\
set_start_method can be called as often as you like. A library that needs a method of its own
takes a context and touches nobody else's.""",
        cases=(
            Case(
                "twice",
                'set_start_method("spawn") in the program and in a library',
                "a RuntimeError",
                error("RuntimeError"),
            ),
        ),
    ),
    Trap(
        "reentrant-queue",
        "put from a finaliser or a signal handler deadlocks",
        why="""\
A finaliser, a weak reference's callback or a signal handler runs in the middle of whatever its
thread does. If that is Queue.put, the queue's lock is taken already, by the same thread: taking
it again waits for ever. The article's program, with queue.Queue and __del__, no longer hangs; the
same with multiprocessing.Queue does.""",
        instead="""\
No Python code runs while an internal lock is held: a message is pickled first and committed by
the core in one piece. put may interrupt put, and nothing is lost: the number of items is exact.""",
        cases=(
            Case("del", "put from __del__", "a hang", hang),
            Case("weakref", "put from a weak reference's callback", "a hang", hang),
            Case("signal", "put from a signal handler, some thousand times", "a hang", hang),
        ),
    ),
    Trap(
        "refcount-copy",
        "reading shared objects copies them",
        why="""\
A forked child shares the pages of its parent until one of the two writes. But looking at a Python
object writes: its reference count lies beside its value. So reading a list of ten million
integers copies all of it, page by page. RSS does not show it, as it counts shared pages in full
in each process; PSS, USS and private dirty pages do. gc.freeze keeps the collector from writing,
not the reference counts.""",
        instead="""\
forkless.share puts data outside the object heap, into memory that all processes map without
write permission. Reading it writes nothing. forkless.preload has all children inherit objects as
they are; from Python 3.12 on they are immortal and frozen there, so that neither reading nor
collecting writes to them. forkless.memory_report() shows what each process really costs.""",
        cases=(
            Case(
                "read",
                "ten million integers, read by a child",
                "a copy",
                copied,
                promise=not_copied,
                measured="memory",
                takes_items=True,
            ),
        ),
        page=tuple(f"memory_{name}.py" for name in ("data", "fork", "freeze", "spawn", "preload", "share")),
    ),
    Trap(
        "shared-memory-leak",
        "shared memory outlives its users, or goes before them",
        why="""\
A SharedMemory is a file in /dev/shm: whoever is last has to unlink it. A helper, the resource
tracker, does so for a process that forgets; but killed with the rest it does nothing, and alive
it unlinks at the end of its own program what other programs, with other trackers, still use.""",
        instead="""\
Shared memory has no name in a file system. The kernel frees it when the last process of the tree
is gone, however they went; until then it lasts as long as anybody holds it, whoever made it.""",
        cases=(
            Case(
                "killed",
                "owner and user killed with SIGKILL",
                "a leak in /dev/shm",
                leak,
                killed=True,
            ),
            Case(
                "creator",
                "a child makes a segment and ends before the parent looks",
                "a segment gone with its creator",
                error("FileNotFoundError", after="child exit code: 0"),
                shows="parent reads .+",
            ),
            Case(
                "reader",
                "a child, then two programs read it, one after the other",
                "a segment gone after the first reader",
                gone_after_first,
                shows="program reads .+",
            ),
        ),
    ),
    Trap(
        "pool-in-pool-deadlock",
        "a task that waits for another task of its own pool",
        why="""\
A worker that waits for a task of its own pool is a worker less; when all of them wait, nobody is
left to run what they wait for. And most pools are of no use in their workers at all: a forked one
has a copy of the executor whose threads do not exist there, so what it submits goes nowhere; pickled
ones are refused.""",
        instead="""\
A pool travels to its own tasks, and to any process of the tree, as a client of its owner. While a
task waits, another worker is started in its place, so there is always one for what it waits for,
and never more tasks run than there were to be workers.""",
        cases=(
            Case("tree", "tasks that submit tasks and wait, deeper than there are workers", "a hang", hang),
        ),
    ),
)
