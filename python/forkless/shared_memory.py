"""Memory that processes find by a name: the counterpart of `multiprocessing.shared_memory`.

The same classes with the same methods, and another idea of who owns what. In the standard library a segment
is a file in `/dev/shm` that stays until somebody unlinks it, and a second process, the resource tracker,
which unlinks what it believes to be forgotten, sometimes under those who still read it. Here

- a segment is a block of the tree's shared memory, and its name is in a directory in that same memory.
  Nothing is in a file system, so nothing can be left there. Any process of the tree finds it, and so does a
  program that one of them has started, if it imports forkless;
- it lives as long as somebody has it: an object that is not closed, a view or an array over it, a message
  on its way that carries the object. The last `close`, or death by whatever signal, frees it (so it is on
  Windows with the standard library, too). Send the object rather than its name to somebody who comes later;
- `unlink` takes the name away and nothing else: who has the memory keeps it, and nobody finds it any more.
  Without it the name goes with the memory. The object itself may still be sent;
- no tracker runs, and `size` is exact.

Programs that are not of the tree see none of this. For them there is `SharedMemory(..., public=True)`: a file
of `/dev/shm`, which `shm_open`, and `multiprocessing.shared_memory` of any other program, find by its name.
The block in the tree's memory then stands for that name. When the last process of the tree that has it is
gone, the name goes, also after SIGKILL: the template sees to that, and one is started if there is none. (Only
when the template is killed together with the last of them does the name stay, as POSIX has it.) The file gets
its name last, in one step, when it has its size and its memory. Segments that strangers have made are found
without `public`, and left alone: their names go when somebody calls `unlink`.
"""

import errno
import mmap
import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, Generic, TypeVar

from ._forkless import Segment, open_segment
from .exceptions import StaleHandle

__all__ = ["ShareableList", "SharedMemory"]


class SharedMemory:
    """Bytes that every process reads and writes in place, under a name.

    Args:
        name: of a segment that exists, or, with `create`, of the new one; None for a name of its own.
        create: make one.
        size: bytes of the new one.
        track: accepted for compatibility; nothing is ever tracked.
        public: with `create`, have programs outside of the tree find it; see above.

    Raises:
        FileExistsError: something has that name, in the tree or in `/dev/shm`.
        FileNotFoundError: nothing has that name.
        SharedMemoryFull: there is no memory for it, a `MemoryError`.
        ValueError: the size is not positive, or no name is given.

    Example:
        >>> segment = SharedMemory(create=True, size=5)
        >>> segment.buf[:] = b"hello"
        >>> again = SharedMemory(segment.name)  # in any process
        >>> bytes(again.buf), again.size
        (b'hello', 5)
    """

    def __init__(
        self,
        name: str | None = None,
        create: bool = False,
        size: int = 0,
        *,
        track: bool = True,
        public: bool = False,
    ) -> None:
        if not size >= 0:
            raise ValueError("'size' must be a positive integer")
        if create and size == 0:
            raise ValueError("'size' must be a positive number different from zero")
        if name is None and not create:
            raise ValueError("'name' can only be None if create=True")
        if name is not None and "\0" in name:
            raise ValueError("a name has no null character")
        if create:
            self._use(*_create(name, size, public))
        else:
            self._use(*_attach(name or ""))

    def _use(self, name: str, segment: Segment | None, mapping: mmap.mmap | None) -> None:
        """Begins: with what is in the tree's memory, in a file of it, or in a file of strangers."""
        self._name, self._segment, self._mmap = name, segment, mapping
        self._token = None if segment is None else segment.token
        self._linked = True
        source: Any = segment if mapping is None else mapping
        self._buf: memoryview | None = memoryview(source)
        self._size = self._buf.nbytes

    @property
    def name(self) -> str:
        """What it is found by."""
        return self._name

    @property
    def size(self) -> int:
        """Bytes, exactly."""
        return self._size

    @property
    def buf(self) -> memoryview:
        """Its bytes, writable; None once this object is closed."""
        return self._buf  # type: ignore[return-value]

    def close(self) -> None:
        """Lets the memory go. If nobody else has it, it is freed, and its name with it.

        Arrays over `buf` that are still there stay as they are, and have the memory until they are dropped.
        The standard library raises a `BufferError`, or takes the memory away, and the next look at the array
        is a SIGSEGV.
        """
        if self._buf is not None:
            with suppress(BufferError):
                self._buf.release()
            self._buf = None
        self._mmap = None  # not closed: NumPy holds what it has of it, and does not say so
        if self._segment is not None:
            self._linked = self._segment.is_linked
            self._segment = None

    def unlink(self) -> None:
        """Takes the name away, for all processes. The memory stays with those who have it.

        It may be called before or after `close`, once.

        Raises:
            FileNotFoundError: the name has been taken away before.
        """
        if self._token is None:
            _posix().shm_unlink(_path(self._name))
            return
        segment = self._segment
        if segment is None and self._linked:
            try:
                segment = open_segment(self._token)
            except StaleHandle:
                self._linked = False  # it went with the memory
                return
        if segment is None or not segment.unlink():
            raise _not_found(self._name, "it has been unlinked before")
        self._linked = False

    def __reduce__(self) -> tuple[Any, ...]:
        if self._segment is None:
            return type(self), (self._name, False, self._size)
        return _rebuild, (type(self), self._segment)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._name!r}, size={self._size})"


