"""Names of `multiprocessing.forkserver` that programs use. What it does there, the template does here."""

from typing import TYPE_CHECKING

from . import _internals, _programs

if TYPE_CHECKING:
    from multiprocessing.forkserver import connect_to_new_process as connect_to_new_process
    from multiprocessing.forkserver import get_inherited_fds as get_inherited_fds

__all__ = ["connect_to_new_process", "ensure_running", "get_inherited_fds", "set_forkserver_preload"]


class ForkServer:
    """What stands for the template of this process."""

    def set_forkserver_preload(self, modules_names: list[str]) -> None:
        """See `forkless.set_forkserver_preload`."""
        _programs.set_forkserver_preload(modules_names)

    def ensure_running(self) -> None:
        """Starts the template and has it load what is to be preloaded, so that the first child is not slower.

        Raises:
            ProcessError: the system refuses, or a preloaded module cannot be forked with.
        """
        from .process import ForkServerProcess

        child = ForkServerProcess()
        child.start()
        child.join()
        child.close()


_forkserver = ForkServer()
ensure_running = _forkserver.ensure_running
set_forkserver_preload = _forkserver.set_forkserver_preload


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        return _internals.find(__name__, name)
