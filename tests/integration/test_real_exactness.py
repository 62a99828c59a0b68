"""The same job on real processes: equal bits at every step on every layout, and after a resume."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from ithaca.runtime.crew import Crew
from tests.helpers.real_job import Ran, Trace, run_job

pytestmark = pytest.mark.xdist_group("ray")

LAYOUTS: dict[str, dict[str, Any]] = {
    "1x2": {"pipelines": 1, "stages": 2},
    "2x1": {"pipelines": 2, "stages": 1},
    "2x2": {"pipelines": 2, "stages": 2, "schedule": "1f1b-split"},
    "4x1": {"pipelines": 4, "stages": 1, "schedule": "gpipe"},
    "4x2": {"pipelines": 4, "stages": 2},
    "3+2": {"pipelines": 2, "stages": [3, 2], "split": [[2, 1, 3], [4, 2]]},
}
MODELS: dict[str, dict[str, Any]] = {
    "dense": {"workload": {}},
    "tied-bf16": {"workload": {"tied": True}, "precision": "bf16"},
    "experts-tied": {"workload": {"kinds": ["block", "experts", "block", "experts"], "tied": True}},
    "experts-bf16": {
        "workload": {"kinds": ["block", "experts", "block", "experts"]},
        "precision": "bf16",
    },
}


@pytest.fixture(scope="module")
def references(crew: Crew, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    """Each model on one worker."""
    folder = tmp_path_factory.mktemp("references")
    return {name: run_job(crew, folder / name, **model) for name, model in MODELS.items()}


def assert_same(ran: Ran, reference: Trace) -> None:
    """The oracle: same hashes of parameters and optimizer state, losses and norms, at each step."""
    assert ran.end.outcome == "finished", ran.events[-2:]
    assert ran.trace == reference


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("model", MODELS)
def test_every_layout_gives_the_bits_of_one_worker(
    model: str, layout: str, crew: Crew, references: dict[str, Ran], tmp_path: Path
) -> None:
    ran = run_job(crew, tmp_path / "run", layout=LAYOUTS[layout], **MODELS[model])
    assert len(references[model].trace.states) == 4
    assert_same(ran, references[model].trace)


def test_fast_numerics_are_told_apart(
    crew: Crew, references: dict[str, Ran], tmp_path: Path
) -> None:
    ran = run_job(crew, tmp_path / "run", layout=LAYOUTS["4x1"], numerics="fast")
    assert ran.end.outcome == "finished"
    with pytest.raises(AssertionError):
        assert_same(ran, references["dense"].trace)


@pytest.mark.parametrize("seed", range(3))
def test_a_resume_on_another_layout_never_shows(seed: int, crew: Crew, tmp_path: Path) -> None:
    chance = random.Random(seed)
    step = chance.randrange(1, 6)
    first, second = chance.sample(sorted(LAYOUTS), 2)
    model: dict[str, Any] = MODELS[chance.choice(sorted(MODELS))]
    shared = {**model, "steps": 6, "optimizer": {"schedule": "constant", "warmup": 0}}
    whole = run_job(crew, tmp_path / "whole", **shared)
    part = {**shared, "steps": step, "checkpoint": {"every": 0}}
    run_job(crew, tmp_path / "run", layout=LAYOUTS[first], **part)
    resumed = run_job(crew, tmp_path / "run", resume=True, layout=LAYOUTS[second], **shared)
    assert resumed.end.state_hash == whole.end.state_hash
    assert_same(resumed, whole.trace.after(step))
