"""Workloads that go wrong at a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ithaca.runtime.workload import Batch, BatchId, LayerSpec, Split, Value
from tests.helpers.small_models import Options, Small


class FailingOptions(Options):
    """``step``: when; ``layer``: where."""

    step: int = 0
    layer: int = 0


class Thunder(nn.Module):
    """A layer that raises in one step."""

    def __init__(self, inner: nn.Module, step: int) -> None:
        super().__init__()
        self.inner = inner
        self.step = step

    def forward(self, x: Value, batch: Batch) -> Any:  # noqa: ANN401 - what the inner layer gives
        if batch.samples[0] // 97 == self.step and self.training:
            raise RuntimeError("the weather is bad")
        return self.inner(x)


class Failing(Small):
    """Raises in the forward of one layer."""

    Config = FailingOptions

    def layers(self) -> Sequence[LayerSpec]:
        specs = list(super().layers())
        spec = specs[self._config.layer]
        step = self._config.step
        specs[self._config.layer] = replace(
            spec, build=lambda: Thunder(spec.build(), step), needs_batch=True
        )
        return specs


class NotFinite(Small):
    """The loss of one micro-batch of one step is NaN."""

    Config = FailingOptions

    def loss(self, output: Value, batch: Batch) -> Tensor:
        total = super().loss(output, batch)
        if batch.samples[0] < 0:
            return total * torch.nan
        return total

    def batch(self, which: BatchId) -> Batch:
        batch = super().batch(which)
        if which == BatchId(self._config.step, 3, Split.TRAIN):
            return replace(batch, samples=(-1,))
        return batch
