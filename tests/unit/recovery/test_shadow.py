"""Shadows: spares take places over, notices are met before the kill, layers get a second holder."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings

from ithaca.planner.plan import Pipeline, Plan, Route, Stage
from ithaca.planner.schedule import programs
from ithaca.planner.simulate import simulate
from ithaca.planner.span import Span
from ithaca.recovery import redundancy
from ithaca.recovery.cover import chains, spans
from ithaca.recovery.decide import LEAVE_STEPS, decide
from ithaca.recovery.hazard import Hazard
from ithaca.recovery.policy import Policy
from ithaca.recovery.redundancy import restored
from ithaca.recovery.score import node_of
from ithaca.recovery.strategies.bamboo import Bamboo, redundant, with_forwards
from ithaca.recovery.strategies.shadow import Shadow
from ithaca.recovery.strategy import Situation, StrategyName, single_holders
from tests.helpers.situations import after_losing, check_candidate, grid, situations


@given(situations())
@settings(deadline=None, max_examples=150)
def test_candidates_are_valid_and_reached_by_their_moves(situation: Situation) -> None:
    for one in Shadow().propose(situation):
        check_candidate(one, situation)
        assert one.plan is not None
        if one.strategy is StrategyName.KEEP:
            assert one.plan == situation.plan


@given(situations())
@settings(deadline=None, max_examples=100)
def test_redundant_forwards_can_be_simulated_and_never_run(situation: Situation) -> None:
    for one in Bamboo().propose(situation):
        assert not one.feasible
        assert one.step_s > 0
        check_candidate(one, situation)


def test_a_spare_takes_the_place_of_the_lost() -> None:
    plan, profile = grid(2, 2, 8, 4)
    situation = after_losing(plan, profile, {1}, spares=(7,))
    (first, *_) = Shadow().propose(situation)
    assert first.plan is not None
    assert [str(stage) for stage in first.plan.pipelines[0].stages] == ["0:2@w0", "2:4@w7"]
    assert [(m.layer, m.source, m.target) for r in first.moves for m in r] == [(2, 3, 7), (3, 3, 7)]
    assert first.reason == "w7 for w1"
    assert first.single_holders == ()


def test_who_takes_a_place_is_no_longer_reached_by_detours() -> None:
    stages = [Stage(Span(0, 2), 0), Stage(Span(2, 4), 1)]
    other = [Stage(Span(0, 2), 2), Stage(Span(2, 4), 3)]
    pipelines = (Pipeline(tuple(stages), (0, 1)), Pipeline(tuple(other), (2, 3)))
    route, shadow = Route(0, Span(0, 2), 4), Stage(Span(0, 2), 4)
    plan = Plan(pipelines, routes=(route,), shadows=(shadow,))
    _, profile = grid(2, 2, 4, 4)
    found = list(Shadow().propose(after_losing(plan, profile, {3}, spares=())))
    assert found, "the idle holder takes the place"
    for one in found:
        assert one.plan is not None
        assert one.plan.layers_of(4) == Span(2, 4)
        assert one.plan.routes == ()


def test_a_spare_with_state_needs_no_move_and_is_preferred() -> None:
    plan, profile = grid(2, 2, 8, 4)
    situation = after_losing(plan, profile, {1}, spares=(7, 8))
    warm = replace(situation, holdings={**situation.holdings, 8: frozenset({2, 3})})
    (first, *_) = Shadow().propose(warm)
    assert first.plan is not None
    assert 8 in first.plan.workers
    assert first.moves == ()


def test_one_spare_for_two_losses_mends_one_pipeline() -> None:
    plan, profile = grid(3, 2, 6, 4)
    situation = after_losing(plan, profile, {1, 3}, spares=(9,))
    for one in Shadow().propose(situation):
        check_candidate(one, situation)
        assert one.plan is not None
        assert len(one.plan.pipelines) == 2
        assert 9 in one.plan.workers


def test_a_new_worker_is_taken_in_between_two_steps() -> None:
    plan, profile = grid(2, 2, 8, 6)
    decision = decide(after_losing(plan, profile, (), spares=(7, 8)), Hazard())
    assert decision.plan is not None
    assert {7, 8} <= set(decision.plan.workers)
    assert not decision.at_once
    assert decision.finish is not None
    assert str(decision.finish.pipelines) == str(plan.pipelines)


def leaving(plan: Plan, worker: int, ends_s: float | None) -> tuple[Situation, Hazard]:
    """A notice for ``worker``."""
    _, profile = grid(1, 1, 1, plan.num_layers)
    situation = replace(after_losing(plan, profile, ()), leaving=frozenset({worker}))
    return situation, Hazard().noticed(node_of(worker, situation), ends_s)


def test_a_notice_is_met_before_the_kill() -> None:
    """With a second holder the worker is used until just before it leaves, and not longer."""
    plan, _ = grid(2, 2, 8, 4)
    situation, hazard = leaving(plan, 2, 100.0)
    early = decide(situation, hazard, now_s=10.0)
    assert early.chosen.strategy is StrategyName.KEEP
    assert early.review_s is not None
    assert 90.0 < early.review_s < 100.0
    late = decide(situation, hazard, now_s=early.review_s)
    assert late.plan is not None
    assert 2 not in late.plan.workers
    kept = next(s for s in late.candidates if s.candidate.strategy is StrategyName.KEEP)
    assert "a worker of it leaves in" in kept.candidate.reason


def test_without_the_margin_the_worker_is_used_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, _ = grid(2, 2, 8, 4)
    situation, hazard = leaving(plan, 2, 100.0)
    assert LEAVE_STEPS > 0
    monkeypatch.setattr("ithaca.recovery.decide.LEAVE_STEPS", 0)
    decision = decide(situation, hazard, now_s=99.9)
    assert decision.plan is not None
    assert 2 in decision.plan.workers


def test_the_only_holder_is_drained_before_it_leaves() -> None:
    plan, _ = grid(1, 2, 4, 4)
    situation, hazard = leaving(plan, 1, 1000.0)
    shadows = frozenset({StrategyName.SHADOW})
    decision = decide(situation, hazard, Policy(strategies=shadows), now_s=10.0)
    assert decision.plan is not None
    assert [str(shadow) for shadow in decision.plan.shadows] == ["2:4@w0"]
    gone = replace(
        situation,
        plan=decision.plan,
        lost=frozenset({1}),
        leaving=frozenset(),
        holdings={0: frozenset(decision.plan.held(0))},
    )
    after = decide(gone, hazard, Policy(strategies=frozenset({StrategyName.REROUTE})))
    assert after.plan is not None
    assert after.chosen.moves == ()


def test_no_room_to_drain_is_told() -> None:
    plan, _ = grid(1, 2, 4, 4)
    situation, hazard = leaving(plan, 1, 1000.0)
    peak = max(
        simulate(programs(plan, situation.profile.layers), situation.profile).peak_bytes.values()
    )
    tight = replace(situation, memory_limit_bytes=peak)
    reasons = [one.reason for one in Shadow().propose(tight)]
    assert "nobody has room for layers [2, 3], which only leaving workers hold" in reasons
    assert hazard.record("worker 1").ends_s == 1000.0


def survives_any_loss(plan: Plan) -> bool:
    """Whether after losing any one worker the others still hold every layer, in a pipeline."""
    for lost in plan.workers:
        held = {w: frozenset(plan.held(w)) for w in plan.workers if w != lost}
        if not chains(plan, held):
            return False
    return True


@pytest.mark.parametrize(("pipelines", "stages"), [(1, 2), (1, 3), (1, 4), (2, 2)])
def test_a_second_holder_of_every_layer_survives_any_loss(pipelines: int, stages: int) -> None:
    plan, profile = grid(pipelines, stages, 4, 12)
    safer = restored(plan, after_losing(plan, profile, ()))
    if pipelines > 1:
        assert safer is None
        return
    assert safer is not None
    check_candidate(safer, after_losing(plan, profile, ()))
    assert safer.single_holders == ()
    assert safer.plan is not None
    assert not survives_any_loss(plan)
    assert survives_any_loss(safer.plan)


def test_without_shadows_the_loss_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check above has teeth: shadows of half of the layers do not survive."""
    plan, profile = grid(1, 3, 4, 12)
    monkeypatch.setattr(redundancy, "spans", lambda layers: spans(sorted(layers)[1:]))
    safer = restored(plan, after_losing(plan, profile, ()))
    assert safer is not None
    assert safer.plan is not None
    assert not survives_any_loss(safer.plan)


