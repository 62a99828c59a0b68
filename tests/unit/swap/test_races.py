"""Copies that are late, fail, end early or come in another order change no bit."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

from ithaca.swap import allocator
from ithaca.swap.errors import BudgetError
from ithaca.swap.session import MemorySession
from tests.unit.swap.tiny import CASES, Outcome, tokens, train, transformer

TINY = CASES["transformer"]


@cache
def free() -> Outcome:
    """Without a budget."""
    return train(TINY)


def faults(**given: int) -> Callable[[MemorySession], None]:
    """Breaks the copies of a session."""
    return lambda _memory: allocator.operators().memory_faults(**given)


@pytest.mark.parametrize(
    "given",
    [
        {"delay_us": 2000},
        {"newest_first": 1, "delay_us": 300},
        {"longest": 4096},
        {"fail_writes": errno.EIO, "failures": 7},
        {"fail_writes": errno.EINTR, "failures": 50},
        {"fail_writes": errno.ENOSPC, "failures": 5},
        {"fail_reads": errno.EIO, "failures": 2},
        {"longest": 4096, "delay_us": 500, "newest_first": 1},
    ],
    ids=str,
)
def test_bad_copies_change_nothing(given: dict[str, int], tmp_path: Path) -> None:
    budget = free().budget(0.3)
    assert train(TINY, budget=budget, folder=tmp_path, prepare=faults(**given)).same_as(free())


def test_bytes_that_cannot_be_read_are_an_error_that_says_so(tmp_path: Path) -> None:
    broken = faults(fail_reads=errno.EIO, failures=-1)
    with pytest.raises(RuntimeError, match=r"could not be read back from the disk: Input/output"):
        train(TINY, budget=free().budget(0.3), folder=tmp_path, prepare=broken)


def test_a_disk_that_takes_nothing_is_a_budget_that_does_not_fit(tmp_path: Path) -> None:
    broken = faults(fail_writes=errno.ENOSPC, failures=-1)
    with pytest.raises(BudgetError, match=r"at least \d+ bytes"):
        train(TINY, budget=free().budget(0.2), folder=tmp_path, prepare=broken)


def test_a_full_disk_is_used_as_far_as_it_goes(tmp_path: Path) -> None:
    budget = free().budget(0.6)
    limit = int(0.8 * (free().peak_bytes - free().base_bytes))
    assert train(TINY, budget=budget, folder=tmp_path, limit=limit).same_as(free())


@pytest.mark.parametrize("mutation", [1, 3], ids=["an early reload", "a wrong view offset"])
def test_broken_code_is_noticed(mutation: int, tmp_path: Path) -> None:
    ops = allocator.operators()
    slow = faults(delay_us=2000)
    ops.memory_mutate(mutation)
    try:
        broken = train(TINY, budget=free().budget(0.3), folder=tmp_path, prepare=slow)
    finally:
        ops.memory_mutate(0)
    assert not broken.same_as(free())


def test_a_skipped_version_check_is_noticed(tmp_path: Path) -> None:
    def edited() -> None:
        x = torch.ones(64, requires_grad=True)
        y = x.sigmoid()
        y.mul_(2)
        y.sum().backward()

    ops = allocator.operators()
    with MemorySession(transformer(1), "64MiB", folder=tmp_path, limit="1MiB"):
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            edited()
        ops.memory_mutate(2)
        try:
            edited()
        finally:
            ops.memory_mutate(0)


def test_nothing_is_written_without_need(tmp_path: Path) -> None:
    model = transformer(2)
    with MemorySession(model, "1GiB", folder=tmp_path, limit="1GiB") as memory:
        model(tokens(0)).sum().backward()
        assert memory.report().counters["disk_written"] == 0