def _create(name: str | None, size: int, public: bool) -> tuple[str, Segment, mmap.mmap | None]:
    while True:
        new = _make_filename() if name is None else name
        segment, mapping = _create_public(new, size) if public else (Segment.create(_key(new), size), None)
        if segment is not None:
            return new, segment, mapping
        if name is not None:
            raise FileExistsError(errno.EEXIST, "shared memory of this name exists", name)


# As in the standard library, for who wants to choose the names that nobody chooses (its tests do).
_SHM_NAME_PREFIX = "fl_"


def _make_filename() -> str:
    return f"{_SHM_NAME_PREFIX}{os.urandom(6).hex()}"


def _create_public(name: str, size: int) -> tuple[Segment | None, mmap.mmap | None]:
    from . import _exit, _programs

    if "/" in _key(name) or _key(name) in (".", ".."):
        raise ValueError(f"{name!r} cannot be the name of a public segment: it would be no file of /dev/shm")
    _exit.register()
    made = Segment.create_public(_programs.default(), _key(name), size)
    return (None, None) if made is None else (made[0], _map(made[1], made[0]))


def _attach(name: str) -> tuple[str, Segment | None, mmap.mmap | None]:
    segment = Segment.find(_key(name)) if _key(name) else None
    if segment is not None:
        return name, segment, _file_of(segment)
    try:
        return name, None, _map(_posix().shm_open(_path(name), os.O_RDWR, mode=0o600))
    except FileNotFoundError:
        why = "the last process that had it has closed it, or it is of another process tree and not public"
        raise _not_found(name, why) from None


def _file_of(segment: Segment) -> mmap.mmap | None:
    """The mapping of a public segment."""
    if not segment.is_public:
        return None
    try:
        return _map(segment.open_file(), segment)
    except StaleHandle as error:
        raise _not_found(segment.name, str(error)) from None


class _Mapping(mmap.mmap):
    """Of a file. As long as there are views of it, the segment is held that stands for the file's name."""

    segment: Segment | None = None


def _map(fd: int, segment: Segment | None = None) -> mmap.mmap:
    try:
        mapping = _Mapping(fd, os.fstat(fd).st_size)
    finally:
        os.close(fd)
    mapping.segment = segment
    return mapping


def _rebuild(kind: type[SharedMemory], segment: Segment) -> SharedMemory:
    """Of a pickle."""
    shared = kind.__new__(kind)
    shared._use(segment.name, segment, _file_of(segment))
    return shared


def open_pickled(token: str) -> Segment:
    """The segment that a pickle names; whether it has been unlinked does not matter."""
    try:
        return open_segment(token)
    except StaleHandle as error:
        raise FileNotFoundError(
            errno.ENOENT, f"the shared memory that was pickled is gone, and whoever had it: {error}"
        ) from None


def _not_found(name: str, why: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, f"no shared memory is found by this name ({why})", name)


def _key(name: str) -> str:
    """The same with and without a slash before it, as in POSIX."""
    return name.lstrip("/")


def _path(name: str) -> str:
    return f"/{_key(name)}"


def _posix() -> Any:
    """What the standard library is built on, without its tracker."""
    import _posixshmem  # type: ignore[import-not-found,unused-ignore]

    return _posixshmem


# The formats of items as they are in memory, by type. The layout is that of the standard library, so each
# reads the lists of the other: the number of items, the offset of each and of the end, the items, the
# format of each in eight bytes, and a byte that says how to read it.

_FORMATS: dict[type, tuple[str, int]] = {
    int: ("q", 0),
    float: ("d", 0),
    bool: ("xxxxxxx?", 0),
    type(None): ("xxxxxx?x", 3),
}
_TEXT, _BYTES, _NONE = 1, 2, 3
_WORD = 8

_Item = TypeVar("_Item")


