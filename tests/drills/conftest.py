"""One cluster and one pool of warm workers for all drills of a process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ithaca.runtime.agency import Agency
from ithaca.runtime.cluster import Cluster
from tests.helpers.drill_pool import Pool

MOST_WORKERS = 8
ROOT = Path(__file__).parents[2]


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--soak``: all drills, not only those of the suite."""
    parser.addoption("--soak", action="store_true", help="run every drill, not only the fast ones")


@pytest.fixture(scope="session")
def pool() -> Iterator[Pool]:
    """Warm workers; those that a drill ends are replaced when they are needed."""
    # A worker that was lost keeps its slot until Ray has noticed.
    with Cluster.start(4 * MOST_WORKERS, paths=[ROOT]) as cluster, Agency(cluster) as agency:
        yield Pool(agency)
