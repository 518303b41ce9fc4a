"""Tracebacks on their way between processes: frames in one, a real traceback over stand-ins in the other.

A traceback needs frame objects, which only running code has. A generator that was made and never resumed has
one, with no caller and no variables. So a stand-in is the frame of such a generator, whose code got the
name, the file and the lines of the one it stands for: whatever shows or walks tracebacks takes it for real.
"""

import sys
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from types import CodeType, FrameType, FunctionType, TracebackType
from typing import Any, NamedTuple

# Of a longer traceback, which only endless recursion has, the outermost and the innermost half of these.
_MOST = 1000
_NOWHERE = (None, None, None)


class Frame(NamedTuple):
    """An entry of a traceback. Sent as a plain tuple: there are many."""

    module: str | None
    file: str
    name: str
    qualified_name: str
    first_line: int
    line: int
    last_line: int | None
    column: int | None
    end_column: int | None


def describe(traceback: TracebackType | None) -> list[tuple[Any, ...]]:
    """The entries of a traceback, outermost first."""
    entries = []
    while traceback is not None:
        entries.append(traceback)
        traceback = traceback.tb_next
    left_out = len(entries) - _MOST
    if left_out <= 0:
        return list(map(_describe, entries))
    gap = f"<{left_out} frames left out>"
    marker = (None, "<forkless>", gap, gap, 1, 1, None, None, None)
    half = _MOST // 2
    return [*map(_describe, entries[:half]), marker, *map(_describe, entries[-half:])]


def _describe(entry: TracebackType) -> tuple[Any, ...]:
    frame = entry.tb_frame
    code = frame.f_code
    name = code.co_name
    line: int | None = entry.tb_lineno
    return (
        frame.f_globals.get("__name__"),
        code.co_filename,
        name,
        getattr(code, "co_qualname", name),
        code.co_firstlineno,
        code.co_firstlineno if line is None else line,
        *_position(code, entry.tb_lasti),
    )


def _position(code: CodeType, offset: int) -> tuple[int | None, int | None, int | None]:
    """Last line, first and last column of what was being executed, as far as known."""
    positions: Any = getattr(code, "co_positions", None)
    if positions is None or offset < 0:
        return _NOWHERE
    for _, line, column, end_column in islice(positions(), offset // 2, None):
        return line, column, end_column
    return _NOWHERE


class Mark:
    """Lives for as long as the frames that have been rebuilt with it."""

    __slots__ = ("__weakref__",)


def rebuild(frames: Sequence[tuple[Any, ...]], mark: Mark | None = None) -> TracebackType | None:
    """A traceback with these entries; its frames hold the mark."""
    traceback = None
    for each in reversed(frames):
        frame = Frame(*each)
        traceback = TracebackType(traceback, _stand_in(frame, mark), 0, frame.line)
    return traceback


def _stand_in(frame: Frame, mark: Mark | None) -> FrameType:
    variables: dict[str, Any] = {"__name__": frame.module, "__file__": frame.file, "__mark__": mark}
    module = sys.modules.get(frame.module or "")
    if getattr(module, "__file__", None) == frame.file:
        # Reads the source where that is in no file of its own: in a zip archive.
        variables["__loader__"] = getattr(module, "__loader__", None)
    generator = FunctionType(_code(*frame[1:]), variables)()
    if sys.version_info < (3, 11):
        next(generator)  # before, its `f_lineno` would be the first line
    stand_in: FrameType = generator.gi_frame
    return stand_in


def _generator() -> Any:
    yield


_CODE = _generator.__code__
_SIZE = len(_CODE.co_code)


@lru_cache(1024)
def _code(
    file: str,
    name: str,
    qualified_name: str,
    first_line: int,
    line: int,
    last_line: int | None,
    column: int | None,
    end_column: int | None,
) -> CodeType:
    """The code of a generator, all of which is in one place."""
    changes: dict[str, Any] = {"co_filename": file, "co_name": name, "co_firstlineno": first_line}
    if sys.version_info < (3, 11):
        changes["co_linetable"] = _old_table(line - first_line)
    else:
        changes["co_qualname"] = qualified_name
        changes["co_linetable"] = _table(line - first_line, (last_line or 0) - line, column, end_column)
    return _CODE.replace(**changes)


# Where each instruction is: Objects/lnotab_notes.txt (3.10) and Objects/locations.md (3.11) of CPython.


def _old_table(lines: int) -> bytes:
    """All code is so many lines below the first one."""
    sign = 1 if lines >= 0 else -1
    whole, rest = divmod(abs(lines), 127)
    return bytes((0, sign * 127 & 0xFF)) * whole + bytes((_SIZE, sign * rest & 0xFF))


def _table(lines: int, more_lines: int, column: int | None, end_column: int | None) -> bytes:
    """The same, to a line so many lines further down, and from column to column."""
    if column is None or end_column is None or more_lines < 0:
        kind, place = 13, b""
    else:
        kind, place = 14, _number(more_lines) + _number(column + 1) + _number(end_column + 1)
    table = b""
    for start in range(0, _SIZE, 16):
        instructions = min(_SIZE - start, 16) // 2
        table += bytes((0x80 | kind << 3 | instructions - 1,)) + _signed(lines) + place
        lines = 0
    return table


def _number(value: int) -> bytes:
    pieces = bytearray()
    while value >= 64:
        pieces.append(0x40 | value & 63)
        value >>= 6
    pieces.append(value)
    return bytes(pieces)


def _signed(value: int) -> bytes:
    return _number(-value << 1 | 1 if value < 0 else value << 1)
