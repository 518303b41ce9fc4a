"""What a death can be explained with: the call that was lost, and whether the kernel's memory killer struck.

Nothing here raises, and no `__repr__` of the user is called: it may be slow, huge, or ask a database.
"""

import sys
import time
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from ._cgroups import groups

# For how long, in seconds, a kill that was counted may explain a death that is looked into: the workers that
# are killed in one go are looked into one by one, and a subprocess of a worker that was killed is nobody's.
_SPAN = 10.0
# Kills that wait to be claimed, at most.
_MOST = 4096
# From here on a limit of version 1 is none: it has no word for that.
_NO_LIMIT = 1 << 60
# Items of a container, characters of a text, and levels of nesting that are shown.
_ITEMS, _TEXT, _LEVELS = 4, 40, 2
# The longest that one value's description gets.
_LONGEST = 60
# Modules of the standard library whose values are described best by themselves.
VALUES = frozenset(
    ("datetime", "decimal", "fractions", "ipaddress", "pathlib", "pathlib._local", "uuid", "zoneinfo")
)


class MemoryKiller:
    """Watches the kernel's count of processes that it has killed for lack of memory.

    The count is that of the control group of this process, in version 2 or 1, which has all kills in the
    group for whatever reason: its own limit, that of a group around it, or the end of the machine's memory.
    Without such a count it is that of the whole machine, where the victim may have been somebody else's. The
    children are in the same group, unless they or their template were moved.

    Args:
        root: where `/proc` and `/sys` are.
    """

    def __init__(self, root: str = "/") -> None:
        self._root = root.rstrip("/")
        self._seen = self._count()
        self._unclaimed: deque[float] = deque(maxlen=_MOST)

    def struck(self) -> bool | None:
        """Whether it has struck since this was last asked, or lately and for another death than those before.

        Asked once for each process that died of SIGKILL, afterwards; each kill explains one death.

        Returns:
            None if that cannot be known: the kernel does not count, or this process has changed groups.
        """
        before, self._seen = self._seen, self._count()
        if before is None or self._seen is None or before[0] != self._seen[0]:
            return None
        now = time.monotonic()
        rise = self._seen[1] - before[1]
        self._unclaimed.extend([now] * max(0, min(rise, _MOST)))
        while True:
            try:
                counted = self._unclaimed.popleft()
            except IndexError:
                return False
            if now - counted <= _SPAN:
                return True

    def limit(self) -> tuple[str, int] | None:
        """The lowest limit of the control groups around this process: the name of its file, and bytes."""
        found = []
        for directory, name in self._files("memory.limit_in_bytes", "memory.max"):
            text = _read(f"{directory}/{name}").strip()
            if text.isdecimal() and int(text) < _NO_LIMIT:
                found.append((int(text), name))
        if not found:
            return None
        size, name = min(found)
        return name, size

    def _count(self) -> tuple[str, int] | None:
        """The first file that has a count, and the count."""
        paths = ["/".join(parts) for parts in self._files("memory.oom_control", "memory.events")]
        for path in [*paths, f"{self._root}/proc/vmstat"]:
            for line in _read(path).splitlines():
                name, _, count = line.partition(" ")
                if name == "oom_kill" and count.isdecimal():
                    return path, int(count)
        return None

    def _files(self, first: str, second: str) -> Iterator[tuple[str, str]]:
        """Directories and names of files, innermost first: that of version 1, then that of version 2."""
        mount, table = f"{self._root}/sys/fs/cgroup", f"{self._root}/proc/self/cgroup"
        yield from ((directory, first) for directory in groups(mount, table, "memory"))
        yield from ((directory, second) for directory in groups(mount, table))


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


_shared: MemoryKiller | None = None


def memory_killer() -> MemoryKiller:
    """The one that watches for all pools of this process, since the first call: a kill explains one death."""
    global _shared
    if _shared is None:
        _shared = MemoryKiller()
    return _shared


