"""`RemoteError` of managers: public in `forkless.managers`. Its base is in a heavy module."""

from . import exceptions
from ._stdlib import managers as _standard


class RemoteError(exceptions.RemoteError, _standard.RemoteError):
    """A manager's server could not do what it was asked for: the message says what, and why.

    A method's own exception arrives as itself. This comes in place of a result that cannot be sent, and of
    what a client may not do.
    """

    __module__ = "forkless.managers"
    __str__ = Exception.__str__
