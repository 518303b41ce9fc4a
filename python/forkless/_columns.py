"""Views of a `SharedDict`, as a dictionary has them."""

from collections.abc import ItemsView, Iterator, KeysView
from typing import Any

__all__ = ["Items", "Keys"]


class Keys(KeysView[Any]):
    """The keys."""


class Items(ItemsView[Any, Any]):
    """The entries: those of `ItemsView`, without looking each key up."""

    _mapping: Any

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return zip(self._mapping, self._mapping.values(), strict=True)
