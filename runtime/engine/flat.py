"""Many gradients as one vector, each starting on its own 64-byte boundary.

A vector is cut into chunks for the reduction. Padding keeps every gradient aligned as if it were
an allocation of its own, because kernels may change bits with alignment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

ALIGNMENT = 16
"""Elements of fp32 in 64 bytes."""


@dataclass(frozen=True, slots=True)
class Flat:
    """Where each of some fp32 tensors lies in one vector of ``size`` elements."""

    shapes: tuple[torch.Size, ...]
    starts: tuple[int, ...]
    size: int

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> Flat:
        """The layout for tensors of these shapes, in this order."""
        starts, end = [], 0
        for tensor in tensors:
            starts.append(end)
            end += -(-tensor.numel() // ALIGNMENT) * ALIGNMENT
        return cls(tuple(tensor.shape for tensor in tensors), tuple(starts), end)

    def pack(self, tensors: Sequence[Tensor], into: Tensor | None = None) -> Tensor:
        """A vector with copies of ``tensors``: a new one with zero padding, or ``into``.

        ``into`` is one that this method returned before. ``ValueError`` if the tensors are not
        those that the layout was made for.
        """
        if tuple(tensor.shape for tensor in tensors) != self.shapes:
            raise ValueError(f"this layout is for {self.shapes}, not these {len(tensors)} tensors")
        if into is None:
            into = tensors[0].new_zeros(self.size) if tensors else torch.zeros(self.size)
        if tensors:
            torch._foreach_copy_(self.unpack(into), list(tensors))
        return into

    def unpack(self, vector: Tensor) -> list[Tensor]:
        """Views into ``vector``, one for each tensor."""
        return [
            vector.narrow(0, start, shape.numel()).view(shape)
            for start, shape in zip(self.starts, self.shapes, strict=True)
        ]

    def chunks(self, count: int) -> list[tuple[int, int]]:
        """``count`` aligned pieces (start, end) that cover the vector; some may be empty."""
        blocks = self.size // ALIGNMENT
        borders = [blocks * piece // count * ALIGNMENT for piece in range(count + 1)]
        return list(pairwise(borders))
