"""Connections between threads: those of `multiprocessing.dummy.connection`.

Objects go over as they are. Both threads have the same two objects, so `close` does nothing: who starts a
thread closes the end that it has given away, as it would with a process.
"""

from multiprocessing.dummy.connection import Client, Connection, Listener, Pipe, families

__all__ = ["Client", "Connection", "Listener", "Pipe", "families"]
