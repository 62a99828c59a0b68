"""Storages that are saved in every step and outlive all of them, as tables that a model caches."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ithaca.swap import allocator
from ithaca.swap.session import MemorySession
from tests.helpers.held_memory import held_bytes

WIDTH, BATCH = 64, 512
KEEP_ALIASES = 9


class Cached(nn.Module):
    """Multiplies by a table that it makes when it first runs, and keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH)
        self.table: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """[B, W] to the same."""
        if self.table is None:
            self.table = torch.linspace(0.9, 1.1, x.numel()).view_as(x)
        out: Tensor = self.inner(x) * self.table
        return out * self.table


def looks(steps: int, folder: Path) -> list[int]:
    """At how many aliases a session looks in each step."""
    allocator.install()
    torch.manual_seed(0)
    model = nn.Sequential(*(Cached() for _ in range(4)))
    seen = [0]
    with MemorySession(model, held_bytes() + (8 << 20), folder=folder, limit=1 << 30) as memory:
        for step in range(steps):
            torch.manual_seed(step)
            model(torch.randn(BATCH, WIDTH)).square().mean().backward()
            model.zero_grad(set_to_none=True)
            memory.step()
            seen.append(memory.report().counters["looks"])
    return [after - before for before, after in pairwise(seen)]


@pytest.fixture(autouse=True)
def _whole() -> Iterator[None]:
    yield
    allocator.operators().memory_mutate(0)


@pytest.mark.parametrize("mutation", [0, KEEP_ALIASES])
def test_a_step_costs_as_much_after_a_hundred_as_after_ten(mutation: int, tmp_path: Path) -> None:
    """The control forgets no alias of an earlier step."""
    allocator.install()
    allocator.operators().memory_mutate(mutation)
    told = looks(100, tmp_path)
    assert told[0] > 0
    assert (max(told[10:]) <= max(told[:10])) == (mutation == 0)
