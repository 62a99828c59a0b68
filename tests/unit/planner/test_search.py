"""The search against all layouts on small cases, its limits, and what it says when nothing fits."""

from __future__ import annotations

import pickle
from random import Random

import pytest

from ithaca.planner import front as front_module
from ithaca.planner.front import Effort
from ithaca.planner.layer import Layer
from ithaca.planner.plan import Plan, Schedule
from ithaca.planner.profile import Link, Profile
from ithaca.planner.schedule import programs
from ithaca.planner.search import NoLayoutError, search
from ithaca.planner.simulate import simulate
from ithaca.planner.validate import validate
from tests.helpers.layouts import layouts, random_profile

Scored = tuple[float, int, Plan]


def everything(
    profile: Profile, workers: int, micro_batches: int, schedule: Schedule
) -> list[Scored]:
    """Seconds and peak bytes of every layout."""
    scored = []
    for plan in layouts(len(profile.layers), workers, micro_batches, schedule):
        timeline = simulate(programs(plan, profile.layers), profile)
        scored.append((timeline.step_s, max(timeline.peak_bytes.values()), plan))
    return scored


def case(seed: int) -> tuple[Profile, int, int, Schedule]:
    """A profile, workers, micro-batches and a schedule, small enough for every layout."""
    rng = Random(seed)
    profile = random_profile(rng, rng.randint(1, 5))
    return profile, rng.randint(1, 4), rng.randint(1, 5), rng.choice(list(Schedule))


@pytest.mark.parametrize("seed", range(20))
def test_as_fast_as_the_best_of_all_layouts(seed: int) -> None:
    profile, workers, micro_batches, schedule = case(seed)
    best = min(step_s for step_s, _, _ in everything(profile, workers, micro_batches, schedule))
    found = search(profile, workers, micro_batches, schedule=schedule)
    assert found[0].step_s <= best * 1.005
    for candidate in found:
        made = programs(candidate.plan, profile.layers)
        validate(made, plan=candidate.plan)
        assert candidate.step_s == simulate(made, profile).step_s
    assert [c.step_s for c in found] == sorted(c.step_s for c in found)


def test_without_finalists_and_improvement_it_is_not_the_best(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The comparison above has teeth: an estimate alone loses it."""
    monkeypatch.setattr(front_module, "FINALISTS", 1)
    monkeypatch.setattr(front_module, "FEW", Effort(1, 1.0, 0, 0, 1))
    lost = 0
    for seed in range(20):
        profile, workers, micro_batches, schedule = case(seed)
        best = min(score[0] for score in everything(profile, workers, micro_batches, schedule))
        lost += search(profile, workers, micro_batches, schedule=schedule)[0].step_s > best * 1.005
    assert lost > 0


def test_memory_limits_are_kept_and_cost_no_time() -> None:
    for seed in range(20, 44):
        profile, workers, micro_batches, schedule = case(seed)
        scored = everything(profile, workers, micro_batches, schedule)
        peaks = sorted({peak for _, peak, _ in scored})
        for limit in (peaks[0], peaks[len(peaks) // 3]):
            best = min(step_s for step_s, peak, _ in scored if peak <= limit)
            found = search(profile, workers, micro_batches, limit, schedule)
            assert all(candidate.peak_bytes <= limit for candidate in found)
            assert found[0].step_s <= best * 1.01


@pytest.mark.parametrize("schedule", Schedule)
@pytest.mark.parametrize("exact", [True, False])
def test_the_error_names_the_smallest_limit(schedule: Schedule, exact: bool) -> None:
    profile = random_profile(Random(3), 6)
    with pytest.raises(NoLayoutError, match=r"no layout of 6 layers on 5 workers fits") as caught:
        search(profile, 5, 7, 1, schedule, exact=exact)
    smallest = caught.value.smallest_bytes
    assert str(smallest) in str(caught.value)
    found = search(profile, 5, 7, smallest, schedule, exact=exact)
    assert all(candidate.peak_bytes <= smallest for candidate in found)
    with pytest.raises(NoLayoutError):
        search(profile, 5, 7, smallest - 1, schedule, exact=exact)


def test_five_workers_make_pipelines_of_three_and_two() -> None:
    layers = [Layer(f"l{k}", 10, 10, 20, 100, 1, forward_s=1.0, backward_s=2.0) for k in range(6)]
    profile = Profile(tuple(layers), Link(1e-6, 1e9))
    found = search(profile, 5, 30, 950)
    assert [len(p.stages) for p in found[0].plan.pipelines] == [3, 2]
    shares = [len(p.micro_batches) for p in found[0].plan.pipelines]
    assert sum(shares) == 30
    assert shares[0] > shares[1]


def test_blocks_lie_on_the_tree_where_that_is_free() -> None:
    layer = Layer("l", 10, 10, 20, 100, 1, forward_s=1.0, backward_s=2.0)
    found = search(Profile((layer,)), 3, 8)
    blocks = sorted(pipeline.micro_batches for pipeline in found[0].plan.pipelines)
    assert blocks == [(0, 1, 2), (3, 4, 5), (6, 7)] or blocks[0] == (0, 1)
    assert len(blocks) == 3


def test_thirty_two_workers() -> None:
    profile = random_profile(Random(1), 50)
    found = search(profile, 32, 64)
    validate(programs(found[0].plan), plan=found[0].plan)
    assert len(found[0].plan.workers) == 32


def test_more_workers_than_work_are_left_out() -> None:
    found = search(random_profile(Random(5), 2), 9, 2)
    assert len(found[0].plan.workers) <= 4


@pytest.mark.parametrize(("workers", "micro_batches"), [(0, 1), (1, 0)])
def test_nothing_to_search(workers: int, micro_batches: int) -> None:
    with pytest.raises(ValueError, match="needs layers, workers and micro-batches"):
        search(random_profile(Random(0), 2), workers, micro_batches)
    with pytest.raises(ValueError, match="not 0, 1 and 1"):
        search(Profile(()), 1, 1)


def test_the_error_survives_pickling() -> None:
    again = pickle.loads(pickle.dumps(NoLayoutError("no", 7)))
    assert (str(again), again.smallest_bytes) == ("no", 7)
