"""A worker is lost at every named point of the protocol, in turn; nothing of it shows."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from ithaca.planner.plan import Schedule
from ithaca.planner.program import Op
from ithaca.recovery.strategy import Move
from ithaca.runtime.engine.steps import After, Before, Request
from ithaca.runtime.engine.virtual import Verdict
from tests.helpers.fault_schedules import (
    Case,
    any_answer,
    assert_no_trace,
    best,
    case,
    computed,
    killer,
    start,
)
from tests.helpers.virtual_run import Faults

CASES = [
    pytest.param(case((2, 2), schedule, ties=ties), id=f"2x2-{schedule.value}-{len(ties)}")
    for schedule in Schedule
    for ties in ((), ((0, 5),))
] + [
    pytest.param(case((3, 3), Schedule.ONE_F_ONE_B), id="2x3"),
    pytest.param(case((2, 2, 2), Schedule.ONE_F_ONE_B, micro_batches=6), id="3x2"),
    pytest.param(case((3, 2), Schedule.ONE_F_ONE_B_SPLIT), id="3+2"),
]
STEP = 1


def points(job: Case, step: int = STEP) -> list[tuple[int, int, Request]]:
    """(worker, number of its point, request) of every point of ``step``."""
    found: list[tuple[int, int, Request]] = []
    seen: dict[int, int] = {}

    def note(worker: int, at: int, request: Request) -> Verdict:
        seen[worker] = seen.get(worker, 0) + 1
        if at == step:
            found.append((worker, seen[worker], request))
        return Verdict.GO_ON

    start(job, Faults(point=note)).run(step + 1)
    return found


def test_every_kind_of_point_is_there() -> None:
    kinds = {
        (type(r).__name__, type(r.action).__name__, getattr(r.action, "op", None))
        for _, _, r in points(case((2, 2), Schedule.ONE_F_ONE_B_SPLIT, ties=((0, 5),)))
        if isinstance(r, Before | After)
    }
    for side in ("Before", "After"):
        for op in (Op.F, Op.I, Op.W):
            assert (side, "Compute", op) in kinds
        assert {(side, "Transfer", Op.SEND), (side, "Transfer", Op.RECV)} <= kinds
        assert {(side, name, None) for name in ("Reduce", "Tie", "Commit", "Step")} <= kinds
    assert ("After", "Vote", None) in kinds


@pytest.mark.parametrize("job", CASES)
def test_a_worker_is_lost_at_every_point(job: Case) -> None:
    for worker, number, request in points(job):
        run = start(job, Faults(point=killer(worker, number)))
        run.run(job.steps)
        assert run.recoveries == 1, request
        assert_no_trace(run, job)


@pytest.mark.parametrize("job", CASES[:1] + CASES[-2:])
def test_only_the_lost_stage_repeats_anything(job: Case) -> None:
    for worker, number, request in points(job):
        run = start(job, Faults(point=killer(worker, number)))
        before = job.plan
        run.run(job.steps)
        once = computed(run, STEP)
        assert max(once.values()) == 1, f"somebody repeated its own work at {request}"
        lost = set(before.held(worker))
        mine = {mb for p in before.pipelines for mb in p.micro_batches
                if before.worker_of(min(lost), mb) == worker}  # fmt: skip
        for action in run.redone:
            assert set(action.layers) <= lost, request
            assert action.micro_batch in mine, request


@pytest.mark.parametrize("job", CASES[:2])
def test_nothing_is_redone_once_a_survivor_has_it_reduced(job: Case) -> None:
    spared = 0
    for worker, number, request in points(job):
        run = start(job, Faults(point=killer(worker, number)))
        run.run(job.steps)
        (stood,) = run.stood
        if max(s.step for s in stood.values()) > STEP:
            continue  # somebody had committed: the step is rolled forward
        reduced = {layer for s in stood.values() for layer in s.reduced}
        for action in run.redone:
            assert not reduced.intersection(action.layers), request
        spared += bool(reduced.intersection(job.plan.held(worker)))
    assert spared > 4


def test_a_worker_is_lost_in_every_move() -> None:
    """First one is lost and state moves; at every point of the moves another one is lost."""
    job = case((2, 2, 2), micro_batches=6)
    seen: set[str] = set()
    for victim in range(1, 6):
        for number in range(12):
            rng = Random(victim * 100 + number)
            watch = in_a_move(victim, number, seen)
            run = start(job, Faults(point=watch), choose=any_answer(rng))
            run.run(job.steps)
            assert_no_trace(run, job)
    assert seen == {"Before", "After"}


def in_a_move(victim: int, number: int, seen: set[str]) -> Callable[[int, int, Request], Verdict]:
    """Kills worker 0 in the step, then ``victim`` at its point ``number`` of a move."""
    moves = 0

    def watch(worker: int, step: int, request: Request) -> Verdict:
        nonlocal moves
        if worker == 0 and step == STEP and isinstance(request, Before):
            return Verdict.KILL
        in_move = isinstance(request, Before | After) and isinstance(request.action, Move)
        if worker == victim and in_move:
            moves += 1
            if moves == number + 1:
                seen.add(type(request).__name__)
                return Verdict.KILL
        return Verdict.GO_ON

    return watch


def test_the_best_answer_leaves_no_trace_either() -> None:
    job = case((2, 2, 2), micro_batches=6)
    for worker, number, _ in points(job)[::3]:
        run = start(job, Faults(point=killer(worker, number)), choose=best)
        run.run(job.steps)
        assert_no_trace(run, job)
