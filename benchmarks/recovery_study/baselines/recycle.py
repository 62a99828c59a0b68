"""ReCycle (SOSP'24): the lost card's peers take its micro-batches; the layout stays.

Its three techniques: detours to peers of the same stage; the backward split in two halves, of
which the weight half fills bubbles (where the activations that it needs fit into memory); a
staggered optimizer, which lets a stage begin the next step before others have ended this one.
Failures are *normalised*: cards are moved between stages so that no stage lacks two more than
another, as its planner does before it looks up a schedule. Its schedules are our list
scheduler's, not a MILP's.

Published: the layout that the planner finds best for all cards, always normalised. Tuned: the
layout with the best true throughput over the cards that this trace will have, and no
normalisation where it does not pay over the trace's mean gap (both look ahead, in its favour).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from benchmarks.recovery_study import cluster
from benchmarks.recovery_study.deployment import (
    WAITING,
    Count,
    Deployment,
    holdings,
    moved,
    orphaned,
    placed,
    restored,
    score,
)
from benchmarks.recovery_study.grid import even, numbered, rerouted, seats_of
from benchmarks.recovery_study.shapes import SHORTEST, Shapes
from benchmarks.recovery_study.traces import Change, Trace
from benchmarks.recovery_study.world import World
from ithaca.planner.plan import Plan, Schedule
from ithaca.planner.span import Span

Grid = tuple[tuple[Span, ...], int]
"""The stages, and how many pipelines the configured layout has."""


class ReCycle:
    """A grid of stages with as many cards each as there are."""

    checkpoint_s = cluster.CHECKPOINT_EVERY_S

    def __init__(self, world: World, trace: Trace, *, tuned: bool) -> None:
        self._world, self._trace, self._tuned = world, trace, tuned
        self._spans, self._pipelines = tuned_grid(world, trace) if tuned else published_grid(world)
        self._normalised = cache(self._even_plan)

    def start(self, cards: frozenset[int]) -> Deployment:
        """Evenly seated."""
        found = self._normalised(len(cards))
        if found is None:
            return WAITING
        plan, step_s = found
        return Deployment("start", placed(plan, cards), step_s)

    def respond(
        self, now: Deployment, change: Change, cards: frozenset[int], count: Count
    ) -> Deployment:
        """Detours around the lost; those who came sit down where most are missing."""
        even_plan = self._normalised(len(cards))
        if even_plan is None:
            return WAITING
        plan, step_s = even_plan
        if now.plan is None or orphaned(now.plan, cards, self._world.job.num_layers):
            return restored(plan, step_s, cards)
        hit = not change.lost.isdisjoint(now.plan.workers)
        if not hit and len(plan.workers) <= len(now.plan.workers):
            return now
        there = holdings(now.plan, cards)
        seated, move_s = moved(plan, sorted(cards), there, self._world)
        pause_s = hit * cluster.DETECT_S + cluster.REGROUP_S
        best = Deployment("normalise", seated, step_s, pause_s + move_s)
        if self._tuned and (stay := self._stay(now, cards, pause_s)):
            best = max(stay, best, key=self._score)
        return best

    def _score(self, found: Deployment) -> float:
        return score(found.step_s, found.pause_s, self._trace.gap_s)

    def _stay(self, now: Deployment, cards: frozenset[int], pause_s: float) -> Deployment | None:
        """Nobody moves."""
        assert now.plan is not None
        seats = [[c for c in stage if c in cards] for stage in seats_of(now.plan)]
        found = fastest_schedule(self._world, self._spans, seats)
        if found is None:
            return None
        plan, step_s = found
        if len(plan.workers) == len(now.plan.workers):
            return now
        return Deployment("reroute", plan, step_s, pause_s)

    def _even_plan(self, cards: int) -> tuple[Plan, float] | None:
        sizes = even(cards, len(self._spans), self._pipelines)
        return fastest_schedule(self._world, self._spans, numbered(sizes))


def fastest_schedule(
    world: World, spans: Sequence[Span], seats: Sequence[Sequence[int]]
) -> tuple[Plan, float] | None:
    """The grid under the better schedule that fits, and the distance of its staggered steps."""
    best: tuple[Plan, float] | None = None
    for schedule in (Schedule.ONE_F_ONE_B, Schedule.ONE_F_ONE_B_SPLIT):
        plan = rerouted(spans, seats, world.job.micro_batches, schedule)
        if plan is None:
            return None
        truth = world.truth(plan)
        if truth.fits and (best is None or truth.window_s < best[1]):
            best = plan, truth.window_s
    return best


def published_grid(world: World) -> Grid:
    """The commonest pipeline of the planner's best layout for all cards."""
    plan = world.best(cluster.CARDS)
    if plan is None:
        raise ValueError(f"{world.job.name} fits on no layout of {cluster.CARDS} cards")
    splits = [tuple(stage.layers for stage in pipeline.stages) for pipeline in plan.pipelines]
    spans = max(splits, key=lambda split: (splits.count(split), -len(split)))
    return spans, cluster.CARDS // len(spans)


def tuned_grid(world: World, trace: Trace) -> Grid:
    """The equal pipelines with the best mean throughput over the cards that are there."""
    shapes = Shapes(world.job)

    def throughput(grid: Grid) -> float:
        done = 0.0
        for seconds, cards in trace.cards():
            sizes = even(len(cards), len(grid[0]), grid[1])
            found = fastest_schedule(world, grid[0], numbered(sizes))
            done += seconds / found[1] if found else 0.0
        return done

    grids = [published_grid(world)] + [
        (shapes.split(cluster.CARDS // pipelines), pipelines)
        for pipelines in range(1, cluster.CARDS // SHORTEST + 1)
        if cluster.CARDS // pipelines <= world.job.num_layers
    ]
    return max(grids, key=throughput)
