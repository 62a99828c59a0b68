"""Small models of every kind, and what training them without a session gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ithaca.swap import allocator
from ithaca.swap.session import MemorySession
from tests.helpers.held_memory import held_bytes

WIDTH, HIDDEN, LENGTH, BATCH = 64, 160, 64, 8


class Attention(nn.Module):
    """Causal attention with one fused projection: three views of one storage."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, W] to the same."""
        batch, length, _ = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, 4, WIDTH // 4).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, length, WIDTH))
        return out


class Block(nn.Module):
    """A block as in Llama, with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(WIDTH), nn.RMSNorm(WIDTH)
        self.attention = Attention()
        self.gate = nn.Linear(WIDTH, HIDDEN, bias=False)
        self.up = nn.Linear(WIDTH, HIDDEN, bias=False)
        self.down = nn.Linear(HIDDEN, WIDTH, bias=False)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, W] to the same."""
        x = x + self.attention(self.norm1(x))
        n = self.norm2(x)
        out: Tensor = x + self.dropout(self.down(F.silu(self.gate(n)) * self.up(n)))
        return out


class Experts(nn.Module):
    """Every token goes to one of four experts; some may get none."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(WIDTH, 4)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, WIDTH))
            for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, W] to the same."""
        flat = x.reshape(-1, WIDTH)
        weight, which = self.router(flat).softmax(-1).max(-1)
        out = torch.zeros_like(flat)
        for number, expert in enumerate(self.experts):
            mine = (which == number).nonzero().squeeze(-1)
            if len(mine):
                out = out.index_add(0, mine, expert(flat[mine]) * weight[mine, None])
        return x + out.view_as(x)


class Conv(nn.Module):
    """Convolution, batch normalisation, an in-place activation, a residual."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to the same."""
        out: Tensor = x + self.act(self.norm(self.conv(x)))
        return out


def transformer(layers: int = 6) -> nn.Module:
    """A stack of blocks."""
    return nn.Sequential(*(Block() for _ in range(layers)))


def mixture(layers: int = 4) -> nn.Module:
    """Blocks and experts in turn."""
    return nn.Sequential(*(Block() if i % 2 else Experts() for i in range(layers)))


def convolutional() -> nn.Module:
    """Convolutions with buffers that change in the forward."""
    return nn.Sequential(*(nn.Sequential(Conv(8), Conv(8)) for _ in range(8)))


def tokens(step: int) -> Tensor:
    """The input of a step for the first two."""
    return torch.randn(BATCH, LENGTH, WIDTH, generator=torch.Generator().manual_seed(step))


def images(step: int) -> Tensor:
    """The input of a step for the last."""
    return torch.randn(8, 8, 16, 16, generator=torch.Generator().manual_seed(step))


@dataclass(frozen=True)
class Case:
    """A model and its inputs."""

    make: Callable[[], nn.Module]
    inputs: Callable[[int], Tensor]


CASES = {
    "transformer": Case(transformer, tokens),
    "mixture": Case(mixture, tokens),
    "convolutional": Case(convolutional, images),
}


@dataclass(frozen=True)
class Outcome:
    """What is left of training: all state, and the bytes that it took."""

    tensors: list[Tensor]
    losses: list[float]
    base_bytes: int
    persistent_bytes: int
    gradient_bytes: int
    peak_bytes: int

    def same_as(self, other: Outcome) -> bool:
        """Whether all bits agree."""
        pairs = zip(self.tensors, other.tensors, strict=True)
        return self.losses == other.losses and all(torch.equal(a, b) for a, b in pairs)

    def budget(self, share: float) -> int:
        """P + G + share (U - P - G), on top of what the process holds now."""
        activations = self.peak_bytes - self.base_bytes - self.persistent_bytes
        activations -= self.gradient_bytes
        held = self.persistent_bytes + self.gradient_bytes
        return held_bytes() + held + int(share * activations)


def train(
    case: Case,
    steps: int = 4,
    budget: int | None = None,
    folder: Path | None = None,
    prepare: Callable[[MemorySession], None] = lambda _memory: None,
    limit: int = 1 << 30,
    host: int | None = None,
    recompute: bool = True,
) -> Outcome:
    """Trains from a fixed seed, in a session if there is a budget."""
    allocator.install()
    base = held_bytes()
    torch.manual_seed(7)
    model = case.make()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses: list[float] = []
    gradients: list[Tensor] = []

    def loop(memory: MemorySession | None) -> None:
        allocator.reset_peak()
        for step in range(steps):
            optimizer.zero_grad()
            loss = model(case.inputs(step)).square().mean()
            loss.backward()
            losses.append(loss.item())
            if step == steps - 1:
                gradients.extend(p.grad for p in model.parameters() if p.grad is not None)
            optimizer.step()
            if memory is not None:
                memory.step()

    if budget is None:
        loop(None)
    else:
        disk = {} if folder is None else {"folder": folder, "limit": limit}
        with MemorySession(
            model,
            budget,
            host=host,
            recompute=recompute,
            **disk,  # type: ignore[arg-type]
        ) as memory:
            prepare(memory)
            loop(memory)
            assert allocator.usage().peak <= budget
    peak = allocator.usage().peak
    state = [part for entry in optimizer.state.values() for part in entry.values()]
    held = [*model.parameters(), *model.buffers(), *state]
    return Outcome(
        [tensor.detach() for tensor in (*held, *gradients)],
        losses,
        base,
        sum(tensor.nbytes for tensor in held),
        sum(tensor.nbytes for tensor in gradients),
        peak,
    )
