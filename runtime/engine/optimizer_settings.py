"""The numbers of the optimizer, and the learning rate of a step; a controller needs no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ithaca.runtime.config.job import Job


@dataclass(frozen=True, slots=True)
class OptimizerSettings:
    """AdamW (Loshchilov and Hutter, arXiv 1711.05101) with a scheduled rate.

    Attributes:
        lr: peak rate.
        betas: decay of the moments.
        eps: added to the root of the second moment.
        weight_decay: decoupled; for parameters of two or more dimensions.
        clip: largest global norm, or None.
        schedule: how the rate falls behind the warm-up.
        warmup: steps of linear rise.
        final: the last rate as a part of the peak.
        steps: of the whole job.
    """

    lr: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    clip: float | None
    schedule: Literal["constant", "linear", "cosine"]
    warmup: int
    final: float
    steps: int

    @classmethod
    def of(cls, job: Job) -> OptimizerSettings:
        """Those of ``job``."""
        o = job.optimizer
        return cls(
            o.lr, o.betas, o.eps, o.weight_decay, o.clip, o.schedule, o.warmup, o.final, job.steps
        )

    def rate(self, step: int) -> float:
        """The learning rate of step ``step`` (0 is the first)."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        if self.schedule == "constant":
            return self.lr
        left = max(1, self.steps - 1 - self.warmup)
        done = min(1.0, (step - self.warmup) / left)
        fall = done if self.schedule == "linear" else (1 - math.cos(math.pi * done)) / 2
        return self.lr * (1 - (1 - self.final) * fall)

    def divisor(self, count: int, norm: float) -> float:
        """What reduced gradient sums are divided by: the terms of the loss, and the clipping.

        Args:
            count: terms of the loss over the step.
            norm: global norm of the mean gradient.
        """
        if self.clip is None or norm <= self.clip:
            return float(count)
        return count * (norm / self.clip)
