"""What the tests with other people's libraries have in common."""

from __future__ import annotations

from typing import Any

import pytest


def needs(module: str, verb: str = "./dev integrations") -> Any:
    """The module, or a skip that says how to get it.

    Args:
        module: its name.
        verb: what installs it.
    """
    return pytest.importorskip(
        module, reason=f"{module} is not installed: `{verb}` installs it and runs this"
    )
