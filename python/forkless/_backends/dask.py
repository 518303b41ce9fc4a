"""Dask: tasks go to a scheduler through a client of `distributed`, replies are gathered in batches."""

import asyncio
import contextlib
import itertools
import os
import re
import socket
from collections.abc import Callable, Sequence
from typing import Any

import distributed
from distributed.scheduler import KilledWorker

from . import dask_frames  # noqa: F401 - is how Dask sends what is large
from .blocks import Block
from .engine import Address, Demand, Lost, unreachable
from .wire import Message, run

__all__ = ["Dask"]

# How long the scheduler may take to answer a question, in seconds.
_ASK = 5.0

# How long a worker may take to answer, in seconds; otherwise data goes through the scheduler.
_REACH = 1.0


class Dask:
    """An engine; see `engine.Engine`.

    Args:
        address: of the scheduler; without a host it is that of the program's current client, or of a cluster
            that is started on this machine.
    """

    title = "Dask"
    unsupported = {  # noqa: RUF012 - constant
        "timeout": "its tasks run in threads, which nothing can break off; use Ray or processes of this "
        "machine, or have the function look at the time",
    }

    # Dask answers after milliseconds: with fewer tasks on their way, workers would wait for the next ones.
    ahead = 8, 64

    # Its memory is in other processes.
    can_keep = False

    arrived: Callable[[int], None]

    def __init__(self, address: Address) -> None:
        self._address = address
        self._client: Any = None
        self._is_ours = False
        self._local: Any = None
        self._prefix = os.urandom(6).hex()
        self._attempts = itertools.count()
        self._is_direct: bool | None = None

    def connect(self, timeout: float) -> None:
        """See `engine.Engine`."""
        if not self._address.host:
            with contextlib.suppress(ValueError):
                self._client = distributed.default_client()
                return
            from .dask_local import LocalDask

            self._local = LocalDask(timeout)
        where = self._local.address if self._local is not None else self._url()
        try:
            self._client = distributed.Client(where, timeout=timeout, set_as_default=False)
        except OSError as error:
            raise self.unreachable(timeout, error) from error
        self._is_ours = True

    def _url(self) -> str:
        return str(self._address).replace("dask", "tcp", 1)

    def unreachable(self, timeout: float, cause: object = None) -> ConnectionError:
        """See `engine.Engine`."""
        advice = "is `dask scheduler` running there, of the same version as here?"
        if not self._address.host:
            advice = (
                "the new cluster on this machine did not start in that time: give it a longer connect_timeout"
            )
        return unreachable(self._address, timeout, advice, cause)

    def slots(self) -> int:
        """See `engine.Engine`."""
        threads = self._client.sync(self._client.scheduler.ncores, callback_timeout=_ASK)
        return sum(threads.values())

    def put(self, memory: Any) -> Any:
        """See `engine.Engine`."""
        return self._client.scatter(memory, broadcast=True, hash=False, direct=self._reaches_workers())

    def keep(self, block: Block) -> tuple[memoryview, Any]:
        """See `engine.Engine`: not for Dask, whose memory this process cannot read."""
        raise NotImplementedError("Dask keeps data in other processes: ask can_keep before")

    def _reaches_workers(self) -> bool:
        """Whether data can go to workers straight away: through the scheduler it takes much longer."""
        if self._is_direct is None:
            workers = self._client.sync(self._client.scheduler.ncores, callback_timeout=_ASK)
            address = re.fullmatch(r"tcp://\[?(.+?)\]?:(\d+)", next(iter(workers), ""))
            self._is_direct = address is not None and _answers(address[1], int(address[2]))
        return self._is_direct

    def start(self, number: int, message: Message, memory: list[Any], demand: Demand) -> Any:
        """See `engine.Engine`."""
        name = demand.name.replace("-", "_")
        future = self._client.submit(
            run,
            message,
            *memory,
            # What comes before the last dash is what Dask's dashboard shows.
            key=f"{name}-{self._prefix}{next(self._attempts)}",
            pure=False,
            priority=demand.priority,
            resources=demand.resources or None,
        )
        # Not Dask's own callbacks: their threads are gone when the interpreter begins to exit.
        asyncio.run_coroutine_threadsafe(self._follow(future, number), self._client.loop.asyncio_loop)
        return future

    async def _follow(self, future: Any, number: int) -> None:
        while future.status == "pending":
            await future._state.wait()
        self.arrived(number)

    def fetch(self, handles: Sequence[Any]) -> "list[Message | Lost]":
        """See `engine.Engine`."""
        finished = [future.status == "finished" for future in handles]
        try:
            replies = iter(self._client.gather(list(itertools.compress(handles, finished))))
            return [
                next(replies) if is_there else self._lost(future)
                for future, is_there in zip(handles, finished, strict=True)
            ]
        except Exception:
            # Something was lost meanwhile: one by one, to know what.
            return [self._fetch_one(future) for future in handles]

    def _fetch_one(self, future: Any) -> "Message | Lost":
        try:
            reply: Message = future.result(timeout=30)
        except BaseException as error:
            return self._explain(error)
        return reply

    def _lost(self, future: Any) -> Lost:
        try:
            error = future.exception(timeout=5)
        except BaseException as problem:
            error = problem
        return self._explain(error)

    def _explain(self, error: Any) -> Lost:
        if isinstance(error, KilledWorker):
            worker = error.last_worker.address
            times = error.allowed_failures
            more = f", and {times} others before it" if times else ""
            return Lost("died", f"the Dask worker at {worker} has died{more}", worker, 0, error)
        complaint = self.complaint()
        if complaint is not None:
            return Lost("gone", complaint, cause=error)
        return Lost("refused", f"{type(error).__name__}: {error}", cause=error)

    def cancel(self, handle: Any) -> None:
        """See `engine.Engine`."""
        with contextlib.suppress(Exception):
            self._client.cancel([handle], asynchronous=True, force=True)

    def tend(self) -> None:
        """See `engine.Engine`."""

    def was_late(self, handle: Any) -> bool:
        """See `engine.Engine`."""
        return False

    def is_running(self, handle: Any) -> bool:
        """See `engine.Engine`."""
        if self._client.loop.asyncio_loop is _running_loop():
            return True  # It would wait for itself.
        try:
            stacks = self._client.sync(
                self._client.scheduler.call_stack, keys=[handle.key], callback_timeout=_ASK
            )
        except Exception:
            return False
        return any(handle.key in stack for stack in stacks.values())

    def complaint(self) -> str | None:
        """See `engine.Engine`."""
        status = self._client.status
        if status == "running":
            return None
        return (
            f"the connection to {self._address} is lost: the scheduler has ended, or cannot be reached any "
            "more. What was not done is lost; make another executor when it is back"
        )

    def close(self) -> None:
        """See `engine.Engine`."""
        if self._is_ours and self._client is not None:
            self._client.close()
        if self._local is not None:
            self._local.close()


def _answers(host: str, port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection((host, port), _REACH).close()
        return True
    return False


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
