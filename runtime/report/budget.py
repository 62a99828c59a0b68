"""What every worker did to stay under its budget of bytes, as the report shows it."""

from __future__ import annotations

from dataclasses import dataclass

from ithaca.runtime.events import MemoryUsed
from ithaca.runtime.report.story import Story


@dataclass(frozen=True, slots=True)
class Decision:
    """What is done with a saved tensor, and why; ``tensor`` is its place in the module."""

    module: str
    tensor: str
    nbytes: int
    action: str
    reason: str


@dataclass(frozen=True, slots=True)
class Budget:
    """A worker's row; bytes, and seconds since it started."""

    worker: int
    peak_bytes: int
    budget_bytes: int
    out_bytes: int
    in_bytes: int
    disk_bytes: int
    hidden_s: float
    exposed_s: float
    recompute_s: float
    plan_hits: float
    decisions: list[Decision]
    refusals: list[str]


def budgets(story: Story) -> list[Budget]:
    """The rows, by worker; none without budgets."""
    return [_budget(story.memory[worker]) for worker in sorted(story.memory)]


def _budget(used: MemoryUsed) -> Budget:
    return Budget(
        used.worker,
        used.peak_bytes,
        used.budget_bytes,
        used.out_bytes,
        used.in_bytes,
        used.disk_bytes,
        max(0.0, used.copy_s - used.exposed_s),
        used.exposed_s,
        used.recompute_s,
        used.plan_hits,
        [_decision(*decision) for decision in used.decisions],
        used.refusals,
    )


def _decision(identity: str, nbytes: int, action: str, reason: str) -> Decision:
    """A saved tensor is named ``F@module/m0.0#2~2:float32:r3:b19``."""
    place, _, tensor = identity.partition("/m")
    return Decision(place.partition("@")[2] or "the model", f"m{tensor}", nbytes, action, reason)
