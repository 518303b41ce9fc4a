"""The main of a template: the single-threaded process from which all `forkserver` children are forked.

It is started by the core with a fresh interpreter, so nothing of the user's program is in it: no thread, no
lock, no open file. What it imports here is what every child finds already imported.
"""

import signal


def main() -> None:
    """Serves until the process that started this template is gone; each child runs its job and exits."""
    # Ctrl-C reaches the whole process group; the template ends with its owner instead.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from forkless import _byvalue, _child, _forkless, _pickling, _worker, process

    # Loaded for the children: named so that no linter takes them for mistakes.
    _ = _byvalue, _pickling, _worker, process
    _child.run(_forkless.serve())
