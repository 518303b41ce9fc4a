"""The main of a spawned child: a fresh interpreter with one job."""

import signal


def main() -> None:
    """Takes over the job this process was started for, runs it and exits."""
    # `_child` gives Ctrl-C back when it knows whether this child wants it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from forkless import _child, _forkless

    _child.run(_forkless.adopt())
