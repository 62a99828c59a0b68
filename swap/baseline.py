"""The simple policies that a mixed one has to beat: swap only, and compute again only."""

from __future__ import annotations

from dataclasses import replace

from ithaca.swap.plan import Plan
from ithaca.swap.policy import EFFORT, Refusal, decide
from ithaca.swap.trace import Trace


def swap_only(trace: Trace, budget_bytes: int, effort: int = EFFORT) -> Plan | Refusal:
    """The plan of :func:`~ithaca.swap.policy.decide` when nothing can be computed again."""
    return decide(replace(trace, replays=()), budget_bytes, effort)


def recompute_only(trace: Trace, budget_bytes: int, effort: int = EFFORT) -> Plan | Refusal:
    """The plan of :func:`~ithaca.swap.policy.decide` when there is no link."""
    return decide(replace(trace, links=()), budget_bytes, effort)
