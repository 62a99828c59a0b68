"""A trial's state in transit and at rest: the tensors of all layers as arrays of numpy.

Arrays travel between processes without being pickled byte by byte. What is kept is always a copy of
our own: memory that the cluster lends ends with the process that filled it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ithaca.runtime.engine.hashing import hash_tensor
from ithaca.runtime.engine.state_hash import combine

Arrays = Mapping[str, Mapping[str, NDArray[np.generic]]]
"""By layer and key; a tensor's bytes, with its own type where numpy has it."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A trial after some steps.

    Attributes:
        trial: its number.
        step: steps behind it.
        arrays: the state of every layer: weights, moments, step counts.
    """

    trial: int
    step: int
    arrays: Arrays

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(part.nbytes for layer in self.arrays.values() for part in layer.values())

    def copy(self) -> Snapshot:
        """One whose memory is this process's own."""
        arrays = {
            layer: {key: np.array(part, copy=True) for key, part in parts.items()}
            for layer, parts in self.arrays.items()
        }
        return Snapshot(self.trial, self.step, arrays)

    def tensors(self) -> dict[str, dict[str, torch.Tensor]]:
        """As tensors that share the memory, which must be writable."""
        return {
            layer: {key: torch.from_numpy(part) for key, part in parts.items()}
            for layer, parts in self.arrays.items()
        }

    def hash(self) -> str:
        """Of the whole state, 32 hex digits: a run of the same job has the same one."""
        layers = {
            name: combine({key: hash_tensor(tensor) for key, tensor in parts.items()})
            for name, parts in self.tensors().items()
        }
        return combine({name: int(value, 16) for name, value in layers.items()})


def view(trial: int, step: int, states: Mapping[str, Mapping[str, torch.Tensor]]) -> Snapshot:
    """``states`` (by layer, fp32 and integers) as they lie in memory: they must not change."""
    arrays = {
        layer: {key: tensor.detach().cpu().numpy() for key, tensor in parts.items()}
        for layer, parts in states.items()
    }
    return Snapshot(trial, step, arrays)
