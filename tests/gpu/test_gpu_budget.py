"""On a GPU allocated bytes stay within the budget, reserved ones within two percent of it."""

from __future__ import annotations

import gc
import threading
from pathlib import Path

import pytest
import torch
from torch import nn

from ithaca.swap.bench.models import MODELS
from ithaca.swap.errors import BudgetError, Unsupported
from ithaca.swap.session import MemorySession
from tests.gpu.trained import DEVICE, Training

# Torch reserves in pieces of 20 MiB, so that two percent have a meaning from here on.
LARGE = 4 << 30


@pytest.mark.parametrize("share", [0.6, 0.4])
def test_reserved_bytes_stay_within_two_percent(share: float) -> None:
    training = Training("Llama-3B", steps=4)
    reference = training.run()
    torch.cuda.empty_cache()
    budget = reference.budget(share)
    assert budget > LARGE
    taken = training.within(budget)
    assert taken.same_bits(reference)
    assert taken.peak_bytes <= budget
    assert taken.reserved_bytes <= 1.02 * budget


def test_the_first_step_of_an_unknown_model_succeeds_under_half_of_what_it_takes() -> None:
    training = Training("small", steps=1)
    reference = training.run()
    budget = reference.budget(0.4)
    taken = training.within(budget)
    assert taken.same_bits(reference)
    assert taken.peak_bytes <= budget
    assert taken.counters["reclaims"] > 0


def test_what_cannot_fit_is_refused_with_a_number_that_works() -> None:
    training = Training("small", steps=3)
    reference = training.run()
    with pytest.raises(BudgetError, match=r"at least \d+ bytes") as refused:
        training.within(reference.budget(0.005))
    needed = refused.value.needed_bytes
    del refused
    gc.collect()
    assert training.within(int(needed * 1.05)).same_bits(reference)


def test_parameters_above_the_budget_are_refused_at_once() -> None:
    model = MODELS["small"].make(DEVICE)
    with pytest.raises(BudgetError, match="parameters and buffers alone"), MemorySession(model, 1):
        pass


def test_the_host_holds_few_large_pieces_within_its_limit() -> None:
    training = Training("small", steps=3)
    reference = training.run()
    taken, _ = training.within_or_what_is_needed(
        reference.budget(0.5), recompute=False, host=1 << 30
    )
    assert taken.same_bits(reference)
    assert 0 < taken.counters["host_held"] <= 1 << 30
    assert taken.counters["host_regions"] <= 6


def test_copies_are_timed_and_in_the_plan() -> None:
    seen: list[MemorySession] = []
    training = Training("small", steps=3)
    reference = training.run()
    training.within(reference.budget(0.5), prepare=seen.append, recompute=False)
    (trace,) = seen[0].traces()
    (link,) = trace.links
    assert link.tier == "pinned"
    assert link.out_bytes_per_s > 1e9
    assert link.in_bytes_per_s > 1e9


def test_another_thread_is_counted_too() -> None:
    model = nn.Linear(8, 8).to(DEVICE)
    budget = torch.cuda.memory_allocated() + (64 << 20)
    refused: list[BaseException] = []

    def take() -> None:
        try:
            torch.empty(128 << 20, dtype=torch.uint8, device=DEVICE)
        except torch.OutOfMemoryError as error:
            refused.append(error)

    with MemorySession(model, budget):
        thread = threading.Thread(target=take)
        thread.start()
        thread.join(30)
    assert "out of the memory budget" in str(refused[0])


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    def one() -> None:
        training = Training("small", steps=2)
        training.within(8 << 30, folder=tmp_path, host="256MiB")

    one()  # what torch and its libraries keep for good
    gc.collect()
    before = torch.cuda.memory_allocated(), threading.active_count()
    one()
    gc.collect()
    assert (torch.cuda.memory_allocated(), threading.active_count()) == before
    assert torch.cuda.get_per_process_memory_fraction() == 1.0
    assert not list(tmp_path.iterdir())
    large = torch.empty(9 << 30, dtype=torch.uint8, device=DEVICE)  # no budget any more
    assert large.is_cuda


def test_an_error_in_the_middle_of_a_step_leaves_nothing_behind() -> None:
    case = MODELS["small"]
    model = case.make(DEVICE)
    model(case.batch(0, DEVICE))  # cuBLAS takes a workspace for good
    before = torch.cuda.memory_allocated()

    def interrupted() -> None:
        with MemorySession(model, before + (512 << 20), recompute=False):
            model(case.batch(0, DEVICE))
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    gc.collect()
    assert torch.cuda.memory_allocated() == before


def test_models_on_several_devices_are_refused_by_name() -> None:
    model = nn.Sequential(nn.Linear(2, 2).to(DEVICE), nn.Linear(2, 2))
    with pytest.raises(Unsupported, match="several devices, cpu, cuda:0"):
        MemorySession(model, "1GiB")
