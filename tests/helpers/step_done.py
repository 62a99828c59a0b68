"""The event of a committed step, where only some of it matters."""

from __future__ import annotations

from ithaca.runtime.events import StepDone


def step_done(
    step: int, generation: int = 0, *, loss: float = 1.0, time_s: float | None = None
) -> StepDone:
    """Step ``step`` of eight samples in a micro-batch each, at ``time_s`` or that many seconds."""
    return StepDone(
        time_s=float(step) if time_s is None else time_s, step=step, generation=generation,
        loss=loss, auxiliary=0.0, norm=1.0, lr=0.1, count=8, samples=8, seconds=0.1,
        micro_batches=8,
    )  # fmt: skip
