"""The gated feed-forward network SwiGLU: Shazeer, "GLU Variants Improve Transformer", 2020."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class FeedForward(nn.Module):
    """down(silu(gate(x)) * up(x)), with ``hidden`` units inside."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(dim, hidden, bias=False)
        self.up = nn.Linear(dim, hidden, bias=False)
        self.down = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., dim] to [..., dim]."""
        return self.down(F.silu(self.gate(x)) * self.up(x))  # type: ignore[no-any-return]
