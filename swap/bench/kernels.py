"""The same kernels in every arm, so that bits can be compared on a GPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def same_kernels() -> None:
    """Lets torch take deterministic kernels where it has them, for the rest of the process."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    # What is fetched back is written in full: nothing is gained by filling it first.
    setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010


def attention(q: Tensor, k: Tensor, v: Tensor, *, grouped: bool = False) -> Tensor:
    """Causal attention over [B, H, L, D], with a deterministic backward after :func:`same_kernels`.

    Its backward takes such a kernel only while nothing else is allowed; but then products would
    ask for a variable of the environment. So it is said just for the time of that backward.
    """
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
    if mixed.is_cuda and mixed.requires_grad and torch.are_deterministic_algorithms_enabled():
        mixed.register_hook(_strict)
        for part in (q, k, v):
            part.register_hook(_lenient)
    return mixed


def _strict(_gradient: Tensor) -> None:
    torch.use_deterministic_algorithms(True, warn_only=False)


def _lenient(_gradient: Tensor) -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)
