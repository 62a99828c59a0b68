"""Real workers under a budget: the bits of workers without, and heartbeats that do not miss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ithaca.runtime.crew import Crew
from ithaca.runtime.events import FailureNoticed, MemoryUsed, Missed
from tests.helpers.real_job import Ran, run_job

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(600)]

LM: dict[str, Any] = {
    "workload": {
        "use": "lm",
        "dim": 64,
        "num_layers": 4,
        "num_heads": 2,
        "context": 64,
        "batch_size": 8,
        "sample": {"bytes": 0},
    },
    "steps": 6,
    "checkpoint": {"every": 3},
    "validation": {"every": 3, "batches": 2},
}


@pytest.fixture(scope="module")
def reference(crew: Crew, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Two stages without a budget."""
    folder = tmp_path_factory.mktemp("free")
    return run_job(crew, folder / "run", layout={"pipelines": 1, "stages": 2}, **LM)


TWO_STAGES = {"pipelines": 1, "stages": 2}
SPLIT = {"pipelines": 2, "stages": 2, "schedule": "1f1b-split"}


@pytest.mark.parametrize(
    ("layout", "disk"),
    [(TWO_STAGES, True), (TWO_STAGES, False), (SPLIT, True)],
    ids=["1x2-disk", "1x2-recompute", "2x2-split-disk"],
)
def test_a_yaml_job_trains_under_its_budget(
    crew: Crew, reference: Ran, layout: dict[str, Any], disk: bool, tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    folder = {"folder": str(scratch), "limit": "1GiB"} if disk else {}
    # Without a disk nothing that is not in a layer's forward can make room.
    memory = {"budget": "40%" if disk else "75%", **folder}
    ran = run_job(crew, tmp_path / "run", layout=layout, memory=memory, detect="10s", **LM)
    assert ran.end.outcome == "finished", ran.events[-2:]
    assert ran.trace == reference.trace
    assert list(scratch.iterdir()) == []
    used = [event for event in ran.events if isinstance(event, MemoryUsed)]
    assert {event.worker for event in used} == set(range(layout["pipelines"] * layout["stages"]))
    assert all(event.peak_bytes <= event.budget_bytes for event in used)
    assert all(event.out_bytes > 0 if disk else event.replays > 0 for event in used[-2:])
    assert not [event for event in ran.events if isinstance(event, FailureNoticed | Missed)]
