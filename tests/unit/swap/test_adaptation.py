"""Sequences that change: what is new is planned within three steps, what is known at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ithaca.swap import allocator, planning
from ithaca.swap.plan import Plan
from ithaca.swap.session import MemorySession
from tests.helpers.held_memory import held_bytes
from tests.unit.swap.tiny import BATCH, WIDTH, mixture, tokens, transformer

Step = Callable[[MemorySession], None]


@contextmanager
def session(model: nn.Module, folder: Path, activations: int) -> Iterator[MemorySession]:
    """A session with room for the model twice and so many bytes."""
    allocator.install()
    held = held_bytes() + sum(p.nbytes for p in model.parameters())
    with MemorySession(model, held + activations, folder=folder, limit="1GiB") as memory:
        yield memory


def once(model: nn.Module, x: Tensor, memory: MemorySession) -> None:
    """A step without an optimizer."""
    model.zero_grad()
    model(x).square().mean().backward()
    memory.step()


def misses_of(memory: MemorySession, step: Callable[[], None]) -> tuple[int, int]:
    """Hits and misses of one step."""
    before = memory.report().counters
    step()
    after = memory.report().counters
    return after["hits"] - before["hits"], after["misses"] - before["misses"]


def test_a_new_sequence_has_a_plan_within_three_steps(tmp_path: Path) -> None:
    model = transformer()
    with session(model, tmp_path, 3 << 20) as memory:
        for _ in range(2):
            once(model, tokens(0), memory)
        hits, misses = misses_of(memory, lambda: once(model, tokens(0), memory))
        assert hits > 50
        assert misses == 0
        (plan,) = memory.report().plans.values()
        assert Plan.parse(str(plan)) == plan
        assert plan.peak_bytes <= memory.budget_bytes


def test_known_lengths_have_their_plans_at_once(tmp_path: Path) -> None:
    model = transformer()
    short, long = tokens(0)[:, :32].contiguous(), tokens(1)
    with session(model, tmp_path, 3 << 20) as memory:
        for x in (short, long, short, long, short, long):
            once(model, x, memory)
        for x in (long, short, short, long):
            hits, misses = misses_of(memory, partial(once, model, x, memory))
            assert hits > 50
            assert misses == 0
        assert len(memory.report().plans) == 2


def test_evaluation_accumulation_and_skipped_layers_keep_their_plans(tmp_path: Path) -> None:
    model = transformer()
    with session(model, tmp_path, 3 << 20) as memory:
        for _ in range(3):
            once(model, tokens(0), memory)

        def evaluated() -> None:
            with torch.no_grad():
                model.eval()(tokens(1))
            once(model.train(), tokens(0), memory)

        def accumulated() -> None:
            for micro_batch in range(4):
                model(tokens(micro_batch)).sum().backward()
            memory.step()

        def dropped() -> None:
            x = tokens(0)
            whole = model._modules.copy()
            model._modules.pop("2")
            try:
                once(model, x, memory)
            finally:
                model._modules = whole

        for step in (evaluated, accumulated, dropped):
            hits, misses = misses_of(memory, step)
            assert misses == 0, step.__name__
            assert hits > 40


def test_random_routing_hits_the_plan(tmp_path: Path) -> None:
    """Routers decide for themselves, on other tokens in every step, and are trained."""
    torch.manual_seed(0)
    model = mixture(4)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    with session(model, tmp_path, 5 << 20) as memory:
        for step in range(3):
            once(model, tokens(step), memory)
        start = memory.report().counters
        for step in range(200):
            once(model, tokens(step), memory)
            optimizer.step()
        end = memory.report().counters
        gained = {key: end[key] - start[key] for key in ("hits", "nearby", "misses")}
        assert gained["hits"] / sum(gained.values()) >= 0.95, gained
        assert memory.retries == 0


class Resized(nn.Module):
    """What is saved inside has as many rows as is told, which no argument shows."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH))
        self.rows = 256

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, W] to [rows, W]."""
        out: Tensor = self.inner(x.reshape(-1, WIDTH)[: self.rows])
        return out


def test_a_size_bucket_is_part_of_the_identity(tmp_path: Path) -> None:
    """Another size takes the decision of the nearest, which is no hit, until it has its own."""
    model = Resized()
    with session(model, tmp_path, 3 << 20) as memory:

        def step(rows: int) -> tuple[int, int, int]:
            model.rows = rows
            before = memory.report().counters
            once(model, tokens(0), memory)
            after = memory.report().counters
            hits, nearby, misses = (
                after[key] - before[key] for key in ("hits", "nearby", "misses")
            )
            return hits, nearby, misses

        for _ in range(3):
            known = step(256)
        assert known[0] > 0
        assert known[1:] == (0, 0)
        assert step(512)[1] > 0
        for _ in range(2):
            step(512)
        for rows in (512, 256, 512):
            hits, nearby, misses = step(rows)
            assert (hits, nearby, misses) == known


class Forked(nn.Module):
    """Two ways with the same number of operators and saves, in the same module."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH)
        self.left = True

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, W] to the same."""
        for _ in range(4):
            x = self.inner(x).sigmoid() if self.left else self.inner(x).tanh()
        return x


def lengths() -> tuple[int, int]:
    """Operators and saves of this step."""
    runs = allocator.operators().memory_runs()
    return int(runs[:, 4].sum()), int(runs[:, 5].sum())


def same_length(folder: Path) -> tuple[list[int], list[tuple[int, int]]]:
    """Plans and lengths behind each of nine steps: four one way, four the other, one back."""
    model = Forked()
    decided, seen = [], []
    with session(model, folder, 3 << 20) as memory:
        for left in (True,) * 4 + (False,) * 4 + (True,):
            model.left = left
            model.zero_grad()
            model(tokens(0) / BATCH).sum().backward()
            seen.append(lengths())
            memory.step()
            decided.append(memory._planning.decided)
        memory._planning.settle()
        assert memory.report().plan_hits == 1.0
    return decided, seen


def test_a_sequence_of_the_same_length_is_told_apart(tmp_path: Path) -> None:
    decided, seen = same_length(tmp_path)
    assert len(set(seen)) == 1  # what a detector of lengths compares
    assert decided[4] == decided[3] > 0
    assert decided[7] == decided[3] + 1  # within three steps
    assert decided[8] == decided[7]  # known


def test_a_detector_of_lengths_does_not_tell_it_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: the session itself, with lengths in place of contents."""
    monkeypatch.setattr(planning, "content_of", lambda: hash(lengths()))
    decided, _ = same_length(tmp_path)
    assert decided[8] == decided[3] > 0
