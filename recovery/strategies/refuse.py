"""Refuse: when nothing is possible, say exactly why."""

from __future__ import annotations

from collections.abc import Sequence

from ithaca.planner.span import format_ids
from ithaca.recovery.strategy import Candidate, Situation, StrategyName


def refusal(
    situation: Situation, candidates: Sequence[Candidate], forbidden: str = ""
) -> Candidate:
    """The candidate without a plan; its reason names what is missing.

    Args:
        situation: in which nothing is possible.
        candidates: all infeasible.
        forbidden: why the policy does not allow to go on, if that is so.
    """
    return Candidate(StrategyName.REFUSE, None, reason=_reason(situation, candidates, forbidden))


def _reason(situation: Situation, candidates: Sequence[Candidate], forbidden: str) -> str:
    lost = ", ".join(f"w{worker}" for worker in sorted(situation.lost)) or "nobody"
    parts = [f"lost: {lost}"]
    if forbidden:
        parts.append(forbidden)
    elif not situation.available:
        parts.append("no worker is left")
    elif situation.orphans:
        layers = format_ids(situation.orphans)
        parts.append(f"nobody holds layers {layers} any more")
        if situation.checkpoint_step is None:
            parts.append("and there is no checkpoint to go back to")
    reasons = dict.fromkeys(
        f"{one.strategy.value}: {one.reason}"
        for one in sorted(candidates, key=lambda one: one.peak_bytes)
        if one.reason and one.reason != forbidden
    )
    if not candidates and not forbidden and not situation.orphans and situation.available:
        parts.append(_no_layout(situation))
    return "; ".join([*parts, *reasons])


def _no_layout(situation: Situation) -> str:
    return (
        f"no layout of {situation.plan.num_layers} layers on {len(situation.available)} workers "
        f"fits into {situation.memory_limit_bytes} bytes each"
    )
