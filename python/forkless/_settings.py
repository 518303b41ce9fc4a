"""What a program sets for its interpreter as a whole, on its way to children, as a fork would have copied it.

These are the limits on recursion and on the digits of numbers, the size of threads' stacks, the filters of
warnings, the context of `decimal`, the time limit of sockets, and the locale. A script sets them at its top,
and that does not run in children.

Filters go along under an installation only, for programs that were written for a fork. Others may be run by
a test framework, say, whose filters are its own. One for a warning that a library has defined is put in place
when the child has loaded the module of that warning.

Nothing is loaded for all this: what nobody has loaded nobody has changed.
"""

import _thread
import _warnings
import contextlib
import sys
from collections.abc import Sequence
from typing import Any

from . import _stdlib

Settings = tuple[Any, ...]
# An action, the patterns of message and module, the module and the name of the category, a line number.
Filter = tuple[str, Any, Any, str, str, int]


def here() -> Settings:
    """Those of this process, to be pickled; equal as long as nothing changes."""
    modules = sys.modules
    socket, decimal = modules.get("_socket"), modules.get("decimal")
    locale: Any = modules.get("_locale") if "locale" in modules else None
    return (
        sys.getrecursionlimit(),
        getattr(sys, "get_int_max_str_digits", int)(),
        _thread.stack_size(),
        _filters() if _stdlib.aside else None,
        None if decimal is None else _decimal(decimal),
        None if socket is None else socket.getdefaulttimeout(),
        None if locale is None else locale.setlocale(locale.LC_ALL),
    )


def adopt(settings: Settings) -> None:
    """In a child, and in the template that it comes from: sets what its parent has set."""
    recursion, digits, stack, filters, decimal, timeout, locale = settings
    # A child may be deeper in calls than its parent was when it set the limit.
    with contextlib.suppress(RecursionError):
        sys.setrecursionlimit(recursion)
    getattr(sys, "set_int_max_str_digits", int)(digits)
    _thread.stack_size(stack)
    if filters is not None and filters != _filters():
        _adopt_filters(filters)
    if decimal is not None and (decimal != _PLAIN or "decimal" in sys.modules):
        _adopt_decimal(decimal)
    if timeout is not None or "_socket" in sys.modules:
        import _socket

        _socket.setdefaulttimeout(timeout)
    if locale is not None:
        import _locale

        if _locale.setlocale(_locale.LC_ALL) != locale:
            with contextlib.suppress(_locale.Error):  # type: ignore[attr-defined]  # on another system, say
                _locale.setlocale(_locale.LC_ALL, locale)


# The filters of warnings.

_seen: tuple[list[Any], list[Filter]] = [], []


def _filters() -> list[Filter]:
    global _seen
    found: Any = getattr(sys.modules.get("warnings"), "filters", None) or _warnings.filters
    if _seen[0] != found:
        _seen = list(found), [_plain(*entry) for entry in found]
    return _seen[1]


def _plain(action: str, message: Any, category: type[Warning], module: Any, line: int) -> Filter:
    return action, _text(message), _text(module), category.__module__, category.__qualname__, line


def _text(pattern: Any) -> Any:
    # The interpreter's own filters have texts for patterns, which are not compiled.
    return pattern if pattern is None or isinstance(pattern, str) else (pattern.pattern, pattern.flags)


# In a child: those that wait for a module, by its name.
_waiting: dict[str, list[Filter]] = {}
_watched: set[str] = set()


def _adopt_filters(filters: Sequence[Filter]) -> None:
    import warnings

    entries: list[Any] = []
    _waiting.clear()
    for entry in filters:
        category = _find(entry)
        if category is not None:
            entries.append(_made(entry, category))
        elif entry[3] not in ("__main__", "__mp_main__"):
            _later(entry)
    warnings.filters[:] = entries  # type: ignore[index]
    warnings._filters_mutated()  # type: ignore[attr-defined]


def _later(entry: Filter) -> None:
    module = entry[3]
    _waiting.setdefault(module, []).append(entry)
    if module not in _watched:
        from ._loading import when_loaded

        _watched.add(module)
        when_loaded({module: lambda: _put(_waiting.pop(module, []))})


def _put(filters: Sequence[Filter]) -> None:
    import warnings

    made = [_made(entry, category) for entry in filters if (category := _find(entry)) is not None]
    warnings.filters[:0] = made  # type: ignore[index]
    warnings._filters_mutated()  # type: ignore[attr-defined]


def _find(entry: Filter) -> Any:
    return getattr(sys.modules.get(entry[3]), entry[4], None)


def _made(entry: Filter, category: Any) -> tuple[Any, ...]:
    return entry[0], _pattern(entry[1]), category, _pattern(entry[2]), entry[5]


def _pattern(text: Any) -> Any:
    if text is None or isinstance(text, str):
        return text
    import re

    return re.compile(*text)


# The context of `decimal`.

_PLAIN = 28, "ROUND_HALF_EVEN", -999999, 999999, 1, 0, ["InvalidOperation", "DivisionByZero", "Overflow"]


def _decimal(decimal: Any) -> Any:
    # All but the flags, which say what calculations have met.
    *numbers, _, traps = decimal.getcontext().__reduce__()[1]
    return *numbers, [signal.__name__ for signal in traps]


def _adopt_decimal(context: Any) -> None:
    import decimal

    *numbers, traps = context
    make: Any = decimal.Context
    decimal.setcontext(make(*numbers, [], [getattr(decimal, name) for name in traps]))
