"""How small a budget may be, and what is said when it is smaller."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmarks.memory.smallest import floor_of
from ithaca.swap import allocator
from ithaca.swap.errors import BudgetError
from ithaca.swap.session import MemorySession
from tests.helpers.held_memory import held_bytes
from tests.unit.swap.tiny import WIDTH, Case, Conv, Outcome, mixture, tokens, train, transformer


def short(step: int) -> Tensor:
    """Few tokens, so that the model is most of what there is."""
    return tokens(step)[:2]


def many(step: int) -> Tensor:
    """So many tokens that the model is next to nothing."""
    return torch.randn(32, 128, WIDTH, generator=torch.Generator().manual_seed(step))


def large(step: int) -> Tensor:
    """Images of 1 MiB for 32 channels."""
    return torch.randn(8, 32, 32, 32, generator=torch.Generator().manual_seed(step))


# Where the model is most of what there is, and where it is nothing.
NEAR = {
    "transformer, parameters": Case(transformer, short),
    "mixture, parameters": Case(mixture, short),
    "transformer, activations": Case(lambda: transformer(2), many),
    "mixture, activations": Case(lambda: mixture(2), many),
    "convolutional, activations": Case(lambda: nn.Sequential(*map(Conv, (32,) * 4)), large),
}


def floor_bytes(case: Case) -> int:
    """max over operators of (live persistent + gradients + that operator's operands)."""
    torch.manual_seed(7)
    model = case.make()
    return floor_of(model, case.inputs(0))


@pytest.mark.parametrize("name", NEAR)
def test_a_budget_near_the_floor_is_enough(name: str, tmp_path: Path) -> None:
    case = NEAR[name]
    reference = train(case, steps=2)
    budget = held_bytes() + int(1.15 * floor_bytes(case))
    assert train(case, steps=2, budget=budget, folder=tmp_path).same_as(reference)


def lent_in(case: Case, folder: Path) -> tuple[Outcome, int]:
    """What a budget of 1.15 times the floor gives, and how much of it left in its place."""
    seen: list[MemorySession] = []
    budget = held_bytes() + int(1.15 * floor_bytes(case))
    outcome = train(case, steps=2, budget=budget, folder=folder, prepare=seen.append)
    return outcome, seen[0].report().counters["lent"]


def test_what_the_program_holds_leaves_in_its_place(tmp_path: Path) -> None:
    """And would be noticed if it came back as something else: the control."""
    case = NEAR["convolutional, activations"]
    reference = train(case, steps=2)
    right, lent = lent_in(case, tmp_path)
    assert lent > 0
    assert right.same_as(reference)
    ops = allocator.operators()
    ops.memory_mutate(7)
    try:
        wrong, _ = lent_in(case, tmp_path)
    finally:
        ops.memory_mutate(0)
    assert not wrong.same_as(reference)


@pytest.mark.parametrize("name", NEAR)
def test_what_is_refused_names_a_budget_that_does(name: str, tmp_path: Path) -> None:
    case = NEAR[name]
    reference: Outcome = train(case, steps=2)
    before = held_bytes()
    budget = before + floor_bytes(case) * 6 // 10
    with pytest.raises(BudgetError, match=r"at least \d+ bytes") as refused:
        train(case, steps=2, budget=budget, folder=tmp_path)
    needed = refused.value.needed_bytes
    assert needed > budget
    assert str(needed) in str(refused.value)
    del refused
    gc.collect()
    assert needed - before <= 1.15 * floor_bytes(case)
    assert train(case, steps=2, budget=needed, folder=tmp_path).same_as(reference)
