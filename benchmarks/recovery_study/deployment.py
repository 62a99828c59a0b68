"""What a system answers to a change of the cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Protocol

from benchmarks.recovery_study import cluster
from benchmarks.recovery_study.traces import Change, Trace
from benchmarks.recovery_study.world import World, renamed
from ithaca.planner.plan import Plan
from ithaca.recovery.moves import moves, seated, seconds


@dataclass(frozen=True, slots=True)
class Deployment:
    """How training goes on.

    Attributes:
        strategy: that led here, for the tables.
        plan: who holds and computes what; None while too few cards are there.
        step_s: true seconds of a step.
        pause_s: between the change and the first action under this plan.
        redone: which part of the work done on the step under way is done again; 1 is all of it.
        rolled_back: whether training goes back to the newest checkpoint.
    """

    strategy: str
    plan: Plan | None
    step_s: float
    pause_s: float = 0.0
    redone: float = 1.0
    rolled_back: bool = False


@dataclass(frozen=True, slots=True)
class Count:
    """Steps of a run so far.

    Attributes:
        committed: whole steps.
        saved: that the newest checkpoint holds.
    """

    committed: int
    saved: int


WAITING = Deployment("waiting", None, inf)
"""Too few cards."""


class System(Protocol):
    """One way to train through failures. One object lives through one run."""

    checkpoint_s: float
    """Seconds between two checkpoints."""

    def start(self, cards: frozenset[int]) -> Deployment:
        """The first deployment, on ``cards``."""

    def respond(
        self, now: Deployment, change: Change, cards: frozenset[int], count: Count
    ) -> Deployment:
        """What follows ``now`` after ``change``, which leaves ``cards``; ``now`` if nothing."""


Maker = Callable[[World, Trace], System]
"""A system for one run. Only what says so may look at the trace beyond its name."""


def holdings(plan: Plan | None, cards: frozenset[int]) -> dict[int, frozenset[int]]:
    """Which layers' state each of ``cards`` has."""
    if plan is None:
        return {}
    return {card: frozenset(plan.held(card)) for card in plan.workers if card in cards}


def orphaned(plan: Plan | None, cards: frozenset[int], num_layers: int) -> bool:
    """Whether the state of some layer is on none of ``cards``."""
    held = holdings(plan, cards).values()
    return len(frozenset().union(*held)) < num_layers


def moved(
    plan: Plan, workers: Sequence[int], there: Mapping[int, frozenset[int]], world: World
) -> tuple[Plan, float]:
    """``plan`` on those of ``workers`` that lack least, and the seconds of sending the rest.

    Raises:
        ValueError: nobody holds a layer.
    """
    profile = world.job.profile
    found = seated(plan, workers, there, profile)
    return found, seconds(moves(found, there, profile), profile)


def placed(plan: Plan, cards: frozenset[int]) -> Plan:
    """``plan`` of workers 0, 1, ... on the lowest of ``cards``, which have no state yet."""
    return renamed(plan, sorted(cards))


def restored(plan: Plan, step_s: float, cards: frozenset[int]) -> Deployment:
    """All processes are started anew from the newest checkpoint."""
    pause_s = cluster.DETECT_S + cluster.restart_s(len(cards)) + cluster.CHECKPOINT_S
    return Deployment("rollback", placed(plan, cards), step_s, pause_s, rolled_back=True)


def score(step_s: float, transition_s: float, gap_s: float) -> float:
    """Eq. 8 without the batch: what is done until the next failure, ``gap_s`` away."""
    return max(gap_s - transition_s, 0.0) / gap_s / step_s


def changes_plan(now: Deployment, change: Change) -> bool:
    """Whether a card of the present plan is lost."""
    return now.plan is not None and not change.lost.isdisjoint(now.plan.workers)
