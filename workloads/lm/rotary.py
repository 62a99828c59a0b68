"""Rotary position embeddings: Su et al., "RoFormer", 2021."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=16)
def rotary_table(
    length: int, head_dim: int, base: float, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines of the angles of positions 0..length-1, fp32 [length, head_dim].

    Pair i, the entries i and i + head_dim/2, turns by position * base^(-2 i / head_dim). The table
    is no buffer of a module, because a cast of the module to bf16 would round the angles.
    """
    with torch.inference_mode(False), torch.no_grad():
        exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device=device) / head_dim
        positions = torch.arange(length, dtype=torch.float32, device=device)
        angles = torch.outer(positions, base**-exponents)
        cos, sin = angles.cos(), angles.sin()
        return torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)


def rotate(x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    """Turns each pair of ``x`` ([..., length, head_dim]) by the angle of its position.

    Computed in fp32, returned in the type of ``x``. ``table`` is at least as long as ``x``.
    """
    length, half = x.shape[-2], x.shape[-1] // 2
    cos, sin = table[0][:length], table[1][:length]
    wide = x.float()
    return (wide * cos + wide.roll(half, -1) * sin).to(x.dtype)
