"""Files that processes read in place: each maps one once, and what travels says where it is."""

import errno
import math
import mmap
import operator
import os
import stat
import sys
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

from ._forkless import address_of

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from .reduction import DupFd

__all__ = ["share_file"]

_Identity = tuple[int, int, int, int]  # device, number, size, time of the last change


@overload
def share_file(
    path: str | bytes | os.PathLike[Any],
    *,
    offset: int = ...,
    length: int | None = ...,
    dtype: None = ...,
    shape: None = ...,
) -> memoryview: ...


@overload
def share_file(
    path: str | bytes | os.PathLike[Any],
    *,
    offset: int = ...,
    length: int | None = ...,
    dtype: "DTypeLike",
    shape: SupportsIndex | Sequence[SupportsIndex] | None = ...,
) -> "NDArray[Any]": ...


def share_file(
    path: str | bytes | os.PathLike[Any],
    *,
    offset: int = 0,
    length: int | None = None,
    dtype: Any = None,
    shape: Any = None,
) -> Any:
    """Maps a file for reading, without a copy; the same pages serve every process.

    The result, and views of it, can be sent to any process of the tree. What travels is the file's path and
    which file it was, or, if the path no longer leads to it, its descriptor. Whoever finds another file
    under the path, or the same one changed, gets an error and never other data. Each process maps a file
    once, however often it is sent.

    The file must keep its length: Linux ends a process with SIGBUS when it reads what has been cut off, and
    no program can prevent that (a worker's death by it is a `WorkerDied` that says so). So what has been
    cut off is looked for whenever a file is mapped or sent, and is an error then. To replace a file in use,
    write another one and rename it: those who have the old one keep it.

    Args:
        path: The file.
        offset: The first byte.
        length: How many bytes; None for all there are, or all that `shape` needs.
        dtype: The type of the items of an array, any except `object`; None for bytes.
        shape: Of the array; None for one dimension.

    Returns:
        A read-only `memoryview` of bytes; with `dtype`, a read-only array in C order. Both keep the file.

    Raises:
        OSError: The file cannot be opened or mapped.
        ValueError: The file is shorter than that, is no regular file, or the items do not fit.

    Example:
        >>> text = share_file(path)
        >>> bytes(text[:5])
        b'hello'
    """
    if shape is not None and dtype is None:
        raise ValueError("an array needs the type of its items: give dtype, too")
    if offset < 0 or (length is not None and length < 0):
        raise ValueError("offset and length cannot be negative")
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        size = _identity(fd, path)[2]
        items, count = _layout(dtype, shape, size - offset if length is None else length)
        if offset + count > size:
            raise ValueError(
                f"{os.fsdecode(path)} has {size} bytes: {count} from byte {offset} on are more than there are"
            )
        file = _map(fd, os.path.abspath(os.fsdecode(path))) if count else b""
    finally:
        os.close(fd)
    start = offset if count else 0
    if dtype is None:
        return memoryview(file)[start : start + count]
    from ._pickling import view

    return view(file, dtype, items, None, start)


def _layout(dtype: Any, shape: Any, available: int) -> tuple[tuple[int, ...], int]:
    """The shape of an array, and the bytes that it takes."""
    if dtype is None:
        return (), max(available, 0)
    import numpy

    kind = numpy.dtype(dtype)
    if kind.hasobject:
        raise TypeError(f"a file has no items of type {kind}: they are Python objects of one process")
    if shape is None:
        if available < 0 or kind.itemsize == 0 or available % kind.itemsize:
            raise ValueError(
                f"{available} bytes are no whole number of items of {kind.itemsize} bytes ({kind})"
            )
        return (available // kind.itemsize,), available
    sizes = tuple(map(operator.index, shape)) if isinstance(shape, Sequence) else (operator.index(shape),)
    if any(size < 0 for size in sizes):
        raise ValueError(f"negative dimensions are not allowed: {sizes}")
    return sizes, math.prod(sizes) * kind.itemsize


class File(mmap.mmap):
    """All of a file, mapped for reading."""

    path: str
    descriptor: int = -1

    def __reduce__(self) -> tuple[Any, ...]:
        identity = _identity(self.descriptor, self.path)
        if identity[2] < len(self):
            raise _stale(
                self.path, f"it had {len(self)} bytes when it was mapped and has been cut to {identity[2]}"
            )
        try:
            found = os.stat(self.path)
        except OSError:
            found = None
        if found is not None and (found.st_dev, found.st_ino) == identity[:2]:
            return open_path, (self.path, identity)
        from .reduction import DupFd

        return open_descriptor, (self.path, identity, DupFd(self.descriptor))

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


# By device, number and size. One that has grown is another mapping.
_mapped: "weakref.WeakValueDictionary[tuple[int, int, int], File]" = weakref.WeakValueDictionary()

# Without a second copy of the descriptor, where Python can do that.
_OPTIONS: dict[str, Any] = {"trackfd": False} if sys.version_info >= (3, 13) else {}


def _map(fd: int, path: str) -> File:
    identity = _identity(fd, path)
    file = _mapped.get(identity[:3])
    if file is None:
        file = File(fd, identity[2], access=mmap.ACCESS_READ, **_OPTIONS)
        file.path, file.descriptor = path, os.dup(fd)
        _mapped[identity[:3]] = file
    return file


def open_path(path: str, identity: _Identity) -> File:
    """The file that another process has found under this path."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise _stale(path, "it has been removed since") from None
    return _map_if_same(fd, path, identity, "it has been changed, or replaced by another one, since")


def open_descriptor(path: str, identity: _Identity, dup: "DupFd") -> File:
    """The file that another process has, and that had this path."""
    return _map_if_same(dup.detach(), path, identity, "it has been changed since")


def _map_if_same(fd: int, path: str, identity: _Identity, otherwise: str) -> File:
    """Maps the file and closes its descriptor; `otherwise` says what is wrong if it is not the same file."""
    try:
        if _identity(fd, path) != identity:
            raise _stale(path, otherwise)
        return _map(fd, path)
    finally:
        os.close(fd)


def reduce_view(view: memoryview) -> tuple[Any, ...] | None:
    """How a memoryview of a mapped file is pickled; None if it is not contiguous."""
    file: Any = view.obj
    if not view.c_contiguous or not view.nbytes:
        return None
    start = address_of(view) - address_of(file)
    return view_of, (file, start, view.nbytes, view.format, view.shape)


def view_of(file: File, start: int, count: int, format: Any, shape: tuple[int, ...]) -> memoryview:
    """A part of a file."""
    part = memoryview(file)[start : start + count]
    return part if format == "B" and len(shape) == 1 else part.cast(format, shape)


def _identity(fd: int, path: Any) -> _Identity:
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{os.fsdecode(path)} is no regular file: only those can be mapped")
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _stale(path: str, why: str) -> OSError:
    return OSError(
        errno.ESTALE, f"this is not the file any more that was shared ({why}); share it again", path
    )