@pytest.mark.parametrize("more", [0, 3_000, 6_000, 20_000, 100_000])
def test_second_holders_keep_to_the_memory_limit(more: int) -> None:
    plan, profile = grid(1, 3, 4, 12)
    peaks = simulate(programs(plan, profile.layers), profile).peak_bytes
    limit = max(peaks.values()) + more
    situation = replace(after_losing(plan, profile, ()), memory_limit_bytes=limit)
    safer = restored(plan, situation)
    if safer is not None:
        assert safer.feasible
        assert safer.peak_bytes <= limit
        assert len(safer.single_holders) < 12
    if more == 100_000:
        assert safer is not None
        assert safer.single_holders == ()


def test_the_second_holder_is_on_another_machine() -> None:
    _, profile = grid(1, 1, 1, 4)
    plan = Plan((Pipeline(tuple(Stage(Span(k, k + 1), k) for k in range(4)), (0, 1)),))
    nodes = {0: "a", 1: "a", 2: "b", 3: "b"}
    safer = restored(plan, replace(after_losing(plan, profile, ()), nodes=nodes))
    assert safer is not None
    assert safer.plan is not None
    for layer in range(4):
        assert {nodes[worker] for worker in safer.plan.holders(layer)} == {"a", "b"}


def test_bamboo_pays_in_every_step() -> None:
    plan, profile = grid(2, 4, 16, 8)
    situation = after_losing(plan, profile, ())
    ring = redundant(plan)
    assert single_holders(plan) == single_holders(ring) == ()
    assert all(len(ring.holders(layer)) == 4 for layer in range(8))
    plain = simulate(programs(plan, profile.layers), profile).step_s
    made = with_forwards(ring, programs(ring, profile.layers))
    assert simulate(made, profile).step_s > 1.1 * plain
    (one,) = Bamboo().propose(situation)
    assert one.reason == "redundant pre-computation is simulated, never run"
