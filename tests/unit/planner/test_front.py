"""The front against all layouts, with and without memory limits, and what is quick to reach."""

from __future__ import annotations

from random import Random

import pytest

from ithaca.planner import front as front_module
from ithaca.planner.front import Effort, front, pareto
from ithaca.planner.layer import Layer
from ithaca.planner.layout import Layout, NoLayoutError, Split
from ithaca.planner.plan import Schedule
from ithaca.planner.profile import Link, Profile
from ithaca.planner.schedule import programs
from ithaca.planner.simulate import simulate
from ithaca.planner.span import Span
from ithaca.planner.validate import validate
from tests.helpers.layouts import layouts, random_profile

EVEN: Split = (Span(0, 2), Span(2, 4), Span(4, 6), Span(6, 8))


def case(seed: int) -> tuple[Profile, int, int, Schedule]:
    """A profile, workers, micro-batches and a schedule, small enough for every layout."""
    rng = Random(seed)
    profile = random_profile(rng, rng.randint(2, 5))
    return profile, rng.randint(2, 4), rng.randint(2, 6), rng.choice(list(Schedule))


def lost(seed: int) -> list[float]:
    """How much slower than the best of all layouts the front's first one is, by memory limit.

    With no limit, the least that any layout needs, and some in between.
    """
    profile, workers, total, schedule = case(seed)
    scored = []
    for plan in layouts(len(profile.layers), workers, total, schedule):
        played = simulate(programs(plan, profile.layers), profile)
        scored.append((played.step_s, max(played.peak_bytes.values())))
    peaks = sorted({peak for _, peak in scored})
    found = []
    for limit in (None, *peaks[:: max(1, len(peaks) // 4)]):
        best = min(step_s for step_s, peak in scored if limit is None or peak <= limit)
        first = front(profile, workers, total, limit=limit, schedule=schedule)[0]
        assert limit is None or first.peak_bytes <= limit
        found.append(first.step_s / best - 1)
    return found


@pytest.mark.parametrize("seed", range(100, 112))
def test_within_one_percent_of_all_layouts(seed: int) -> None:
    assert max(lost(seed)) <= 0.01


def test_less_effort_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_module, "FEW", Effort(1, 1.0, 0, 0, 1))
    assert max(max(lost(seed)) for seed in range(100, 112)) > 0.01


def test_less_than_the_least_is_refused() -> None:
    profile, workers, total, schedule = case(103)
    with pytest.raises(NoLayoutError) as caught:
        front(profile, workers, total, limit=1, schedule=schedule)
    least = min(
        max(simulate(programs(plan, profile.layers), profile).peak_bytes.values())
        for plan in layouts(len(profile.layers), workers, total, schedule)
    )
    assert caught.value.smallest_bytes == least


def cluster(layers: int = 8) -> Profile:
    """Layers of one kind on links that are fast enough."""
    layer = Layer("l", 100, 100, 300, 50, 10, forward_s=0.01, backward_s=0.02, step_s=1e-3)
    return Profile((layer,) * layers, Link(1e-5, 1e9), add_bytes_per_s=1e10)


def moved(layout: Layout) -> float:
    """Seconds to get to ``layout`` if only pipelines that are split evenly stand."""
    return float(sum(len(split) for split in layout.splits if split != EVEN))


def test_what_stands_is_quick_to_reach() -> None:
    found = front(cluster(), 15, 32, standing=(EVEN,) * 3, transition=moved)
    assert [x.step_s for x in found] == sorted(x.step_s for x in found)
    assert [x.transition_s for x in found] == sorted((x.transition_s for x in found), reverse=True)
    assert all(x.transition_s == moved(x) for x in found)
    assert found[-1].splits.count(EVEN) == 3
    fastest = front(cluster(), 15, 32)[0]
    assert found[0].step_s <= fastest.step_s * 1.001


def test_without_what_stands_the_quick_ones_are_missed() -> None:
    with_it = front(cluster(), 15, 32, standing=(EVEN,) * 3, transition=moved)
    without = front(cluster(), 15, 32, transition=moved)
    assert without[-1].transition_s >= with_it[-1].transition_s


def test_pareto_keeps_what_nothing_beats() -> None:
    def layout(step_s: float, transition_s: float) -> Layout:
        return Layout((EVEN,), (1,), Schedule.GPIPE, step_s, transition_s, 0)

    a, b, c = layout(1.0, 9.0), layout(2.0, 5.0), layout(3.0, 1.0)
    beaten = [layout(1.5, 9.0), layout(2.0, 6.0), layout(4.0, 1.0)]
    assert pareto([c, *beaten, a, b]) == (a, b, c)


def test_a_layout_becomes_a_plan_of_any_workers() -> None:
    found = front(cluster(), 7, 12)[0]
    seats = range(20, 20 + found.num_workers)
    plan = found.plan(seats, generation=3)
    validate(programs(plan), plan=plan)
    assert plan.workers == tuple(seats)
    assert plan.generation == 3
    assert tuple(len(p.micro_batches) for p in plan.pipelines) == found.shares
    assert found.lengths == tuple(len(p.stages) for p in plan.pipelines)
    with pytest.raises(ValueError, match="stages, but there are 1 workers"):
        found.plan([0])


@pytest.mark.parametrize("limit", [None, 20_000])
def test_thousands_of_workers(limit: int | None) -> None:
    found = front(cluster(32), 4095, 8192, limit=limit)[0]
    assert sum(found.shares) == 8192
    assert 3500 < found.num_workers <= 4095
    assert limit is None or found.peak_bytes <= limit


@pytest.mark.parametrize(("workers", "micro_batches"), [(0, 1), (1, 0)])
def test_nothing_to_search(workers: int, micro_batches: int) -> None:
    with pytest.raises(ValueError, match="needs layers, workers and micro-batches"):
        front(cluster(), workers, micro_batches)
