"""Causal self-attention with grouped queries: Ainslie et al., "GQA", 2023."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from ithaca.workloads.lm.rotary import rotary_table, rotate


class Attention(nn.Module):
    """Each of ``num_kv_heads`` key and value heads serves num_heads / num_kv_heads query heads.

    With num_kv_heads equal to num_heads this is plain multi-head attention.

    Args:
        dim: width of the input; a multiple of ``num_heads``.
        num_heads: query heads.
        num_kv_heads: key and value heads; divides ``num_heads``.
        context: longest sequence.
        rope_base: base of the rotary frequencies.
    """

    def __init__(
        self, dim: int, num_heads: int, num_kv_heads: int, context: int, rope_base: float
    ) -> None:
        super().__init__()
        self.head_dim = dim // num_heads
        self.groups = num_heads // num_kv_heads
        self.context = context
        self.rope_base = rope_base
        self.query = nn.Linear(dim, num_heads * self.head_dim, bias=False)
        self.key = nn.Linear(dim, num_kv_heads * self.head_dim, bias=False)
        self.value = nn.Linear(dim, num_kv_heads * self.head_dim, bias=False)
        self.output = nn.Linear(num_heads * self.head_dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, length, dim] to the same shape; length <= context."""
        table = rotary_table(self.context, self.head_dim, self.rope_base, x.device)
        query = rotate(self._heads(self.query(x)), table)
        key = rotate(self._heads(self.key(x)), table)
        value = self._heads(self.value(x))
        mixed = F.scaled_dot_product_attention(
            query, key, value, is_causal=True, enable_gqa=self.groups > 1
        )
        return self.output(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def _heads(self, x: Tensor) -> Tensor:
        """[batch, length, heads * head_dim] to [batch, heads, length, head_dim]."""
        batch, length, width = x.shape
        return x.view(batch, length, width // self.head_dim, self.head_dim).transpose(1, 2)
