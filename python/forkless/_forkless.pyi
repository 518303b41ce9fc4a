"""The Rust core, as the Python layer sees it. Everything public is re-exported by `forkless`."""

from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, Sequence
from os import PathLike
from types import TracebackType
from typing import Any, ClassVar, Generic, SupportsIndex, TypedDict, TypeVar, final, overload

from typing_extensions import Buffer, Self, disjoint_base

from .exceptions import OwnerDied

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)
_K = TypeVar("_K")
_V_co = TypeVar("_V_co", covariant=True)

@disjoint_base
class Shared:
    """An object in the arena. Belongs to no context and no parent; pickles to a handle of three integers.

    Our own transports keep the object alive until it has arrived: pass the objects met while pickling as `handles`
    (see `_pickling.dumps`). For other picklers see `_strangers`.
    """

    @property
    def handle(self) -> tuple[int, int, int]:
        """(arena id, offset in bytes, generation)."""
    def _leases(self) -> tuple[int, int]:
        """(this process's, all) leases on it: if these are more, another process has it, or a message on its way."""
    def _reduce(self) -> tuple[Any, ...]:
        """How picklers of forkless write it, which keep it alive until it has arrived."""
    def __reduce__(self) -> tuple[Any, ...]: ...
    def __copy__(self) -> Self: ...
    def __deepcopy__(self, _memo: Any) -> Self: ...
    @classmethod
    def __class_getitem__(cls, _item: Any) -> type[Self]: ...

@final
class Lock(Shared):
    def __new__(cls, *, recover: Callable[[OwnerDied], object] | None = None, ctx: object = None) -> Self: ...
    def acquire(self, block: bool = True, timeout: float | None = None) -> bool: ...
    def release(self) -> None: ...
    def locked(self) -> bool: ...
    def __enter__(self) -> bool: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...

@final
class RLock(Shared):
    def __new__(cls, *, recover: Callable[[OwnerDied], object] | None = None, ctx: object = None) -> Self: ...
    def acquire(self, block: bool = True, timeout: float | None = None) -> bool: ...
    def release(self) -> None: ...
    def locked(self) -> bool: ...
    def __enter__(self) -> bool: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...

@disjoint_base
class Semaphore(Shared):
    def __new__(cls, value: int = 1, *, ctx: object = None) -> Self: ...
    def acquire(self, block: bool = True, timeout: float | None = None) -> bool: ...
    def release(self) -> None: ...
    def get_value(self) -> int: ...
    def __enter__(self) -> bool: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...

@final
class BoundedSemaphore(Semaphore):
    def __new__(cls, value: int = 1, *, ctx: object = None) -> Self: ...

@final
class Condition(Shared):
    def __new__(cls, lock: Lock | RLock | None = None, *, ctx: object = None) -> Self: ...
    def acquire(self, block: bool = True, timeout: float | None = None) -> bool: ...
    def release(self) -> None: ...
    def wait(self, timeout: float | None = None) -> bool: ...
    def wait_for(self, predicate: Callable[[], _T], timeout: float | None = None) -> _T: ...
    def notify(self, n: int = 1) -> None: ...
    def notify_all(self) -> None: ...
    def __enter__(self) -> bool: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...

@final
class Barrier(Shared):
    def __new__(
        cls,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
        *,
        ctx: object = None,
    ) -> Self: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def abort(self) -> None: ...
    def reset(self) -> None: ...
    @property
    def parties(self) -> int: ...
    @property
    def n_waiting(self) -> int: ...
    @property
    def broken(self) -> bool: ...

@final
class SharedBytes(Shared):
    """Bytes in the arena that every process reads and writes in place, zero at first: what values and arrays are made of.

    Supports the buffer protocol, writable until it is sealed.
    """

    def __new__(cls, size: int, *, zero: bool = True) -> Self:
        """Without `zero`, the bytes are whatever they are."""
    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def seal(self) -> None:
        """Has all buffers that anybody asks for from now on be read-only, in every process."""
    def place_of(self, address: int) -> int:
        """How far from its beginning an address is that this process has for it, from before it was sealed or after."""
    @property
    def sealed(self) -> bool:
        """Whether somebody has sealed it."""

