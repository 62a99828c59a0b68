"""Decisions: scores against simulation, the user's limits, the loop-breaker, refusals, text."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings

from ithaca.recovery import decide as decide_module
from ithaca.recovery import policy as policy_module
from ithaca.recovery import score as score_module
from ithaca.recovery.decide import Decision, candidates, decide
from ithaca.recovery.failure import Failure, FailureClass
from ithaca.recovery.hazard import DAY_S, Hazard
from ithaca.recovery.policy import Incident, Policy
from ithaca.recovery.score import node_of, risk, score
from ithaca.recovery.strategy import Candidate, Situation, StrategyName
from tests.helpers.situations import (
    after_losing,
    check_candidate,
    grid,
    random_situation,
    situations,
)


@given(situations())
@settings(deadline=None, max_examples=30)
def test_a_decision_is_the_best_of_what_can_be_done(situation: Situation) -> None:
    decision = decide(situation, Hazard())
    able = [s for s in decision.candidates if s.candidate.feasible and s.candidate.plan]
    if able:
        assert decision.chosen is able[0].candidate
        assert decision.score == max(s.score for s in able)
        check_candidate(decision.chosen, situation)
    else:
        assert decision.chosen.strategy is StrategyName.REFUSE
        assert decision.plan is None
    for scored in decision.candidates:
        assert scored.candidate.feasible or (scored.candidate.reason and scored.score == 0)
    assert decision.reason
    assert Decision.parse(str(decision)) == decision
    assert decide(situation, Hazard()) == decision


@given(situations())
@settings(deadline=None, max_examples=30)
def test_at_once_means_that_nobody_gives_anything_up(situation: Situation) -> None:
    decision = decide(situation, Hazard())
    if decision.at_once:
        assert decision.plan is not None
        for worker in situation.survivors:
            if situation.held(worker):
                assert situation.held(worker) <= set(decision.plan.held(worker))
    if decision.finish is not None:
        assert set(decision.finish.workers) <= set(situation.survivors)


def ends_first(situation: Situation) -> bool:
    """Whether what was chosen does not end the job later than what is there soonest."""
    decision = decide(situation, Hazard())
    able = [s.candidate for s in decision.candidates if s.candidate.feasible]
    finish = decision.finish
    ways = {one: decide_module._whole_way(one, situation, finish) for one in able}
    soonest = min(ways.values(), key=lambda one: (one.transition_s, one.step_s))
    steps = situation.steps_left or 0

    def end_s(one: Candidate) -> float:
        return one.transition_s + steps * one.step_s

    return end_s(ways[decision.chosen]) <= end_s(soonest) * (1 + 1e-3)


def ending_situations() -> list[Situation]:
    """Losses with an end of the job in sight."""
    drawn = [random_situation(Random(seed)) for seed in range(40)]
    return [
        replace(s, leaving=frozenset(), steps_left=steps, regroup_s=0.2)
        for s in drawn
        for steps in (1, 30)
        if not s.orphans and s.available
    ]


def test_near_its_end_the_job_is_not_held_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_module, "risk", lambda *_: 0.0)
    able = [s for s in ending_situations() if decide(s, Hazard()).plan is not None]
    assert len(able) > 20
    assert all(ends_first(situation) for situation in able)
    # The control: as if the job had no end.
    monkeypatch.setattr(decide_module, "left_s", lambda *_: None)
    assert not all(ends_first(situation) for situation in able)


def test_what_waits_for_the_end_of_the_step_takes_two_meetings() -> None:
    plan, profile = grid(2, 2, 8, 4)
    calm = replace(after_losing(plan, profile, {3}), regroup_s=3.0, steps_left=20)
    begun = replace(calm, mid_step=True)
    assert not decide(calm, Hazard()).at_once
    assert decide(begun, Hazard()).at_once
    # What keeps all work of the step is entered where everybody stands, and takes one.
    assert decide(replace(begun, steps_left=40), Hazard()).chosen.moves


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"chosen": 3, "candidates": []}', "plan"])
def test_what_is_no_decision_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Decision.parse(text)


def one_of(situation: Situation, name: StrategyName) -> Candidate:
    """The first feasible candidate of a strategy."""
    return next(c for c in candidates(situation) if c.strategy is name and c.feasible)


def drawn_score(
    one: Candidate, situation: Situation, hazard: Hazard, draws: int = 200_000
) -> float:
    """The score by drawing rates and failures: useful samples over time, and restores."""
    assert one.plan is not None
    draw = np.random.default_rng(1)
    nodes = sorted({node_of(worker, situation) for worker in one.plan.workers})
    rates = []
    for node in nodes:
        record = hazard.record(node)
        shape = hazard.own_weight + len(record.failures_s)
        scale = shape / hazard.rate(node)
        rates.append(draw.gamma(shape, 1 / scale, draws))
    first = np.minimum(draw.exponential(1 / np.sum(rates, axis=0)), hazard.horizon_s)
    useful = np.maximum(first - one.transition_s, 0)
    rate = one.plan.num_micro_batches / one.step_s
    kept = situation.checkpoint_step or 0
    loss = situation.restore_s + max(situation.step - kept, 1) * one.step_s
    fatal = [
        n
        for n in nodes
        if any(
            {node_of(w, situation) for w in one.plan.holders(layer)} == {n}
            for layer in range(one.plan.num_layers)
        )
    ]
    chance = sum(hazard.rate(n) for n in fatal) / sum(hazard.rate(n) for n in nodes)
    return float(rate * (useful.mean() - chance * loss) / first.mean())


def harsh() -> Hazard:
    """Failures every few minutes, with a machine that is worse."""
    hazard = Hazard(prior_mean_s=600.0, prior_failures=20.0, own_weight=5.0, horizon_s=DAY_S)
    return hazard.watched({f"worker {w}": 300.0 for w in range(6)}).failed("worker 2", 20.0)


@pytest.mark.parametrize(
    "name", [StrategyName.REROUTE, StrategyName.RESHAPE, StrategyName.ROLLBACK]
)
def test_a_score_is_what_drawing_failures_gives(name: StrategyName) -> None:
    plan, profile = grid(2, 3, 12, 6)
    situation = replace(
        after_losing(plan, profile, {1}), step=50, checkpoint_step=10, restore_s=4.0
    )
    one = replace(one_of(situation, name), transition_s=30.0)
    assert score(one, situation, harsh()) == pytest.approx(
        drawn_score(one, situation, harsh()), rel=0.02
    )


def test_a_score_without_risk_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison above has teeth."""
    plan, profile = grid(2, 3, 12, 6)
    situation = replace(
        after_losing(plan, profile, {1}), step=5000, checkpoint_step=10, restore_s=40.0
    )
    one = one_of(situation, StrategyName.REROUTE)
    assert one.single_holders
    drawn = drawn_score(one, situation, harsh())
    monkeypatch.setattr(score_module, "risk", lambda *_: 0.0)
    assert score(one, situation, harsh()) > 1.1 * drawn


