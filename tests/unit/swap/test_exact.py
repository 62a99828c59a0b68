"""Training under a budget gives the bits of training without one, and stays under it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch

from tests.unit.swap.tiny import CASES, Outcome, train


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors gain nothing from threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def free(name: str) -> Outcome:
    """The case without a budget."""
    return train(CASES[name])


@pytest.mark.parametrize("share", [1.0, 0.6, 0.4, 0.25, 0.15])
@pytest.mark.parametrize("name", CASES)
def test_no_bit_differs_with_a_disk(name: str, share: float, tmp_path: Path) -> None:
    reference = free(name)
    assert train(CASES[name], budget=reference.budget(share), folder=tmp_path).same_as(reference)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["transformer", "convolutional"])
def test_no_bit_differs_without_a_disk(name: str) -> None:
    reference = free(name)
    assert train(CASES[name], budget=reference.budget(0.75)).same_as(reference)


def test_another_seed_is_noticed() -> None:
    reference = free("transformer")
    other = train(CASES["transformer"], steps=3)
    assert not Outcome(other.tensors, reference.losses, 0, 0, 0, 0).same_as(reference)