class ShareableList(Generic[_Item]):
    """A list in shared memory. Its items change, in type too, its length does not.

    Items are `int` (of 64 bits), `float`, `bool`, `None`, and `str` and `bytes` without zero bytes at their
    end, which are not kept. Each has the room that the first one in its place had, rounded up to eight
    bytes. What several processes do to one item at once has no order: use a lock.

    Args:
        sequence: the items of a new list; None with a name to find one that exists.
        name: of the list.

    Attributes:
        shm: its memory, a `SharedMemory`: to be closed, and unlinked.

    Example:
        >>> items = ShareableList(["a", 1.5, None])
        >>> items[2] = 7
        >>> items
        ShareableList(['a', 1.5, 7], name=...)
    """

    def __init__(self, sequence: Iterable[_Item] | None = None, *, name: str | None = None) -> None:
        if name is not None and sequence is None:
            self._use(SharedMemory(name))
            return
        items = list(sequence or ())
        formats = [_format_for(item) for item in items]
        offsets = [0]
        for format in formats:
            offsets.append(offsets[-1] + max(struct.calcsize(format), _WORD))
        head = struct.pack(f"{len(items) + 2}q", len(items), *offsets)
        size = len(head) + offsets[-1] + (_WORD + 1) * len(items)
        shm = SharedMemory(name, create=True, size=size)
        shm.buf[: len(head)] = head
        self._use(shm)
        for index, (item, format) in enumerate(zip(items, formats, strict=True)):
            self._write(index, item, format)

    def _use(self, shm: SharedMemory) -> None:
        self.shm = shm
        self._length: int = struct.unpack_from("q", shm.buf, 0)[0]
        self._offsets: tuple[int, ...] = struct.unpack_from(f"{self._length + 1}q", shm.buf, _WORD)
        self._data = _WORD * (self._length + 2)
        self._format_at = self._data + self._offsets[-1]
        self._code_at = self._format_at + _WORD * self._length

    def _index(self, position: int) -> int:
        index = position + self._length if position < 0 else position
        if not 0 <= index < self._length:
            raise IndexError(f"index {position} is out of range: the list has {self._length} items")
        return index

    def _get_packing_format(self, position: int) -> str:
        at = self._format_at + _WORD * self._index(position)
        return bytes(self.shm.buf[at : at + _WORD]).rstrip(b"\0").decode()

    def _write(self, index: int, item: Any, format: str) -> None:
        value = item.encode() if isinstance(item, str) else item
        code = (
            _TEXT if isinstance(item, str) else _BYTES if isinstance(item, bytes) else _FORMATS[type(item)][1]
        )
        at, packed = self._data + self._offsets[index], struct.pack(format, value)  # which may fail
        self.shm.buf[at : at + len(packed)] = packed
        struct.pack_into(f"{_WORD}s", self.shm.buf, self._format_at + _WORD * index, format.encode())
        struct.pack_into("b", self.shm.buf, self._code_at + index, code)

    def __getitem__(self, position: int) -> _Item:
        index = self._index(position)
        at, format = self._data + self._offsets[index], self._get_packing_format(index)
        (value,) = struct.unpack_from(format, self.shm.buf, at)
        (code,) = struct.unpack_from("b", self.shm.buf, self._code_at + index)
        if code == _NONE:
            return None  # type: ignore[return-value]
        if code in (_TEXT, _BYTES):
            value = value.rstrip(b"\0")
        return value.decode() if code == _TEXT else value  # type: ignore[no-any-return]

    def __setitem__(self, position: int, value: _Item) -> None:
        index = self._index(position)
        format = _format_for(value)
        if isinstance(value, (str, bytes)):
            room = self._offsets[index + 1] - self._offsets[index]
            size = len(value.encode() if isinstance(value, str) else value)
            if size > room:
                raise ValueError(
                    f"the item exceeds available storage: it has {size} bytes, and there is room for {room}"
                )
            format = f"{room}s"
        self._write(index, value, format)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[_Item]:
        return (self[index] for index in range(self._length))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_list, (type(self), self.shm)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self)}, name={self.shm.name!r})"

    @property
    def format(self) -> str:
        """How the items are in memory now, in the notation of the `struct` module."""
        return "".join(map(self._get_packing_format, range(self._length)))

    def count(self, value: _Item) -> int:
        """How many items are equal to a value."""
        return sum(1 for item in self if item == value)

    def index(self, value: _Item) -> int:
        """The first place of a value.

        Raises:
            ValueError: it is not in the list.
        """
        for place in range(self._length):
            if self[place] == value:
                return place
        raise ValueError(f"{value!r} is not in this list")


def _format_for(item: object) -> str:
    """How an item is to be in memory, with the room that it needs."""
    if isinstance(item, (str, bytes)):
        size = len(item.encode() if isinstance(item, str) else item)
        # As much as the standard library gives, which counts characters, and never less than they take.
        format = f"{_WORD * max(len(item) // _WORD + 1, -(-size // _WORD))}s"
        if len(format) > _WORD:
            raise ValueError(f"an item of {size} bytes is too large for a ShareableList")
        return format
    if type(item) not in _FORMATS:
        kinds = "int, float, bool, str, bytes and None"
        raise TypeError(f"a ShareableList has items of {kinds}, and not of {type(item).__qualname__}")
    return _FORMATS[type(item)][0]


def _rebuild_list(kind: type[ShareableList[Any]], shm: SharedMemory) -> ShareableList[Any]:
    """Of a pickle."""
    shared = kind.__new__(kind)
    shared._use(shm)
    return shared
