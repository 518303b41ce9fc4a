"""Connections between threads: those of `multiprocessing.dummy.connection`.

Objects go over as they are. Both threads have the same two objects, so `close` does nothing: who starts a
thread closes the end that it has given away, as it would with a process.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.dummy.connection import Client, Connection, Listener, Pipe, families
else:
    from .._stdlib import dummy

    _standard = dummy.connection
    Client, Connection, Listener, Pipe = (
        _standard.Client,
        _standard.Connection,
        _standard.Listener,
        _standard.Pipe,
    )
    families = _standard.families

__all__ = ["Client", "Connection", "Listener", "Pipe", "families"]
