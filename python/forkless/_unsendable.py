"""What becomes of a task whose result does not pickle: `multiprocessing.Pool` calls it `MaybeEncodingError`.

That class lives in a heavy module, so this one is only loaded when it has happened.
"""

from ._pickling import PicklingError
from ._stdlib import pool as _standard


class ResultPicklingError(PicklingError, _standard.MaybeEncodingError):  # type: ignore[misc,name-defined]
    """The result of a task does not pickle.

    Attributes:
        exc: `repr` of what pickle raised.
        value: `repr` of the result.
    """

    def __init__(self, message: str, exc: str = "", value: str = "") -> None:
        PicklingError.__init__(self, message)
        self.exc, self.value = exc, value

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


def error_of(error: PicklingError, result: object) -> ResultPicklingError:
    """What to raise for a result, in place of the error with which it was refused."""
    return ResultPicklingError(str(error), repr(error.__cause__ or error), _described(result))


def _described(result: object) -> str:
    try:
        return repr(result)
    except Exception as problem:
        return f"<no repr: {type(problem).__name__}>"