@final
class Segment(Shared):
    """Memory that processes find by a name; what `shared_memory.SharedMemory` is made of.

    Supports the buffer protocol, writable, unless it is public.
    """

    @staticmethod
    def create(name: str, size: int) -> Segment | None:
        """All zero; None if something has that name."""
    @staticmethod
    def create_public(program: Program, name: str, size: int) -> tuple[Segment, int] | None:
        """With its file's descriptor, which is the caller's; None if something has that name."""
    @staticmethod
    def find(name: str) -> Segment | None: ...
    @property
    def name(self) -> str:
        """Whether or not it still has it."""
    @property
    def size(self) -> int: ...
    @property
    def is_linked(self) -> bool:
        """Whether it is found by its name."""
    @property
    def is_public(self) -> bool:
        """Whether its bytes are in a file that strangers find."""
    @property
    def token(self) -> str:
        """Its handle as text, always of the same length."""
    def open_file(self) -> int:
        """A descriptor of the file of a public one, the caller's. Raises StaleHandle once that has lost its name."""
    def unlink(self) -> bool:
        """Takes its name away; whether it had it."""
    def __buffer__(self, flags: int, /) -> memoryview: ...

def open_segment(token: str) -> Segment:
    """The segment with that handle. Raises StaleHandle when it is gone."""

@final
class Deposit(Shared):
    """A copy of a descriptor, kept by a template for whoever opens this object."""

    def __new__(cls, program: Program, descriptor: int) -> Self: ...
    def redeem(self) -> int:
        """A descriptor of this process's own for the same file."""
    def give_once(self) -> None:
        """From now on the first that redeems it gets what the template has, and nobody else does."""
    @property
    def given(self) -> bool:
        """Whether it was given away, once."""

@final
class Event(Shared):
    def __new__(cls, *, ctx: object = None) -> Self: ...
    def is_set(self) -> bool: ...
    def set(self) -> None: ...
    def clear(self) -> None: ...
    def wait(self, timeout: float | None = None) -> bool: ...

@final
class Message:
    """One received message. Keeps what the message carries (payload, handles) alive: drop it after loading."""

    @property
    def tag(self) -> int: ...
    @property
    def payload(self) -> bytes | memoryview:
        """Its bytes: a copy of them if they are few, otherwise a read-only memoryview of them where they arrived."""
    def buffers(self, writable: bool = False) -> list[memoryview]:
        """Its buffers, where they arrived. They keep the message's memory, and nobody else has it."""
    def unpack(self, format: int) -> Any:
        """The object that it is, in the format with this number."""

@final
class Parcel:
    """A message packed now, to be sent later: it is in shared memory already."""

    def __new__(
        cls,
        payload: Buffer | list[Buffer],
        handles: Sequence[Shared] = ...,
        *,
        buffers: Sequence[Buffer] = ...,
    ) -> Self: ...

@final
class Channel(Shared):
    """Bytes from any process to any process, first in first out, committed by one store."""

    def __new__(cls, maxsize: int = 0, max_bytes: int = 0) -> Self: ...
    def send(
        self,
        payload: Buffer | list[Buffer] | Parcel,
        handles: Sequence[Shared] = ...,
        *,
        buffers: Sequence[Buffer] = ...,
        tag: int = 0,
        block: bool = True,
        timeout: float | None = None,
    ) -> bool:
        """False when full (after `timeout` seconds). True: the message is in shared memory and survives the sender.

        A payload may come in pieces, which are not joined before they are there, or as a `Parcel`. `buffers` travel
        beside it and are used where they arrive.
        """
    def receive(self, *, block: bool = True, timeout: float | None = None) -> Message | None:
        """The next message, or None when there is none (after `timeout` seconds)."""
    def forward(self, message: Message, tag: int) -> None:
        """Sends a message that was received on, as it is, under another tag."""
    def qsize(self) -> int: ...
    @property
    def maxsize(self) -> int: ...

@disjoint_base
class BaseFuture:
    """An outcome, there now or later; what `Future` and `AsyncResult` inherit from."""

    def __new__(cls, *_arguments: Any, **_keywords: Any) -> Self: ...
    def _wait(self, timeout: float | None = None) -> bool: ...
    def done(self) -> bool:
        """Whether it is done, with or without success, or cancelled."""
    def cancelled(self) -> bool:
        """Whether it was cancelled."""
    @property
    def _task(self) -> int: ...
    @property
    def _owner(self) -> Any: ...
    _state: Any
    _result: Any
    _exception: Any
    _condition: Any
    _waiters: Any
    _done_callbacks: Any
    def _keep(self, kept: object) -> None: ...
    def _watch(self) -> None: ...
    def _store(self, done: bool, value: Any) -> bool: ...
    def _is_done(self) -> bool: ...
    def _is_watched(self) -> bool: ...
    def _assign(self, remote: Any, id: int) -> None: ...
    def _complete(self, done: bool, value: Any) -> None: ...

