"""Something that is to be done when user code loads a module, without loading it for that.

A worker has to know of `logging` before the first record. A look at `sys.modules` before each task would miss
what the task logs that loads it, and to load it beforehand would cost every worker 5 ms and half a megabyte.
So a finder in front of all others, which is asked for every module once, lets them find this one and is told
when it has run.
"""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType


def when_loaded(actions: "dict[str, Callable[[], object]]") -> None:
    """Calls an action when the module of that name is loaded: now, or right after it was."""
    for name in [name for name in actions if name in sys.modules]:
        actions.pop(name)()
    if not actions:
        return
    # One finder for all: two would ask each other for ever.
    there = next((finder for finder in sys.meta_path if isinstance(finder, _Finder)), None)
    if there is None:
        sys.meta_path.insert(0, _Finder(actions))
    else:
        there.add(actions)


class _Finder:
    """Finds nothing itself; notices what is found."""

    def __init__(self, actions: "dict[str, Callable[[], object]]") -> None:
        self._actions = actions

    def add(self, actions: "dict[str, Callable[[], object]]") -> None:
        """More that is to be done, after what is to be done already."""
        for name, action in actions.items():
            self._actions[name] = _one_after_the_other(self._actions.get(name), action)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> "ModuleSpec | None":
        """What the other finders find."""
        if name not in self._actions:
            return None
        for finder in list(sys.meta_path):
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = None if find is None else find(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader, lambda: self._loaded(name))  # type: ignore[assignment]
                return spec
        return None

    def _loaded(self, name: str) -> None:
        action = self._actions.pop(name, None)
        if not self._actions and self in sys.meta_path:
            sys.meta_path.remove(self)
        if action is not None:
            action()


def _one_after_the_other(
    first: "Callable[[], object] | None", second: "Callable[[], object]"
) -> "Callable[[], object]":
    def both() -> None:
        if first is not None:
            first()
        second()

    return second if first is None else both


class _Loader:
    """Another loader, and something that is done when it has loaded."""

    def __init__(self, loader: Any, done: Callable[[], object]) -> None:
        self._loader, self._done = loader, done

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def exec_module(self, module: "ModuleType") -> None:
        """Runs the module, which does not get to see this object."""
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        try:
            self._done()
        except Exception:  # The import is the user's, and has succeeded.
            sys.excepthook(*sys.exc_info())
