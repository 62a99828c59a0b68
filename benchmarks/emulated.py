"""Workloads whose compute is emulated by waits, for benchmarks on a machine with few cores."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from benchmarks.peers.task import Emulated, loss_sum
from ithaca.runtime.workload import Batch, BatchId, LayerSpec, Value, Workload

_Seconds = Annotated[float, Field(ge=0.0)]


class Options(BaseModel, extra="forbid", frozen=True):
    """What a stack of emulated layers is.

    ``forward_s`` and ``backward_s`` are the waits of a layer of weight 1, of which ``weight_part``
    of the backward is for the weights' gradient; ``weights`` has one factor for each layer.
    """

    weights: tuple[_Seconds, ...] = (1.0,) * 8
    width: int = 64
    rows: int = 16
    forward_s: _Seconds = 0.010
    backward_s: _Seconds = 0.020
    weight_part: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0


class EmulatedWorkload(Workload):
    """Layers that wait, on random rows; what the peers train is the same."""

    Config = Options

    def __init__(self, config: Options, *, seed: int, micro_batches: int) -> None:
        self._config = config
        self._key = seed * 1_000_000_007
        self._micro_batches = micro_batches

    def layers(self) -> Sequence[LayerSpec]:
        """One for each weight."""
        c = self._config

        def layer(weight: float) -> partial[Emulated]:
            backward_s = weight * c.backward_s
            weight_s = c.weight_part * backward_s
            return partial(Emulated, c.width, weight * c.forward_s, backward_s, weight_s)

        return [LayerSpec(f"layer{i}", layer(weight)) for i, weight in enumerate(c.weights)]

    def loss(self, output: Value, batch: Batch) -> Tensor:
        """Sum of squares."""
        assert isinstance(output, Tensor), "a layer gives one tensor"
        return loss_sum(output)

    def batch(self, which: BatchId) -> Batch:
        """Random rows, [rows, width], by id."""
        c = self._config
        generator = torch.Generator().manual_seed(self._key + which.step * 10_000 + which.index)
        rows = torch.randn(c.rows, c.width, generator=generator)
        first = (which.step * self._micro_batches + which.index) * c.rows
        return Batch(rows, None, c.rows * c.width, tuple(range(first, first + c.rows)))
