"""The toy job that ithaca and its peers train: a stack of small layers that take as long as told.

Every layer waits in its forward and backward, so that workers do not share cores and steps are as
long for everybody. This file knows torch alone: it is loaded in environments without ithaca.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


class _Wait(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, forward_s: float, backward_s: float) -> Tensor:  # noqa: ANN401
        ctx.backward_s = backward_s
        time.sleep(forward_s)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        time.sleep(ctx.backward_s)
        return gradient, None, None


class Emulated(nn.Module):
    """A small linear layer that takes as long as a large one.

    Args:
        width: of its input and output.
        forward_s: seconds that it waits in a forward.
        backward_s: seconds that it waits in a backward.
        weight_s: those of them that are for the weights' gradient; the rest is for the input's.
    """

    def __init__(
        self, width: int, forward_s: float, backward_s: float, weight_s: float = 0.0
    ) -> None:
        super().__init__()
        self.mix = nn.Linear(width, width)
        self._seconds = forward_s, backward_s - weight_s
        self._weight_s = weight_s

    def forward(self, x: Tensor) -> Tensor:
        """``x`` is [rows, width], and so is the result."""
        weight: Tensor = self.mix.weight
        if self._weight_s:
            weight = _Wait.apply(weight, 0.0, self._weight_s)  # type: ignore[no-untyped-call]
        mixed = torch.tanh(nn.functional.linear(x, weight, self.mix.bias))
        out: Tensor = _Wait.apply(mixed, *self._seconds)  # type: ignore[no-untyped-call]
        return out


@dataclass(frozen=True, slots=True)
class Task:
    """What is trained, and what goes wrong.

    Attributes:
        workers: data-parallel.
        steps: optimizer steps in all.
        micro_batches: of a step, over all workers; a multiple of ``workers``.
        checkpoint_every: steps between checkpoints.
        fault_step: the step, counted from 1, in which a worker is killed; 0: none is.
        fault_worker: which.
        layers: how many.
        width: of every layer.
        rows: samples of a micro-batch.
        forward_s: seconds that a layer waits in a forward.
        backward_s: seconds that a layer waits in a backward.
        lr: of AdamW, constant, without weight decay and clipping.
    """

    workers: int = 4
    steps: int = 30
    micro_batches: int = 8
    checkpoint_every: int = 5
    fault_step: int = 0
    fault_worker: int = 1
    layers: int = 4
    width: int = 64
    rows: int = 16
    forward_s: float = 0.040
    backward_s: float = 0.085
    lr: float = 1e-3

    @classmethod
    def read(cls, path: Path | str) -> Task:
        """The task that :meth:`write` wrote."""
        return cls(**json.loads(Path(path).read_text()))

    def write(self, path: Path) -> None:
        """Keep the task as JSON."""
        path.write_text(json.dumps(asdict(self)))

    def share(self, worker: int) -> range:
        """The micro-batches of ``worker`` in every step."""
        each = self.micro_batches // self.workers
        return range(worker * each, (worker + 1) * each)

    def model(self) -> nn.Sequential:
        """The layers with the same weights everywhere."""
        torch.manual_seed(0)
        built = (Emulated(self.width, self.forward_s, self.backward_s) for _ in range(self.layers))
        return nn.Sequential(*built)

    def batch(self, step: int, micro_batch: int) -> Tensor:
        """The rows of a micro-batch, [rows, width]: a function of its ids. ``step`` is from 0."""
        generator = torch.Generator().manual_seed(step * 10_000 + micro_batch)
        return torch.randn(self.rows, self.width, generator=generator)

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.AdamW:
        """AdamW as ithaca's job has it."""
        return torch.optim.AdamW(parameters, lr=self.lr, betas=(0.9, 0.95), weight_decay=0.0)


def loss_sum(output: Tensor) -> Tensor:
    """The loss of a micro-batch as a sum over its numbers."""
    return output.float().square().sum()


def parameter_hash(parameters: Iterable[Tensor]) -> str:
    """SHA-256 of the parameters' bytes, in order; 32 hexadecimal digits."""
    digest = hashlib.sha256()
    for parameter in parameters:
        digest.update(parameter.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]
