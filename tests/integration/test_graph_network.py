"""The graph network on real workers: layouts, lost workers and budgets leave no trace in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ithaca.runtime.crew import Crew
from ithaca.runtime.events import MemoryUsed
from tests.helpers.real_job import Ran, run_job

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(300)]

GRAPHS: dict[str, Any] = {
    "workload": {
        "use": "csgnn",
        "dim": 128,
        "num_layers": 4,
        "batch_size": 6,
        "structure": {"path": 3, "cycle": 6},
        "data": {"source": "csl"},
    },
    "layout": {"pipelines": 1, "stages": 1, "micro_batches": 4},
    "steps": 4,
}


def changed(**sections: dict[str, Any]) -> dict[str, Any]:
    """The job with other values in these sections."""
    return {**GRAPHS, **{name: {**GRAPHS.get(name, {}), **new} for name, new in sections.items()}}


@pytest.fixture(scope="module")
def reference(crew: Crew, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """One worker."""
    return run_job(crew, tmp_path_factory.mktemp("alone") / "run", **GRAPHS)


def test_stages_and_replicas_do_not_show(crew: Crew, reference: Ran, tmp_path: Path) -> None:
    ran = run_job(crew, tmp_path / "run", **changed(layout={"pipelines": 2, "stages": 3}))
    assert ran.end.outcome == "finished"
    assert ran.trace == reference.trace


def test_a_budget_does_not_show(crew: Crew, reference: Ran, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    memory = {"budget": "40%", "folder": str(scratch), "limit": "1GiB"}
    ran = run_job(crew, tmp_path / "run", **changed(layout={"stages": 2}, memory=memory))
    assert ran.end.outcome == "finished", ran.events[-2:]
    assert ran.trace == reference.trace
    used = [event for event in ran.events if isinstance(event, MemoryUsed)]
    assert {event.worker for event in used} == {0, 1}
    assert all(event.peak_bytes <= event.budget_bytes for event in used)
    assert sum(event.out_bytes for event in used) > 0


def test_other_graphs_do_show(crew: Crew, reference: Ran, tmp_path: Path) -> None:
    """Control: the comparison sees one count more in the profile."""
    structure = {"path": 3, "cycle": 7}
    ran = run_job(crew, tmp_path / "run", **changed(workload={"structure": structure}))
    assert ran.end.outcome == "finished"
    assert ran.trace != reference.trace
