"""One warm crew for all tests of a process, on the one cluster; layouts change by plan."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ithaca.runtime.agency import Agency
from ithaca.runtime.cluster import Cluster
from ithaca.runtime.crew import Crew

WORKERS = 8


@pytest.fixture(scope="session")
def crew(ray_cluster: Cluster) -> Iterator[Crew]:
    """Eight warm workers; a test that kills one starts a crew of its own."""
    with Agency(ray_cluster, join_s=300.0) as agency:
        yield agency.hire(WORKERS)
