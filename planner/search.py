"""Auto layout: pipelines x stages x layer split x micro-batches for a Profile and N workers.

The layouts of :mod:`ithaca.planner.front` as plans. The best ones are simulated, as far as that
takes a few tenths of a second; for larger plans the front's own times stand, which differ from
the simulator's by parts of a percent (the tests compare).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ithaca.planner.front import front
from ithaca.planner.layout import NoLayoutError as NoLayoutError
from ithaca.planner.plan import Plan, Schedule
from ithaca.planner.profile import Profile
from ithaca.planner.schedule import programs
from ithaca.planner.simulate import simulate

SIMULATED_COMPUTES = 8_000
"""Computes that all simulations of one search may have together, a few tenths of a second."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A layout and what is predicted for it.

    Attributes:
        plan: its workers are 0 to n - 1.
        step_s: seconds of a step, simulated unless the plan is very large.
        peak_bytes: the most memory any worker needs.
    """

    plan: Plan
    step_s: float
    peak_bytes: int


def search(
    profile: Profile,
    num_workers: int,
    num_micro_batches: int,
    memory_limit_bytes: int | None = None,
    schedule: Schedule = Schedule.ONE_F_ONE_B,
    *,
    ties: Iterable[tuple[int, int]] = (),
    exact: bool = True,
) -> tuple[Candidate, ...]:
    """The best layouts, fastest first; the first one's plan is the answer.

    Fewer than ``num_workers`` are used only where that is predicted to be faster, or where there
    are not enough layers and micro-batches for all.

    Args:
        profile: of the workload.
        num_workers: available.
        num_micro_batches: of one step, dealt as contiguous blocks, at least one per pipeline.
        memory_limit_bytes: per worker, as ``planner.memory`` counts them; None for no limit.
        schedule: of the plans.
        ties: pairs of layers that share a weight.
        exact: sums in the fixed tree, or plain all-reduce.

    Raises:
        NoLayoutError: nothing fits; the message has the smallest limit that would.
        ValueError: there are no layers, workers or micro-batches.
    """
    pairs = tuple(ties)
    budget = SIMULATED_COMPUTES
    found = []
    for layout in front(
        profile,
        num_workers,
        num_micro_batches,
        limit=memory_limit_bytes,
        schedule=schedule,
        exact=exact,
        ties=pairs,
    ):
        plan = layout.plan(range(num_workers))
        step_s, peak = layout.step_s, layout.peak_bytes
        price = 2 * sum(len(p.stages) * len(p.micro_batches) for p in plan.pipelines)
        if price <= budget:
            budget -= price
            timeline = simulate(programs(plan, profile.layers, pairs), profile, exact=exact)
            step_s, peak = timeline.step_s, max(timeline.peak_bytes.values())
        found.append(Candidate(plan, step_s, peak))
    return tuple(sorted(found, key=lambda x: (x.step_s, -len(x.plan.workers), x.peak_bytes)))
