"""The order that is timed is the order of the Programs, message by message."""

from __future__ import annotations

from itertools import product

import pytest

from ithaca.planner.order import OPS, Order, finish_of, order_of
from ithaca.planner.plan import Pipeline, Plan, Schedule, Stage
from ithaca.planner.program import Compute, Transfer
from ithaca.planner.schedule import programs
from ithaca.planner.span import Span
from ithaca.planner.timetable import Timetable, parts_of, routes_of

Rows = list[tuple[str, int, int, int]]


def pipeline(stages: int, micro_batches: int, schedule: Schedule) -> Plan:
    """One pipeline with a layer per stage."""
    seats = tuple(Stage(Span(k, k + 1), k) for k in range(stages))
    return Plan((Pipeline(seats, tuple(range(micro_batches))),), schedule)


def in_programs(plan: Plan, split: tuple[bool, ...]) -> list[Rows]:
    """Per stage: op, micro-batch, and tensors that crossed below and above before."""
    found = []
    for stage, program in programs(plan, len(split), split=split).items():
        rows: Rows = []
        below = above = 0
        for action in program:
            if isinstance(action, Transfer):
                below += action.cut == stage
                above += action.cut != stage
            elif isinstance(action, Compute):
                rows.append((action.op.value, action.micro_batch, below, above))
        found.append(rows)
    return found


def in_order(order: Order) -> list[Rows]:
    """The same from an order."""
    columns = (order.turns, order.below, order.above)
    rows = [
        (OPS[op].value, *row)
        for op, *row in zip(order.ops, *(c.tolist() for c in columns), strict=True)
    ]
    return [rows[low:high] for low, high in zip(order.begins, order.begins[1:], strict=False)]


@pytest.mark.parametrize("schedule", Schedule)
@pytest.mark.parametrize("stages", [1, 2, 3, 5])
def test_as_in_the_programs(schedule: Schedule, stages: int) -> None:
    flags = list(product([True, False], repeat=stages))
    for micro_batches in (1, 2, 3, 5, 8, 13):
        for split in flags[:: max(1, len(flags) // 4)]:
            plan = pipeline(stages, micro_batches, schedule)
            if schedule is not Schedule.ONE_F_ONE_B_SPLIT:
                split = (False,) * stages
            order = order_of(split, micro_batches, schedule)
            assert in_order(order) == in_programs(plan, split)
            parts = parts_of(plan.pipelines, routes_of(plan), split)
            finish = Timetable(plan.workers, parts, schedule).finish
            assert finish_of(split, micro_batches, schedule) == tuple(finish.values())
            assert order.finish == tuple(finish.values())


def test_another_order_is_noticed() -> None:
    plan = pipeline(3, 5, Schedule.ONE_F_ONE_B)
    order = order_of((False,) * 3, 5, Schedule.GPIPE)
    assert in_order(order) != in_programs(plan, (False,) * 3)


def test_long_pipelines_end_when_the_scheduler_says() -> None:
    split = (True,) * 3
    plan = pipeline(3, 50, Schedule.ONE_F_ONE_B_SPLIT)
    table = Timetable(plan.workers, parts_of(plan.pipelines, {}, split), plan.schedule)
    assert finish_of(split, 50, plan.schedule) == tuple(table.finish.values())


@pytest.mark.parametrize("schedule", Schedule)
def test_levels_hold_every_compute_once(schedule: Schedule) -> None:
    order = order_of((True,) * 4, 7, schedule)
    for level in order.levels:
        assert len(set(level.stages.tolist())) == len(level.stages)
    assert sum(len(level.stages) for level in order.levels) == len(order.ops)
