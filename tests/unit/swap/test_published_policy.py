"""The published policy does what its description says."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ithaca.swap.columns import Columns
from ithaca.swap.identity import Phase
from ithaca.swap.model import predict
from ithaca.swap.plan import Action, Plan
from ithaca.swap.policy import Refusal, decide
from ithaca.swap.published import PUBLISHED_BYTES_PER_S, Published, stages_of
from ithaca.swap.synthetic import Transformer
from ithaca.swap.trace import Link
from tests.helpers.memory_traces import random_trace

SHAPE = Transformer(layers=6, hidden=64, forward=192, sequence=64, batch=2, vocabulary=128)
SETTINGS = Published(smallest_bytes=10_000, layers=6)


def share(part: float, rate: float) -> tuple[Plan, int]:
    """Its plan at a share of the activations, and the peak without memory saving."""
    trace = SHAPE.trace([Link("disk", rate, rate)])
    peak = int(Columns.of(trace).keep_all().max())
    fixed = trace.persistent_bytes + trace.gradient_bytes
    return SETTINGS.decide(trace, fixed + int(part * (peak - fixed))), peak


@given(st.integers(0, 2**32).map(Random))
@settings(deadline=None, max_examples=100)
def test_its_plans_can_be_followed(rng: Random) -> None:
    trace = random_trace(rng)
    peak = int(Columns.of(trace).keep_all().max())
    plan = Published(smallest_bytes=20).decide(trace, int(peak * rng.uniform(0.3, 1.0)))
    assert Plan.parse(str(plan)) == plan
    result = predict(trace, plan)
    assert result.peak_bytes == plan.peak_bytes <= peak
    assert {line.action for line in plan.decisions} <= {Action.KEEP, Action.SWAP}


def test_it_swaps_large_activations_until_the_excess_is_gone() -> None:
    plan, peak = share(0.6, 1e9)
    assert plan.bytes_of(Action.SWAP) > 0
    assert plan.peak_bytes <= plan.budget_bytes < peak
    assert all(line.nbytes >= 10_000 for line in plan.decisions if line.action is Action.SWAP)


def test_with_enough_memory_it_does_nothing() -> None:
    plan, _ = share(1.1, 1e9)
    assert plan.bytes_of(Action.SWAP) == 0


def test_it_leaves_small_storages_alone() -> None:
    trace = SHAPE.trace([Link("disk", 1e9, 1e9)])
    plan = Published().decide(trace, trace.persistent_bytes + trace.gradient_bytes)
    assert plan.bytes_of(Action.SWAP) == 0


def test_a_phase_is_cut_into_equal_slices() -> None:
    trace = replace(SHAPE, slots=2).trace()
    stages = stages_of(trace, 6)
    slices = (10 // 6 + 1) * 6
    assert stages == sorted(stages)
    for phase in (Phase.FORWARD, Phase.BACKWARD):
        for slot in (0, 1):
            mine = [
                stages[point]
                for segment in trace.segments
                if (segment.key.phase, segment.key.slot) == (phase, slot)
                for point in range(segment.first, segment.last)
            ]
            sizes = [mine.count(stage) for stage in sorted(set(mine))]
            assert len(sizes) == slices
            assert max(sizes) - min(sizes) <= 1


def test_its_constant_link_makes_it_wait() -> None:
    """With the published speed it takes a slow link for a fast one."""
    trace = SHAPE.trace([Link("disk", 1e8, 1e8)])
    budget = share(0.5, 1e8)[0].budget_bytes
    blind = replace(SETTINGS, bytes_per_s=PUBLISHED_BYTES_PER_S).decide(trace, budget)
    assert blind.stall_s > 0


@pytest.mark.parametrize("rate", [1e8, 3e8, 1e9])
def test_ours_is_not_slower_where_it_fits(rate: float) -> None:
    for part in (0.7, 0.5, 0.3):
        plan, _ = share(part, rate)
        ours = decide(SHAPE.trace([Link("disk", rate, rate)]), plan.budget_bytes)
        assert not isinstance(ours, Refusal)
        if plan.peak_bytes <= plan.budget_bytes:
            assert ours.step_s <= plan.step_s * (1 + 1e-9)
