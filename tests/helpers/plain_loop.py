"""A training loop in plain PyTorch, as one would write it by hand: the engine's oracle.

One process, one graph through all layers, no cuts, no messages. Of the engine only the initial
weights are used. Gradients of micro-batches are added in the documented tree, by recursion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ithaca.runtime.engine.optimizer_settings import OptimizerSettings
from ithaca.runtime.workload import BatchId, WithLoss, Workload

Gradients = list[Tensor]


def tree_sum(leaves: Sequence[Gradients]) -> Gradients:
    """The sum of all leaves; the left half is the largest power of two below their number."""
    if len(leaves) == 1:
        return leaves[0]
    left = 1
    while left * 2 < len(leaves):
        left *= 2
    pairs = zip(tree_sum(leaves[:left]), tree_sum(leaves[left:]), strict=True)
    return [one + other for one, other in pairs]


class PlainLoop:
    """The modules of a workload, trained one step at a time.

    Args:
        workload: what to train.
        states: initial weights by layer name, keyed ``param.<name>``.
        settings: of AdamW.
        fused: which of torch's implementations of AdamW.
    """

    def __init__(
        self,
        workload: Workload,
        states: Mapping[str, Mapping[str, Tensor]],
        settings: OptimizerSettings,
        fused: bool,
    ) -> None:
        self.workload = workload
        self.settings = settings
        self.specs = list(workload.layers())
        self.modules = [spec.build() for spec in self.specs]
        for spec, module in zip(self.specs, self.modules, strict=True):
            for name, parameter in module.named_parameters():
                parameter.data.copy_(states[spec.name][f"param.{name}"])
        self._tie()
        self.weights = list(nn.ModuleList(self.modules).parameters())
        groups: list[dict[str, Any]] = [
            {"params": [w for w in self.weights if w.ndim >= 2]},
            {"params": [w for w in self.weights if w.ndim < 2], "weight_decay": 0.0},
        ]
        self.adamw = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=settings.lr,
            betas=settings.betas,
            eps=settings.eps,
            weight_decay=settings.weight_decay,
            foreach=False,
            fused=fused,
        )

    def _tie(self) -> None:
        by_name = {spec.name: m for spec, m in zip(self.specs, self.modules, strict=True)}
        for tie in self.workload.ties():
            shared = by_name[tie.first[0]].get_parameter(tie.first[1])
            setattr(by_name[tie.second[0]], tie.second[1], shared)

    def step(self, step: int, micro_batches: int) -> tuple[float, float]:
        """Train one step; mean loss and gradient norm before clipping."""
        leaves, losses, count = [], [], 0
        for index in range(micro_batches):
            batch = self.workload.batch(BatchId(step, index))
            value, own = batch.inputs, torch.zeros(())
            for module in self.modules:
                value = module(value)
                if isinstance(value, WithLoss):
                    value, loss = value
                    own = own + loss
            loss = self.workload.loss(value, batch)
            (loss + own * batch.count).backward()
            leaves.append([w.grad if w.grad is not None else 0 * w for w in self.weights])
            losses.append(loss.item())
            count += batch.count
            for weight in self.weights:
                weight.grad = None
        total = [gradient.detach() for gradient in tree_sum(leaves)]
        norm = sum(gradient.norm().item() ** 2 for gradient in total) ** 0.5 / count
        self._update(step, total, count, norm)
        return sum(losses) / count, norm

    def _update(self, step: int, total: Gradients, count: int, norm: float) -> None:
        clip = self.settings.clip
        divisor = count if clip is None or norm <= clip else count * (norm / clip)
        for weight, gradient in zip(self.weights, total, strict=True):
            weight.grad = gradient / torch.tensor(divisor, dtype=torch.float32)
        for group in self.adamw.param_groups:
            group["lr"] = self.settings.rate(step)
        self.adamw.step()
        self.adamw.zero_grad(set_to_none=True)

    def named(self) -> dict[tuple[str, str], Tensor]:
        """(layer, parameter) to the weight."""
        return {
            (spec.name, name): parameter.detach()
            for spec, module in zip(self.specs, self.modules, strict=True)
            for name, parameter in module.named_parameters()
        }
