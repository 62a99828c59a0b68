"""Whom a run hired in the place of a lost worker is gone with the run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ithaca.runtime.agency import Agency
from ithaca.runtime.cluster import SLOT, Cluster
from ithaca.runtime.config.load import load
from ithaca.runtime.crew import Crew
from ithaca.runtime.driver import Driver
from ithaca.runtime.events import Event, WorkerLeft
from ithaca.runtime.preview import preview
from ithaca.runtime.run import Start, mission_of, owning
from tests.helpers.real_job import write_job

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(240)]

BOUND_S = 60.0


@pytest.fixture(scope="module")
def narrow(ray_cluster: Cluster) -> Iterator[Cluster]:
    """A cluster with room for two workers."""
    import ray

    class Taken:
        def here(self) -> None:
            """Answers once it has its slots."""

    slots = max(0, int(ray.available_resources().get(SLOT, 0)) - 2)
    taken: Any = ray.remote(Taken).options(num_cpus=0, resources={SLOT: slots}).remote()
    ray.get(taken.here.remote(), timeout=BOUND_S)
    yield ray_cluster
    ray.kill(taken)


def run(cluster: Cluster, agency: Agency, folder: Path) -> Crew:
    """A short job on two workers that loses one and asks for another; what is left of its crew."""
    faults = ["crash w1 at step 2 before B"]
    layout = {"pipelines": 2, "stages": 1}
    loaded = load(write_job(folder / "job", drills=True, faults=faults, layout=layout))
    crew = agency.hire(2)
    seen = preview(loaded)
    (folder / "run").mkdir()
    with owning(folder / "run") as left:
        mission = mission_of(Start(loaded, seen, folder / "run", None, left), crew)
        events: list[Event] = []
        Driver(mission, cluster, agency, crew, [events.append]).run()
    assert [event.worker for event in events if isinstance(event, WorkerLeft)] == [1]
    return crew


def test_a_run_leaves_room_for_the_next(narrow: Cluster, tmp_path: Path) -> None:
    with Agency(narrow, join_s=BOUND_S) as agency:
        crew = run(narrow, agency, tmp_path)
        fresh = agency.hire(1)
        assert agency.arrived() == []
    assert {facts.pid for facts in fresh.facts.values()}.isdisjoint(
        facts.pid for facts in crew.facts.values()
    )


def test_without_that_a_worker_comes_up_that_nobody_waits_for(
    narrow: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: it would keep the slot, and join a run that knows nothing of it."""
    import ray

    with Agency(narrow, join_s=BOUND_S) as agency:
        with monkeypatch.context() as patch:
            patch.setattr(agency, "end", lambda _: None)
            run(narrow, agency, tmp_path)
        late = list(agency._begun)
        ray.wait(late, num_returns=len(late), timeout=BOUND_S)
        assert [hired.worker for hired in agency.arrived()] == [2]
