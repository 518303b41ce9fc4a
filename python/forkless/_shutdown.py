"""The exception of queues that were shut down: public in `forkless.exceptions`, which says why."""

import queue
from typing import TYPE_CHECKING

from .exceptions import ProcessError

if TYPE_CHECKING:
    _Base = Exception
else:
    _Base = getattr(queue, "ShutDown", Exception)  # from Python 3.13 on


class ShutDown(ProcessError, _Base):
    """The queue was shut down: nothing can be put, and nothing is left to get.

    From Python 3.13 on, it is a `queue.ShutDown` too.
    """

    __module__ = "forkless.exceptions"
