"""A GPU that is behind the program, and code that forgets to wait for it."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import nn

from ithaca.swap import allocator
from ithaca.swap.session import MemorySession
from tests.gpu.trained import DEVICE, SPIN, Outcome, Training

LATE = Training("small", steps=3, late=True)
EARLY_RELOAD, NO_VERSION_CHECK, WRONG_OFFSET = 1, 2, 3
USE_BEFORE_ARRIVAL, COPY_BEFORE_COMPUTE = 4, 6


@cache
def free() -> Outcome:
    """Without a session."""
    return LATE.run()


@pytest.mark.parametrize("share", [0.6, 0.3])
def test_a_late_gpu_changes_nothing(share: float) -> None:
    taken, budget = LATE.within_or_what_is_needed(free().budget(share), recompute=False)
    assert taken.same_bits(free())
    assert taken.peak_bytes <= budget


@pytest.mark.parametrize(
    "mutation",
    [EARLY_RELOAD, COPY_BEFORE_COMPUTE],
    ids=["an early reload", "a copy before compute"],
)
def test_broken_code_is_noticed_when_the_gpu_is_late(mutation: int) -> None:
    budget = free().budget(0.5)
    allocator.operators().memory_mutate(mutation)
    broken, _ = LATE.within_or_what_is_needed(budget, recompute=False)
    assert not broken.same_bits(free())


class Gated(nn.Module):
    """Saves much and computes little, so that copies are late; what is saved are views."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.spread = nn.Linear(width, 3 * width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, width] to the same."""
        q, k, v = self.spread(x).unflatten(-1, (3, -1)).unbind(-2)
        result: torch.Tensor = x + (q * k).tanh() * v
        return result


@pytest.mark.parametrize(
    "mutation",
    [0, WRONG_OFFSET, USE_BEFORE_ARRIVAL],
    ids=["none", "a wrong offset", "use before arrival"],
)
def test_broken_code_is_noticed_when_copies_are_late(mutation: int) -> None:
    torch.manual_seed(3)
    model = nn.Sequential(*(Gated(128) for _ in range(12))).to(DEVICE)
    x = torch.randn(1 << 16, 128, device=DEVICE)

    def gradients() -> list[torch.Tensor]:
        model.zero_grad()
        model(x).square().mean().backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    torch.cuda.reset_peak_memory_stats()
    start = torch.cuda.memory_allocated()
    wanted = gradients()
    peak = torch.cuda.max_memory_allocated()
    allocator.operators().memory_mutate(mutation)
    budget = torch.cuda.memory_allocated() + (peak - start) // 2
    with MemorySession(model, budget, recompute=False) as memory:
        found = []
        for _ in range(4):
            found.append(gradients())
            memory.step()
    assert memory.report().counters["in_bytes"] > 0
    same = [torch.equal(a, b) for step in found for a, b in zip(step, wanted, strict=True)]
    assert all(same) == (mutation == 0)


def _edited(held: torch.Tensor) -> None:
    y = held.sigmoid()
    y.mul_(2)
    y.sum().backward()


def test_an_edit_in_place_is_stock_autograds_error_and_its_check_is_needed() -> None:
    x = torch.ones(1 << 20, device=DEVICE, requires_grad=True)
    model = nn.Linear(2, 2).to(DEVICE)
    with pytest.raises(RuntimeError) as stock:
        _edited(x)
    with MemorySession(model, torch.cuda.memory_allocated() + (256 << 20)):
        with pytest.raises(RuntimeError) as ours:
            _edited(x)
        allocator.operators().memory_mutate(NO_VERSION_CHECK)
        _edited(x)
    assert str(ours.value) == str(stock.value)


def test_views_and_retained_graphs() -> None:
    """Three views of one storage, read twice, with room for nothing but what is used."""
    spread = nn.Linear(1024, 3072).to(DEVICE)
    x = torch.randn(8192, 1024, device=DEVICE)

    def gradients() -> list[torch.Tensor]:
        spread.zero_grad()
        q, k, v = spread(x).view(-1, 3, 1024).unbind(1)
        later = x
        for _ in range(6):  # pushes what was saved first out of memory
            later = (later * 1.01).sin()
        loss = (q * k.sigmoid() * v.tanh()).sum() + (later * q).sum()
        loss.backward(retain_graph=True)
        loss.backward()
        return [p.grad.clone() for p in spread.parameters() if p.grad is not None]

    torch.cuda.reset_peak_memory_stats()
    start = torch.cuda.memory_allocated()
    wanted = gradients()
    peak = torch.cuda.max_memory_allocated()
    torch.cuda._sleep(SPIN)
    budget = torch.cuda.memory_allocated() + int(0.8 * (peak - start))
    with MemorySession(spread, budget, recompute=False) as memory:
        for _ in range(3):
            found = gradients()
            memory.step()
            assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    assert memory.report().counters["out_bytes"] > 0
