"""Bamboo (NSDI'23): every card also computes the forward of the next stage, in bubbles.

It holds that stage's state as well (the last card that of the first stage) and steps it, so its
successor's loss pauses training only for a local rendezvous; from then on it does both stages.
When two neighbours of a pipeline are lost, or cards come, pipelines are formed anew behind a global
rendezvous. Times are those of Bamboo's own simulator. The redundant forward is charged only as far
as the card's idle time does not hide it.

Published: a pipeline with a gap is 1.5 times slower, as that simulator has it; a local rendezvous
takes 20 s; cards that come are taken in at once. Tuned: the gap costs what the true layout costs,
micro-batches dealt anew; 5 s; cards are taken in where that pays over the trace's mean gap.
"""

from __future__ import annotations

from functools import cache

from benchmarks.recovery_study import cluster
from benchmarks.recovery_study.baselines.recycle import published_grid
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
from benchmarks.recovery_study.shapes import Shapes
from benchmarks.recovery_study.traces import Change, Trace
from benchmarks.recovery_study.world import World
from ithaca.planner.plan import Pipeline, Plan, Schedule, Stage
from ithaca.planner.span import Span

GLOBAL_S = 30.0
LOCAL_S, TUNED_LOCAL_S = 20.0, 5.0
FALLBACK = 1.5
"""Slowdown of a pipeline in which one card does two stages."""


class Bamboo:
    """Whole pipelines of one length; cards beyond them wait."""

    checkpoint_s = cluster.CHECKPOINT_EVERY_S

    def __init__(self, world: World, trace: Trace, *, tuned: bool) -> None:
        self._world, self._trace, self._tuned = world, trace, tuned
        self._spans, self._pipelines = published_grid(world)
        self._shapes = Shapes(world.job)
        self._whole = cache(self._formed)
        self._lost: frozenset[int] = frozenset()

    def start(self, cards: frozenset[int]) -> Deployment:
        """As many pipelines as there are cards for."""
        found = self._whole(len(cards))
        if found is None:
            return WAITING
        return Deployment("start", placed(found[0], cards), found[1])

    def respond(
        self, now: Deployment, change: Change, cards: frozenset[int], count: Count
    ) -> Deployment:
        """Close the gap, or form pipelines anew."""
        found = self._whole(len(cards))
        if found is None:
            self._lost = frozenset()
            return WAITING
        plan, step_s = found
        if now.plan is None or orphaned(now.plan, cards, self._world.job.num_layers):
            self._lost = frozenset()
            return restored(plan, step_s, cards)
        if changes_plan(now, change):
            gone = self._lost | (change.lost & set(now.plan.workers))
            gap = self._with_gaps(now.plan, gone)
            if gap is not None:
                self._lost = gone
                local_s = TUNED_LOCAL_S if self._tuned else LOCAL_S
                return Deployment("redundancy", now.plan, gap, cluster.DETECT_S + local_s)
        elif not change.joined or step_s >= now.step_s:
            return now
        seated, move_s = moved(plan, sorted(cards), holdings(now.plan, cards), self._world)
        formed = Deployment("pipelines", seated, step_s, GLOBAL_S + move_s)
        if self._tuned and not changes_plan(now, change):
            gap_s = self._trace.gap_s
            if score(step_s, formed.pause_s, gap_s) <= score(now.step_s, 0.0, gap_s):
                return now
        self._lost = frozenset()
        return formed

    def _formed(self, cards: int) -> tuple[Plan, float] | None:
        """Pipelines, each card with the next stage as a shadow, and the step with redundancy."""
        stages = len(self._spans)
        count = min(cards // stages, self._pipelines)
        if count == 0:
            return None
        lengths = (stages,) * count
        dealt = self._shapes.dealt(lengths, self._shapes.calibrated_s)
        plan = self._shapes.plan(lengths, dealt)
        shadows = tuple(
            Stage(after.layers, before.worker)
            for pipeline in plan.pipelines
            for before, after in zip(pipeline.stages, _behind(pipeline.stages), strict=True)
        )
        held = Plan(plan.pipelines, plan.schedule, 0, (), shadows)
        truth = self._world.truth(held)
        if not truth.fits:
            return None
        return held, truth.step_s + self._redundancy_s(plan)

    def _redundancy_s(self, plan: Plan) -> float:
        """What the forwards of the next stages take beyond the idle time of their cards."""
        idle = iter(self._world.truth(plan).idle_s)
        layers = self._world.job.profile.layers
        most = 0.0
        for pipeline in plan.pipelines:
            count = len(pipeline.micro_batches)
            following = [stage.layers for stage in pipeline.stages[1:]]
            for after in (*following, None):
                work = count * sum(layers[i].forward_s for i in after) if after else 0.0
                most = max(most, work - next(idle))
        return most

    def _with_gaps(self, plan: Plan, gone: frozenset[int]) -> float | None:
        """Seconds of a step when the cards before the lost ones do both stages; None if not."""
        if any(
            stage.worker in gone and after.worker in gone
            for pipeline in plan.pipelines
            for stage, after in zip(pipeline.stages, _behind(pipeline.stages), strict=True)
        ):
            return None
        whole = self._whole(len(plan.workers))
        assert whole is not None, "the plan has been formed"
        published = FALLBACK * whole[1]
        if not self._tuned or any(pipeline.stages[0].worker in gone for pipeline in plan.pipelines):
            return published
        dealt = self._dealt([_merged(pipeline, gone) for pipeline in plan.pipelines])
        return min(self._world.step_s(dealt) + self._redundancy_s(dealt), published)

    def _dealt(self, splits: list[tuple[Span, ...]]) -> Plan:
        """Pipelines of these splits; each gets micro-batches by its slowest stage."""
        total = self._world.job.micro_batches
        longest = [max(map(len, spans)) for spans in splits]
        rates = [1 / length for length in longest]
        shares = [int(total * rate / sum(rates)) for rate in rates]
        for place in range(total - sum(shares)):
            shares[place % len(shares)] += 1
        pipelines, worker, first = [], 0, 0
        for spans, share in zip(splits, shares, strict=True):
            stages = tuple(Stage(span, worker + k) for k, span in enumerate(spans))
            pipelines.append(Pipeline(stages, tuple(range(first, first + share))))
            worker, first = worker + len(spans), first + share
        return Plan(tuple(pipelines), Schedule.ONE_F_ONE_B)


def _behind(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """For each stage the next one, for the last one the first."""
    return (*stages[1:], stages[0])


def _merged(pipeline: Pipeline, gone: frozenset[int]) -> tuple[Span, ...]:
    """The spans when each lost stage is done by the card before it; the first one is not lost."""
    spans: list[Span] = []
    for stage in pipeline.stages:
        if stage.worker not in gone:
            spans.append(stage.layers)
        else:
            spans[-1] = Span(spans[-1].first, stage.layers.last)
    return tuple(spans)
