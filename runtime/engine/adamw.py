"""AdamW for one layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from ithaca.runtime.engine.optimizer_settings import OptimizerSettings


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
