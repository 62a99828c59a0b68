"""What is predicted for a plan: seconds of a step, memory, and the way there."""

from __future__ import annotations

from dataclasses import replace

from ithaca.planner.plan import Plan
from ithaca.planner.schedule import programs
from ithaca.planner.simulate import simulate
from ithaca.recovery.moves import moves, seconds
from ithaca.recovery.strategy import Candidate, Situation, StrategyName, single_holders


def candidate(
    strategy: StrategyName, plan: Plan, situation: Situation, reason: str = ""
) -> Candidate:
    """``plan`` as a candidate: simulated, with the moves that reach it.

    It is feasible unless a worker would need more than the memory limit; the reason then says who
    and how much.
    """
    made = programs(plan, situation.profile.layers, situation.ties)
    timeline = simulate(made, situation.profile, exact=situation.exact)
    rounds = moves(plan, situation.there, situation.profile)
    worker, peak = max(timeline.peak_bytes.items(), key=lambda item: (item[1], -item[0]))
    limit = situation.memory_limit_bytes
    fits = limit is None or peak <= limit
    return Candidate(
        strategy,
        plan,
        rounds,
        timeline.step_s,
        situation.regroup_s + seconds(rounds, situation.profile),
        peak,
        fits,
        reason if fits else too_large(worker, peak, limit or 0),
        single_holders(plan),
    )


def too_large(worker: int, peak: int, limit: int) -> str:
    """Why a plan does not fit."""
    return f"worker {worker} would need {peak} bytes, {peak - limit} more than the limit of {limit}"


def next_generation(plan: Plan, situation: Situation) -> Plan:
    """``plan`` with the generation behind that of the situation's plan."""
    return replace(plan, generation=situation.plan.generation + 1)