def describe_call(func: object, args: Iterable[Any], kwargs: Mapping[str, Any], limit: int = 120) -> str:
    """A call in one line: `train(<ndarray (200, 30) float64>, rate=0.1)`.

    Plain values, named tuples, data classes and members of enumerations are shown, shortened; arrays and
    frames by shape and type of element; everything else by its type.

    Args:
        func: what is called.
        args: its positional arguments.
        kwargs: its keyword arguments.
        limit: how many characters there may be.

    Example:
        >>> describe_call(sorted, ([3, 1, 2],), {"reverse": True})
        'sorted([3, 1, 2], reverse=True)'
    """
    try:
        from ._scheduler import name_of

        name = name_of(func)
    except Exception:
        name = _type_of(func)
    # Room for a word about the arguments, however long the name.
    name = _cut(name, max(limit - len("(...)"), limit // 2))
    return _cut(f"{name}({describe_arguments(args, kwargs, limit - len(name) - 2)})", limit)


def describe_task(task: str, arguments: str) -> str:
    """A task as a call, from its description; see `Scheduler.describe`.

    Example:
        >>> describe_task("parse (item 3)", "'a.html'")
        "parse('a.html') (item 3)"
    """
    name, mark, place = task.partition(" (item")
    return f"{name}({arguments}){mark}{place}" if arguments else task


def describe_arguments(args: Iterable[Any], kwargs: Mapping[str, Any], limit: int = 100) -> str:
    """What stands between the parentheses in `describe_call`, to which the arguments are the same.

    Example:
        >>> describe_arguments((1, "a" * 50), {"key": {"a": [1, {2: (3, 4)}]}})
        "1, 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'..., key={'a': [1, {...}]}"
    """
    try:
        return _join(_arguments(args, kwargs), limit)
    except Exception:
        return _cut("...", limit)


def _arguments(args: Iterable[Any], kwargs: Mapping[str, Any]) -> Iterator[str]:
    yield from map(_describe, args)
    for name, value in kwargs.items():
        yield f"{name}={_describe(value)}"


def _join(pieces: Iterable[str], limit: int) -> str:
    """As many as there is room for, so that not more are made."""
    whole = fits = ""
    for piece in pieces:
        whole = f"{whole}, {piece}" if whole else piece
        if len(whole) > limit:
            return f"{fits}, ..." if fits else _cut("...", limit)
        if len(whole) + len(", ...") <= limit:
            fits = whole
    return whole


def _cut(text: str, limit: int) -> str:
    if len(text) > limit:
        text = text[: max(0, limit - 3)] + "..."[: max(0, limit)]
    if not text.isprintable():
        text = "".join(character if character.isprintable() else "?" for character in text)
    return text


def _describe(value: object, levels: int = _LEVELS) -> str:
    try:
        return _cut(_describe_by_type(value, levels) or _type_of(value), _LONGEST)
    except Exception:
        return _type_of(value)


def _type_of(value: object) -> str:
    try:
        return _cut(f"<{type(value).__name__}>", _LONGEST)
    except Exception:
        return "<object>"


def _describe_by_type(value: Any, levels: int) -> str | None:
    """None for what is best named by its type."""
    kind = type(value)
    describe = _BY_TYPE.get(kind)
    if describe is not None:
        return describe(value, levels)
    if isinstance(value, type):
        return value.__name__
    if issubclass(kind, tuple) and isinstance(names := getattr(kind, "_fields", None), tuple):
        return _record(kind.__name__, zip(names, tuple.__iter__(value), strict=False), levels)
    if hasattr(kind, "__dataclass_fields__"):
        return _data_class(value, levels)
    module = kind.__module__
    if module in VALUES:
        return repr(value)
    if module in ("collections", "array"):
        return f"<{kind.__name__} of {len(value)}>"
    return _member(value) or _number(value) or _array(value)


def _whole(value: int, levels: int) -> str:
    # Longer ones take long to be written, or raise.
    return repr(value) if value.bit_length() <= 128 else f"<int of {value.bit_length()} bits>"


def _text(value: Any, levels: int) -> str:
    shown = repr(value[:_TEXT])
    return shown if len(value) <= _TEXT else f"{shown}..."


def _list(value: Any, levels: int) -> str:
    return f"[{_items(value, levels)}]"


def _tuple(value: tuple[Any, ...], levels: int) -> str:
    return f"({_items(value, levels)}{',' if levels and len(value) == 1 else ''})"


def _set(value: Any, levels: int) -> str:
    text = f"{{{_items(value, levels)}}}" if value else ""
    return text if text and type(value) is set else f"{type(value).__name__}({text})"


def _dict(value: dict[Any, Any], levels: int) -> str:
    pairs = value.items() if levels else ()
    shown = [
        f"{_describe(key, levels - 1)}: {_describe(each, levels - 1)}" for key, each in islice(pairs, _ITEMS)
    ]
    return f"{{{', '.join(shown + _rest(value, shown))}}}"


def _items(value: Any, levels: int) -> str:
    shown = [_describe(each, levels - 1) for each in islice(value if levels else (), _ITEMS)]
    return ", ".join(shown + _rest(value, shown))


def _rest(value: Any, shown: list[str]) -> list[str]:
    return ["..."] if len(value) > len(shown) else []


def _record(name: str, fields: Iterable[tuple[str, Any]], levels: int) -> str:
    shown = (f"{field}={_describe(value, levels - 1)}" for field, value in fields)
    return f"{name}({_join(shown, _LONGEST) if levels else '...'})"


def _data_class(value: Any, levels: int) -> str | None:
    kind = type(value)
    # Only if its own description would be that too: one that is made by hand may keep something to itself.
    if not hasattr(kind.__repr__, "__wrapped__"):
        return None
    names = [name for name, field in kind.__dataclass_fields__.items() if field.repr]
    return _record(kind.__name__, ((name, getattr(value, name)) for name in names), levels)


def _member(value: Any) -> str | None:
    enum = sys.modules.get("enum")
    if enum is None or not isinstance(value, enum.Enum):
        return None
    return f"{type(value).__name__}.{value.name}"


def _number(value: Any) -> str | None:
    numpy = sys.modules.get("numpy")
    return repr(value) if numpy is not None and isinstance(value, (numpy.number, numpy.bool_)) else None


def _array(value: Any) -> str | None:
    """Of whatever has a shape and perhaps a type of its elements, as those of NumPy, pandas, PyTorch do."""
    kind = type(value)
    # Asked of the class first: an object that stands for a remote one would go and ask it.
    shape = value.shape if hasattr(kind, "shape") else None
    if not isinstance(shape, tuple) or not all(type(size) is int for size in shape[:_TEXT]):
        return None
    element = f" {value.dtype}" if hasattr(kind, "dtype") else ""
    return f"<{kind.__name__} {tuple(shape)}{element}>"


def _plain(value: object, levels: int) -> str:
    return repr(value)


def _slice(value: slice, levels: int) -> str:
    return f"slice({', '.join(map(_describe, (value.start, value.stop, value.step)))})"


def _memory(value: memoryview, levels: int) -> str:
    return f"<memoryview of {value.nbytes} bytes>"


def _name(value: Any, levels: int) -> str:
    return str(value.__qualname__)


_BY_TYPE: dict[type, Callable[[Any, int], str]] = {
    **dict.fromkeys((type(None), bool, float, complex, range, type(...), type(NotImplemented)), _plain),
    **dict.fromkeys((str, bytes, bytearray), _text),
    **dict.fromkeys((set, frozenset), _set),
    **dict.fromkeys((types.FunctionType, types.BuiltinFunctionType, types.MethodType), _name),
    **dict.fromkeys((types.MethodDescriptorType, types.WrapperDescriptorType), _name),
    int: _whole,
    list: _list,
    tuple: _tuple,
    dict: _dict,
    memoryview: _memory,
    slice: _slice,
}
