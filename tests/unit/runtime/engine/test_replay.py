"""Sampled replay: a worker that computes something else once is told from the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from ithaca.planner.plan import Plan, Schedule
from ithaca.planner.program import Program, Replay
from ithaca.planner.replay import replay_of, with_replay
from ithaca.planner.schedule import programs
from ithaca.planner.span import Span
from ithaca.planner.validate import ProgramError, validate
from ithaca.recovery.orders import Orders
from ithaca.runtime.engine.channel import CorruptMessage, CorruptState
from ithaca.runtime.engine.steps import Steps
from ithaca.runtime.engine.trainer import Trainer
from tests.drills.test_real_models import (
    DENSE,
    LAYERS,
    MICRO_BATCHES,
    MIXED,
    STEPS,
    start,
    undisturbed,
)
from tests.helpers.plans import plans
from tests.helpers.small_models import Options
from tests.helpers.virtual_job import EXACT
from tests.helpers.virtual_run import VirtualRun

REPLAYED = replace(EXACT, replay_every=1)


@given(plans())
@settings(deadline=None, max_examples=60)
def test_drawn_places_are_valid_in_every_plan(plan: Plan) -> None:
    for turn in range(3):
        extra = replay_of(plan, turn)
        found = {w: with_replay(p, extra) for w, p in programs(plan).items()}
        validate(found, plan=plan)
        for program in found.values():
            assert Program.parse(str(program)) == program


def test_all_places_are_drawn_in_time() -> None:
    plan = Plan.parse("plan generation=0 schedule=1f1b\npipeline 0-1 0:2@w0\npipeline 2-3 0:2@w1\n")
    drawn = {replay_of(plan, turn) for turn in range(200)}
    assert drawn == {Replay(Span(0, 2), m, m // 2, 1 - m // 2) for m in range(4)}
    alone = Plan.parse("plan generation=0 schedule=1f1b\npipeline 0-1 0:2@w0\n")
    assert replay_of(alone, 0) is None


def test_a_replay_of_what_was_not_computed_is_refused() -> None:
    plan = Plan.parse("plan generation=0 schedule=1f1b\npipeline 0-1 0:2@w0\npipeline 2-3 0:2@w1\n")
    wrong = Replay(Span(0, 2), 3, 0, 1)
    found = {w: with_replay(p, wrong) for w, p in programs(plan).items()}
    with pytest.raises(ProgramError, match="m3 is not of here"):
        validate(found)


@pytest.mark.parametrize("options", [DENSE, MIXED])
@pytest.mark.parametrize("schedule", [Schedule.ONE_F_ONE_B, Schedule.ONE_F_ONE_B_SPLIT])
def test_replays_change_no_bit(options: Options, schedule: Schedule) -> None:
    whole = undisturbed(options, EXACT)
    run = start(options, REPLAYED, (2, 2), schedule, Random(1))
    run.run(STEPS)
    assert run.results == whole.results
    assert run.tallies == whole.tallies


def errors_of_a_step(run: VirtualRun[Trainer], times: int) -> dict[int, str]:
    """What each worker ends the first step with, if the one drawn errs so many times."""
    extra = replay_of(run.plan, 0)
    assert extra is not None
    left = [times]

    def err(gradients: Sequence[Tensor]) -> None:
        if left[0]:
            left[0] -= 1
            gradients[0].view(-1)[0] += 1.0

    found: dict[int, str] = {}

    def guarded(worker: int, steps: Steps[None]) -> Steps[None]:
        try:
            yield from steps
        except (CorruptState, CorruptMessage) as error:
            found[worker] = type(error).__name__

    run.steppers[extra.source].holdings.computed = err
    life = run._life

    def watched(worker: int, orders: Orders, steps: int) -> Steps[None]:
        return guarded(worker, life(worker, orders, steps))

    run._life = watched  # type: ignore[method-assign]
    with pytest.raises((RuntimeError, AssertionError)), torch.random.fork_rng():
        run.run(1)
    return {(-1 if w == extra.source else w): name for w, name in found.items()}


def test_a_worker_that_erred_once_is_the_one_that_leaves() -> None:
    # Wrong in the whole step, right in the replay: only its own results differ from each other.
    run = start(DENSE, REPLAYED, (1, 1), Schedule.ONE_F_ONE_B, Random(2))
    found = errors_of_a_step(run, times=LAYERS * MICRO_BATCHES // 2)
    assert found.pop(-1) == "CorruptState"
    assert list(found.values()) == ["CorruptMessage"]


def test_two_that_insist_both_leave() -> None:
    run = start(DENSE, REPLAYED, (1, 1), Schedule.ONE_F_ONE_B, Random(2))
    found = errors_of_a_step(run, times=1000)
    assert list(found.values()) == ["CorruptState", "CorruptState"]


def test_without_replays_nobody_notices() -> None:
    """Control: the error goes into every replica alike."""
    run = start(DENSE, EXACT, (1, 1), Schedule.ONE_F_ONE_B, Random(2))

    def err(gradients: Sequence[Tensor]) -> None:
        gradients[0].view(-1)[0] += 1.0

    run.steppers[0].holdings.computed = err
    run.run(1)
    assert run.results != undisturbed(DENSE, EXACT).results
