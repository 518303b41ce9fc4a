"""One program over every kind of executor prints the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clusters import Cluster, dask_cluster, local_environ, ray_cluster
from libraries import needs
from support import run_program

PROGRAM = (Path(__file__).parent / "programs" / "contract.py").read_text()


def outcome_of(where: str, environ: dict[str, str]) -> Any:
    text = run_program(PROGRAM, where, environ=environ).check()
    return json.loads(text[text.index("{\n") :])  # What comes before is Ray's.


@pytest.fixture(scope="module")
def expected() -> Any:
    """What the program prints with processes of this machine."""
    return outcome_of("2", {})


@pytest.fixture(scope="module", params=["ray", "dask", "ray://", "dask://"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    needs("ray" if "ray" in request.param else "distributed")
    if request.param == "ray://":
        with ray_cluster() as made:
            yield made
    elif request.param == "dask://":
        with dask_cluster() as made:
            yield made
    else:
        with Cluster(local_environ()) as made:
            made.address = request.param
            yield made


def test_the_same_everywhere(cluster: Cluster, expected: Any) -> None:
    found = outcome_of(cluster.address, cluster.environ)
    assert found == expected
    assert len(found) > 60
