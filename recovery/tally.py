"""What the ballots of a step say together: the step's result, identical on every worker."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tally:
    """What a step's ballots say together; identical on every worker.

    Attributes:
        committed: everybody voted yes.
        drain: somebody was asked to stop after this step.
        count: terms of the loss over the whole step.
        samples: samples in the step's micro-batches.
        loss: mean over the terms.
        auxiliary: mean of the layers' own losses, weighted with the terms.
        norm: global norm of the gradient of the mean loss, before clipping.
        finite: neither losses nor gradients hold a NaN or an infinity.
        culprit: where the first one is, in words; empty if finite.
        micro_batches: whose losses are in it; all of the step, or it was not committed.
        pause: somebody was asked to stand still after this step, for a new plan.
    """

    committed: bool
    drain: bool
    count: int
    samples: int
    loss: float
    auxiliary: float
    norm: float
    finite: bool
    culprit: str
    pause: bool = False
    micro_batches: int = 0
