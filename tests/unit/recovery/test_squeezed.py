"""A plan that needs more memory than there is fits where memory can be saved, in more time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ithaca.planner.profile import MemoryCost
from ithaca.recovery.forecast import candidate, forecast
from ithaca.recovery.strategies.reroute import Reroute
from ithaca.recovery.strategy import Situation, StrategyName
from tests.helpers.situations import after_losing, grid

COSTS = (MemoryCost(0.2, 3.0), MemoryCost(0.6, 1.4), MemoryCost(1.0, 1.0))


@pytest.fixture
def lost() -> Situation:
    """Two pipelines of two stages, of which one worker is gone; activations are most of it."""
    plan, profile = grid(2, 2, 8, 4)
    heavy = tuple(replace(layer, activation_bytes=10_000) for layer in profile.layers)
    return after_losing(plan, replace(profile, layers=heavy), [0])


def limited(situation: Situation, share: float, *, saves: bool) -> Situation:
    """With as much memory as ``share`` of what the plan takes most of."""
    plan = next(iter(Reroute().propose(situation))).plan
    assert plan is not None
    peak = forecast(plan, situation).peak_bytes
    profile = replace(situation.profile, memory_costs=COSTS if saves else ())
    return replace(situation, memory_limit_bytes=int(peak * share), profile=profile)


def test_without_a_table_it_is_refused(lost: Situation) -> None:
    found = next(iter(Reroute().propose(limited(lost, 0.9, saves=False))))
    assert not found.feasible
    assert "more than the limit" in found.reason


def test_with_a_table_it_fits_and_takes_longer(lost: Situation) -> None:
    free = next(iter(Reroute().propose(lost)))
    tight = limited(lost, 0.9, saves=True)
    found = next(iter(Reroute().propose(tight)))
    assert found.feasible
    assert tight.memory_limit_bytes is not None
    assert found.peak_bytes <= tight.memory_limit_bytes
    assert 1.0 < found.step_s / free.step_s <= 1.4
    assert "saves" in found.reason
    assert "times as long" in found.reason


def test_less_memory_takes_longer_until_nothing_helps(lost: Situation) -> None:
    plan = next(iter(Reroute().propose(lost))).plan
    assert plan is not None
    times = []
    for share in (1.0, 0.9, 0.7, 0.5):
        found = candidate(StrategyName.REROUTE, plan, limited(lost, share, saves=True))
        assert found.feasible
        times.append(found.step_s)
    assert times == sorted(times)
    assert times[0] < times[-1]
    assert not candidate(StrategyName.REROUTE, plan, limited(lost, 0.1, saves=True)).feasible
