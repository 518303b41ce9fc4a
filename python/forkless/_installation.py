"""`forkless.install`: makes `import multiprocessing` mean forkless for a whole program, and takes it back."""

from types import TracebackType

from . import _aliases, _methods, _programs, _rebinding, _stdlib, _used

__all__ = ["Installation", "install", "installed", "uninstall"]


class Installation:
    """What `install` returns: as a context manager it takes the installation back at its end.

    One `with` within another takes back nothing: the outer one does.
    """

    def __init__(self, *, is_new: bool) -> None:
        self._is_new = is_new

    def __enter__(self) -> "Installation":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_new:
            uninstall()

    def __repr__(self) -> str:
        return f"<forkless installation: {'in place' if installed() else 'taken back'}>"


def install() -> Installation:
    """Makes `multiprocessing` mean forkless, in this process and in children that are started from now on.

    `sys.modules["multiprocessing"]` is `forkless`, `multiprocessing.pool` is `forkless.pool` and so on, and
    `concurrent.futures.ProcessPoolExecutor` is `forkless.Executor`: also for libraries, and for modules that
    have imported these names before. `python -m forkless script.py` runs a program that way from its start.
    A second call changes nothing.

    Only under an installation the start method "fork" is accepted: it starts processes as "forkserver" does,
    and a RuntimeWarning says so once.

    Returns:
        A context manager that takes the installation back at the end of a `with` block. Nobody has to use it.

    Raises:
        RuntimeError: `multiprocessing` was used before, so that objects of both would meet, or a module has
            made something of it that cannot be replaced, as a class that is derived from one of its classes.
            The message names it, and nothing was changed.

    Example:
        >>> forkless.install()
        >>> import multiprocessing
        >>> multiprocessing is forkless
        True
    """
    if _stdlib.aside:
        return Installation(is_new=False)
    _used.check()
    bindings = _rebinding.find()
    _aliases.turn_on()
    _rebinding.apply(bindings)
    _programs.change()
    return Installation(is_new=True)


def uninstall() -> None:
    """Takes back what `install` did; without it, does nothing.

    Whatever is there of forkless goes on: processes, pools, and modules that were imported meanwhile.
    """
    if not _stdlib.aside:
        return
    _rebinding.undo()
    _aliases.turn_off()
    if _methods.get_start_method() == "fork":
        _methods.set_start_method(None)
    _programs.change()


def installed() -> bool:
    """Whether `multiprocessing` means forkless in this process, by `install` here or where it comes from."""
    return _stdlib.aside
