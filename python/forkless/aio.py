"""Processes for asyncio: a pool whose results are awaited.

It is an `Executor` that an event loop does not wait for. Tasks of the loop that are cancelled, or run out of
time, cancel their calls.

Example:
    >>> import asyncio
    >>> async def main():
    ...     async with Pool(2) as pool:
    ...         print(await pool.run(pow, 2, 10))
    ...         async for result in pool.map(abs, [-1, 2, -3]):
    ...             print(result)
    >>> asyncio.run(main())
    1024
    1
    2
    3
"""

import asyncio
import threading
from collections.abc import AsyncIterable, Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from ._aio import _runs_trio
from ._bridge import Bridge, outcome
from ._flow import Flow, Results
from .executor import Executor

if TYPE_CHECKING:
    from concurrent.futures import Future
    from types import TracebackType

    from typing_extensions import Self

    from ._progress import How
    from ._stream import Stream

__all__ = ["Calls", "Pool", "Results"]

P = ParamSpec("P")
R = TypeVar("R")

# Tasks of a `map`, per worker, that may be submitted ahead of what has been taken.
_AHEAD = 4


class Calls:
    """The ways to have a pool work; what `Pool.options` returns.

    Args:
        pool: whose workers do it.
        submitter: has `submit`: the executor, or a view of it with options.
    """

    def __init__(self, pool: "Pool", submitter: Any) -> None:
        self._pool = pool
        self._submitter = submitter

    async def run(self, func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Calls `func(*args, **kwargs)` in a worker and returns its result.

        When the awaiting task is cancelled, so is the call, as `concurrent.futures.Future.cancel` does it.

        Raises:
            WorkerDied: the worker that ran the call has died.
            BrokenPool: the pool was terminated, or its workers cannot run.
            RuntimeError: the pool is closed, or belongs to another event loop.
            Exception: what the call raised, with the worker's traceback as its cause.
        """
        bridge = self._pool._open_bridge()
        waiter = bridge.loop.create_future()
        future: Future[R] = self._submitter.submit(func, *args, **kwargs)
        bridge.watch(future, partial(_wake, waiter))
        try:
            await waiter
            return outcome(future)
        except BaseException:
            future.cancel()  # This task is cancelled. (If the call has raised, this does nothing.)
            raise
        finally:
            del future  # A traceback that holds it, and is held by its exception, would be a cycle.

    def map(
        self,
        func: Callable[..., R],
        *iterables: Iterable[Any] | AsyncIterable[Any],
        ordered: bool = True,
        buffersize: int | None = None,
        chunksize: int = 1,
        progress: "How" = False,
    ) -> Results[R]:
        """The results of `func` for the items of the iterables, each as soon as it is there.

        An exception, of a call or of the input, comes after the results before it and ends the iteration, as
        does a cancellation of who waits for the next result. Whoever leaves the loop early, by whatever way,
        gives up the rest: what has been submitted is cancelled, and no more input is read. (That is what
        dropping the iterator does; `aclose` does it for those who keep it.)

        Args:
            func: called in the workers, with one item of each iterable.
            iterables: what there is to do, up to the end of the shortest one. Ordinary iterators are read in
                the event loop and should not take long; asynchronous ones are read by a task of their own.
            ordered: yield in the order of the input, rather than of the results.
            buffersize: how many tasks may be submitted, and their input read, ahead of the results that have
                been taken; four for each worker if None.
            chunksize: how many calls make a task.
            progress: show a progress bar; as in `forkless.Pool.map`.

        Raises:
            ValueError: a size below one.
            TypeError: no iterable.
            RuntimeError: the pool is closed, or belongs to another event loop.
        """
        if not iterables:
            raise TypeError("map() takes a function and at least one iterable")
        if buffersize is None:
            buffersize = _AHEAD * self._pool._executor._max_workers
        for name, size in (("buffersize", buffersize), ("chunksize", chunksize)):
            if size < 1:
                raise ValueError(f"{name} must be >= 1, not {size}")
        bridge = self._pool._open_bridge()
        flow = Flow(bridge, self._submitter, func, iterables, ordered, buffersize, chunksize, progress)
        results: Results[R] = Results(flow)  # Gives up the rest if the start fails.
        flow.start()
        return results

    def stream(self, func: Callable[P, Iterable[R]], /, *args: P.args, **kwargs: P.kwargs) -> "Stream[R]":
        """What a generator function yields in a worker, as it does, for `async for`.

        The worker waits when it is 16 items ahead. Whoever leaves the loop early ends the generator, by
        closing the stream or dropping it.

        Raises:
            RuntimeError: the pool is closed, or belongs to another event loop.
        """
        self._pool._open_bridge()
        stream: Stream[R] = self._submitter.stream(func, *args, **kwargs)
        return stream

    def options(self, **options: Any) -> "Calls":
        """The same calls with other options, those of `Executor.options`.

        Args:
            options: `timeout`, `retries`, `priority` and `name`.

        Example:
            >>> async def main():
            ...     async with Pool(1) as pool:
            ...         return await pool.options(timeout=60).run(pow, 2, 10)
            >>> asyncio.run(main())
            1024
        """
        return Calls(self._pool, self._submitter.options(**options))


class Pool(Calls):
    """Worker processes that run tasks for the tasks of an event loop.

    It belongs to the loop in which it is first used. No thread is needed to wait, however many tasks do.
    `async with` waits at its end for what is still to do; if it is left by an exception, as by a
    cancellation or Ctrl-C, it ends the workers instead.

    Args:
        max_workers: how many workers at most; what `cpu_count` says if None. They start as tasks come.
        options: those of `Executor`.

    Raises:
        ValueError: fewer than one worker.

    Example:
        >>> async def main():
        ...     async with Pool(2) as pool:
        ...         print(await pool.run(pow, 2, 10))
        ...         print([root async for root in pool.map(abs, [-1, 2, -3])])
        >>> asyncio.run(main())
        1024
        [1, 2, 3]
    """

    def __init__(self, max_workers: int | None = None, **options: Any) -> None:
        # Any, because `options` and `statistics` depend on the executor.
        self._executor: Any = Executor(max_workers, **options)
        self._bridge: Bridge | None = None
        self._closed = False
        super().__init__(self, self._executor)

    async def __aenter__(self) -> "Self":
        self._open_bridge()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: "TracebackType | None"
    ) -> None:
        if kind is not None:
            await self.terminate()
            return
        try:
            await self.close()
        except BaseException:
            await self.terminate()
            raise

    async def close(self) -> None:
        """Accepts no more tasks, and waits until all are done and the workers have ended.

        Who is cancelled while waiting can wait again, or terminate.
        """
        bridge = self._bind()
        self._closed = True
        self._executor.shutdown(wait=False)
        await bridge.idle()
        await self._join(bridge)

    async def terminate(self) -> None:
        """Ends the workers at once, and waits for that. Tasks that are not done fail with `BrokenPool`."""
        bridge = self._bind()
        self._closed = True
        self._executor._scheduler.terminate()
        await self._join(bridge)

    def statistics(self) -> Any:
        """What the workers have done until now, a frozen snapshot: `Executor.statistics`."""
        return self._executor.statistics()

    def __reduce__(self) -> tuple[Any, ...]:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def __repr__(self) -> str:
        state, size = self._executor._scheduler.state, self._executor._max_workers
        return f"<forkless.aio.Pool state={state} max_workers={size}>"

    def _open_bridge(self) -> Bridge:
        bridge = self._bind()
        if self._closed:
            raise RuntimeError(f"{self!r} is closed and accepts no more tasks: make another one")
        return bridge

    def _bind(self) -> Bridge:
        loop = _running_loop()
        if self._bridge is None:
            self._bridge = Bridge(loop)
        elif self._bridge.loop is not loop:
            raise RuntimeError(
                f"{self!r} belongs to another event loop, the first that used it: make one here"
            )
        return self._bridge

    async def _join(self, bridge: Bridge) -> None:
        """Waits for the end of the workers: the only wait of a thread, which is there for nothing else."""
        if bridge.unused:
            return
        ended = bridge.loop.create_future()

        def join() -> None:
            self._executor.shutdown()
            with suppress(RuntimeError):  # The loop has been closed.
                bridge.loop.call_soon_threadsafe(_wake, ended)

        threading.Thread(target=join, name="forkless aio join", daemon=True).start()
        await ended


def _running_loop() -> asyncio.AbstractEventLoop:
    if _runs_trio():
        raise RuntimeError(
            "forkless.aio needs asyncio, and this is trio: use `forkless.Executor`, and "
            "`await trio.to_thread.run_sync(future.result)`"
        )
    try:
        return asyncio.get_running_loop()
    except RuntimeError as error:
        raise RuntimeError(
            "forkless.aio.Pool works in a running event loop only: call this from a coroutine"
        ) from error


def _wake(waiter: "asyncio.Future[None]", _: object = None) -> None:
    if not waiter.done():
        waiter.set_result(None)
