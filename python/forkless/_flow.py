"""What `forkless.aio.Pool.map` does: submits input ahead of the results, within bounds.

As with `Pool.imap` there are two sides. The *flow* reads the input and is held by its futures; the *results*
are what the user holds, and who drops them stops the flow. All but `cancel` happens in the event loop, so no
step between two `await`s is interrupted.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sized
from concurrent.futures import Future
from contextlib import aclosing, suppress
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from ._bridge import Bridge, outcome
from ._progress import Progress
from ._progress import open as open_progress
from ._scheduler import name_of
from ._worker import run_star_chunk

if TYPE_CHECKING:
    from typing_extensions import Self

    from ._progress import How

R = TypeVar("R")

Inputs: TypeAlias = "tuple[Iterable[Any] | AsyncIterable[Any], ...]"
Row: TypeAlias = "tuple[Any, ...]"


class Chunk(NamedTuple):
    """The arguments of some calls, and how the input went on."""

    rows: list[Row]
    last: bool
    error: BaseException | None = None


class Flow:
    """The input of a `map` and what has come of it so far.

    Args:
        bridge: tells of futures that are done.
        submitter: has `submit`.
        func: called for every row of the input.
        inputs: the iterables.
        ordered: whether results are taken in the order of the input.
        window: how many tasks may be submitted and not taken.
        chunksize: how many calls make a task.
        how: what the user gave as `progress=`.
    """

    def __init__(
        self,
        bridge: Bridge,
        submitter: Any,
        func: Callable[..., Any],
        inputs: Inputs,
        ordered: bool,
        window: int,
        chunksize: int,
        how: "How",
    ) -> None:
        self._bridge, self._submitter, self._func = bridge, submitter, func
        self._ordered, self._window, self._chunksize = ordered, window, chunksize
        # Submitted and not taken; and the same in the order of taking, as far as that is known.
        self._outstanding: set[Future[Any]] = set()
        self._queue: deque[Future[Any]] = deque()
        self._items: deque[Any] = deque()  # taken and not given to the user
        self._ended = self._given_up = False  # no more input; no more results either
        self._error: BaseException | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._progress = _progress(func, inputs, how)
        self._inputs = inputs
        self._rows: Iterator[Row] | None = None
        self._reader: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Submits as much as there is room for."""
        if any(isinstance(items, AsyncIterable) for items in self._inputs):
            self._reader = self._bridge.loop.create_task(self._read(_zip(self._inputs)))
        else:
            self._rows = zip(*self._inputs)  # noqa: B905 - up to the shortest
            self._fill()

    async def next(self) -> Any:
        """The next result.

        Raises:
            StopAsyncIteration: there are no more.
            BaseException: a call or the input has raised it, or this task is cancelled; it ends the flow.
        """
        try:
            while not self._items:
                if self._queue and self._queue[0].done():
                    self._take()
                elif self._ended and not self._outstanding:
                    self._finish()
                else:
                    await self._change()
            return self._items.popleft()
        except BaseException:
            self.cancel()
            self._changed()
            raise

    def cancel(self) -> None:
        """Gives up what is not done; from any thread."""
        self._ended = self._given_up = True
        self._queue.clear()
        self._items.clear()
        outstanding, self._outstanding = self._outstanding, set()
        for future in outstanding:
            future.cancel()
        if self._reader is not None:
            with suppress(RuntimeError):  # The loop has been closed.
                self._bridge.loop.call_soon_threadsafe(self._reader.cancel)
        self._progress.close()

    async def close(self) -> None:
        """Gives up what is not done, and waits until the input is left alone."""
        self.cancel()
        self._changed()
        if self._reader is not None:
            await asyncio.wait((self._reader,))

    # The input.

    def _fill(self) -> None:
        """Reads an ordinary input as far as there is room."""
        while self._rows is not None and self._has_room() and not self._ended:
            self._submit(_read_chunk(self._rows, self._chunksize))

    async def _read(self, rows: AsyncGenerator[Row, None]) -> None:
        """Reads an asynchronous one whenever there is room; the task that does so."""
        try:
            async with aclosing(rows):
                while not self._ended:
                    if self._has_room():
                        self._submit(await _read_chunk_async(rows, self._chunksize))
                    else:
                        await self._change()
        except BaseException as error:
            # The input says that it was cancelled, or something of ours has: nobody may wait for it.
            self._submit(Chunk([], True, error))
            raise

    def _has_room(self) -> bool:
        return len(self._outstanding) < self._window

    def _submit(self, chunk: Chunk) -> None:
        if chunk.last:
            self._ended, self._error = True, chunk.error
        if chunk.rows:
            try:
                future = self._send(chunk.rows)
            except Exception as error:
                # The pool was closed. What has been submitted before can still be taken.
                self._ended, self._error = True, error
            else:
                self._outstanding.add(future)
                if self._ordered:
                    self._queue.append(future)
                self._bridge.watch(future, self._arrive)
                if self._given_up:
                    future.cancel()  # By another thread, just now.
        self._changed()

    def _send(self, rows: list[Row]) -> "Future[Any]":
        future: Future[Any]
        if self._chunksize == 1:
            future = self._submitter.submit(self._func, *rows[0])
        else:
            future = self._submitter.submit(partial(run_star_chunk, self._func), rows)
        return future

    # The results.

    def _arrive(self, future: "Future[Any]") -> None:
        if future in self._outstanding:
            if not self._ordered:
                self._queue.append(future)
            if self._queue[0].done():
                self._changed()

    def _take(self) -> None:
        # No name for the future in this frame, which the traceback of its exception may hold.
        result = outcome(self._pop())
        if self._chunksize == 1:
            self._items.append(result)
        else:
            self._items.extend(result)
        self._fill()
        self._changed()
        self._progress.update(len(self._items))

    def _pop(self) -> "Future[Any]":
        future = self._queue.popleft()
        self._outstanding.discard(future)
        return future

    def _finish(self) -> None:
        error, self._error = self._error, None
        # Who has given up hears of no error, least of all of the cancellation by which the input was left.
        if error is not None and not self._given_up:
            raise error
        raise StopAsyncIteration

    # Changes, which results and the reader of the input wait for.

    async def _change(self) -> None:
        waiter = self._bridge.loop.create_future()
        self._waiters.append(waiter)
        await waiter

    def _changed(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class Results(AsyncIterator[R]):
    """The results of `forkless.aio.Pool.map`: for `async for`, by one task or by several."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow

    def __aiter__(self) -> "Self":
        return self

    async def __anext__(self) -> R:
        result: R = await self._flow.next()
        return result

    async def aclose(self) -> None:
        """Gives up the rest: cancels what has been submitted, and reads no more input."""
        await self._flow.close()

    def __del__(self) -> None:
        flow = getattr(self, "_flow", None)
        if flow is not None:
            flow.cancel()


def _progress(func: object, inputs: Inputs, how: "How") -> Progress:
    sizes = [len(items) if isinstance(items, Sized) else None for items in inputs]
    total = min(sizes) if None not in sizes else None  # type: ignore[type-var]
    return open_progress(total, name_of(func), how)


def _read_chunk(rows: Iterator[Row], size: int) -> Chunk:
    taken: list[Row] = []
    try:
        for row in islice(rows, size):
            taken.append(row)
    except Exception as error:
        return Chunk(taken, True, error)
    return Chunk(taken, len(taken) < size)


async def _read_chunk_async(rows: AsyncIterator[Row], size: int) -> Chunk:
    taken: list[Row] = []
    try:
        async for row in rows:
            taken.append(row)
            if len(taken) == size:
                return Chunk(taken, False)
    except Exception as error:
        return Chunk(taken, True, error)
    return Chunk(taken, True)


async def _zip(inputs: Inputs) -> AsyncGenerator[Row, None]:
    """Like `zip`, for iterables of both kinds; what is of both is read as an asynchronous one."""
    iterators: list[Any] = [aiter(x) if isinstance(x, AsyncIterable) else iter(x) for x in inputs]
    while True:
        row = []
        for iterator in iterators:
            try:
                row.append(await anext(iterator) if hasattr(iterator, "__anext__") else next(iterator))
            except (StopIteration, StopAsyncIteration):
                return
        yield tuple(row)
