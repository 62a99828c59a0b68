"""Ours: ``recovery.decide`` with its online hazard, exactly as the product calls it.

It sees the profile, who is there and what has happened so far; nothing of the trace to come. Steps
it predicts from the profile it is shown, and they are charged by the truth. What the product does
within a step is charged as well: the lost cards' share of the step under way is computed again by
those who hold the same layers, everything else is kept. Layers that only one card holds get a
second holder in the background, where memory allows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace

from benchmarks.recovery_study import cluster
from benchmarks.recovery_study.deployment import (
    WAITING,
    Count,
    Deployment,
    changes_plan,
    holdings,
    placed,
    restored,
)
from benchmarks.recovery_study.traces import Change
from benchmarks.recovery_study.world import World
from ithaca.planner.plan import Plan
from ithaca.recovery.decide import Decision, candidates, decide
from ithaca.recovery.hazard import Hazard
from ithaca.recovery.policy import Policy
from ithaca.recovery.redundancy import restored as doubled
from ithaca.recovery.strategy import Candidate, Situation, StrategyName, entered


class Proposals:
    """Candidates by situation; who proposes them does not know when the next failure comes."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, frozenset[int], tuple[int, ...]], tuple[Candidate, ...]] = {}

    def __call__(self, situation: Situation) -> tuple[Candidate, ...]:
        """What all strategies propose."""
        key = (str(situation.plan), situation.lost, situation.spares)
        if key not in self._known:
            self._known[key] = candidates(situation)
        return self._known[key]


class Ours:
    """The product's decisions.

    Args:
        world: that charges the truth.
        proposals: kept over several runs.
        strategies: the only ones to use where one of them can be; None for all.
        background: whether state moves to cards that come while training goes on, to shadows that
            step along; otherwise training waits for it, as the product's predictions have it.
    """

    checkpoint_s = cluster.CHECKPOINT_EVERY_S

    def __init__(
        self,
        world: World,
        proposals: Proposals,
        strategies: Collection[StrategyName] | None = None,
        *,
        background: bool = False,
    ) -> None:
        self._world = world
        self._background = background
        self._proposals = proposals
        self._policy = Policy(strategies=None if strategies is None else frozenset(strategies))
        self._hazard = Hazard()
        self._cards: frozenset[int] = frozenset()
        self._now_s = 0.0

    def start(self, cards: frozenset[int]) -> Deployment:
        """The planner's best layout."""
        self._cards = cards
        plan = self._world.best(len(cards))
        if plan is None:
            return WAITING
        return Deployment("start", placed(plan, cards), self._world.step_s(plan))

    def respond(
        self, now: Deployment, change: Change, cards: frozenset[int], count: Count
    ) -> Deployment:
        """Learn, decide, carry out."""
        self._learn(change)
        self._cards = cards
        if now.plan is None:
            plan = self._world.best(len(cards))
            return restored(plan, self._world.step_s(plan), cards) if plan else WAITING
        if not change.joined and not changes_plan(now, change):
            return now
        situation = situated(self._world, now.plan, change, cards, count)
        decision = self.decided(situation, now.step_s)
        kept = decision.at_once or decision.finish is not None
        return carried_out(self._world, decision.chosen, situation, now, kept=kept)

    def decided(self, situation: Situation, step_s: float) -> Decision:
        """The decision; if the allowed strategies have no answer, one of all strategies."""
        proposed = self._proposals(situation)
        if self._background:
            proposed = tuple(overlapped(one, situation, step_s) for one in proposed)
        now_s, policy = self._now_s, self._policy
        found = decide(situation, self._hazard, policy, now_s=now_s, proposed=proposed)
        if found.plan is None and policy.strategies is not None:
            return decide(situation, self._hazard, now_s=now_s, proposed=proposed)
        return found

    def _learn(self, change: Change) -> None:
        passed_s = change.time_s - self._now_s
        self._hazard = self._hazard.watched({node(card): passed_s for card in self._cards})
        for card in sorted(change.lost & self._cards):
            self._hazard = self._hazard.failed(node(card), change.time_s)
        self._now_s = change.time_s


def node(card: int) -> str:
    """Every card is a machine of its own."""
    return f"card{card}"


def situated(
    world: World, plan: Plan, change: Change, cards: frozenset[int], count: Count
) -> Situation:
    """What a decision may look at."""
    job = world.job.of(plan.schedule)
    return Situation(
        plan,
        frozenset(worker for worker in plan.workers if worker not in cards),
        holdings(plan, cards),
        job.profile,
        tuple(sorted(cards - set(plan.workers))),
        memory_limit_bytes=job.limit_bytes,
        exact=world.exact,
        step=count.committed,
        mid_step=True,
        checkpoint_step=count.saved,
        restore_s=cluster.restart_s(len(cards)) + cluster.CHECKPOINT_S,
        regroup_s=cluster.REGROUP_S,
        nodes={card: node(card) for card in cards | set(plan.workers)},
    )


def carried_out(
    world: World, chosen: Candidate, situation: Situation, now: Deployment, *, kept: bool
) -> Deployment:
    """The chosen candidate with its true step, and the work of the step under way that is lost.

    ``kept`` says whether that step is ended from what is held; otherwise it begins anew.
    """
    if chosen.plan is None:
        return WAITING
    if chosen.strategy is StrategyName.KEEP:
        return now
    back = chosen.rollback_step is not None
    pause_s = situation.restore_s if back else chosen.transition_s
    lost = bool(situation.lost)
    redone = again(situation) if kept else 1.0
    plan = chosen.plan
    if chosen.single_holders:
        after = entered(plan, replace(situation, profile=world.job.of(plan.schedule).profile))
        safer = doubled(plan, after)
        if safer is not None and safer.feasible and safer.plan is not None:
            plan = safer.plan
    return Deployment(
        chosen.strategy.value,
        plan,
        world.step_s(plan),
        pause_s + lost * cluster.DETECT_S,
        redone if lost else 0.0,
        back,
    )


def overlapped(one: Candidate, situation: Situation, step_s: float) -> Candidate:
    """``one`` with its moves beside the training at ``step_s``, if nobody is missing.

    What is lost is then how much more would have been done under the new plan meanwhile. That
    messages and moves share links is not counted.
    """
    if situation.lost or one.strategy is StrategyName.KEEP or one.step_s <= 0:
        return one
    moving_s = one.transition_s - situation.regroup_s
    lost_s = max(moving_s, 0.0) * max(1 - one.step_s / step_s, 0.0)
    return replace(one, transition_s=situation.regroup_s + lost_s)


def again(situation: Situation) -> float:
    """The part of the work on the step under way that the lost cards take with them.

    At each stage those who are left compute what the lost ones had; the busiest stage counts.
    """
    lost: Counter[int] = Counter()
    for stage in situation.plan.stages():
        if stage.worker in situation.lost:
            lost.update(stage.layers)
    parts = [0.0]
    for layer, count in lost.items():
        left = [w for w in situation.plan.holders(layer) if w not in situation.lost]
        parts.append(min(count / len(left), 1.0) if left else 1.0)
    return max(parts)
