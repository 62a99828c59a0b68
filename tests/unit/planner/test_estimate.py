"""Layouts predicted from their distinct pipelines, against all Programs simulated."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from ithaca.planner import footprint as footprint_module
from ithaca.planner import pace as pace_module
from ithaca.planner.estimate import Draft, Estimator, Group, drafted
from ithaca.planner.layer import Layer
from ithaca.planner.layout import cuts_of
from ithaca.planner.pace import Pace
from ithaca.planner.plan import Plan, Schedule
from ithaca.planner.profile import Profile
from ithaca.planner.schedule import programs
from ithaca.planner.simulate import simulate
from tests.helpers.layouts import layouts, random_profile


def draft_of(plan: Plan) -> Draft:
    """The pipelines of ``plan`` as groups."""
    return drafted(
        Group(cuts_of([s.layers for s in p.stages]), len(p.micro_batches), 1)
        for p in plan.pipelines
    )


def errors(seed: int) -> tuple[list[float], list[int]]:
    """Relative errors of the step, and differences in peak bytes, on some layouts of a case."""
    rng = Random(seed)
    num_layers = rng.randint(1, 6)
    profile = random_profile(rng, num_layers)
    if seed % 3 == 0:
        some = (replace(layer, split=rng.random() < 0.6) for layer in profile.layers)
        profile = replace(profile, layers=tuple(some))
    schedule, exact = rng.choice(list(Schedule)), rng.random() < 0.7
    ties = ((0, num_layers - 1),) if num_layers > 1 and rng.random() < 0.5 else ()
    total = rng.randint(1, 7)
    estimator = Estimator(profile, total, schedule, exact=exact, ties=ties)
    every = list(layouts(num_layers, rng.randint(1, 5), total, schedule))
    steps, peaks = [], []
    for plan in rng.sample(every, min(len(every), 4)):
        found = estimator.layout(estimator.figures(draft_of(plan)))
        made = programs(found.plan(range(5)), profile.layers, ties)
        played = simulate(made, profile, exact=exact)
        steps.append(abs(found.step_s / played.step_s - 1))
        peaks.append(abs(found.peak_bytes - max(played.peak_bytes.values())))
    return steps, peaks


@pytest.mark.parametrize("seed", range(60))
def test_as_the_simulator(seed: int) -> None:
    steps, peaks = errors(seed)
    assert max(steps) < 1e-3
    assert max(peaks) == 0


def test_messages_that_cost_nothing_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    made = pace_module.Pace.__init__

    def free(self: Pace, profile: Profile, schedule: Schedule) -> None:
        made(self, profile, schedule)
        self._link_s = self._link_s * 0

    monkeypatch.setattr(pace_module.Pace, "__init__", free)
    assert max(max(errors(seed)[0]) for seed in range(20)) > 1e-2


def test_a_moment_that_is_forgotten_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    every = footprint_module.moments
    monkeypatch.setattr(footprint_module, "moments", lambda *given: every(*given)[-1:])
    assert max(max(errors(seed)[1]) for seed in range(20)) > 0


@pytest.mark.parametrize("schedule", Schedule)
def test_the_middle_of_long_pipelines_may_be_skipped(
    monkeypatch: pytest.MonkeyPatch, schedule: Schedule
) -> None:
    profile = random_profile(Random(2), 6)
    pace = Pace(profile, schedule)
    cuts, adds = (0, 1, 3, 4, 6), [[0, *[1] * 199]]
    skipped = pace.ends([cuts], adds)[0].tolist()
    monkeypatch.setattr(pace_module, "ALL_TIMED", 10**6)
    assert pace.ends([cuts], adds)[0].tolist() == pytest.approx(skipped, rel=0.01)


def test_equal_pipelines_are_one_group() -> None:
    one, other = Group((0, 2), 3, 1), Group((0, 1, 2), 2, 2)
    assert drafted([one, other, one, Group((0, 2), 1, 0)]) == (other, Group((0, 2), 3, 2))


def test_many_patterns_of_partial_sums_are_bounded_from_above() -> None:
    layer = Layer("l", 10, 1000, 20, 100, 1, forward_s=1.0, backward_s=2.0)
    profile = Profile((layer,) * 2)
    draft = (Group((0, 1, 2), 5, 9),)
    estimator = Estimator(profile, 45, Schedule.ONE_F_ONE_B)
    figures = estimator.figures(draft)
    plan = estimator.layout(figures).plan(range(18))
    played = simulate(programs(plan, profile.layers), profile)
    most = max(played.peak_bytes.values())
    assert most <= figures.peak_bytes <= 1.2 * most
    assert figures.step_s == pytest.approx(played.step_s, rel=0.01)