@final
class Function:
    """A published function."""

    def __new__(
        cls,
        object: Any,
        payload: Any,
        handles: Sequence[Shared],
        buffers: Sequence[Any],
        reusable: bool,
    ) -> Self: ...
    @property
    def object(self) -> Any:
        """The function itself."""

@final
class Gather:
    """Where the results of many tasks go, to be the outcome of one future."""

    def __new__(cls, total: int, future: BaseFuture) -> Self: ...
    @property
    def left(self) -> int:
        """How many items there are no results for yet."""
    def put_chunk(self, start: int, count: int, done: bool, value: Any) -> None:
        """So many items from `start` on are done."""

@final
class Arrivals:
    """Results on their way to an iterator."""

    def __new__(cls, ordered: bool) -> Self: ...
    @property
    def outstanding(self) -> int:
        """Parts that were submitted and not taken out."""
    @property
    def is_ready(self) -> bool:
        """Whether the next result is there."""
    def expect(self) -> int:
        """Another part is submitted; its number."""
    def put(self, part: int, chunk: bool, done: bool, value: Any) -> None:
        """A part is there. `chunk`: its value is a list of results."""
    def end(self) -> None:
        """No more parts will be submitted."""
    def abandon(self) -> None:
        """Nobody will take anything any more."""
    def next(self, timeout: float | None = None) -> tuple[bool, Any] | None:
        """The next result, or an exception; None: it was not there in time."""

@disjoint_base
class Dispatcher:
    """The owner's end of a pool: tasks out, outcomes in. Its methods are described in the core."""

    def __new__(cls, workers: int, places: int, *_arguments: Any, **_keywords: Any) -> Self: ...
    def _ends(self) -> tuple[Channel, Channel, SharedBytes]: ...
    def _submit(
        self,
        sink: Any,
        function: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: Any = None,
    ) -> int: ...
    def _submit_items(
        self, gather: Gather, function: Function, items: Iterable[Any], options: Any = None
    ) -> None: ...
    def _submit_chunk(
        self, sink: Any, function: Function, items: tuple[Any, ...], star: bool, options: Any = None
    ) -> int: ...
    def _submit_parts(
        self,
        arrivals: Arrivals,
        function: Function,
        parts: list[Any],
        start: int,
        chunks: bool,
        options: Any = None,
    ) -> None: ...
    def _step(self, timeout: float, child_events: int) -> list[tuple[int, int, Message]]: ...
    def _stalled(self) -> float: ...
    def _drain(self) -> None: ...
    def _wake(self) -> None: ...
    def _send_stop(self) -> None: ...
    def _set_workers(self, workers: int) -> None: ...
    def _expect_nested(self) -> None: ...
    def _blocked(self) -> tuple[int, int]: ...
    def _accept_only(self, accepts: int) -> None: ...
    def _is_gone(self, process: int) -> bool: ...
    @staticmethod
    def _terms_of(request: Message) -> bytes: ...
    def _submit_request(self, reply: Any, request: Message, options: Any, depth: int) -> int: ...
    def _settle(self, id: int, done: bool, value: Any) -> bool: ...
    def _withdraw(self, id: int) -> str | None: ...
    def _forget(self, id: int) -> bool: ...
    def _hold_lost(self, tag: int) -> int | None: ...
    def _again(self, id: int) -> bool: ...
    def _revoke(self, id: int) -> bool: ...
    def _unrevoke(self, id: int) -> None: ...
    def _feed(self) -> None: ...
    def _ids(self, pending_only: bool) -> list[int]: ...
    def _stage(self, id: int) -> str | None: ...
    def _options_of(self, id: int) -> Any: ...
    def _sink_of(self, id: int) -> Any: ...
    def _items_of(self, id: int) -> tuple[int, int, bool] | None: ...
    def _call_of(self, id: int) -> tuple[Any, Any, Any] | None: ...
    def _counts(self) -> tuple[int, int, int]: ...
    def _untaken(self) -> int: ...
    def _passed(self) -> tuple[int, int]: ...
    def _answered(self) -> int: ...
    def _has_taken_in(self, messages: int) -> bool: ...
    def _ahead(self) -> int: ...
    def _open_entry(self, index: int) -> None: ...
    def _vacate_entry(self, index: int) -> None: ...
    def _entry(self, index: int) -> tuple[int, int, int, int, int, int, int, int, int]: ...
    def _ask_to_stop(self, index: int, task: int) -> bool: ...
    def _doom(self, index: int, task: int) -> bool: ...

