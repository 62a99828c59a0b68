"""A layer's state as tensors by name, and the copy of it that a writer may take its time with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

LayerState = Mapping[str, torch.Tensor]
"""Tensors by key: ``param.<name>`` (fp32 master weights), ``exp_avg.<name>`` and
``exp_avg_sq.<name>`` (AdamW's moments), and scalars such as step counts as 0-d tensors."""


@dataclass(frozen=True, slots=True)
class Staged:
    """Copies on the CPU that nobody else changes; made by :func:`stage` only."""

    tensors: Mapping[str, torch.Tensor]

    @property
    def bytes(self) -> int:
        """Memory that the copies take."""
        return sum(tensor.numel() * tensor.itemsize for tensor in self.tensors.values())


def stage(state: LayerState) -> Staged:
    """Copies ``state`` to the CPU, so that training may go on changing the original.

    Must be called by the thread that changes the state, between two steps.
    """
    return Staged({key: _copy(tensor) for key, tensor in state.items()})


def _copy(tensor: torch.Tensor) -> torch.Tensor:
    # torch.empty gives each tensor a row-major block of its own, even where the source is a view.
    return torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor.detach())
