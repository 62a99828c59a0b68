"""Who writes which layer to checkpoints."""

from __future__ import annotations

from ithaca.planner.plan import Plan


def writer_of(plan: Plan, layer: int) -> int:
    """Who writes ``layer`` to checkpoints: one of its holders, in turn."""
    holders = plan.holders(layer)
    return holders[layer % len(holders)]
