"""Plans of any kind predicted from their clusters, against all Programs simulated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest

from ithaca.planner import clusters as clusters_module
from ithaca.planner import pace as pace_module
from ithaca.planner.clusters import clusters
from ithaca.planner.layout import Cuts
from ithaca.planner.outlook import outlook
from ithaca.planner.pace import Floats, Pace
from ithaca.planner.plan import Pipeline, Plan, Stage
from ithaca.planner.profile import Profile
from ithaca.planner.schedule import programs
from ithaca.planner.simulate import simulate
from ithaca.planner.span import Span
from tests.helpers.layouts import random_profile
from tests.helpers.plans import random_plan

TOLERANCE = 1e-3


def shadowed(plan: Plan, rng: Random) -> Plan:
    """``plan`` with shadows of layers that their workers do not hold yet."""
    shadows = [Stage(Span(0, plan.num_layers), 90)] if rng.random() < 0.3 else []
    for stage in plan.stages():
        if stage.layers.first and rng.random() < 0.2:
            shadows.append(Stage(Span(0, stage.layers.first), stage.worker))
    return replace(plan, shadows=tuple(shadows))


def error(seed: int) -> tuple[float, bool]:
    """Relative error of the step, and whether all peaks are right, for a random plan."""
    rng = Random(seed)
    plan = random_plan(rng, max_layers=8, max_micro_batches=12)
    if seed % 2:
        plan = shadowed(plan, rng)
    profile = random_profile(rng, plan.num_layers)
    exact = rng.random() < 0.7
    last = plan.num_layers - 1
    ties = ((0, last),) if last and rng.random() < 0.5 else ()
    played = simulate(programs(plan, profile.layers, ties), profile, exact=exact)
    seen = outlook(plan, profile, exact=exact, ties=ties)
    return abs(seen.step_s / played.step_s - 1), dict(seen.peak_bytes) == dict(played.peak_bytes)


@pytest.mark.parametrize("first", range(0, 240, 20))
def test_as_the_simulator(first: int) -> None:
    for seed in range(first, first + 20):
        wrong, peaks = error(seed)
        assert wrong < TOLERANCE, seed
        assert peaks, seed


def test_clusters_that_fall_apart_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        clusters_module, "clusters", lambda plan: [(pipeline,) for pipeline in plan.pipelines]
    )
    assert max(error(seed)[0] for seed in range(40)) > 0.01


def test_pipelines_on_their_own_are_timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    ends = pace_module.Pace.ends

    def counted(pace: Pace, every: Sequence[Cuts], additions: Sequence[Sequence[int]]) -> Floats:
        asked.append(every)
        return ends(pace, every, additions)

    monkeypatch.setattr(pace_module.Pace, "ends", counted)
    pipelines = tuple(
        Pipeline((Stage(Span(0, 2), 2 * p), Stage(Span(2, 3), 2 * p + 1)), (2 * p, 2 * p + 1))
        for p in range(64)
    )
    seen = outlook(Plan(pipelines), random_profile(Random(1), 3))
    assert len(asked) == 1
    assert len(seen.peak_bytes) == 128


def test_detours_tie_pipelines_together() -> None:
    plan = Plan.parse(
        "plan generation=0 schedule=1f1b\n"
        "pipeline 0-1 0:2@w0\npipeline 2-3 0:2@w1\npipeline 4-5 0:2@w2\nroute m0 0:2@w2\n"
    )
    assert [len(cluster) for cluster in clusters(plan)] == [2, 1]
    by_a_shadow = Plan.parse(
        "plan generation=0 schedule=1f1b\npipeline 0-1 0:2@w0\npipeline 2-3 0:2@w1\n"
        "route m0 0:2@w5\nroute m2 0:2@w5\nshadow 0:2@w5\n"
    )
    assert [len(cluster) for cluster in clusters(by_a_shadow)] == [2]


def test_another_profile_is_refused() -> None:
    plan = Plan.parse("plan generation=0 schedule=1f1b\npipeline 0 0:2@w0\n")
    with pytest.raises(ValueError, match="the plan has 2 layers, the profile 0"):
        outlook(plan, Profile(()))
