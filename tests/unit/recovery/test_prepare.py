"""Decisions ahead of time: the same as those at the time, and never for another situation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings

from ithaca.recovery import prepare as prepare_module
from ithaca.recovery.decide import decide
from ithaca.recovery.hazard import Hazard
from ithaca.recovery.prepare import Prepared, losses
from ithaca.recovery.strategies.reroute import Reroute
from ithaca.recovery.strategies.rollback import Rollback
from ithaca.recovery.strategy import Candidate, Situation, StrategyName
from tests.helpers.situations import after_losing, grid, situations


class Counting:
    """Reroute, counting how often it is asked."""

    name = StrategyName.REROUTE

    def __init__(self) -> None:
        self.asked = 0

    def propose(self, situation: Situation) -> Iterator[Candidate]:
        """What reroute proposes."""
        self.asked += 1
        return Reroute().propose(situation)


def calm(situation: Situation) -> Situation:
    """The situation before anything was lost."""
    holdings = {worker: frozenset(situation.plan.held(worker)) for worker in situation.plan.workers}
    return replace(
        situation,
        lost=frozenset(),
        leaving=frozenset(),
        holdings={**situation.holdings, **holdings},
    )


def after(situation: Situation, lost: frozenset[int]) -> Situation:
    """Some steps later, and without ``lost``."""
    holdings = {w: held for w, held in situation.holdings.items() if w not in lost}
    plan = replace(situation.plan, generation=situation.plan.generation + 3)
    return replace(
        situation, plan=plan, lost=lost, holdings=holdings, step=situation.step + 4, regroup_s=0.07
    )


@given(situations())
@settings(deadline=None, max_examples=25)
def test_a_prepared_decision_is_the_one_that_would_be_taken(situation: Situation) -> None:
    now, strategies = calm(situation), (Reroute(), Rollback())
    prepared = Prepared(strategies)
    for lost in prepared.prepare(now, Hazard()):
        later = after(now, lost)
        found = prepared.decide(later, Hazard())
        assert found == decide(later, Hazard(), strategies=strategies)


def test_what_was_prepared_is_not_found_again() -> None:
    plan, profile = grid(2, 2, 8, 4)
    counting = Counting()
    prepared = Prepared((counting,))
    now = after_losing(plan, profile, ())
    seen = list(prepared.prepare(now, Hazard()))
    assert seen == [frozenset({worker}) for worker in range(4)]
    assert counting.asked == 4
    assert prepared.decide(after(now, frozenset({2})), Hazard()).plan is not None
    assert list(prepared.prepare(now, Hazard(), most=2)) == seen[:2]
    assert counting.asked == 4


@pytest.mark.parametrize("change", ["double", "limit", "holdings", "spares", "profile"])
def test_another_situation_is_looked_at_anew(change: str) -> None:
    plan, profile = grid(3, 2, 6, 4)
    counting = Counting()
    prepared = Prepared((counting,))
    now = after_losing(plan, profile, ())
    list(prepared.prepare(now, Hazard()))
    asked = counting.asked
    later = after(now, frozenset({1}))
    changed = {
        "double": replace(later, lost=frozenset({1, 2})),
        "limit": replace(later, memory_limit_bytes=10**9),
        "holdings": replace(later, holdings={**later.holdings, 0: frozenset({0})}),
        "spares": replace(later, spares=(9,)),
        "profile": replace(later, profile=replace(profile, action_s=1.0)),
    }[change]
    found = prepared.decide(changed, Hazard())
    assert counting.asked == asked + 1
    assert found == decide(changed, Hazard(), strategies=(Reroute(),))


def test_a_stale_answer_would_be_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison above has teeth: without the check old candidates are taken."""
    plan, profile = grid(3, 2, 6, 4)
    prepared = Prepared((Reroute(),))
    now = after_losing(plan, profile, ())
    list(prepared.prepare(now, Hazard()))
    slower = replace(after(now, frozenset({1})), profile=replace(profile, action_s=1.0))
    monkeypatch.setattr(prepare_module, "_fits", lambda known, now: True)
    assert prepared.decide(slower, Hazard()) != decide(slower, Hazard(), strategies=(Reroute(),))


def test_other_plans_are_forgotten() -> None:
    plan, profile = grid(2, 2, 8, 4)
    counting = Counting()
    prepared = Prepared((counting,))
    list(prepared.prepare(after_losing(plan, profile, ()), Hazard()))
    other, _ = grid(2, 1, 8, 4)
    list(prepared.prepare(after_losing(other, profile, ()), Hazard()))
    asked = counting.asked
    prepared.decide(after(after_losing(plan, profile, ()), frozenset({1})), Hazard())
    assert counting.asked == asked + 1


def test_the_likeliest_losses_come_first() -> None:
    plan, profile = grid(2, 2, 8, 4)
    nodes = {0: "a", 1: "a", 2: "b", 3: "c"}
    situation = replace(after_losing(plan, profile, ()), nodes=nodes)
    hazard = Hazard().failed("c", 1.0).failed("c", 2.0)
    found = losses(situation, hazard)
    assert found[0] == {3}
    assert set(found) == {
        frozenset({0}),
        frozenset({1}),
        frozenset({2}),
        frozenset({3}),
        frozenset({0, 1}),
    }
