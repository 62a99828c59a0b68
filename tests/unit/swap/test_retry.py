"""A whole step is tried again by ``session.run``: with the same bits, a bounded number of times."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ithaca.swap import allocator
from ithaca.swap.errors import BudgetError
from ithaca.swap.session import MemorySession
from tests.helpers.held_memory import held_bytes
from tests.unit.swap.tiny import convolutional, images


class Stumbling(nn.Module):
    """Runs out of memory behind its forward, so many times."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.times = inner, 0

    def forward(self, x: Tensor) -> Tensor:
        """As ``inner``, or torch.OutOfMemoryError."""
        out: Tensor = self.inner(nn.functional.dropout(x, 0.1))
        if self.times:
            self.times -= 1
            raise torch.OutOfMemoryError("nothing left")
        return out


def train(stumbles: dict[int, int], folder: Path, attempts: int = 3) -> tuple[list[Tensor], int]:
    """State after three steps with batch norm and dropout, and how many were tried again."""
    allocator.install()
    torch.manual_seed(3)
    model = Stumbling(convolutional())
    adam = torch.optim.Adam(model.parameters())

    def step(number: int) -> None:
        adam.zero_grad()
        model(images(number)).square().mean().backward()
        adam.step()

    with MemorySession(model, "1GiB", folder=folder, limit="1GiB") as memory:
        for number in range(3):
            model.times = stumbles.get(number, 0)
            memory.run(lambda number=number: step(number), attempts)  # type: ignore[misc]
        retries = memory.retries
        assert memory.report().retries == retries
    return [part.detach() for part in (*model.parameters(), *model.buffers())], retries


def test_a_step_that_is_tried_again_ends_with_the_same_bits(tmp_path: Path) -> None:
    plain, none = train({}, tmp_path)
    again, retries = train({0: 1, 1: 2}, tmp_path)
    assert none == 0
    assert retries == 3
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


def test_without_putting_back_the_bits_would_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: buffers and random state stay as the failed attempt left them."""
    plain, _ = train({}, tmp_path)
    monkeypatch.setattr("ithaca.swap.retry.Attempt.put_back", lambda _self: None)
    again, _ = train({1: 1}, tmp_path)
    assert not all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


def test_attempts_are_bounded(tmp_path: Path) -> None:
    with pytest.raises(torch.OutOfMemoryError, match="nothing left"):
        train({0: 9}, tmp_path, attempts=2)


def test_a_step_is_not_tried_again_once_the_optimizer_began(tmp_path: Path) -> None:
    model = nn.Linear(8, 8)
    allocator.install()
    calls = []

    def step(optimizer: Optimizer) -> None:
        calls.append(1)
        model(torch.ones(8, 8)).sum().backward()
        optimizer.step()
        raise torch.OutOfMemoryError("too late")

    with (
        MemorySession(model, "1GiB", folder=tmp_path, limit="1GiB") as memory,
        pytest.raises(torch.OutOfMemoryError, match="too late"),
    ):
        memory.run(lambda: step(torch.optim.SGD(model.parameters())))
    assert calls == [1]


def test_gradients_from_before_are_refused(tmp_path: Path) -> None:
    model = Stumbling(nn.Linear(8, 8))
    allocator.install()

    def step() -> None:
        model(torch.ones(8, 8)).sum().backward()

    def late() -> None:
        step()
        raise torch.OutOfMemoryError("behind the backward")

    with MemorySession(model, "1GiB", folder=tmp_path, limit="1GiB") as memory:
        memory.run(step)
        model.times = 1
        memory.run(step)  # fails in the forward, which has added to nothing yet
        assert memory.retries == 1
        with pytest.raises(RuntimeError, match=r"call zero_grad\(set_to_none=True\)"):
            memory.run(late)


def test_a_budget_that_is_too_small_is_refused_with_a_number(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(256, 256), nn.Tanh(), nn.Linear(256, 256))
    allocator.install()
    budget = held_bytes() + (1 << 20)

    def step() -> None:
        model.zero_grad()
        model(torch.randn(4096, 256)).sum().backward()

    with (
        MemorySession(model, budget, folder=tmp_path, limit="1GiB") as memory,
        pytest.raises(BudgetError, match=r"at least \d+ bytes") as refused,
    ):
        memory.run(step)
    assert refused.value.needed_bytes > budget
