"""The exception of queues that were shut down: public in `forkless.exceptions`, which says why it lives here."""

import queue
from typing import TYPE_CHECKING

from .exceptions import ProcessError

_base: type[Exception] = getattr(queue, "ShutDown", Exception)  # from Python 3.13 on

if TYPE_CHECKING:
    _base = Exception


class ShutDown(ProcessError, _base):
    """The queue was shut down: nothing can be put, and nothing is left to get. From Python 3.13 on a `queue.ShutDown`."""

    __module__ = "forkless.exceptions"
