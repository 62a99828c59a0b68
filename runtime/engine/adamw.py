"""AdamW for one layer, and the learning rate of a step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.optim.adamw import adamw


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


class LayerOptimizer:
    """AdamW over the fp32 weights of one layer, which must be contiguous.

    ``torch.optim.AdamW`` as a function: an object of that class imports torch's compiler when it is
    made, about a second of CPU time and 50 to 70 MB in every worker, for nothing that is used here.
    """

    def __init__(
        self, names: Sequence[str], weights: Sequence[Tensor], settings: OptimizerSettings
    ) -> None:
        self._settings = settings
        self._named = dict(zip(names, weights, strict=True))
        # The state exists from the beginning, so that a state before the first step can be
        # hashed, saved and moved like any other. The count is fp32: fused AdamW wants it so.
        self._state = {
            name: {
                "step": torch.zeros((), dtype=torch.float32, device=weight.device),
                "exp_avg": torch.zeros_like(weight, requires_grad=False),
                "exp_avg_sq": torch.zeros_like(weight, requires_grad=False),
            }
            for name, weight in self._named.items()
        }

    def step(self, gradients: Sequence[Tensor], lr: float, divisor: float) -> None:
        """Step with ``gradients / divisor`` at rate ``lr``; gradients may be overwritten."""
        if not self._named:
            return
        # The fused kernel reads memory from end to end, whatever the strides say.
        found = dict(zip(self._named, (each.contiguous() for each in gradients), strict=True))
        device = next(iter(self._named.values())).device
        # The fused kernel divides while it reads: no pass over the gradients of its own.
        scale = torch.tensor(divisor, dtype=torch.float32, device=device)
        decayed = [name for name, weight in self._named.items() if weight.ndim >= 2]
        plain = [name for name, weight in self._named.items() if weight.ndim < 2]
        for names, decay in ((decayed, self._settings.weight_decay), (plain, 0.0)):
            if names:
                self._group(names, found, lr, decay, scale)

    def _group(
        self,
        names: Sequence[str],
        gradients: Mapping[str, Tensor],
        lr: float,
        decay: float,
        scale: Tensor,
    ) -> None:
        """The step of some of the weights."""
        states = [self._state[name] for name in names]
        beta1, beta2 = self._settings.betas
        with torch.no_grad():
            adamw(
                [self._named[name] for name in names],
                [gradients[name] for name in names],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                fused=True,
                grad_scale=scale,
                found_inf=torch.zeros_like(scale),
                amsgrad=False,
                beta1=beta1,
                beta2=beta2,
                lr=lr,
                weight_decay=decay,
                eps=self._settings.eps,
                maximize=False,
            )

    def state(self) -> dict[str, Tensor]:
        """Moments and step counts, by reference, keyed ``<kind>.<parameter>``."""
        return {
            f"{kind}.{name}": tensor
            for name, parts in self._state.items()
            for kind, tensor in parts.items()
        }
