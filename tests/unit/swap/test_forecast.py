"""What a plan says a step holds is what it holds, though it is made from a step that held less."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from ithaca.swap import allocator, sequence
from ithaca.swap.session import MemorySession
from ithaca.swap.trace import Trace
from tests.helpers.held_memory import held_bytes
from tests.unit.swap.tiny import tokens, transformer

# Small tensors that nobody watches come and go; so much may be beyond the plan.
UNWATCHED = 1 << 14
SHARES = (0.55, 0.7, 0.85)


def two_forwards(model: nn.Module, step: int) -> None:
    """Two micro-batches, both forwards before the backwards, as in a pipeline."""
    model.zero_grad()
    losses: list[Tensor] = []
    for number in range(2):
        losses.append(model(tokens(2 * step + number)).square().mean())
    for loss in losses:
        loss.backward()


@contextmanager
def session(share: float, room: int = 0) -> Iterator[tuple[nn.Module, MemorySession]]:
    """A model under a share of its activations and ``room`` bytes; what leaves is made again."""
    allocator.install()
    torch.manual_seed(7)
    model, base = transformer(), held_bytes()
    two_forwards(model, 0)
    allocator.reset_peak()
    two_forwards(model, 0)
    held = 2 * sum(p.nbytes for p in model.parameters())
    budget = base + held + room + int(share * (allocator.usage().peak - base - held))
    with MemorySession(model, budget) as memory:
        yield model, memory


def beyond(share: float, kept: int = 0, said: int = 0) -> list[int]:
    """For each planned step: bytes that it held at most, less those of the plan in force.

    All steps but the first hold ``kept`` bytes more; behind the first, ``said`` are told.
    """
    found, more = [], list[Tensor]()
    with session(share, kept) as (model, memory):
        for step in range(5):
            plans = list(memory.report().plans.values())
            allocator.reset_peak()
            two_forwards(model, step)
            found += [allocator.usage().peak - plan.peak_bytes for plan in plans]
            memory.step(0 if step else said)
            if not more and kept:
                more.append(torch.zeros(kept, dtype=torch.uint8))
    assert len(found) >= 3
    return found


@pytest.mark.parametrize("share", SHARES)
def test_a_step_holds_what_its_plan_says(share: float) -> None:
    assert max(beyond(share)) <= UNWATCHED


@pytest.mark.parametrize("share", SHARES)
def test_what_only_later_steps_hold_is_left_room_for(share: float) -> None:
    assert max(beyond(share, kept=1 << 20, said=1 << 20)) <= UNWATCHED
    assert max(beyond(share, kept=1 << 20)) > UNWATCHED, "the control: not a word of it"


def untimely(trace: Trace) -> int:
    """How many storages are gone at a point at which nothing is freed."""
    names = [point.name for point in trace.points]
    gone = [part.freed_at for part in trace.saved if part.freed_at < len(names)]
    assert gone
    return sum(names[at] != "freed" for at in gone)


def test_what_an_operator_reads_is_there_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product reads both of its operands before it runs; the first is not gone by then."""

    def seen() -> Trace:
        with session(0.7) as (model, memory):
            two_forwards(model, 0)
            memory.step()
            return next(iter(memory.traces()))

    assert untimely(seen()) == 0
    gone = sequence._Life._gone
    monkeypatch.setattr(
        sequence._Life, "_gone", lambda a, end: a.last_use + 1 if a.noted else gone(a, end)
    )
    assert untimely(seen()) > 0, "the control: gone with its last read"
