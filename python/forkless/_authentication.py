"""How two ends of a connection show each other that they know the same key, without saying it.

The protocol is that of `multiprocessing.connection`, in its modern form on every version of Python: each side
sends a challenge, random bytes after the name of a digest, and wants back the keyed digest (HMAC) of all of
it. Peers before Python 3.12 know MD5 only. Their challenge has 20 bytes and no name, and is answered as they
expect; they take the whole of ours for random bytes, and their answer has the 16 bytes of an MD5.
"""

import os
from typing import Any, NoReturn, Protocol

from .exceptions import AuthenticationError

CHALLENGE = b"#CHALLENGE#"
WELCOME = b"#WELCOME#"
FAILURE = b"#FAILURE#"

_SIZE = 40  # bytes of a challenge after the name of its digest; more than those of a peer that knows MD5 only
_MD5_CHALLENGE, _MD5_ANSWER = 20, 16  # bytes
_LONGEST = 256  # bytes of a message of this protocol
_DIGESTS = ("md5", "sha256", "sha384", "sha3_256", "sha3_384")


class _Ends(Protocol):
    """What a connection has to have for this."""

    def send_bytes(self, buf: bytes, /) -> Any: ...
    def recv_bytes(self, maxlength: int, /) -> bytes: ...


def deliver(connection: _Ends, key: bytes, digest: str = "sha256") -> None:
    """Has the other side show that it knows the key.

    Raises:
        AuthenticationError: it does not, or does not speak this protocol.
    """
    _check(key)
    if digest not in _DIGESTS:
        raise ValueError(f"cannot authenticate with {digest!r}; there are {', '.join(_DIGESTS)}")
    message = b"{%s}" % digest.encode() + os.urandom(_SIZE)
    connection.send_bytes(CHALLENGE + message)
    answer = connection.recv_bytes(_LONGEST)
    try:
        verify(key, message, answer)
    except AuthenticationError:
        connection.send_bytes(FAILURE)
        raise
    connection.send_bytes(WELCOME)


def answer(connection: _Ends, key: bytes) -> None:
    """Shows the other side that this one knows the key.

    Raises:
        AuthenticationError: the other side has another key, or does not speak this protocol.
    """
    _check(key)
    message = connection.recv_bytes(_LONGEST)
    if not message.startswith(CHALLENGE):
        _refuse("the other side does not ask for a key: is it a Listener that has an authkey?", message)
    message = message[len(CHALLENGE) :]
    if len(message) < _MD5_CHALLENGE:
        _refuse("the other side's challenge is too short", message)
    connection.send_bytes(respond(key, message))
    if connection.recv_bytes(_LONGEST) != WELCOME:
        raise AuthenticationError("the other side has refused this side's key: both need the same authkey")


def respond(key: bytes, message: bytes) -> bytes:
    """The answer to a challenge."""
    name, _ = _split(message)
    if name:
        return b"{%s}" % name.encode() + _mac(key, message, name)
    try:
        return _mac(key, message, "md5")
    except AuthenticationError:  # This Python has no MD5. The other side may be one that knows better.
        return b"{sha256}" + _mac(key, message, "sha256")


def verify(key: bytes, message: bytes, answer: bytes) -> None:
    """Raises AuthenticationError unless this is the answer to the challenge by someone who knows the key."""
    import hmac

    name, digest = _split(answer)
    # The name of the digest asked for is part of the message: nobody in between can have changed it.
    if not hmac.compare_digest(_mac(key, message, name or "md5"), digest):
        raise AuthenticationError("the other side has another key: both need the same authkey")


def _split(message: bytes) -> tuple[str, bytes]:
    """The digest that a challenge or an answer names, "" for MD5 without a name, and what is behind it."""
    if len(message) in (_MD5_CHALLENGE, _MD5_ANSWER):
        return "", message
    name, brace, rest = message.partition(b"}")
    for digest in _DIGESTS:
        if brace and name == b"{" + digest.encode():
            return digest, rest
    return _refuse("the other side names no digest known here", message)


def _mac(key: bytes, message: bytes, digest: str) -> bytes:
    import hmac

    try:
        return hmac.new(key, message, digest).digest()
    except ValueError as error:
        raise AuthenticationError(f"this Python has no {digest}: {error}") from error


def _check(key: bytes) -> None:
    if not isinstance(key, bytes):
        raise ValueError(f"authkey must be bytes, not {type(key).__name__}")


def _refuse(why: str, message: bytes) -> NoReturn:
    raise AuthenticationError(f"{why} (it said {message[:40]!r})")


def share_key() -> None:
    """Has both libraries use one key in this process: children of either are let in by managers of the other.

    A key that was set for this process or inherited from its parent is made theirs; one that was only made up
    gives way to theirs, which the children that they start will have.
    """
    from . import process
    from ._stdlib import process as _standard

    ours, theirs = process.current_process(), _standard.current_process()
    if process.is_made_up(ours._authkey):
        ours._authkey = process.AuthenticationString(theirs.authkey)
    else:
        theirs.authkey = bytes(ours._authkey)
