"""On a GPU every model, budget and tier gives the bits of no memory saving."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ithaca.swap.bench.models import SMALL, Stack
from ithaca.swap.session import MemorySession
from tests.gpu.trained import DEVICE, Outcome, Training

MODELS = [model.name for model in SMALL]
BUDGETS = [1.0, 0.6, 0.4, 0.25, 0.15]


@cache
def free(training: Training) -> Outcome:
    """Without a session."""
    return training.run()


@cache
def plain(model: str) -> Training:
    """A training of a model, the same object each time."""
    return Training(model)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("share", BUDGETS)
def test_the_same_bits_within_the_budget(model: str, share: float) -> None:
    training = plain(model)
    reference = free(training)
    taken, budget = training.within_or_what_is_needed(reference.budget(share))
    assert taken.same_bits(reference)
    assert taken.peak_bytes <= budget
    if share < 1:
        assert taken.counters["out_bytes"] + taken.counters["replays"] > 0


@pytest.mark.parametrize("model", MODELS)
def test_with_copies_alone(model: str) -> None:
    training = plain(model)
    reference = free(training)
    taken, _ = training.within_or_what_is_needed(reference.budget(0.4), recompute=False)
    assert taken.same_bits(reference)
    assert taken.counters["in_bytes"] > 0
    assert taken.counters["replays"] == 0


@pytest.mark.parametrize("model", ["small", "small GPT-2"])
def test_with_nothing_but_computing_again(model: str) -> None:
    """Dropout draws from the GPU's generator, whose state is that of the forward."""
    training = plain(model)
    reference = free(training)
    taken, _ = training.within_or_what_is_needed(reference.budget(0.4), host=0)
    assert taken.same_bits(reference)
    assert taken.counters["replays"] > 0
    assert taken.counters["out_bytes"] == 0


@pytest.mark.parametrize("model", ["small", "small MoE"])
def test_what_the_host_has_no_room_for_goes_to_the_disk(model: str, tmp_path: Path) -> None:
    training = plain(model)
    reference = free(training)
    taken, _ = training.within_or_what_is_needed(
        reference.budget(0.4), folder=tmp_path, host="64MiB", recompute=False
    )
    assert taken.same_bits(reference)
    assert 0 < taken.counters["host_held"] <= 64 << 20
    assert taken.counters["disk_written"] > 0
    assert not list(tmp_path.iterdir())


def test_autocast() -> None:
    training = Training(autocast=True)
    reference = training.run()
    taken, _ = training.within_or_what_is_needed(reference.budget(0.4))
    assert taken.same_bits(reference)


def _checkpointed(block: nn.Module, x: Tensor) -> Tensor:
    result: Tensor = checkpoint(block, x, use_reentrant=False)
    return result


def test_regions_of_torchs_checkpoint_are_working_memory() -> None:
    def vary(model: Stack, _step: int) -> bool:
        model.run = _checkpointed
        return True

    training = Training(vary=vary)
    reference = training.run()
    taken, _ = training.within_or_what_is_needed(reference.budget(0.4))
    assert taken.same_bits(reference)


def test_optimizer_state_leaves_and_comes_back() -> None:
    training = Training(optimizer=lambda held: torch.optim.AdamW(held, lr=1e-3, foreach=False))
    reference = training.run()
    taken, _ = training.within_or_what_is_needed(reference.budget(0.15), recompute=False)
    assert taken.same_bits(reference)
    assert taken.counters["state_out_bytes"] > 0


def test_another_stream_than_the_sessions_is_left_alone() -> None:
    """What runs there is not in the order that copies follow: nothing of it moves."""
    model = nn.Sequential(nn.Linear(256, 256), nn.Tanh(), nn.Linear(256, 256)).to(DEVICE)
    x = torch.randn(4096, 256, device=DEVICE)
    model(x).sum().backward()
    wanted = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    side = torch.cuda.Stream()
    with MemorySession(model, torch.cuda.memory_allocated() + (256 << 20)) as memory:
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            loss = model(x).sum()
        torch.cuda.current_stream().wait_stream(side)
        loss.backward()
        memory.step()
        assert memory.report().counters["managed_saves"] == 0
    torch.cuda.synchronize()
    for parameter, grad in zip(model.parameters(), wanted, strict=True):
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, grad)
