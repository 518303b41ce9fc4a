"""Other packages, and what people make by hand, with the API that the benchmarks ask for.

What is not installed is named and left out; `./dev bench` installs what requirements.txt names.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.shared_memory import SharedMemory
from typing import Any

fork = multiprocessing.get_context("fork")


class Billiard:
    """Billiard, with its default start method, which is `fork`."""

    def __init__(self) -> None:
        import billiard

        self.Process, self.Event = billiard.Process, billiard.Event
        self.Queue, self.SimpleQueue = billiard.Queue, billiard.SimpleQueue
        self.Pool = billiard.Pool


class FasterFifo:
    """faster-fifo as it does best with single puts: what has come is taken with `get_many`."""

    Process = staticmethod(fork.Process)
    Event = staticmethod(fork.Event)

    def __init__(self) -> None:
        import faster_fifo

        self._kind = faster_fifo.Queue

    def Queue(self) -> Any:  # noqa: N802
        """A queue that holds dozens of the largest messages; the default of a megabyte holds none."""
        return self._kind(max_size_bytes=64 << 20)

    def receive(self, queue: Any, count: int, check: Any) -> None:
        """Takes messages, all that are there at a time."""
        while count > 0:
            for item in queue.get_many(timeout=60):
                check(item)
                count -= 1


class FasterFifoSingle(FasterFifo):
    """faster-fifo with `put` and `get`."""

    def receive(self, queue: Any, count: int, check: Any) -> None:
        """Takes messages one by one."""
        for _ in range(count):
            check(queue.get(timeout=60))


class Mailbox:
    """Two segments and two semaphores: an array is copied into one while the other is read."""

    def __init__(self, shape: tuple[int, ...], dtype: str, size: int) -> None:
        self.shape, self.dtype = shape, dtype
        self.segments = [SharedMemory(create=True, size=size) for _ in range(2)]
        self.free, self.full = fork.Semaphore(2), fork.Semaphore(0)

    def views(self) -> list[Any]:
        """The segments as arrays."""
        import numpy

        return [numpy.ndarray(self.shape, self.dtype, segment.buf) for segment in self.segments]

    def fill(self, arrays: Iterable[Any]) -> None:
        """Copies arrays in, each when there is room."""
        views = self.views()
        for number, array in enumerate(arrays):
            self.free.acquire()
            views[number % 2][...] = array
            self.full.release()

    def sums(self, count: int) -> list[float]:
        """Sums arrays in place as they come."""
        views, sums = self.views(), []
        for number in range(count):
            self.full.acquire()
            sums.append(float(views[number % 2].sum()))
            self.free.release()
        return sums

    def close(self) -> None:
        """Gives the memory back."""
        for segment in self.segments:
            segment.close()
            segment.unlink()


class Mailboxes:
    """Hand-made mailboxes in place of queues."""

    Process = staticmethod(fork.Process)
    Mailbox = Mailbox


class Futures:
    """The executor of `concurrent.futures`, with the start method `fork`."""

    def Executor(self, size: int) -> Any:  # noqa: N802
        """As it is."""
        from concurrent.futures import ProcessPoolExecutor

        return ProcessPoolExecutor(size, mp_context=fork)


def standard_futures() -> Any:
    """The class of the standard library, with its default start method."""
    from concurrent.futures import ProcessPoolExecutor

    return ProcessPoolExecutor


def installed_futures() -> Any:
    """What a program finds under that name once forkless is installed."""
    import forkless

    forkless.install()
    return standard_futures()


class Loky:
    """Loky's reusable executor, with its own start method."""

    def __init__(self) -> None:
        import loky

        self.Executor = loky.get_reusable_executor


class Pebble:
    """Pebble's pool, with the start method `fork`."""

    def __init__(self) -> None:
        import pebble

        self._kind = pebble.ProcessPool

    def Executor(self, size: int) -> Any:  # noqa: N802
        """The pool, which gives futures, with an executor's arguments."""
        return PebbleExecutor(self._kind(size, context=fork))


