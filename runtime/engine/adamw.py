"""AdamW for one layer, and the learning rate of a step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


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
    """``torch.optim.AdamW`` over the fp32 weights of one layer, which must be contiguous."""

    def __init__(
        self, names: Sequence[str], weights: Sequence[Tensor], settings: OptimizerSettings
    ) -> None:
        self._named = dict(zip(names, weights, strict=True))
        decayed = [weight for weight in weights if weight.ndim >= 2]
        plain = [weight for weight in weights if weight.ndim < 2]
        groups = [
            {"params": group, "weight_decay": decay}
            for group, decay in ((decayed, settings.weight_decay), (plain, 0.0))
            if group
        ]
        self._adamw: torch.optim.AdamW | None = None
        if groups:
            self._adamw = torch.optim.AdamW(
                groups, lr=settings.lr, betas=settings.betas, eps=settings.eps, fused=True
            )
            self._start()

    def _start(self) -> None:
        # The state exists from the beginning, so that a state before the first step can be
        # hashed, saved and moved like any other. The count is fp32: fused AdamW wants it so.
        assert self._adamw is not None
        for weight in self._named.values():
            self._adamw.state[weight] = {
                "step": torch.zeros((), dtype=torch.float32, device=weight.device),
                "exp_avg": torch.zeros_like(weight, requires_grad=False),
                "exp_avg_sq": torch.zeros_like(weight, requires_grad=False),
            }

    def step(self, gradients: Sequence[Tensor], lr: float, divisor: float) -> None:
        """Step with ``gradients / divisor`` at rate ``lr``; gradients may be overwritten."""
        if self._adamw is None:
            return
        for weight, gradient in zip(self._named.values(), gradients, strict=True):
            # The fused kernel reads memory from end to end, whatever the strides say.
            weight.grad = gradient.contiguous()
        for group in self._adamw.param_groups:
            group["lr"] = lr
        device = next(iter(self._named.values())).device
        # The fused kernel divides while it reads: no pass over the gradients of its own.
        scale = torch.tensor(divisor, dtype=torch.float32, device=device)
        setattr(self._adamw, "grad_scale", scale)  # noqa: B010 - not in torch's stubs
        setattr(self._adamw, "found_inf", torch.zeros_like(scale))  # noqa: B010
        self._adamw.step()
        for weight in self._named.values():
            weight.grad = None

    def state(self) -> dict[str, Tensor]:
        """Moments and step counts, by reference, keyed ``<kind>.<parameter>``."""
        if self._adamw is None:
            return {}
        return {
            f"{kind}.{name}": tensor
            for name, weight in self._named.items()
            for kind, tensor in self._adamw.state[weight].items()
        }