def test_the_next_failure_decides_between_speed_and_a_short_way() -> None:
    """Reshape gains speed but has to move state: it pays when failures are rare."""
    plan, profile = grid(3, 3, 18, 9)
    slow = replace(profile, link=replace(profile.link, bytes_per_s=100.0))
    situation = replace(after_losing(plan, slow, {1}), checkpoint_step=None)
    calm = Hazard(prior_mean_s=1000 * DAY_S, prior_failures=50.0)
    storm = Hazard(prior_mean_s=500.0, prior_failures=50.0)
    assert decide(situation, calm).chosen.strategy is StrategyName.RESHAPE
    assert decide(situation, storm).chosen.moved_bytes == 0


def test_a_second_holder_is_worth_something() -> None:
    plan, profile = grid(2, 2, 8, 4)
    situation = replace(after_losing(plan, profile, ()), step=1000)
    arrival = harsh().arrival({"worker 0"})
    alone = after_losing(plan, profile, {1})
    lonely = one_of(alone, StrategyName.REROUTE).plan
    assert lonely is not None
    assert risk(plan, situation, harsh(), arrival) == 0
    assert risk(lonely, situation, harsh(), arrival) > 0.3
    assert risk(lonely, situation, harsh(), arrival, exposed_s=1.0) < 0.1


def test_machines_count_as_well_as_workers() -> None:
    """Two holders on one machine are lost with it."""
    plan, profile = grid(2, 2, 8, 4)
    apart = replace(after_losing(plan, profile, ()), nodes={0: "a", 1: "a", 2: "b", 3: "b"})
    together = replace(apart, nodes={0: "a", 2: "a", 1: "b", 3: "b"})
    arrival = Hazard().arrival(["a", "b"])
    assert risk(plan, apart, Hazard(), arrival) == 0
    assert risk(plan, together, Hazard(), arrival) == pytest.approx(score_module.MACHINE_SHARE)


def refused(situation: Situation, policy: Policy | None = None, history: object = ()) -> str:
    """The reason of a refusal."""
    decision = decide(situation, Hazard(), policy, history)  # type: ignore[arg-type]
    assert decision.chosen.strategy is StrategyName.REFUSE
    assert decision.plan is None
    return decision.reason


def test_nobody_holds_a_layer() -> None:
    plan, profile = grid(2, 2, 8, 4)
    gone = after_losing(plan, profile, {1, 3})
    reason = refused(gone)
    assert reason == (
        "lost: w1, w3; nobody holds layers 2-3 any more; and there is no checkpoint to go back to"
    )
    saved = decide(replace(gone, checkpoint_step=4, step=7, restore_s=2.0), Hazard())
    assert saved.chosen.strategy is StrategyName.ROLLBACK
    assert saved.chosen.rollback_step == 4
    assert saved.chosen.transition_s >= 2.0 + 3 * saved.chosen.step_s
    assert saved.finish is None
    assert not saved.at_once


def test_nobody_is_left() -> None:
    plan, profile = grid(1, 2, 8, 4)
    assert "no worker is left" in refused(after_losing(plan, profile, {0, 1}))


def test_too_little_memory_is_told_in_bytes() -> None:
    plan, profile = grid(2, 2, 8, 4)
    situation = replace(after_losing(plan, profile, {1}), memory_limit_bytes=5000)
    assert "fits into 5000 bytes per worker" in refused(situation)