class PebbleExecutor:
    """Pebble's pool with an executor's arguments."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def submit(self, func: Callable[..., Any], *args: Any) -> Any:
        """A future."""
        return self._pool.schedule(func, args=args)

    def map(self, func: Callable[..., Any], items: Iterable[Any], chunksize: int = 1) -> Iterator[Any]:
        """The results."""
        results: Iterator[Any] = self._pool.map(func, items, chunksize=chunksize).result()
        return results

    def shutdown(self) -> None:
        """Ends the pool when all is done."""
        self._pool.close()
        self._pool.join()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()


class Joblib:
    """Joblib with its default backend; it has calls that wait for all their results, and nothing else."""

    def __init__(self) -> None:
        import joblib

        self._joblib = joblib

    def Pool(self, size: int) -> Any:  # noqa: N802
        """What keeps its workers between two calls."""
        return JoblibPool(self._joblib, size)


class JoblibPool:
    """`Parallel` with a pool's calls."""

    def __init__(self, joblib: Any, size: int) -> None:
        self._delayed, self._parallel = joblib.delayed, joblib.Parallel(size)

    def apply(self, func: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """One call."""
        return self._parallel([self._delayed(func)(*args)])[0]

    def map(self, func: Callable[..., Any], items: Iterable[Any], chunksize: int | None = None) -> list[Any]:
        """The results."""
        self._parallel.batch_size = chunksize or "auto"
        results: list[Any] = self._parallel(map(self._delayed(func), items))
        return results

    def __enter__(self) -> Any:
        self._parallel.__enter__()
        return self

    def __exit__(self, *of_error: Any) -> None:
        self._parallel.__exit__(*of_error)


class JoblibOn:
    """joblib with a backend: `loky` is its own."""

    def __init__(self, backend: str) -> None:
        import joblib

        if backend == "forkless":
            import forkless.joblib

            forkless.joblib.register()
        self.joblib, self.backend = joblib, backend


class Calling:
    """An executor with a pool's calls, each in the way that its users would write."""

    def __init__(self, executor: Any) -> None:
        self._executor = executor

    def apply(self, func: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """One call."""
        return self._executor.submit(func, *args).result()

    def map(self, func: Callable[..., Any], items: Iterable[Any], chunksize: int = 1) -> list[Any]:
        """The results."""
        return list(self._executor.map(func, items, chunksize=chunksize))

    def imap_unordered(self, func: Callable[..., Any], items: Iterable[Any]) -> Iterator[Any]:
        """The results as they come."""
        from concurrent.futures import as_completed

        for future in as_completed([self._executor.submit(func, item) for item in items]):
            yield future.result()

    def close(self) -> None:
        """Ends the executor when all is done."""
        self._executor.shutdown()

    def join(self) -> None:
        """Nothing is left to do."""

    def __enter__(self) -> Any:
        self._executor.__enter__()
        return self

    def __exit__(self, *of_error: Any) -> None:
        self._executor.__exit__(*of_error)


class Submitting:
    """A pool with an executor's calls."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def submit(self, func: Callable[..., Any], *args: Any) -> Any:
        """The pool's result, with `result` as another name of `get`."""
        result = self._pool.apply_async(func, args)
        result.result = result.get
        return result

    def __enter__(self) -> Any:
        self._pool.__enter__()
        return self

    def __exit__(self, *of_error: Any) -> None:
        self._pool.__exit__(*of_error)


class FreshSegment:
    """A segment of the standard library's for each array, which is copied into it."""

    def __init__(self) -> None:
        self._segments: list[SharedMemory] = []

    def share(self, array: Any) -> Any:
        """The array in the segment."""
        import numpy

        segment = SharedMemory(create=True, size=array.nbytes)
        segment.unlink()
        self._segments.append(segment)
        copy = numpy.ndarray(array.shape, array.dtype, segment.buf)
        copy[...] = array
        return copy


class Copy:
    """Memory of this process that was written to before."""

    _memory: Any = None

    def share(self, array: Any) -> Any:
        """A copy there."""
        import numpy

        if self._memory is None:
            self._memory = numpy.zeros_like(array)
        numpy.copyto(self._memory, array)
        return self._memory


class PlainList:
    """What a list is without anything."""

    def share(self, data: Any) -> Any:
        """The list itself."""
        return data


PEERS = {
    "billiard": Billiard,
    "faster-fifo": FasterFifo,
    "faster-fifo-single": FasterFifoSingle,
    "fresh segment": FreshSegment,
    "futures": Futures,
    "installed futures": installed_futures,
    "joblib": Joblib,
    "joblib on forkless": lambda: JoblibOn("forkless"),
    "joblib on loky": lambda: JoblibOn("loky"),
    "loky": Loky,
    "mailboxes": Mailboxes,
    "memcpy": Copy,
    "pebble": Pebble,
    "plain list": PlainList,
    "standard futures": standard_futures,
}
