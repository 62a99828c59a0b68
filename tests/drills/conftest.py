"""One pool of warm workers for all drills of a process, on the one cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ithaca.runtime.agency import Agency
from ithaca.runtime.cluster import Cluster
from tests.helpers.drill_pool import Pool


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--soak``: all drills, not only those of the suite."""
    parser.addoption("--soak", action="store_true", help="run every drill, not only the fast ones")


@pytest.fixture(scope="session")
def pool(ray_cluster: Cluster) -> Iterator[Pool]:
    """Warm workers; those that a drill ends are replaced when they are needed."""
    with Agency(ray_cluster) as agency:
        yield Pool(agency)
