"""Small workloads for the engine's tests: dense, tied, mixture of experts, several tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from ithaca.runtime.workload import (
    Batch,
    BatchId,
    LayerSpec,
    Split,
    TiedWeights,
    Value,
    WithLoss,
    Workload,
)

VOCABULARY, DIM, LENGTH = 17, 16, 6


class Block(nn.Module):
    """A residual layer with dropout: needs keyed randomness to be repeatable."""

    def __init__(self, dropout: float = 0.1) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(DIM)
        self.up = nn.Linear(DIM, 2 * DIM)
        self.drop = nn.Dropout(dropout)
        self.down = nn.Linear(2 * DIM, DIM, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(self.drop(torch.tanh(self.up(self.norm(x)))))
        return x + out


class Experts(nn.Module):
    """Routes each position to one of three experts; one expert is often without tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(DIM, 3, bias=False)
        self.experts = nn.ModuleList(nn.Linear(DIM, DIM) for _ in range(3))

    def forward(self, x: Tensor) -> WithLoss:
        gates = self.router(x).softmax(-1)
        best, chosen = gates.max(-1)
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            mask = chosen == number
            if mask.any():
                out[mask] = expert(x[mask]) * best[mask].unsqueeze(-1)
        return WithLoss(x + out, (gates.float().mean((0, 1)) ** 2).sum())


class Pair(nn.Module):
    """Gives two tensors from one: a cut that several tensors cross, one of them not floating."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(DIM, DIM)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.mix(x), x * 0.5, x.argmax(-1)


class Unpair(nn.Module):
    """Takes what :class:`Pair` gave."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(DIM, DIM)

    def forward(self, value: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        left, right, best = value
        mixed: Tensor = self.mix(left)
        return mixed * right + best.unsqueeze(-1).to(left.dtype)


class Twins(nn.Module):
    """Autograd hands out the incoming gradient as that of two weights, and a turned third one."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.zeros(2, LENGTH, DIM))
        self.two = nn.Parameter(torch.zeros(2, LENGTH, DIM))
        self.turned = nn.Parameter(torch.zeros(DIM, LENGTH))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.one + self.two + self.turned.t()


class Slice(nn.Module):
    """Gives a view into a wider tensor: neither contiguous nor at the start of its memory."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Linear(DIM, DIM + 5)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.wide(x))[..., 3 : DIM + 3]


KINDS: dict[str, Callable[[], nn.Module]] = {
    "block": Block,
    "plain": partial(Block, dropout=0.0),
    "experts": Experts,
    "pair": Pair,
    "unpair": Unpair,
    "twins": Twins,
    "slice": Slice,
    "nothing": nn.Identity,
}
"""Layers that a :class:`Small` model can have between its embedding and its head."""


class Options(BaseModel):
    """``kinds``: the layers between embedding and head; ``ragged``: lengths vary by batch."""

    kinds: tuple[str, ...] = ("block", "block", "block", "block")
    tied: bool = False
    ragged: bool = False


class Small(Workload):
    """Predicts the next of a few symbols; every batch is a function of its id."""

    Config = Options

    def __init__(self, config: Any, *, seed: int, micro_batches: int) -> None:  # noqa: ANN401
        self._config, self._seed, self._micro_batches = config, seed, micro_batches
        self.fixed_shapes = not config.ragged

    def layers(self) -> Sequence[LayerSpec]:
        middle = [LayerSpec(f"{i}-{k}", KINDS[k]) for i, k in enumerate(self._config.kinds)]
        head = LayerSpec("head", lambda: nn.Linear(DIM, VOCABULARY, bias=False))
        return [LayerSpec("embed", lambda: nn.Embedding(VOCABULARY, DIM)), *middle, head]

    def ties(self) -> Sequence[TiedWeights]:
        return [TiedWeights(("embed", "weight"), ("head", "weight"))] if self._config.tied else []

    def loss(self, output: Value, batch: Batch) -> Tensor:
        assert isinstance(output, Tensor)
        logits = output.float().reshape(-1, VOCABULARY)
        return nn.functional.cross_entropy(logits, batch.targets.reshape(-1), reduction="sum")

    def batch(self, which: BatchId) -> Batch:
        key = which.index if which.split is Split.VALIDATION else which.step * 97 + which.index
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + key)
        length = LENGTH - (key % 3 if self._config.ragged else 0)
        symbols = torch.randint(VOCABULARY, (2, length + 1), generator=generator)
        inputs, targets = symbols[:, :-1].contiguous(), symbols[:, 1:].contiguous()
        return Batch(inputs, targets, count=targets.numel(), samples=(key,))
