"""The list scheduler against the textbook: lengths, orders and limits of the three schedules."""

from __future__ import annotations

import pytest

from ithaca.planner.plan import Pipeline, Schedule, Stage
from ithaca.planner.program import Compute, Op, Transfer
from ithaca.planner.span import Span
from ithaca.planner.timetable import Timetable, parts_of

SIZES = [(1, 1), (1, 5), (2, 1), (2, 3), (4, 4), (4, 8), (4, 21), (8, 8), (8, 20), (16, 40)]


def timetable(stages: int, micro_batches: int, schedule: Schedule) -> Timetable:
    """One pipeline with one layer per stage."""
    pipeline = Pipeline(
        tuple(Stage(Span(k, k + 1), k) for k in range(stages)), tuple(range(micro_batches))
    )
    split = [schedule is Schedule.ONE_F_ONE_B_SPLIT] * stages
    parts = parts_of([pipeline], {}, split)
    return Timetable(range(stages), parts, schedule)


def computes(table: Timetable, worker: int) -> list[Compute]:
    """The computes of ``worker`` in order."""
    return [action for action in table.actions[worker] if isinstance(action, Compute)]


@pytest.mark.parametrize(("stages", "micro_batches"), SIZES)
@pytest.mark.parametrize("schedule", [Schedule.GPIPE, Schedule.ONE_F_ONE_B])
def test_length_is_that_of_the_papers(stages: int, micro_batches: int, schedule: Schedule) -> None:
    table = timetable(stages, micro_batches, schedule)
    assert max(table.finish.values()) == 3 * (micro_batches + stages - 1)


@pytest.mark.parametrize(("stages", "micro_batches"), [s for s in SIZES if s[1] >= s[0]])
def test_split_has_the_length_of_zero_bubble_h1(stages: int, micro_batches: int) -> None:
    table = timetable(stages, micro_batches, Schedule.ONE_F_ONE_B_SPLIT)
    assert max(table.finish.values()) == 3 * micro_batches + stages - 1


def test_one_f_one_b_order() -> None:
    table = timetable(3, 5, Schedule.ONE_F_ONE_B)
    orders = [
        " ".join(f"{action.op.value}{action.micro_batch}" for action in computes(table, worker))
        for worker in range(3)
    ]
    assert orders == [
        "F0 F1 F2 B0 F3 B1 F4 B2 B3 B4",
        "F0 F1 B0 F2 B1 F3 B2 F4 B3 B4",
        "F0 B0 F1 B1 F2 B2 F3 B3 F4 B4",
    ]


def test_gpipe_runs_all_forwards_first() -> None:
    table = timetable(3, 4, Schedule.GPIPE)
    for worker in range(3):
        ops = [action.op for action in computes(table, worker)]
        assert ops == [Op.F] * 4 + [Op.B] * 4


@pytest.mark.parametrize("schedule", [Schedule.ONE_F_ONE_B, Schedule.ONE_F_ONE_B_SPLIT])
@pytest.mark.parametrize(("stages", "micro_batches"), SIZES)
def test_micro_batches_in_flight_are_bounded(
    stages: int, micro_batches: int, schedule: Schedule
) -> None:
    table = timetable(stages, micro_batches, schedule)
    for worker in range(stages):
        ahead = held = 0
        for action in computes(table, worker):
            ahead += {Op.F: 1, Op.B: -1, Op.I: -1, Op.W: 0}[action.op]
            held += {Op.F: 1, Op.B: -1, Op.I: 0, Op.W: -1}[action.op]
            assert ahead <= stages - worker
            assert held <= stages
        assert ahead == held == 0


@pytest.mark.parametrize("schedule", [Schedule.ONE_F_ONE_B, Schedule.ONE_F_ONE_B_SPLIT])
@pytest.mark.parametrize(("stages", "micro_batches"), SIZES)
def test_receives_stay_within_the_window(
    stages: int, micro_batches: int, schedule: Schedule
) -> None:
    table = timetable(stages, micro_batches, schedule)
    for worker in range(stages):
        waiting = set()
        for action in table.actions[worker]:
            if isinstance(action, Transfer):
                if action.op is Op.RECV:
                    waiting.add(action.key)
            elif isinstance(action, Compute) and action.op is not Op.W:
                waiting = {key for key in waiting if key[2] != action.micro_batch}
            assert len(waiting) <= stages - worker + 1
