"""Progress bars of other packages, made to fit: without threads, and without an end to the job they show."""

import threading
import time
import warnings
from contextlib import suppress
from typing import Any

from ._progress import INTERVAL, Options, Progress, Stream, in_notebook

__all__ = ["Rich", "Tqdm"]


class Tqdm(Progress):
    """A bar of tqdm: a widget in a notebook that has ipywidgets, else text."""

    def __init__(self, options: Options) -> None:
        super().__init__(options.desc)
        # tqdm by itself looks at the time only so often as the speed until now suggests, and has a thread to
        # correct that. One look at each update needs no thread.
        self._bar = _kind_of_tqdm()(
            desc=options.desc or None,
            total=options.total,
            unit=options.unit,
            leave=options.leave,
            file=Stream(options.file),
            dynamic_ncols=True,
            miniters=1,
        )

    # Widgets are a conversation with a page, in which anything may go wrong.

    def _advance(self, n: int) -> None:
        with suppress(Exception):
            self._bar.update(n)

    def _finish(self) -> None:
        with suppress(Exception):
            self._bar.close()


def _kind_of_tqdm() -> Any:
    if in_notebook():
        with warnings.catch_warnings():
            # It warns that widgets are new, or that there are none.
            warnings.simplefilter("ignore")
            from tqdm.autonotebook import tqdm
    else:
        from tqdm import tqdm
    # tqdm makes a lock of `multiprocessing`, for children made by fork: it fixes the start method, and may
    # start a process. A lock that the program has set is used.
    lock = {} if hasattr(tqdm, "_lock") else {"_lock": threading.RLock()}
    return type("tqdm", (tqdm,), {"monitor_interval": 0, **lock})


class Rich(Progress):
    """A bar of rich, refreshed by `update` and not by a thread."""

    def __init__(self, options: Options) -> None:
        super().__init__(options.desc)
        from rich import progress
        from rich.console import Console

        self._bar = progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[unit]}", markup=False),
            progress.TaskProgressColumn(show_speed=True),
            progress.TimeRemainingColumn(elapsed_when_finished=True),
            console=Console(file=Stream(options.file)),  # type: ignore[arg-type]
            auto_refresh=False,
            transient=not options.leave,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        unit = "" if options.unit == "it" else options.unit
        self._task = self._bar.add_task(options.desc, total=options.total, unit=unit)
        self._bar.start()
        self._new = 0
        self._drawn_at = time.monotonic()

    def _advance(self, n: int) -> None:
        self._new += n
        if time.monotonic() - self._drawn_at >= INTERVAL:
            self._draw()

    def _finish(self) -> None:
        self._draw()
        with suppress(Exception):
            self._bar.stop()

    def _draw(self) -> None:
        with suppress(Exception):
            self._bar.update(self._task, advance=self._new, refresh=True)
        self._new = 0
        self._drawn_at = time.monotonic()