@final
class Worker:
    """The worker's end of a pool."""

    def __new__(cls, tasks: Channel, results: Channel, board: SharedBytes, index: int) -> Self: ...
    def ready(self) -> None:
        """Says on the board that it is ready for tasks."""
    def run(
        self,
        limit: int | None,
        failure: Callable[[BaseException, bool], Any],
        flush: Callable[[], object],
        retire: Callable[[], bool] | None,
    ) -> None:
        """Runs tasks until told to stop."""
    def notify(self, kind: int, payload: bytes) -> None:
        """Sends something that is no outcome of a task."""
    @property
    def current(self) -> int:
        """The task that user code runs in now, 0 for none."""
    def is_interrupted(self) -> bool:
        """Whether the owner asks for the task that runs now to be broken off."""
    def block(self) -> int:
        """Says on the board that the task waits for another, and to the owner that it is to look there.

        Returns what `unblock` is to be given; 0 if no task runs here.
        """
    def unblock(self, task: int) -> None:
        """The task waits no more."""
    @property
    def results(self) -> Channel:
        """Where answers go."""

@disjoint_base
class Client:
    """What another process of the tree has of a pool. Its methods are described in the core."""

    def __new__(cls, requests: Channel, board: SharedBytes, *_arguments: Any, **_keywords: Any) -> Self: ...
    def _request(
        self,
        tag: int,
        terms: bytes,
        call: tuple[Any, tuple[Any, ...], dict[str, Any]],
        keep: bool,
    ) -> None: ...
    def _request_item(self, tag: int, terms: bytes, call: tuple[Function, Any, int], keep: bool) -> None: ...
    def _request_chunk(
        self, tag: int, terms: bytes, call: tuple[Function, tuple[Any, ...], bool, int | None], keep: bool
    ) -> None: ...
    def _accepted(self) -> int | None: ...
    def _me(self) -> int: ...

@disjoint_base
class BaseQueue(Generic[_T]):
    """What `forkless.queues` makes its queues of; the docstrings of its methods are in the core."""

    def __new__(cls, *_arguments: Any, **_keywords: Any) -> Self: ...
    def put(self, obj: _T, block: bool = True, timeout: float | None = None) -> None: ...
    def get(self, block: bool = True, timeout: float | None = None, *, writable: bool = False) -> _T: ...
    def put_many(self, items: Iterable[_T], block: bool = True, timeout: float | None = None) -> None: ...
    def get_many(
        self,
        max_items: int | None = None,
        block: bool = True,
        timeout: float | None = None,
        *,
        writable: bool = False,
    ) -> list[_T]: ...
    def qsize(self) -> int: ...
    def empty(self) -> bool: ...
    def full(self) -> bool: ...
    def shutdown(self, immediate: bool = False) -> None: ...
    def close(self) -> None: ...
    def _use(self, channel: Channel, tasks: bool) -> None: ...
    @property
    def _channel(self) -> Channel: ...
    @property
    def _closed(self) -> bool: ...
    def _statistics(self) -> tuple[int, int, int, int, list[tuple[str, int, int]]]:
        """(sent, received, bytes waiting, lost, [(name, pid, count)])."""
    def _task_done(self) -> bool: ...
    def _unfinished(self) -> int: ...
    def _join(self, timeout: float | None = None) -> int | None:
        """How many items were lost, or None when the time is over."""
    def _hang(self, bell: int, room: bool) -> bool: ...
    def _take_down(self, bell: int, room: bool) -> None: ...
    @classmethod
    def __class_getitem__(cls, _item: Any) -> type[Self]: ...

@final
class Bell:
    """A descriptor that other processes make readable when there is a reason to look."""

    def __new__(cls) -> Self: ...
    def fileno(self) -> int: ...
    @property
    def number(self) -> int: ...
    def silence(self) -> None: ...

