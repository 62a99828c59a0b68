"""Checkpoint and restart: every change starts all processes anew from the newest checkpoint.

Training stands still while a checkpoint is written. The layout is always the planner's best for
the cards that are there. Published: a checkpoint every ten minutes, and every change restarts.
Tuned: the interval of Young and Daly for the trace's mean gap, and cards that come are taken in
only where the faster step pays for the restart over that gap (both look ahead, in its favour).
"""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

from benchmarks.recovery_study import cluster
from benchmarks.recovery_study.deployment import (
    WAITING,
    Count,
    Deployment,
    changes_plan,
    placed,
    restored,
    score,
)
from benchmarks.recovery_study.traces import Change, Trace
from benchmarks.recovery_study.world import World

WRITE_S = cluster.CHECKPOINT_S / 2
PUBLISHED_S = 600.0


class Checkpoint:
    """Restarts."""

    def __init__(self, world: World, trace: Trace, *, tuned: bool) -> None:
        self._world, self._trace, self._tuned = world, trace, tuned
        self.checkpoint_s = sqrt(2 * WRITE_S * trace.gap_s) if tuned else PUBLISHED_S

    def start(self, cards: frozenset[int]) -> Deployment:
        """The best layout, slowed by the checkpoints."""
        plan = self._world.best(len(cards))
        if plan is None:
            return WAITING
        return Deployment("start", placed(plan, cards), self._slowed(self._world.step_s(plan)))

    def respond(
        self, now: Deployment, change: Change, cards: frozenset[int], count: Count
    ) -> Deployment:
        """Everything anew."""
        plan = self._world.best(len(cards)) if cards else None
        if plan is None:
            return WAITING
        found = restored(plan, self._slowed(self._world.step_s(plan)), cards)
        if now.plan is None or changes_plan(now, change):
            return found
        # Nobody is missing: a checkpoint is written first, so nothing is lost.
        found = replace(found, rolled_back=False, pause_s=found.pause_s - cluster.DETECT_S)
        gap_s = self._trace.gap_s
        stay = score(now.step_s, 0.0, gap_s)
        if self._tuned and score(found.step_s, found.pause_s, gap_s) <= stay:
            return now
        return found

    def _slowed(self, step_s: float) -> float:
        return step_s * (1 + WRITE_S / self.checkpoint_s)
