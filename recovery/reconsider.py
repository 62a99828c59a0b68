"""Whether to change a plan although nobody failed: not for what predictions cannot tell apart.

Every change stops all workers for a meeting. One that a prediction promises little of may be undone
by the next one: of plans that differ by less than predictions are wrong, now this and now that
seems better. See decision 0059.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from ithaca.planner.plan import Plan
from ithaca.recovery.decide import Decision, Scored
from ithaca.recovery.redundancy import restored
from ithaca.recovery.strategy import Candidate, Situation, StrategyName, single_holders

GAIN = 0.05
"""By so much a plan for the same workers has to be worth more than the one in force."""


def reconsidered(
    decision: Decision, situation: Situation, worn: Collection[Plan] = ()
) -> Decision | None:
    """What to do of ``decision``, made while everybody trains; None to leave all as it is.

    If the plan is good enough, but some layer has one holder only, others are added.

    Args:
        decision: on ``situation``; its candidates say what the plan in force is worth.
        situation: with nobody lost.
        worn: plans, of generation 0, that were entered and left too often to be entered again.
    """
    keep = _keep(decision)
    if keep is None:
        # The plan in force cannot stay; without another one only somebody's leaving says so.
        return decision if decision.plan is not None or situation.leaving else None
    if _worth_it(decision, keep, situation, worn):
        return decision
    safer = restored(situation.plan, situation)
    if safer is None or not safer.feasible or not _in_time(safer, keep.candidate, situation):
        return None
    reason = f"a second holder for {len(single_holders(situation.plan))} layers"
    return Decision(safer, (*decision.candidates, Scored(safer, decision.score)), reason)


def _keep(decision: Decision) -> Scored | None:
    """The plan in force, if it can stay."""
    for scored in decision.candidates:
        if scored.candidate.strategy is StrategyName.KEEP and scored.candidate.feasible:
            return scored
    return None


def _worth_it(
    decision: Decision, keep: Scored, situation: Situation, worn: Collection[Plan]
) -> bool:
    chosen = decision.chosen
    if chosen.strategy is StrategyName.KEEP or chosen.plan is None:
        return False
    if set(chosen.plan.workers) - set(situation.plan.workers):
        return True  # somebody is taken in
    if replace(chosen.plan, generation=0) in worn:
        return False
    return decision.score >= (1 + GAIN) * keep.score


def _in_time(safer: Candidate, keep: Candidate, situation: Situation) -> bool:
    """Whether the job does not end before others hold what one holds alone."""
    if situation.steps_left is None:
        return True
    return safer.transition_s < situation.steps_left * keep.step_s * situation.slowness
