"""Connections between threads: those of `multiprocessing.dummy.connection`.

Objects go over as they are. Both threads have the same two objects, so `close` does nothing: who starts a
thread closes the end that it has given away, as it would with a process.
"""

from .. import _stdlib

# By the package: an import by its own name gives this module under `forkless.install`.
_standard = _stdlib.dummy.connection
Client, Connection, Listener = _standard.Client, _standard.Connection, _standard.Listener
Pipe, families = _standard.Pipe, _standard.families

__all__ = ["Client", "Connection", "Listener", "Pipe", "families"]
