"""Detours around lost workers: nobody who is left computes less, nobody moves a layer."""

from __future__ import annotations

from collections import Counter

import pytest

from ithaca.planner.layout import Layout
from ithaca.planner.plan import Plan, Schedule
from ithaca.planner.reroute import rerouted
from ithaca.planner.schedule import programs
from ithaca.planner.span import Span
from ithaca.planner.validate import validate


def grid(pipelines: int, stages: int, share: int) -> Plan:
    """Equal pipelines of two layers per stage."""
    split = tuple(Span(2 * k, 2 * k + 2) for k in range(stages))
    layout = Layout((split,) * pipelines, (share,) * pipelines, Schedule.ONE_F_ONE_B, 0, 0, 0)
    return layout.plan(range(pipelines * stages))


def loads(plan: Plan) -> Counter[tuple[int, int]]:
    """Micro-batches by (worker, layer)."""
    return Counter(
        (plan.worker_of(layer, mb), layer)
        for mb in range(plan.num_micro_batches)
        for layer in range(plan.num_layers)
    )


@pytest.mark.parametrize("lost", [(1,), (4,), (1, 5), (1, 4), (0, 1), (2, 4, 9)])
def test_only_what_was_lost_is_computed_elsewhere(lost: tuple[int, ...]) -> None:
    before = grid(4, 3, 6)
    after = rerouted(before, lost)
    assert after is not None
    validate(programs(after, after.num_layers), plan=after)
    assert after.generation == before.generation + 1
    assert set(after.workers) == set(before.workers) - set(lost)
    for layer in range(before.num_layers):
        assert set(after.holders(layer)) == set(before.holders(layer)) - set(lost)
        for mb in range(before.num_micro_batches):
            owner = before.worker_of(layer, mb)
            assert owner in lost or after.worker_of(layer, mb) == owner


def test_the_load_is_dealt_evenly() -> None:
    after = rerouted(grid(4, 3, 6), (1,))
    assert after is not None
    peers = {count for (worker, layer), count in loads(after).items() if layer in (2, 3)}
    assert peers == {8}
    two = rerouted(grid(4, 3, 6), (1, 5))  # both hold other layers: the loads do not add up
    assert two is not None
    assert max(loads(two).values()) == 9


def test_without_a_pipeline_that_is_whole_there_is_none() -> None:
    assert rerouted(grid(2, 2, 4), (0, 3)) is None
    uneven = Plan.parse(
        "plan generation=0 schedule=1f1b\npipeline 0-1 0:1@w0 1:3@w1\npipeline 2-3 0:2@w2 2:3@w3\n"
    )
    assert rerouted(uneven, (0,)) is None
    assert rerouted(uneven, ()) is not None


def test_a_schedule_may_be_chosen() -> None:
    after = rerouted(grid(2, 2, 4), (0,), Schedule.ONE_F_ONE_B_SPLIT)
    assert after is not None
    assert after.schedule is Schedule.ONE_F_ONE_B_SPLIT
