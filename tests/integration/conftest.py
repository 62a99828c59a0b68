"""One Ray cluster and one warm crew for all tests of a process; layouts change by plan.

Tests that use them belong to the group ``ray``, so that parallel test processes start one cluster.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ithaca.runtime.agency import Agency
from ithaca.runtime.cluster import Cluster
from ithaca.runtime.crew import Crew

WORKERS = 8
SLOTS = 2 * WORKERS
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Cluster]:
    """An own cluster with room for the crew and for launched scripts."""
    with Cluster.start(SLOTS, paths=[ROOT]) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def crew(ray_cluster: Cluster) -> Iterator[Crew]:
    """Eight warm workers; a test that kills one starts a crew of its own."""
    with Agency(ray_cluster, join_s=300.0) as agency:
        yield agency.hire(WORKERS)
