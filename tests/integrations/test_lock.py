"""The lock of these tests and that of development are installed into one environment."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def pins(name: str) -> dict[str, set[str]]:
    """The versions of each package, by name; there are several where they differ by interpreter."""
    found: dict[str, set[str]] = {}
    for package, version in re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE):
        found.setdefault(package, set()).add(version)
    return found


@pytest.mark.parametrize("name", ["requirements-integrations.txt", "requirements-torch.txt"])
def test_no_package_is_wanted_in_two_versions(name: str) -> None:
    development, ours = pins("requirements-dev.txt"), pins(name)
    common = ours.keys() & development.keys()
    assert common, "nothing in common: this test reads the locks wrongly"
    assert {package for package in common if ours[package] != development[package]} == set()
