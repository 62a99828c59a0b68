"""Models to measure on: stacks of blocks, without embeddings, on random hidden states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ithaca.swap.bench.kernels import attention


class Llama(nn.Module):
    """A block as in Llama: RMSNorm, causal attention with grouped keys, gated feed-forward."""

    def __init__(self, width: int, hidden: int, heads: int, groups: int) -> None:
        super().__init__()
        self.heads, self.groups, self.head = heads, groups, width // heads
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.q = nn.Linear(width, width, bias=False)
        self.kv = nn.Linear(width, 2 * groups * self.head, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.gate, self.up = nn.Linear(width, hidden, bias=False), nn.Linear(width, hidden, False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, W] to the same."""
        batch, length, width = x.shape
        n = self.norm1(x)
        q = self.q(n).view(batch, length, self.heads, self.head).transpose(1, 2)
        k, v = self.kv(n).view(batch, length, 2, self.groups, self.head).permute(2, 0, 3, 1, 4)
        mixed = attention(q, k, v, grouped=self.groups != self.heads)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        n = self.norm2(x)
        result: Tensor = x + self.down(F.silu(self.gate(n)) * self.up(n))
        return result


class Gpt2(nn.Module):
    """A block as in GPT-2: LayerNorm, causal attention, GELU, dropout."""

    def __init__(self, width: int, heads: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, W] to the same."""
        batch, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = attention(q, k, v)
        x = x + self.dropout(self.out(mixed.transpose(1, 2).reshape(batch, length, width)))
        result: Tensor = x + self.dropout(self.down(F.gelu(self.up(self.norm2(x)))))
        return result


class Experts(nn.Module):
    """Every token goes to one of several experts; some may get none."""

    def __init__(self, width: int, hidden: int, experts: int) -> None:
        super().__init__()
        self.norm, self.router = nn.RMSNorm(width), nn.Linear(width, experts)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
            for _ in range(experts)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, W] to the same."""
        flat = self.norm(x).reshape(-1, x.shape[-1])
        weight, which = self.router(flat).softmax(-1).max(-1)
        out = torch.zeros_like(flat)
        for number, expert in enumerate(self.experts):
            mine = (which == number).nonzero().squeeze(-1)
            if len(mine):
                out = out.index_add(0, mine, expert(flat[mine]) * weight[mine, None])
        return x + out.view_as(x)


class Conv(nn.Module):
    """A residual block of two convolutions with batch normalisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to the same."""
        inner = F.relu(self.norm1(self.conv1(x)), inplace=True)
        result: Tensor = F.relu(x + self.norm2(self.conv2(inner)))
        return result


Run = Callable[[nn.Module, Tensor], Tensor]


class Stack(nn.Module):
    """Blocks one behind the other; ``run`` calls one, and ``dropped`` is left out."""

    def __init__(self, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.run: Run = lambda block, x: block(x)
        self.dropped = -1

    def forward(self, x: Tensor) -> Tensor:
        """Like each of the blocks."""
        for number, block in enumerate(self.blocks):
            if number != self.dropped:
                x = self.run(block, x)
        return x


# Before the first step that counts: one passive, one with a plan in the making, two with it.
WARM_UP = 4
# Where every step is another: sessions look at each of the first sixteen in detail.
WARM_UP_ROUTED = 20


@dataclass(frozen=True)
class Model:
    """A model and its inputs.

    Args:
        name: in tables.
        block: makes block ``i``.
        layers: how many.
        shape: of a batch.
        dtype: of weights and inputs.
        warm_up: steps until its training is as it stays.
    """

    name: str
    block: Callable[[int], nn.Module]
    layers: int
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    warm_up: int = WARM_UP

    def make(self, device: torch.device) -> Stack:
        """The model, the same each time."""
        torch.manual_seed(7)
        with device:
            made = Stack([self.block(number) for number in range(self.layers)])
        return made.to(self.dtype)

    def batch(self, step: int, device: torch.device, length: int | None = None) -> Tensor:
        """The input of a step; ``length`` shortens sequences."""
        shape = self.shape if length is None else (self.shape[0], length, *self.shape[2:])
        drawn = torch.randn(shape, generator=torch.Generator().manual_seed(step))
        return drawn.to(device, self.dtype)


def _mixture(width: int, hidden: int, heads: int, experts: int) -> Callable[[int], nn.Module]:
    return lambda number: (
        Experts(width, hidden, experts) if number % 2 else Llama(width, hidden, heads, heads)
    )


_BF16 = torch.bfloat16
CPU = (
    Model("h512 L8", lambda _: Llama(512, 1376, 8, 8), 8, (4, 256, 512)),
    Model("h256 L24", lambda _: Llama(256, 688, 4, 4), 24, (4, 256, 256)),
    Model("bf16 h512 L8", lambda _: Llama(512, 1376, 8, 8), 8, (4, 256, 512), _BF16),
    Model("MoE h256 L8", _mixture(256, 688, 4, 4), 8, (4, 256, 256), warm_up=WARM_UP_ROUTED),
)
GPU = (
    Model("GPT-2-XL", lambda _: Gpt2(1600, 25), 48, (8, 1024, 1600), _BF16),
    Model("Llama-1B", lambda _: Llama(2048, 8192, 32, 8), 16, (4, 8192, 2048), _BF16),
    Model("Llama-3B", lambda _: Llama(3072, 8192, 24, 8), 28, (2, 4096, 3072), _BF16),
    Model("Llama-8B blocks", lambda _: Llama(4096, 14336, 32, 8), 8, (1, 8192, 4096), _BF16),
    Model("MoE", _mixture(2048, 5632, 16, 8), 16, (4, 4096, 2048), _BF16, WARM_UP_ROUTED),
    Model("CNN", lambda _: Conv(256), 24, (64, 256, 56, 56)),
)
# More than a GPU has: what four times a cap is measured with.
LARGE = (
    Model("Llama-1B b8", lambda _: Llama(2048, 8192, 32, 8), 16, (8, 8192, 2048), _BF16),
    Model("Llama-8B blocks s40k", lambda _: Llama(4096, 14336, 32, 8), 8, (1, 40960, 4096), _BF16),
)
# A second or less a step on a GPU, and large enough there for its allocator's grain.
SMALL = (
    Model("small", lambda _: Llama(512, 1376, 8, 4), 12, (4, 512, 512)),
    Model("small MoE", _mixture(512, 1376, 8, 4), 8, (4, 512, 512), warm_up=WARM_UP_ROUTED),
    Model("small GPT-2", lambda _: Gpt2(512, 8), 12, (4, 512, 512)),
    Model("small CNN", lambda _: Conv(32), 12, (16, 32, 64, 64)),
)
TINY = (
    Model("tiny", lambda _: Llama(64, 160, 4, 2), 6, (4, 64, 64)),
    Model("tiny MoE", _mixture(64, 160, 4, 4), 4, (4, 64, 64)),
    Model("tiny GPT-2", lambda _: Gpt2(64, 4), 4, (4, 64, 64)),
    Model("tiny CNN", lambda _: Conv(8), 6, (8, 8, 16, 16)),
)
MODELS = {model.name: model for model in (*CPU, *GPU, *LARGE, *SMALL, *TINY)}
