"""The batches of one call of `joblib.Parallel`: who is told of them, who waits, how their arrays are sent."""

import contextlib
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from joblib._memmapping_reducer import _get_backing_memmap, _reduce_memmap_backed

from ._repeated import Repeated

if TYPE_CHECKING:
    from .executor import Future

__all__ = ["Round", "in_file"]

# How long a wait for results is, in seconds: at first for all of them, then for the next one.
_AT_FIRST, _LOOK = 0.02, 0.5


class Round:
    """The batches of one call, and what is told of them.

    When a call has been aborted joblib is told nothing more about it: what it does then it would do to the
    next call of the same `Parallel`.

    Args:
        least: from how many bytes on an array is worth a look whether it was sent before; None for never.
    """

    def __init__(self, least: int | None) -> None:
        self.repeated = Repeated(least, in_file)
        # Those of which joblib has not been told yet.
        self._futures: set[Future[Any]] = set()
        self._aborted = False
        self._told: list[int] = []  # the threads that are telling joblib
        self._changed = threading.Condition()
        # What somebody waits for.
        self._ready: Callable[[], bool] = bool

    def add(self, future: "Future[Any]", callback: Any) -> None:
        """Tells joblib when a batch is done.

        Args:
            future: the batch.
            callback: of joblib; None if it does not want to know.
        """
        self._futures.add(future)
        if getattr(getattr(callback, "parallel", None), "return_ordered", False):
            status = getattr(callback, "get_status", None)
            if status is not None:
                callback.get_status = partial(self._await, future, callback.parallel, status)

        def done(future: Any) -> None:
            try:
                if callback is not None:
                    self._tell(callback, future)
            finally:
                self._futures.discard(future)
                with self._changed:
                    if self._ready():
                        self._changed.notify_all()

        future.add_done_callback(done)
        if self._aborted:
            future.cancel()

    def _tell(self, callback: Any, future: "Future[Any]") -> None:
        # What `add` has given it refers to it: both would be garbage for the collector.
        vars(callback).pop("get_status", None)
        me = threading.get_ident()
        with self._changed:
            if self._aborted:
                return
            self._told.append(me)
        try:
            callback(future)
        finally:
            with self._changed:
                self._told.remove(me)
                if self._is_aborted():
                    self._changed.notify_all()

    def _is_aborted(self) -> bool:
        return self._aborted

    def _await(self, future: "Future[Any]", parallel: Any, get_status: Any, timeout: float | None) -> Any:
        """In place of joblib's `get_status` of a batch, which joblib asks every 10 ms while it waits.

        It waits for the batch here; at first for the whole call, if all results are wanted at once. A wait
        ends also when joblib has to look at something else, and never rests on being told alone.
        """
        status = get_status(timeout=timeout)
        if future in self._futures:
            with self._changed:
                if timeout is None and not parallel.return_generator:
                    self._wait(parallel, lambda: not self._futures, _AT_FIRST)
                bound = _LOOK if timeout is None else min(timeout, _LOOK)
                self._wait(parallel, lambda: future not in self._futures, bound)
            status = get_status(timeout=timeout)
        return status

    def _wait(self, parallel: Any, is_over: Callable[[], bool], bound: float) -> None:
        """For the holder of the lock."""
        self._ready = lambda: is_over() or self._aborted or getattr(parallel, "_aborting", True)
        try:
            self._changed.wait_for(self._ready, bound)
        finally:
            self._ready = bool

    def abort(self) -> None:
        """Cancels what is not done, and waits for other threads that are telling joblib."""
        me = threading.get_ident()
        with self._changed:
            self._aborted = True
            self._changed.notify_all()
        while self._futures:
            with contextlib.suppress(KeyError):  # The last one was done just now.
                self._futures.pop().cancel()
        with self._changed:
            self._changed.wait_for(lambda: all(thread == me for thread in self._told))


def in_file(array: Any) -> Any:
    """How joblib sends a `numpy.memmap`, or a view of one: by the name of its file. None for other arrays."""
    memmap = sys.modules["numpy"].memmap
    backing = _get_backing_memmap(array)
    return _reduce_memmap_backed(array, backing) if isinstance(backing, memmap) else None
