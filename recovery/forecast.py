"""What is predicted for a plan: seconds of a step, memory, and the way there."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ithaca.planner.memory import usage
from ithaca.planner.outlook import Outlook, outlook
from ithaca.planner.plan import Plan, Stage
from ithaca.planner.schedule import programs
from ithaca.planner.simulate import Timeline, simulate
from ithaca.recovery.cover import spans
from ithaca.recovery.moves import moves, seconds
from ithaca.recovery.strategy import Candidate, Situation, StrategyName, single_holders

SIMULATED_COMPUTES = 3_000
"""Plans with more computes are not simulated one by one."""

SQUEEZED_COMPUTES = 20_000
"""Plans with more computes have to fit as they are."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Predictions for a plan.

    Attributes:
        step_s: seconds of a step.
        peak_bytes: the most memory any worker needs.
        largest: the worker that needs it.
    """

    step_s: float
    peak_bytes: int
    largest: int


def look(plan: Plan, situation: Situation) -> Timeline | Outlook:
    """Simulate ``plan``; of a large one see the outlook, which is within parts of a percent."""
    profile, exact, ties = situation.profile, situation.exact, situation.ties
    if price(plan) > SIMULATED_COMPUTES:
        return outlook(plan, profile, exact=exact, ties=ties)
    return simulate(programs(plan, profile.layers, ties), profile, exact=exact)


def forecast(plan: Plan, situation: Situation) -> Forecast:
    """What a step of ``plan`` takes."""
    seen = look(plan, situation)
    worker, peak = max(seen.peak_bytes.items(), key=lambda item: (item[1], -item[0]))
    return Forecast(seen.step_s, peak, worker)


def price(plan: Plan) -> int:
    """Computes in a step of ``plan``, F and B."""
    return 2 * sum(len(p.stages) * len(p.micro_batches) for p in plan.pipelines)


def candidate(
    strategy: StrategyName, plan: Plan, situation: Situation, reason: str = ""
) -> Candidate:
    """``plan`` as a candidate, with the moves that reach it.

    Only members of a plan can send: whoever else has to is in it as a shadow of what it sends.
    It is feasible unless a worker would need more than the memory limit; the reason then says who
    and how much. Where workers can save memory it fits in more time, as far as is known.
    """
    plan = with_sources(plan, situation)
    found = forecast(plan, situation)
    if slower := squeezed(plan, found, situation):
        found, reason = slower, f"{reason}; {_saves(found, slower)}".removeprefix("; ")
    members = set(plan.workers)
    there = {worker: held for worker, held in situation.there.items() if worker in members}
    rounds = moves(plan, there, situation.profile)
    limit = situation.memory_limit_bytes
    fits = limit is None or found.peak_bytes <= limit
    return Candidate(
        strategy,
        plan,
        rounds,
        found.step_s,
        situation.regroup_s + seconds(rounds, situation.profile),
        found.peak_bytes,
        fits,
        reason if fits else too_large(found, limit or 0),
        single_holders(plan),
    )


def squeezed(plan: Plan, found: Forecast, situation: Situation) -> Forecast | None:
    """``found`` with all workers within the limit, and the time that this takes; None if not.

    None too if it fits as it is. What can be saved are activations; the slowest worker's slowdown
    counts for the whole step.
    """
    limit, profile = situation.memory_limit_bytes, situation.profile
    fits = limit is None or found.peak_bytes <= limit
    if fits or not profile.memory_costs or price(plan) > SQUEEZED_COMPUTES:
        return None
    assert limit is not None
    slowdown = 1.0
    for program in programs(plan, profile.layers, situation.ties).values():
        needs = usage(program, profile, exact=situation.exact)
        if needs.peak > limit:
            share = 1 - (needs.peak - limit) / needs.activations if needs.activations else -1.0
            here = profile.slowdown(share) if share >= 0 else None
            if here is None:
                return None
            slowdown = max(slowdown, here)
    return Forecast(found.step_s * slowdown, limit, found.largest)


def _saves(found: Forecast, slower: Forecast) -> str:
    saved = found.peak_bytes - slower.peak_bytes
    return (
        f"worker {found.largest} saves {saved} bytes, which makes a step "
        f"{slower.step_s / found.step_s:.2f} times as long"
    )


def with_sources(plan: Plan, situation: Situation) -> Plan:
    """``plan`` with shadows on those outside of it who alone have a layer that somebody needs.

    Those who stay are preferred to those who leave, then who has most of what is wanted.
    """
    members = set(plan.workers)
    inside = frozenset().union(*(situation.held(worker) for worker in members))
    wanted = set(range(plan.num_layers)) - inside
    outside = [worker for worker in situation.there if worker not in members]
    added: list[Stage] = []
    while wanted:
        source = max(
            outside,
            key=lambda w: (
                len(wanted & situation.held(w)) > 0,
                w in situation.staying,
                len(wanted & situation.held(w)),
                -w,
            ),
            default=None,
        )
        if source is None or not (gives := wanted & situation.held(source)):
            break
        added += [Stage(span, source) for span in spans(gives)]
        outside.remove(source)
        wanted -= gives
    return replace(plan, shadows=(*plan.shadows, *added)) if added else plan


def too_large(found: Forecast, limit: int) -> str:
    """Why a plan does not fit."""
    needs = f"worker {found.largest} would need {found.peak_bytes} bytes"
    return f"{needs}, {found.peak_bytes - limit} more than the limit of {limit}"
