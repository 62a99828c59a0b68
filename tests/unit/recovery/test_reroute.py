"""Reroute: valid plans without moves, everything stays where it is, and faster than the formula."""

from __future__ import annotations

from itertools import permutations
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ithaca.planner.plan import Pipeline, Plan, Schedule, Stage
from ithaca.planner.schedule import programs
from ithaca.planner.simulate import simulate
from ithaca.planner.span import Span
from ithaca.planner.validate import validate
from ithaca.recovery import share
from ithaca.recovery.cover import chains
from ithaca.recovery.decide import ending
from ithaca.recovery.forecast import candidate
from ithaca.recovery.strategies import reroute
from ithaca.recovery.strategies.reroute import Reroute, detours, shares
from ithaca.recovery.strategy import Situation, StrategyName
from tests.helpers.situations import (
    after_losing,
    check_candidate,
    grid,
    random_situation,
    situations,
)


@given(situations())
@settings(deadline=None, max_examples=200)
def test_candidates_are_valid_and_nothing_moves(situation: Situation) -> None:
    for one in Reroute().propose(situation):
        check_candidate(one, situation)
        assert one.plan is not None
        assert one.moves == ()
        assert one.plan.generation == situation.plan.generation + 1
        assert not situation.leaving.intersection(s.worker for s in one.plan.stages())
        for worker in situation.available:
            if situation.held(worker):
                assert set(one.plan.held(worker)) == situation.held(worker)
        timeline = simulate(
            programs(one.plan, situation.profile.layers, situation.ties), situation.profile
        )
        assert one.step_s == timeline.step_s
        assert one.peak_bytes == max(timeline.peak_bytes.values())


@given(situations())
@settings(deadline=None, max_examples=200)
def test_an_ending_leaves_all_work_where_it_is(situation: Situation) -> None:
    """Of the step under way only what the lost workers had to do goes to others."""
    plan, before = ending(situation), situation.plan
    if plan is None:
        return
    validate(programs(plan, ties=situation.ties), plan=plan, ties=situation.ties)
    for micro_batch in range(before.num_micro_batches):
        for layer in range(before.num_layers):
            was = before.worker_of(layer, micro_batch)
            if was not in situation.lost:
                assert plan.worker_of(layer, micro_batch) == was
    for worker in situation.survivors:
        assert set(plan.held(worker)) == situation.held(worker)


def test_work_that_is_given_away_without_need_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check above has teeth: shares are no ending, they deal everything anew."""
    plan, profile = grid(3, 2, 9, 4)
    situation = after_losing(plan, profile, {3})
    test = test_an_ending_leaves_all_work_where_it_is
    kept = test.hypothesis.inner_test  # type: ignore[attr-defined]
    kept(situation)
    monkeypatch.setattr(
        "ithaca.recovery.decide.detours", lambda situation, *_: shares(situation)[-1]
    )
    with pytest.raises(AssertionError):
        kept(situation)


def test_a_pipeline_of_somebody_without_the_layers_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan, profile = grid(2, 2, 4, 4)
    situation = after_losing(plan, profile, {1})
    monkeypatch.setattr(reroute, "chains", lambda *_: [(Stage(Span(0, 4), 0),)])
    assert any(one.moves for one in Reroute().propose(situation))


def formula(stages: int, micro_batches: int, pipelines: int, lost: list[int]) -> float:
    """Seconds of a step by Eq. 13 of arXiv 2508.21613 (Eq. 12 for one loss), F + B = 0.03 s.

    ``lost`` has the number of failures in each stage; ``micro_batches`` are those of a pipeline.
    """
    more = sum(micro_batches * failed / (pipelines - failed) for failed in lost)
    return (stages + micro_batches - 1 + more) * 0.03


LOSSES = [
    (2, 2, 8, [(0, 0)]),
    (2, 4, 16, [(1, 2)]),
    (3, 3, 18, [(0, 1)]),
    (3, 3, 18, [(0, 1), (1, 2)]),
    (4, 4, 32, [(0, 0), (1, 0)]),
    (4, 4, 32, [(0, 0), (1, 1), (2, 2), (3, 3)]),
    (4, 8, 64, [(3, 4)]),
    (4, 8, 64, [(0, 1), (1, 3), (2, 5), (3, 7)]),
]
"""Pipelines, stages, micro-batches of the step, and (pipeline, stage) of each loss."""


def gains() -> list[float]:
    """The formula's seconds over ours, for each of ``LOSSES``."""
    found = []
    for pipelines, stages, micro_batches, lost in LOSSES:
        plan, profile = grid(pipelines, stages, micro_batches, stages)
        situation = after_losing(plan, profile, {p * stages + s for p, s in lost})
        best = min(one.step_s for one in Reroute().propose(situation))
        failures = [sum(s == stage for _, s in lost) for stage in range(stages)]
        published = formula(stages, micro_batches // pipelines, pipelines, failures)
        found.append(published / best)
    return found


def test_steps_are_shorter_than_the_published_formula_says() -> None:
    """Eq. 12 and 13 add the detours to full pipelines; a schedule can do better, always."""
    found = gains()
    assert min(found) > 1.05
    assert max(found) > 1.8  # losses in different stages and pipelines leave whole ones


def test_without_the_split_backward_the_formula_is_not_beaten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reroute, "faster", lambda situation: situation.plan.schedule)
    assert min(gains()) < 1.0


