"""This suite is for machines with a GPU; elsewhere it fails, and says why."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import torch

from ithaca.swap import allocator
from ithaca.swap.bench.kernels import same_kernels


@pytest.fixture(autouse=True)
def gpu() -> Iterator[None]:
    """A test begins with no more memory than the one before it did, and breaks nothing for good."""
    assert torch.cuda.is_available(), "torch finds no GPU: this suite is run by make gpu on one"
    same_kernels()
    gc.collect()
    torch.cuda.empty_cache()
    yield
    allocator.operators().memory_mutate(0)
