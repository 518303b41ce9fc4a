"""What a process has to forget when user code has forked it with `os.fork`.

The copy is a process of its own: the children, the memory and the duties of the original are not its own. One
hook of the interpreter stands for all of them, because each costs every process that a template forks.
"""

import os
from collections.abc import Callable

from ._forkless import take_leases_after_fork

# The first one takes hold of what the original has in shared memory, before the original may let it go.
_reactions: list[Callable[[], object]] = [take_leases_after_fork]
_hooked = False
_template = False


def in_copy(reaction: Callable[[], object]) -> None:
    """Has `reaction` called in every copy of this process that user code makes, first thing."""
    _reactions.append(reaction)
    if not _template:
        expect()


def expect() -> None:
    """From now on a fork of this process makes a copy; those of the template have made its children."""
    global _hooked, _template
    _template = False
    if not _hooked:
        _hooked = True
        os.register_at_fork(after_in_child=_react)


def is_template() -> None:
    """In a template, before anything else: what it forks are no copies, but children that start from it."""
    global _template
    _template = True


def _react() -> None:
    for reaction in _reactions:
        reaction()
