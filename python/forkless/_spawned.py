"""The main of a spawned child: a fresh interpreter with one job."""


def main() -> None:
    """Takes over the job this process was started for, runs it and exits."""
    from . import _child, _forkless

    # Ctrl-C is blocked from the start, until `_child` knows whether this child wants it.
    _child.run(_forkless.adopt())
