"""Oobleck (SOSP'23): pipeline templates for every length, instantiated to use all cards.

A failure shortens its pipeline by one template; a pipeline that falls below the shortest template
borrows from the longest one or is merged with another. The batch is dealt so that pipelines end
together; missing layers are copied.

Published: templates and multisets are chosen by its cost model (compute alone, as its all-reduce
counts one layer); every change pays for new groups (one per layer), the rendezvous and for
rebuilding the longest stage. The seconds are of JF-D/Parcae's profile of such steps. Tuned: the
calibrated estimate chooses, and a change costs what it costs every system that keeps its
processes.
"""

from __future__ import annotations

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
)
from benchmarks.recovery_study.shapes import SHORTEST, Lengths, Shapes, partitions
from benchmarks.recovery_study.traces import Change, Trace
from benchmarks.recovery_study.world import World
from ithaca.planner.plan import Plan

PIPELINES = 2
"""At least; f + 1 of them survive f failures at once."""


class Oobleck:
    """Pipelines whose lengths follow the failures."""

    checkpoint_s = cluster.CHECKPOINT_EVERY_S

    def __init__(self, world: World, trace: Trace, *, tuned: bool) -> None:
        self._world, self._tuned = world, tuned
        self._shapes = Shapes(world.job)
        self._seconds = self._shapes.calibrated_s if tuned else self._shapes.published_s

    def start(self, cards: frozenset[int]) -> Deployment:
        """The cheapest multiset of templates."""
        plan = self._instantiated(len(cards))
        if plan is None:
            return WAITING
        return Deployment("start", placed(plan, cards), self._world.step_s(plan))

    def respond(
        self, now: Deployment, change: Change, cards: frozenset[int], count: Count
    ) -> Deployment:
        """Shorter templates after a loss; a new multiset when cards come."""
        if now.plan is None or orphaned(now.plan, cards, self._world.job.num_layers):
            plan = self._instantiated(len(cards))
            return restored(plan, self._world.step_s(plan), cards) if plan else WAITING
        if not change.joined and not changes_plan(now, change):
            return now
        target = self._instantiated(len(cards)) if change.joined else self._shrunk(now.plan, cards)
        if target is None:
            return WAITING
        plan, move_s = moved(target, sorted(cards), holdings(now.plan, cards), self._world)
        pause_s = self._pause_s(plan) + move_s
        return Deployment("templates", plan, self._world.step_s(plan), pause_s)

    def _pause_s(self, plan: Plan) -> float:
        if self._tuned:
            return cluster.DETECT_S + cluster.REGROUP_S
        groups = cluster.GROUP_S * plan.num_layers
        longest = max(len(stage.layers) for stage in plan.stages())
        build = cluster.PROCESS_S + cluster.BUILD_S_PER_LAYER * longest
        return cluster.DETECT_S + cluster.RENDEZVOUS_S + groups + build

    def _instantiated(self, cards: int) -> Plan | None:
        for fewest in (PIPELINES, 1):
            shapes = partitions(cards, self._world.job.num_layers, fewest)
            plan = self._shapes.fastest(shapes, self._seconds, tail=self._tuned)
            if plan is not None:
                return plan
        return None

    def _shrunk(self, plan: Plan, cards: frozenset[int]) -> Plan | None:
        lengths = shrunk(
            tuple(sum(s.worker in cards for s in pipeline.stages) for pipeline in plan.pipelines)
        )
        if not lengths or max(lengths) > self._world.job.num_layers:
            return self._instantiated(len(cards))
        return self._shapes.plan(lengths, self._shapes.dealt(lengths, self._seconds))


def shrunk(left: Lengths) -> Lengths:
    """Lengths of the templates after losses left so many cards in each pipeline; () if too few.

    The shortest is mended first: from the longest one if that stays long enough, else by merging
    it with the next shortest.
    """
    lengths = sorted((length for length in left if length), reverse=True)
    while lengths and lengths[-1] < SHORTEST:
        need = SHORTEST - lengths[-1]
        if len(lengths) > 1 and lengths[0] - need >= SHORTEST:
            lengths[0] -= need
            lengths[-1] += need
        elif len(lengths) > 1:
            lengths[-2:] = [lengths[-2] + lengths[-1]]
        else:
            return ()
        lengths.sort(reverse=True)
    return tuple(lengths)
