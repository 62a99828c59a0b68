"""Odyssey (arXiv 2508.21613, later "Chameleon") as far as its equations are public.

Two answers: data rerouting (Eq. 12 and 13; no transition) and dynamic parallelism (Algorithm 1:
all partitions of the survivors into pipelines, micro-batches by length, even splits; state moved
by Hungarian matching). Eq. 8 chooses with the time to the next failure, which the paper does not
say how to get; here it is given the trace's true mean gap. Plans are searched ahead.

Published: steps are estimated by Eq. 9 to 13, which know compute alone. Tuned: dynamic plans are
found with the calibrated estimate, and both answers are compared by their true steps. Cards that
come are not in the paper; they are a further occasion for dynamic parallelism.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from math import inf

from benchmarks.recovery_study import cluster
from benchmarks.recovery_study.deployment import (
    WAITING,
    Count,
    Deployment,
    changes_plan,
    holdings,
    moved,
    orphaned,
    placed,
    restored,
    score,
)
from benchmarks.recovery_study.shapes import Shapes, partitions
from benchmarks.recovery_study.traces import Change, Trace
from benchmarks.recovery_study.world import World
from ithaca.planner.plan import Plan
from ithaca.recovery.strategies.reroute import plans
from ithaca.recovery.strategy import Situation


class Odyssey:
    """Rerouting or dynamic parallelism, by Eq. 8.

    The plan before any rerouting and the cards lost since are kept: Eq. 13 counts from there.
    """

    checkpoint_s = cluster.CHECKPOINT_EVERY_S

    def __init__(self, world: World, trace: Trace, *, tuned: bool) -> None:
        self._world, self._gap_s, self._tuned = world, trace.gap_s, tuned
        self._shapes = Shapes(world.job)
        self._dynamic = cache(self._searched)
        self._base: Plan | None = None
        self._gone: frozenset[int] = frozenset()

    def start(self, cards: frozenset[int]) -> Deployment:
        """The planner's best layout."""
        plan = self._world.best(len(cards))
        if plan is None:
            return WAITING
        self._base = placed(plan, cards)
        return Deployment("start", self._base, self._world.step_s(plan))

    def respond(
        self, now: Deployment, change: Change, cards: frozenset[int], count: Count
    ) -> Deployment:
        """The better one by Eq. 8."""
        target = self._dynamic(len(cards))
        if target is None:
            return WAITING
        if now.plan is None or orphaned(now.plan, cards, self._world.job.num_layers):
            return self._settled(restored(target, self._world.step_s(target), cards))
        hit = changes_plan(now, change)
        plan, move_s = moved(target, sorted(cards), holdings(now.plan, cards), self._world)
        common_s = hit * cluster.DETECT_S + cluster.REGROUP_S
        dynamic = Deployment("dynamic", plan, self._world.step_s(plan), common_s + move_s)
        reroute, estimate_s = self._rerouted(now, change, cards) if hit else (now, self._own(now))
        if reroute is None:
            return self._settled(dynamic)
        dynamic_s = dynamic.step_s if self._tuned else self._estimate(plan)
        if score(dynamic_s, move_s, self._gap_s) > score(estimate_s, 0.0, self._gap_s):
            return self._settled(dynamic)
        self._gone |= change.lost
        return reroute

    def _settled(self, found: Deployment) -> Deployment:
        self._base, self._gone = found.plan, frozenset()
        return found

    def _own(self, now: Deployment) -> float:
        """The present step by the own estimate."""
        if self._tuned:
            return now.step_s
        assert self._base is not None, "there is a plan"
        return self._estimate(self._base) + self._extra_s(self._gone)

    def _rerouted(
        self, now: Deployment, change: Change, cards: frozenset[int]
    ) -> tuple[Deployment | None, float]:
        """Detours around all cards lost since the base plan, and the estimate of their step."""
        assert self._base is not None, "there is a plan"
        gone = (self._gone | change.lost) & set(self._base.workers)
        held = holdings(self._base, cards)
        job = self._world.job
        situation = Situation(self._base, gone, held, job.profile, exact=self._world.exact)
        plan = next(plans(situation), None)
        if plan is None or not self._world.truth(plan).fits:
            return None, inf
        pause_s = cluster.DETECT_S + cluster.REGROUP_S
        step_s = self._world.step_s(plan)
        found = Deployment("reroute", plan, step_s, pause_s)
        return found, step_s if self._tuned else self._estimate(self._base) + self._extra_s(gone)

    def _estimate(self, plan: Plan) -> float:
        """Eq. 10 over Eq. 9."""
        return max(
            self._shapes.published_s(len(p.stages), len(p.micro_batches)) for p in plan.pipelines
        )

    def _extra_s(self, gone: frozenset[int]) -> float:
        """Seconds that Eq. 13 adds."""
        assert self._base is not None, "there is a plan"
        longest = max(len(pipeline.stages) for pipeline in self._base.pipelines)
        slot_s = self._shapes.published_s(longest, 1) / longest
        return rerouting_slots(self._base, gone) * slot_s

    def _searched(self, cards: int) -> Plan | None:
        """Algorithm 1."""
        seconds = self._shapes.calibrated_s if self._tuned else self._shapes.published_s
        shapes = partitions(cards, self._world.job.num_layers)
        plan = self._shapes.fastest(shapes, seconds, tail=self._tuned)
        return plan if plan is None or self._world.truth(plan).fits else None


def rerouting_slots(plan: Plan, gone: frozenset[int]) -> float:
    """What Eq. 13 adds: at each stage the lost cards' micro-batches, over those left.

    Infinite where nobody is left.
    """
    most = max(len(pipeline.micro_batches) for pipeline in plan.pipelines)
    lost = Counter(stage.layers.first for stage in plan.stages() if stage.worker in gone)
    left = [stage.layers for stage in plan.stages() if stage.worker not in gone]
    slots = 0.0
    for first, count in lost.items():
        peers = sum(first in layers for layers in left)
        slots += most * count / peers if peers else inf
    return slots