def test_fewer_than_min_workers() -> None:
    plan, profile = grid(2, 2, 8, 4)
    reason = refused(after_losing(plan, profile, {1}), Policy(min_workers=4))
    assert "3 workers, and min_workers asks for 4" in reason
    assert decide(after_losing(plan, profile, {1}), Hazard(), Policy(min_workers=3)).plan


def crash(step: int = 7, action: str = "F 2:4 m3", worker: int = 1, trace: str = "") -> Failure:
    """A crash as it is reported."""
    return Failure(
        FailureClass.CRASH, worker, step=step, action=action, evidence="gone", traceback=trace
    )


def test_more_than_max_failures() -> None:
    plan, profile = grid(2, 2, 8, 4)
    history = [Incident((crash(step),), StrategyName.REROUTE) for step in range(3)]
    situation = after_losing(plan, profile, {1})
    reason = refused(situation, Policy(max_failures=2), history)
    assert "3 failures, and max_failures allows 2" in reason
    assert decide(situation, Hazard(), Policy(max_failures=3), history).plan is not None


def test_a_fixed_strategy_is_the_only_one() -> None:
    plan, profile = grid(2, 2, 8, 6)
    situation = after_losing(plan, profile, {1})
    for name in (StrategyName.REROUTE, StrategyName.RESHAPE):
        chosen = decide(situation, Hazard(), Policy(strategies=frozenset({name}))).chosen
        assert chosen.strategy is name
    reason = refused(situation, Policy(strategies=frozenset({StrategyName.ROLLBACK})))
    assert "the policy allows rollback only" in reason


def answers(most: int, failure: Failure) -> list[StrategyName]:
    """What is answered when the same failure comes again and again."""
    plan, profile = grid(3, 2, 6, 6)
    situation = replace(after_losing(plan, profile, {1}), checkpoint_step=2, step=7, restore_s=1.0)
    history: list[Incident] = []
    for _ in range(most):
        decision = decide(situation, Hazard(), None, [*history, Incident((failure,))])
        history.append(Incident((failure,), decision.chosen.strategy))
    return [incident.answer for incident in history if incident.answer]


def test_the_third_identical_failure_has_another_answer() -> None:
    trace = "Traceback:\n  in forward\nZeroDivisionError: division by zero\n"
    given = answers(6, crash(trace=trace))
    assert given[0] == given[1]
    assert given[2] not in given[:2]
    assert given[3] not in given[:3]
    assert given[-1] is StrategyName.REFUSE
    assert StrategyName.ROLLBACK in given


def test_the_cause_is_told_at_the_end() -> None:
    plan, profile = grid(2, 2, 8, 4)
    trace = "Traceback:\n  in forward\nZeroDivisionError: division by zero\n"
    every = [name for name in StrategyName if name is not StrategyName.REFUSE]
    history = [Incident((crash(trace=trace),), name) for name in every]
    reason = refused(
        after_losing(plan, profile, {1}), None, [*history, Incident((crash(trace=trace),))]
    )
    assert f"crash at step 7 in 'F 2:4 m3' has come {len(every) + 1} times" in reason
    assert "ZeroDivisionError: division by zero" in reason


def test_other_failures_do_not_break_the_loop() -> None:
    """Another step, class or action is another failure; a notice is none."""
    plan, profile = grid(2, 2, 8, 6)
    situation = after_losing(plan, profile, {1})
    first = decide(situation, Hazard()).chosen.strategy
    others = [
        crash(step=6),
        crash(action="B 2:4 m3"),
        replace(crash(), kind=FailureClass.HANG),
        replace(crash(), kind=FailureClass.NOTICE),
    ]
    for other in others:
        history = [Incident((other,), first)] * 3
        chosen = decide(situation, Hazard(), None, [*history, Incident((crash(),))]).chosen
        assert chosen.strategy is first


def test_without_the_loop_breaker_the_answer_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_module, "REPEATS", 1000)
    assert len(set(answers(6, crash()))) == 1


def test_a_machine_that_keeps_failing_is_in_quarantine() -> None:
    plan, profile = grid(2, 2, 8, 4)
    situation = replace(after_losing(plan, profile, {1}, (7,)), nodes={7: "bad"})
    hazard = Hazard()
    for at_s in (100.0, 200.0, 300.0):
        before = decide(situation, hazard, now_s=400.0)
        assert before.plan is not None
        assert 7 in before.plan.workers
        hazard = hazard.failed("bad", at_s)
    after = decide(situation, hazard, now_s=400.0)
    assert after.plan is not None
    assert 7 not in after.plan.workers
    later = decide(situation, hazard, now_s=400.0 + Policy().quarantine_s)
    assert later.plan is not None
    assert 7 in later.plan.workers


def test_failures_are_text() -> None:
    failure = replace(crash(trace="a\nb"), ends_s=3.5, node="n1", rank=2)
    assert Failure.parse(str(failure)) == failure
    with pytest.raises(ValueError, match="this is not a failure"):
        Failure.parse("{}")
