"""The tiers of a GPU - pinned memory, then the disk - on a device that is emulated on the CPU.

Its memory is counted memory of the CPU, its compute stream is the program, and its other streams
are threads: the executor, its slab and the order of its copies are the ones of a real device.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import torch

from ithaca.swap import allocator
from ithaca.swap.errors import BudgetError
from ithaca.swap.session import MemorySession
from tests.helpers.held_memory import held_bytes
from tests.unit.swap.even_times import measured_times
from tests.unit.swap.tiny import CASES, Outcome, tokens, train, transformer

TINY = CASES["transformer"]
MIB = 1 << 20


@cache
def free(case: str = "transformer") -> Outcome:
    """Without a budget."""
    return train(CASES[case])


@pytest.fixture(autouse=True)
def _emulated() -> Iterator[None]:
    for case in CASES:
        free(case)  # before anything is emulated
    gc.collect()  # what an error of an earlier test holds would make its budget a large one
    ops = allocator.operators()
    ops.memory_emulate(True)
    yield
    ops.memory_mutate(0)
    ops.memory_emulate(False)


def faults(**given: int) -> Callable[[MemorySession], None]:
    """Breaks the copies of the device."""
    return lambda _memory: allocator.operators().memory_device_faults(**given)


@pytest.mark.parametrize("case", list(CASES))
@pytest.mark.parametrize("share", [0.6, 0.25])
def test_the_same_bits(case: str, share: float) -> None:
    seen: list[MemorySession] = []
    budget = free(case).budget(share)
    assert train(CASES[case], budget=budget, prepare=seen.append).same_as(free(case))
    counters = seen[0].report().counters
    assert counters["device_copies"] > 0
    assert counters["in_order"] > 0
    assert counters["unordered"] == 0


@pytest.mark.parametrize(
    "given",
    [
        {"delay_us": 2000},
        {"delay_us": 1000, "uneven": 1},
        {"failures": 9},
        {"failures": 20, "delay_us": 300, "uneven": 1},
    ],
    ids=str,
)
def test_bad_copies_change_nothing(given: dict[str, int]) -> None:
    # What could not be copied stays: that takes room.
    budget = free().budget(0.6 if "failures" in given else 0.3)
    assert train(TINY, budget=budget, prepare=faults(**given)).same_as(free())


def test_a_slow_link_changes_nothing() -> None:
    def slow(_memory: MemorySession) -> None:
        allocator.operators().memory_link_speed(200 * MIB, 400 * MIB)

    assert train(TINY, budget=free().budget(0.3), prepare=slow).same_as(free())


@pytest.mark.parametrize("given", [{}, {"delay_us": 500, "uneven": 1}], ids=str)
def test_what_the_host_has_no_room_for_goes_to_the_disk(
    given: dict[str, int], tmp_path: Path
) -> None:
    seen: list[MemorySession] = []

    def prepare(memory: MemorySession) -> None:
        seen.append(memory)
        faults(**given)(memory)

    budget = free().budget(0.25)
    small = MIB  # of some 10 MiB that have to leave
    taken = train(TINY, budget=budget, prepare=prepare, folder=tmp_path, host=small)
    assert taken.same_as(free())
    counters = seen[0].report().counters
    assert 0 < counters["host_held"] <= small
    assert counters["disk_written"] > 0
    assert counters["device_copies"] > 0
    assert not list(tmp_path.iterdir())


def test_the_plan_says_what_goes_to_the_disk_behind(tmp_path: Path) -> None:
    seen: list[MemorySession] = []
    budget = free().budget(0.15)
    taken = train(TINY, budget=budget, prepare=seen.append, folder=tmp_path, host=MIB)
    assert taken.same_as(free())
    plans = seen[0].report().plans
    tiers = {line.tier for plan in plans.values() for line in plan.decisions if line.tier}
    assert tiers == {"pinned", "disk"}


def test_without_memory_to_pin_the_disk_takes_nothing_and_the_budget_says_so() -> None:
    with pytest.raises(BudgetError, match=r"at least \d+ bytes"):
        train(TINY, budget=free().budget(0.2), prepare=faults(no_memory=1))


def test_copies_that_never_begin_are_a_budget_that_does_not_fit() -> None:
    with pytest.raises(BudgetError, match=r"at least \d+ bytes"):
        train(TINY, budget=free().budget(0.2), prepare=faults(failures=-1))


@pytest.mark.parametrize(
    "mutation",
    [1, 3, 4, 5],
    ids=["an early reload", "a wrong offset", "use before arrival", "reuse before leaving"],
)
def test_broken_code_is_noticed(mutation: int) -> None:
    allocator.operators().memory_mutate(mutation)
    seen: list[MemorySession] = []

    def prepare(memory: MemorySession) -> None:
        seen.append(memory)
        faults(delay_us=3000)(memory)

    broken = train(TINY, budget=free().budget(0.3), prepare=prepare)
    assert seen[0].report().counters["in_order"] > 0
    assert not broken.same_as(free())


def test_a_copy_that_does_not_wait_for_what_it_copies_is_noticed() -> None:
    """Here compute is the program itself and never late, so that the bits do not tell."""
    seen: list[MemorySession] = []
    allocator.operators().memory_mutate(6)
    train(TINY, budget=free().budget(0.3), prepare=seen.append)
    assert seen[0].report().counters["unordered"] > 0


def test_a_skipped_version_check_is_noticed() -> None:
    def edited() -> None:
        x = torch.ones(1 << 14, requires_grad=True)
        y = x.sigmoid()
        y.mul_(2)
        y.sum().backward()

    with MemorySession(transformer(1), "64MiB", host="8MiB"):
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            edited()
        allocator.operators().memory_mutate(2)
        edited()


def test_the_link_is_measured_both_ways_and_is_in_the_plan(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured_times(monkeypatch)
    model = transformer()
    seen: list[MemorySession] = []

    def prepare(memory: MemorySession) -> None:
        seen.append(memory)
        allocator.operators().memory_link_speed(300 * MIB, 600 * MIB)

    train(TINY, budget=free().budget(0.3), prepare=prepare)
    del model
    (trace,) = seen[0].traces()
    (link,) = trace.links
    assert link.tier == "pinned"
    assert link.capacity_bytes is not None
    # A copy may wait for its thread; it is never faster than the link.
    assert 0 < link.out_bytes_per_s <= 310 * MIB
    assert 0 < link.in_bytes_per_s <= 620 * MIB


def test_regions_are_few_and_stay_within_the_limit() -> None:
    seen: list[MemorySession] = []
    train(TINY, budget=free().budget(0.3), prepare=seen.append, host=300 * MIB)
    counters = seen[0].report().counters
    assert counters["host_held"] <= 300 * MIB
    assert counters["host_regions"] <= 3


def test_nothing_is_left_behind_when_a_step_ends_in_an_error() -> None:
    model = transformer()

    def interrupted() -> None:
        with MemorySession(model, held_bytes() + 40 * MIB):
            model(tokens(0)).sum().backward()
            model(tokens(1))
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    before = allocator.usage().allocated
    model.zero_grad()
    assert allocator.usage().allocated < before
    assert allocator.usage().cap is None


def test_host_memory_is_for_a_gpu() -> None:
    allocator.operators().memory_emulate(False)
    with pytest.raises(ValueError, match="host='1GiB' is for a model on a GPU"):
        MemorySession(transformer(1), "1GiB", host="1GiB")
