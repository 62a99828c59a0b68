"""Sequences that change: what is new is planned within three steps, what is known at once."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from ithaca.swap import allocator
from ithaca.swap.plan import Plan
from ithaca.swap.session import MemorySession
from tests.unit.swap.tiny import BATCH, WIDTH, Experts, mixture, tokens, transformer

Step = Callable[[MemorySession], None]


@contextmanager
def session(model: nn.Module, folder: Path, activations: int) -> Iterator[MemorySession]:
    """A session with room for the model twice and so many bytes."""
    allocator.install()
    gc.collect()
    held = allocator.usage().allocated + sum(p.nbytes for p in model.parameters())
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
    torch.manual_seed(0)
    model = mixture(4)
    with session(model, tmp_path, 5 << 20) as memory:
        for step in range(3):
            once(model, tokens(step), memory)
        start = memory.report().counters
        for step in range(200):
            shares = torch.rand(4, generator=torch.Generator().manual_seed(step))
            with torch.no_grad():
                for part in model:  # type: ignore[attr-defined]
                    if isinstance(part, Experts):
                        part.router.bias.copy_(shares)
            once(model, tokens(step), memory)
        end = memory.report().counters
        hits, misses = end["hits"] - start["hits"], end["misses"] - start["misses"]
        assert hits / (hits + misses) >= 0.95
        assert memory.retries == 0


class Forked(nn.Module):
    """Two branches with the same number of operators and saves, of different operators."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.left = True

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, W] to the same."""
        for _ in range(4):
            x = self.first(x).exp() if self.left else self.second(x).tanh()
        return x


def test_a_sequence_of_the_same_length_is_told_apart(tmp_path: Path) -> None:
    model = Forked()
    ops = allocator.operators()
    with session(model, tmp_path, 3 << 20) as memory:
        seen = []
        for left in (True, True, True, True, False, False, False, True):
            model.left = left
            model.zero_grad()
            model(tokens(0) / BATCH).sum().backward()
            operators = int(ops.memory_runs()[:, 4].sum())
            saves = int(ops.memory_runs()[:, 5].sum())
            seen.append((ops.memory_hash(), operators, saves))
            memory.step()
    same, other = seen[3], seen[5]
    assert same[1:] == other[1:]  # what a detector of length compares
    assert same[0] != other[0]
    assert seen[7][0] == seen[3][0]