@final
class SharedBuffer(Shared):
    """Bytes in the arena, read-only in every process: a copy of `source`, with its format and shape.

    Supports the buffer protocol: `memoryview(shared)`, `numpy.asarray(shared)`. Each process maps the pages
    without write permission.
    """

    def __new__(cls, source: Buffer) -> Self: ...
    @staticmethod
    def gather(sources: Sequence[Buffer]) -> tuple[SharedBuffer, list[int]]:
        """One buffer, of plain bytes, with a copy of each of these, and where each begins in it: at a multiple of 64."""

    def copy_on_write(self) -> memoryview:
        """Its bytes as a copy of this process's own, writable, that costs memory for the pages that are written to."""
    def is_copy_of(self, source: Buffer) -> bool:
        """Whether its bytes are those of `source`, as they are now."""
    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def format(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...

@final
class SharedList(Sequence[_T_co]):
    """A list in shared memory, made by `forkless.share`; read-only, and read where it is.

    Has what a list has for reading, with slices that are views. A list of numbers supports the buffer protocol:
    `numpy.asarray(shared)` copies nothing. Compares equal to lists and tuples with equal items.
    """

    @overload
    def __getitem__(self, index: SupportsIndex, /) -> _T_co: ...
    @overload
    def __getitem__(self, index: slice, /) -> SharedList[_T_co]: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[_T_co]: ...
    def __reversed__(self) -> Iterator[_T_co]: ...
    def __contains__(self, value: object, /) -> bool: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    __hash__: ClassVar[None]  # type: ignore[assignment]
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def index(self, value: Any, start: int = 0, stop: int = ..., /) -> int:
        """The index of the first item that equals a value. Raises ValueError if there is none."""

    def count(self, value: Any) -> int:
        """How many items equal a value."""

    def tolist(self) -> list[Any]:
        """As a list of its own, and all lists and dictionaries in it, too."""

    def column(self, part: int | str) -> SharedList[Any]:
        """One part of all items: by its place in tuples of one length, by its name in dictionaries.

        Items that have no such part have None. Raises IndexError or KeyError if there is no such column, and
        TypeError for lists of anything else.
        """

@final
class SharedDict(Mapping[_K, _V_co]):
    """A dictionary in shared memory, made by `forkless.share`; read-only, and read where it is.

    Has what a dictionary has for reading. Compares equal to dictionaries with equal entries.
    """

    def __getitem__(self, key: Any, /) -> _V_co: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[_K]: ...
    def __contains__(self, key: object, /) -> bool: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    __hash__: ClassVar[None]  # type: ignore[assignment]
    def get(self, key: Any, default: Any = None, /) -> Any:
        """The value for a key, or `default`."""

    def keys(self) -> KeysView[_K]:
        """A view of the keys."""

    def values(self) -> Sequence[_V_co]:  # type: ignore[override]
        """The values, in the order of the keys."""

    def items(self) -> ItemsView[_K, _V_co]:
        """A view of the entries."""

    def todict(self) -> dict[_K, Any]:
        """As a dictionary of its own, and all lists and dictionaries in it, too."""

def share_columns(value: Any) -> Any:
    """Copies a list, a tuple or a dictionary of plain values into shared memory.

    None if there is something in it that is no plain value: nothing has been copied then.
    """

def open_list(owner: SharedBuffer, at: int, first: int, step: int, count: int) -> SharedList[Any]:
    """Unpickles a `SharedList`."""

def open_dict(owner: SharedBuffer, at: int, row: int) -> SharedDict[Any, Any]:
    """Unpickles a `SharedDict`."""

def address_of(source: Buffer) -> int:
    """Where a buffer begins, in this process."""

def find_shared(address: int, size: int) -> tuple[SharedBuffer, int] | None:
    """The shared buffer of this process that has these addresses, and where in it they begin.

    None if they are not all in one buffer, or are none.
    """

def inherited(name: str) -> Any:
    """The object that the Rust program which started this one passed under this name."""

def open_shared(kind: int, arena: int, offset: int, generation: int, extra: Any = None) -> Shared:
    """Unpickles a `Shared`. Raises `forkless.StaleHandle` when the object no longer exists or is not reachable."""

def tree_name(program: Program, arena: int) -> str | None:
    """The name by which other processes join this one's tree, started if need be; None if the arena is another's."""

def join_tree(name: str, arena: int) -> bool:
    """Joins the tree with that name, unless this process can reach that arena already; whether it can now."""

def take_leases_after_fork() -> None:
    """In a copy of this process made by `os.fork`: takes hold of the objects that the original holds."""

@final
class Coming:
    """A child that was asked for. Dropped before it was waited for, it never runs its job, or is killed."""

    def wait(self) -> Child:
        """The child, once it is there."""

@final
class Child:
    """A process of this tree, started by the template, seen from the process that asked for it."""

    @staticmethod
    def ask(
        program: Program,
        method: str,
        payload: Buffer | list[Buffer],
        handles: Sequence[Shared],
        *,
        buffers: Sequence[Buffer] = ...,
        name: str,
        surroundings: SharedBytes,
    ) -> Coming:
        """Asks a template with this program (started on the first call) for a child: "forkserver" or "spawn".

        `payload` goes to `_child.run` in the child, `surroundings` to the template, which learns it when there is time:
        it must live until there are others. Standard input, output and error are those of this process
        now. Raises `forkless.ProcessError` when the template or the system refuses (too many threads in the
        template, no memory, no processes left, no descriptors left).
        """
    @property
    def pid(self) -> int: ...
    @property
    def sentinel(self) -> int:
        """A descriptor that becomes readable when the child has ended; owned by this object."""
    def poll(self) -> int | None:
        """The exit code (negative: the signal), or None while it runs. Raises ProcessError if it cannot be known."""
    def wait(self, timeout: float | None = None) -> int | None: ...
    def has_left(self) -> bool:
        """Whether it has become another program, by `exec`. True for a moment, too, while it is about to end."""
    def signal(self, number: int, grace: float | None = None) -> None:
        """Sends a signal through the process descriptor, and SIGKILL `grace` seconds later if it has not ended."""
    def last_words(self) -> str | None:
        """After its death by a fatal signal: the Python stack that it wrote down, None if it did not."""
    def peak_memory(self) -> int | None:
        """After its end: the most memory that was resident in it, in bytes; None while it runs, or if nobody knows."""
    def claimed(self) -> int | None:
        """After its death: the tag of the last message it had claimed and taken, 0 or None if none."""
    def claiming(self) -> int | None:
        """The id of the task that it has claimed as a worker of a pool, begun with or not; 0 or None if none."""
    def close(self) -> None:
        """Gives back the slot and the descriptor. ValueError while the child runs."""

def open_last_words() -> int:
    """A descriptor to which a signal handler can write what the parent gets from `Child.last_words`."""

def trim_heap() -> None:
    """Gives back to the system the memory that C and Rust have freed."""

def child_events() -> int:
    """Counts the ends of this process's children; see `Dispatcher._step`."""

@final
class Program:
    """How a template is started: `executable *arguments -c CODE *preload`, where CODE begins with `prelude`.

    The template imports the modules in `preload` before it serves. `own`: a child must not use the template it came
    from.
    """

    def __new__(
        cls, executable: str, arguments: Sequence[str], prelude: str, *, preload: Sequence[str], own: bool
    ) -> Self: ...

VERSION: str
HAS_CRASH_POINTS: bool
BUFFER_KIND: int

def retire_templates() -> None:
    """Has the templates of this process end once their children have: new ones are started when they are needed."""

def bury_templates() -> None:
    """Reaps templates of this process that have ended."""

def shutdown() -> None:
    """Ends this process's template, if it started one, and waits for it (at most a second). Children of it are killed."""

@final
class Job:
    """What a new child has to do."""

    @property
    def payload(self) -> memoryview: ...
    def buffers(self) -> list[memoryview]: ...
    def loaded(self) -> None:
        """Says that the job was loaded: the descriptors that came with it are nobody else's any more."""
    @property
    def has_streams(self) -> bool:
        """Whether the standard streams are those that the template had when it learned the surroundings."""
    @property
    def method(self) -> str: ...

def serve(
    learn: Callable[[SharedBytes], object],
    rehearse: Callable[[], object],
    preload: Callable[[], tuple[list[str], list[str]]],
) -> Job:
    """The template's life. Returns in each child it forks; in the template itself never (it exits).

    Finds the arena, the listening socket and the root's pid in the environment variable its parent set. `learn` gets
    what children to come take over from the main process; `rehearse` is called in a child that will wait for a job,
    `preload` once, before any fork: it returns the names of modules that have left threads, and of those that
    have opened a device which forked processes cannot use.
    """

def adopt() -> Job:
    """The start of a spawned child: attaches to the arena it was given and returns its job."""

def thread_count() -> int:
    """Threads of this process, native ones included."""

def attributes() -> bytes:
    """What the system keeps for this process and a fork would have copied: masks, niceness, affinity, limits."""

def has_attributes(attributes: bytes) -> bool:
    """Whether a child that this process forks has these attributes without doing anything."""

def accept_interrupts() -> None:
    """From now on SIGINT arrives; what has come while it was blocked was for others."""

def ignore_interrupts() -> None:
    """From now on SIGINT has no effect, whatever Python's table of handlers says."""

def adopt_attributes(attributes: bytes) -> None:
    """Takes over another process's `attributes()`. OSError for a limit that cannot be had."""

def processes() -> list[tuple[int, str, str]]:
    """(pid, name, role) of every process of the tree; role is "main", "template", "child" or "guest"."""

def census() -> tuple[int, int]:
    """(blocks, leases) in the arena, counted one by one under its lock; checks that all of it fits together."""

def memory(pid: int) -> tuple[int, int, int, int, int, int, int]:
    """Bytes of (RSS, PSS, USS, private dirty, shared, swap, saved) of one process.

    ProcessLookupError if it is gone or has no memory any more, PermissionError if it is not ours to look at.
    """

class _Diagnosis(TypedDict):
    root: int
    processes: list[dict[str, Any]]
    findings: list[dict[str, Any]]
    unknown: list[str]

def diagnose(root: int, leave_out: int | None = None) -> _Diagnosis:
    """What the processes of a tree wait for, and what is wrong with that, as `forkless doctor` prints it."""

def pulse(root: int) -> int:
    """A number that is the same as before if no process of the tree has done anything in between."""

def families(roots: Sequence[int]) -> list[tuple[int, str]]:
    """(pid, command line) of processes and all that descend from them, parents first; nothing of one that is not there."""

def arenas(
    pids: Sequence[int], patience: float
) -> tuple[
    list[
        tuple[
            int,
            int,
            bool,
            int,
            int,
            list[tuple[str, int, int]],
            list[tuple[int, str, str, bool, int, int, int]],
        ]
    ],
    list[str],
]:
    """The arenas that these processes have open, and why some could not be read.

    An arena is (id, bytes, whether all of it could be read, bytes that processes hold, bytes that several hold, kinds, holders);
    a kind (name, blocks, bytes); a holder (pid, name, role, whether it lives, leases, bytes, bytes that others hold too).
    Takes no lock and no place in them, and waits at most `patience` seconds for changes that somebody is making.
    """

def arm_crash_point(name: str, passes: int = 1, *, halt: bool = False) -> bool:
    """For fault tests: has this process killed at the `passes`-th pass through a point. False in release builds.

    With `halt` it is stopped instead, until SIGCONT.
    """

def set_warm_memory(bytes: int) -> None:
    """Sets how many bytes of pages the free blocks of the arena keep at most, and gives back what is more."""

def trim_memory() -> int:
    """Gives back all pages of free blocks; how many bytes that were."""

def warm_memory() -> int:
    """Bytes of pages that free blocks keep now."""

def immortalise(object: Any, array_type: type | None) -> tuple[int, list[Any]]:
    """Makes an object immortal, with all data that can be reached from it; on CPython 3.12 and 3.13 only.

    Returns how many objects that were, and the arrays of NumPy's `array_type` among them.
    """

def check(
    paths: Sequence[str | PathLike[str]],
    *,
    format: str,
    colour: bool,
    select: Sequence[str],
    ignore: Sequence[str],
    exclude: Sequence[str],
    target_version: str | None,
    fix: bool,
    text: bytes | None,
) -> tuple[str, list[str], int]:
    """Looks for traps in files and folders, or in `text`, which is then what came through standard input.

    What is not given is looked for in the nearest pyproject.toml. Returns the report, a line for each file that could not be
    read as it should be, and the exit code of the command. ValueError if the options make no sense.
    """

def check_explain(name: str) -> str | None:
    """What there is to say about a rule, or about the rules of a hazard, in Markdown. None if there is no such."""

def check_list() -> str:
    """One line for each rule."""

def check_reference() -> str:
    """What there is to say about all rules, in Markdown."""
