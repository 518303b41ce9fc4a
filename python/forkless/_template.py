"""The main of a template: the single-threaded process from which all `forkserver` children are forked.

It is started by the core with a fresh interpreter, so nothing of the user's program is in it: no thread, no
lock, no open file. What it imports here is what every child finds already imported.
"""

import sys

from . import _forks


def main() -> None:
    """Serves until the process that started this template is gone; each child runs its job and exits."""
    _forks.is_template()
    from . import (
        _byvalue,
        _child,
        _forkless,
        _frames,
        _loading,
        _outbox,
        _output,
        _pickling,
        _recipes,
        _rehearsal,
        _surroundings,
        _warned,
        _worker,
        process,
    )

    # Loaded for the children: named so that no linter takes them for mistakes. Those that describe a failure
    # are among them because there may be no memory left to load them with when a task has failed.
    _ = _byvalue, _frames, _loading, _outbox, _output, _pickling, _recipes, _warned, _worker, process
    _rehearsal.write()
    # Ctrl-C reaches the whole process group. It is blocked here, and in children until they have their job.
    _child.run(_forkless.serve(_surroundings.learn, _rehearsal.play, _preload))


def _preload() -> tuple[list[str], list[str]]:
    """Loads what is named on the command line; see `_programs.load`."""
    from . import _forkless, _programs

    names, sys.argv[1:] = sys.argv[1:], []
    return _programs.load(names, _forkless.thread_count)
