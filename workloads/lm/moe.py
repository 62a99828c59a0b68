"""A mixture of experts: top-k routing, its balancing losses, and dispatch without atomics.

Sources: Lepikhin et al., "GShard", 2020; Fedus et al., "Switch Transformers", 2021 (equations 4 to
6, the balancing loss); Zoph et al., "ST-MoE", 2022 (equation 5, the router z-loss); Jiang et al.,
"Mixtral of Experts", 2024 (softmax over the chosen).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ithaca.workloads.lm.feed_forward import FeedForward


class _Dispatch(torch.autograd.Function):
    """Copies token t to the places of its k choices; the backward adds them in their order.

    Indexing would do the same, but its backward adds with atomics on a GPU, in any order.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        tokens: Tensor,
        places: Tensor,
        order: Tensor,
        k: int,
    ) -> Tensor:
        """tokens [n, dim]; order [n*k] sorts the choices by expert; places is its inverse."""
        ctx.save_for_backward(places)
        ctx.k = k
        return tokens[order // k]

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        grad: Tensor,
    ) -> tuple[Tensor, None, None, None]:
        """[n*k, dim] by expert to [n, dim] by token."""
        (places,) = ctx.saved_tensors
        return grad[places].view(len(places) // ctx.k, ctx.k, -1).sum(1), None, None, None


class _Collect(torch.autograd.Function):
    """Brings rows sorted by expert back into the order of the tokens; a permutation."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        rows: Tensor,
        places: Tensor,
        order: Tensor,
    ) -> Tensor:
        """rows [n*k, dim] by expert to [n*k, dim] by token and choice."""
        ctx.save_for_backward(order)
        return rows[places]

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        grad: Tensor,
    ) -> tuple[Tensor, None, None]:
        """The inverse permutation."""
        (order,) = ctx.saved_tensors
        return grad[order], None, None


class MixtureOfExperts(nn.Module):
    """``count`` feed-forward networks, of which a router chooses ``top_k`` for each token.

    Args:
        dim: width of the input.
        hidden: units inside each expert.
        count: number of experts.
        top_k: experts per token; 1..count.
        balance: coefficient of the load-balancing loss.
        z: coefficient of the router z-loss.
    """

    def __init__(
        self, dim: int, hidden: int, count: int, top_k: int, balance: float, z: float
    ) -> None:
        super().__init__()
        self.top_k = top_k
        self.balance = balance
        self.z = z
        self.router = nn.Linear(dim, count, bias=False)
        self.experts = nn.ModuleList(FeedForward(dim, hidden) for _ in range(count))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[batch, length, dim] to the same shape, and the weighted auxiliary loss, an fp32 scalar.

        An expert that no token chose takes no part: its parameters get no gradient.
        """
        tokens = x.flatten(0, -2)
        logits = F.linear(tokens.float(), self.router.weight.float())
        scores, chosen = logits.topk(self.top_k, dim=-1)
        order = chosen.flatten().argsort(stable=True)
        places = torch.empty_like(order)
        places[order] = torch.arange(len(order), device=order.device)
        counts = torch.bincount(chosen.flatten(), minlength=len(self.experts))

        rows = _Dispatch.apply(tokens, places, order, self.top_k)  # type: ignore[no-untyped-call]
        rows = self._experts(rows, counts.tolist())
        rows = _Collect.apply(rows, places, order)  # type: ignore[no-untyped-call]
        weights = scores.softmax(-1).unsqueeze(-1)
        mixed = (rows.view(*chosen.shape, -1) * weights).sum(1)
        return mixed.to(x.dtype).view_as(x), self._loss(logits, counts)

    def _experts(self, rows: Tensor, counts: list[int]) -> Tensor:
        """Each expert's rows through that expert; ``rows`` [n*k, dim] are sorted by expert."""
        parts = torch.split(rows, counts)
        busy = zip(self.experts, parts, counts, strict=True)
        return torch.cat([expert(part) for expert, part, count in busy if count])

    def _loss(self, logits: Tensor, counts: Tensor) -> Tensor:
        """The two auxiliary losses; the first is ``balance`` when the load is even."""
        share = counts / counts.sum()
        probability = logits.softmax(-1).mean(0)
        loss = self.balance * len(counts) * (share * probability).sum()
        if self.z:
            loss = loss + self.z * logits.logsumexp(-1).square().mean()
        return loss
