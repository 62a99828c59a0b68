"""What holds for every test: it leaves the process as it found it.

Tests that use the cluster belong to the group ``ray``: then parallel test processes start one.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from ithaca.runtime.cluster import Cluster
    from tests.helpers.drill_pool import Pool

# One thread for torch, as in a worker; two test processes would fight for the cores otherwise.
os.environ["OMP_NUM_THREADS"] = "1"

# A deadline asserts a time, and times belong in benchmarks.
settings.register_profile("ithaca", deadline=None)
settings.load_profile("ithaca")

# Written by pytest, and by parts of torch and by Ray when they are first used.
NOT_LEAKS = frozenset({"PYTEST_CURRENT_TEST", "TORCHINDUCTOR_CACHE_DIR", "RAY_CLIENT_MODE"})
PATIENCE_S = 5.0
SLOTS = 48
"""Of the cluster: a crew, launched scripts, and drills, whose lost workers keep theirs a while."""


def changed_environment(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Names of the variables that are new, gone or different."""
    names = (before.keys() | after.keys()) - NOT_LEAKS
    return sorted(name for name in names if before.get(name) != after.get(name))


def left_threads(before: set[threading.Thread]) -> list[str]:
    """Names of the threads that would keep the process from ending.

    One that is just ending gets PATIENCE_S to do so.
    """
    new = [thread for thread in set(threading.enumerate()) - before if not thread.daemon]
    for thread in new:
        thread.join(PATIENCE_S)
    return sorted(thread.name for thread in new if thread.is_alive())


@pytest.fixture(autouse=True, scope="module")
def _what_is_there_stays() -> None:
    """No search for garbage in this module goes through what was imported or kept before it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _environment_is_left_alone() -> Iterator[None]:
    before = dict(os.environ)
    yield
    changed = changed_environment(before, dict(os.environ))
    os.environ.clear()
    os.environ.update(before)
    assert not changed, f"the test leaves other environment variables behind: {changed}"


@pytest.fixture(autouse=True)
def _threads_are_ended() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = left_threads(before)
    assert not left, f"the test leaves threads behind: {left}"


@pytest.fixture(autouse=True)
def _process_groups_are_destroyed() -> Iterator[None]:
    yield
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
        pytest.fail("the test leaves a process group of torch behind")


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Cluster]:
    """An own cluster, for all tests of a process that use Ray."""
    from ithaca.runtime.cluster import Cluster

    with Cluster.start(SLOTS, paths=[Path(__file__).parents[1]]) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def pool(ray_cluster: Cluster) -> Iterator[Pool]:
    """Warm workers; those that a drill ends are replaced when they are needed."""
    from ithaca.runtime.agency import Agency
    from tests.helpers.drill_pool import Pool

    with Agency(ray_cluster) as agency:
        yield Pool(agency)
