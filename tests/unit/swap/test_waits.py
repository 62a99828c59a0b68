"""What copies were seen to cost: which steps count, and what for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ithaca.swap import allocator
from ithaca.swap.cost import cost_table
from ithaca.swap.session import MemorySession
from ithaca.swap.synthetic import Transformer
from ithaca.swap.trace import Link
from ithaca.swap.waits import Waits
from tests.helpers.held_memory import held_bytes
from tests.unit.swap.tiny import tokens, transformer


def counters(waited_s: float, written: int, read: int, **more: int) -> Mapping[str, int]:
    """As the vault tells them."""
    return {"wait_ns": int(waited_s * 1e9), "disk_written": written, "disk_read": read, **more}


def test_only_steps_that_ran_as_planned_count() -> None:
    waits = Waits()
    assert waits.s_per_byte == 0.0
    waits.take(counters(5.0, 900, 900), None)  # observed: it had no plan
    waits.take(counters(5.3, 950, 950), 0.1)
    assert waits.s_per_byte == pytest.approx(0.2 / 100)
    waits.take(counters(9.3, 990, 990), None)  # looked at in detail
    waits.take(counters(9.6, 1040, 1040), 0.1)
    assert waits.s_per_byte == pytest.approx(0.4 / 200)
    waits.take(counters(9.6, 1041, 1041), 10.0)
    assert waits.s_per_byte == 0.0, "what was foreseen and did not come is no gain"


def test_bytes_count_once_where_there_are_two_tiers() -> None:
    waits = Waits()
    host = {"host_limit": 1, "host_out_bytes": 0, "host_in_bytes": 0}
    waits.take(counters(0.0, 0, 0, **host), None)
    host = {"host_limit": 1, "host_out_bytes": 300, "host_in_bytes": 100}
    waits.take(counters(2.0, 50, 50, **host), 0.0)
    assert waits.s_per_byte == pytest.approx(2.0 / 400)


def test_a_table_counts_what_was_waited_for_bytes_that_move() -> None:
    link = Link("disk", 1e9, 1e9)
    trace = replace(Transformer(8, 128, 384, sequence=64).trace([link]), replays=())
    calm = cost_table(trace)
    slow = cost_table(replace(trace, links=(replace(link, wait_s_per_byte=1e-6),)))
    assert slow.budget_bytes == calm.budget_bytes
    assert slow.step_s[-1] == calm.step_s[-1], "nothing moves"
    moved = calm.budget_bytes[-1] - calm.budget_bytes[0]
    assert slow.step_s[0] - calm.step_s[0] >= 0.9 * 2e-6 * moved
    assert list(slow.step_s) == sorted(slow.step_s, reverse=True)


def test_a_session_tells_what_it_saw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    foreseen: list[float | None] = []

    class Noted(Waits):
        """Notes what it is given."""

        def take(self, counters: Mapping[str, int], foreseen_s: float | None) -> None:
            foreseen.append(foreseen_s)
            super().take(counters, foreseen_s)

        @property
        def s_per_byte(self) -> float:
            return 3e-9

    monkeypatch.setattr("ithaca.swap.planning.Waits", Noted)
    allocator.install()
    model = transformer()
    held = held_bytes() + sum(p.nbytes for p in model.parameters())
    with MemorySession(model, held + (3 << 20), folder=tmp_path, limit="1GiB") as memory:
        for step in range(5):
            model.zero_grad()
            model(tokens(step)).square().mean().backward()
            memory.step()
        (trace,) = memory.traces()
        planned = list(foreseen)
        with torch.no_grad():
            model(tokens(0))
        memory.step()
    assert [link.wait_s_per_byte for link in trace.links] == [3e-9]
    assert planned[0] is None, "the first step has no plan"
    assert planned[-1] is not None
    assert foreseen == [*planned, None], "an evaluation only ends, and counts for nothing"