def lower_bound(pipelines: int, stages: int, micro_batches: int, lost: int) -> float:
    """The stage with losses is busy all the time, behind one pass of the others: F, B = .01, .02.

    Of the first micro-batch the stages below must have done F before, and of the last one I after.
    """
    return -(-micro_batches // (pipelines - lost)) * 0.03


@pytest.mark.parametrize(("pipelines", "stages", "micro_batches"), [(2, 2, 8), (4, 8, 64)])
def test_steps_are_close_to_the_lower_bound(
    pipelines: int, stages: int, micro_batches: int
) -> None:
    plan, profile = grid(pipelines, stages, micro_batches, stages)
    best = min(one.step_s for one in Reroute().propose(after_losing(plan, profile, {1})))
    assert best <= lower_bound(pipelines, stages, micro_batches, 1) + (stages - 1) * 0.011


def uneven() -> Situation:
    """2 x 2 where the second stage has most of the work; a first stage is lost."""
    _, profile = grid(1, 4, 8, 4)
    pipelines = [
        Pipeline((Stage(Span(0, 1), 2 * p), Stage(Span(1, 4), 2 * p + 1)), ids)
        for p, ids in enumerate([tuple(range(8)), tuple(range(8, 16))])
    ]
    return after_losing(Plan(tuple(pipelines)), profile, {2})


def test_idle_holders_help_where_a_stage_is_slow() -> None:
    """The survivor of the broken pipeline takes half of the slow stage's work."""
    situation = uneven()
    best = min(one.step_s for one in Reroute().propose(situation))
    alone = candidate(StrategyName.REROUTE, shares(situation)[-1], situation).step_s
    assert shares(situation)[-1].routes == ()
    assert best < 0.55 * alone


def test_without_help_the_slow_stage_stays_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reroute, "relieved", lambda *_: ((), 0.0))
    situation = uneven()
    best = min(one.step_s for one in Reroute().propose(situation))
    monkeypatch.setattr(reroute, "relieved", share.relieved)
    assert min(one.step_s for one in Reroute().propose(situation)) < 0.6 * best


def test_a_lost_stage_goes_to_several_holders_if_none_has_all_of_it() -> None:
    """The lost worker's layers 0 to 3 are held in halves by others."""
    _, profile = grid(1, 1, 1, 4)
    plan = Plan(
        (
            Pipeline((Stage(Span(0, 4), 0),), (0, 1)),
            Pipeline((Stage(Span(0, 2), 1), Stage(Span(2, 4), 2)), (2, 3)),
        )
    )
    situation = after_losing(plan, profile, {0})
    (whole,) = chains(plan, situation.staying)
    found = detours(situation, [whole], Schedule.ONE_F_ONE_B)
    assert {found.worker_of(layer, 0) for layer in (0, 1)} == {1}
    assert {found.worker_of(layer, 0) for layer in (2, 3)} == {2}


def test_losses_in_different_pipelines_leave_a_whole_one() -> None:
    plan, profile = grid(2, 2, 4, 4)
    situation = after_losing(plan, profile, {0, 3})
    (whole,) = chains(plan, situation.staying)
    assert [stage.worker for stage in whole] == [2, 1]


@given(st.integers(0, 2**32))
@settings(deadline=None, max_examples=100)
def test_a_pipeline_is_found_wherever_there_is_one(seed: int) -> None:
    """Against every order of the workers, each as far as it reaches."""
    situation = random_situation(Random(seed))
    held, count = situation.staying, situation.plan.num_layers

    def reaches(order: tuple[int, ...]) -> bool:
        first = 0
        for worker in order:
            while first in held[worker] and first < count:
                first += 1
        return first == count

    there = any(reaches(order) for order in permutations([w for w in held if held[w]]))
    assert bool(chains(situation.plan, held)) == there


def test_more_memory_than_there_is_is_told() -> None:
    plan, profile = grid(2, 2, 8, 4)
    situation = after_losing(plan, profile, {1})
    tight = Situation(plan, situation.lost, situation.holdings, profile, memory_limit_bytes=15_000)
    found = list(Reroute().propose(tight))
    assert found
    for one in found:
        assert not one.feasible
        more = one.peak_bytes - 15_000
        assert f"would need {one.peak_bytes} bytes, {more} more than the limit" in one.reason
    assert {one.plan.schedule for one in found if one.plan} == {
        Schedule.ONE_F_ONE_B,
        Schedule.ONE_F_ONE_B_SPLIT,
    }
