"""Clairvoyant: the same candidates, costs and truth as ours, with all changes to come known.

A beam search over answers. After each change the states are kept that have most steps done when
the next change comes, and the one with the fastest step then. It is a bound in so far as it is
taken together with every other run over the same candidates: the best of them in hindsight.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy

from benchmarks.recovery_study import cluster
from benchmarks.recovery_study.baselines.ours import Proposals, carried_out, situated
from benchmarks.recovery_study.deployment import (
    WAITING,
    Deployment,
    changes_plan,
    placed,
    restored,
)
from benchmarks.recovery_study.run import Answer, Progress
from benchmarks.recovery_study.traces import Change, Trace
from benchmarks.recovery_study.world import World
from ithaca.recovery.decide import ending
from ithaca.recovery.strategy import Candidate, Situation, StrategyName

WIDTH = 2
"""States that are kept for most steps, and as many for the fastest step."""

ANSWERS = 4
"""Candidates that are followed from each state, by either measure."""


def clairvoyant(world: World, trace: Trace, proposals: Proposals) -> Progress:
    """The best run through ``trace`` that is found."""
    cards = trace.start
    plan = world.best(len(cards))
    first = WAITING
    if plan is not None:
        first = Deployment("start", placed(plan, cards), world.step_s(plan))
    state = Progress(cluster.CHECKPOINT_EVERY_S)
    state.take(Answer(0.0, len(cards), first))
    states = [state]
    ends = [change.time_s for change in trace.changes[1:]] + [trace.duration_s]
    for change, end_s in zip(trace.changes, ends, strict=True):
        cards = (cards - change.lost) | change.joined
        following = []
        for state in states:
            state.advance(change.time_s)
            for found in _answers(world, state, change, cards, proposals, end_s):
                following.append(_taken(state, Answer(change.time_s, len(cards), found)))
        states = _best(following, end_s)
    for state in states:
        state.advance(trace.duration_s)
    return max(states, key=lambda state: state.steps)


def _taken(state: Progress, answer: Answer) -> Progress:
    after = copy(state)
    after.answers = list(state.answers)
    if answer.deployment is not state.deployment:
        after.take(answer)
    return after


def _best(states: list[Progress], end_s: float) -> list[Progress]:
    """Different ones that have done most by ``end_s``, and that are fastest then."""

    def done(state: Progress) -> float:
        after = copy(state)
        after.advance(end_s)
        return after.steps

    unique = {str(state.deployment.plan): state for state in sorted(states, key=done)}
    ranked = sorted(unique.values(), key=done, reverse=True)
    fast = sorted(unique.values(), key=lambda state: state.deployment.step_s)
    chosen = {id(state): state for state in [*ranked[:WIDTH], *fast[:WIDTH]]}
    return list(chosen.values())


def _answers(
    world: World,
    state: Progress,
    change: Change,
    cards: frozenset[int],
    proposals: Proposals,
    end_s: float,
) -> Iterator[Deployment]:
    now = state.deployment
    if now.plan is None:
        plan = world.best(len(cards))
        yield restored(plan, world.step_s(plan), cards) if plan else WAITING
        return
    if not change.joined and not changes_plan(now, change):
        yield now
        return
    situation = situated(world, now.plan, change, cards, state.count)
    found = [one for one in proposals(situation) if one.feasible and one.plan is not None]
    if not found:
        yield WAITING
        return
    kept = ending(situation) is not None
    for one in _hopeful(found, situation, end_s - change.time_s):
        yield carried_out(world, one, situation, now, kept=kept)


def _hopeful(found: list[Candidate], situation: Situation, gap_s: float) -> list[Candidate]:
    """The fastest, those that do most in the time that is left, and doing nothing."""

    def work(one: Candidate) -> float:
        return max(gap_s - one.transition_s, 0.0) / one.step_s

    chosen = sorted(found, key=work, reverse=True)[:ANSWERS]
    chosen += sorted(found, key=lambda one: one.step_s)[:ANSWERS]
    if not situation.lost:
        chosen += [one for one in found if one.strategy is StrategyName.KEEP]
    return list({id(one): one for one in chosen}.values())
