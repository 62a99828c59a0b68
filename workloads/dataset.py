"""An adapter from a map-style ``torch.utils.data.Dataset`` to batches by id."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from ithaca.runtime.workload import Batch, BatchId, Split, Value, Workload
from ithaca.workloads.order import Order, sample_numbers


class FromDataset(Workload):
    """A workload whose batches come from two datasets; a subclass adds its layers and its loss.

    Each sample of the training set is used exactly once per epoch, in an order that depends on
    the seed and the epoch. A batch may hold the end of one epoch and the start of the next. For
    validation each step has the same samples. ``dataset[i]`` must depend on ``i`` alone; what it
    draws from the generators of torch, numpy and ``random`` is made to, since all three are seeded
    anew for each micro-batch and put back behind it.

    Args:
        train: samples to train on, by index.
        validation: samples to validate with.
        batch_size: samples in a micro-batch.
        seed: of the order and of random transforms.
        micro_batches: micro-batches in a step.
        collate: makes a batch of a list of samples; torch's default, if left out.

    Raises:
        ValueError: a dataset is empty or cannot be read by index.
    """

    def __init__(
        self,
        train: Dataset[Any],
        validation: Dataset[Any],
        *,
        batch_size: int,
        seed: int,
        micro_batches: int,
        collate: Callable[[list[Any]], Any] = default_collate,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        self._datasets = {Split.TRAIN: train, Split.VALIDATION: validation}
        self._orders = {
            Split.TRAIN: Order(_length(train, Split.TRAIN), f"train/{seed}"),
            Split.VALIDATION: Order(_length(validation, Split.VALIDATION), "validation"),
        }
        self._batch_size = batch_size
        self._seed = seed
        self._micro_batches = micro_batches
        self._collate = collate

    def batch(self, which: BatchId) -> Batch:
        """The samples of micro-batch ``which``, collated."""
        numbers = sample_numbers(which, self._batch_size, self._micro_batches)
        positions = self._orders[which.split].positions(numbers).tolist()
        dataset = self._datasets[which.split]
        with _seeded(f"{self._seed}/{which.split.value}/{numbers[0]}"):
            inputs, targets = self.unpack(self._collate([dataset[i] for i in positions]))
        return Batch(inputs, targets, self.count(inputs, targets), tuple(numbers.tolist()))

    def unpack(self, collated: Any) -> tuple[Value, Any]:  # noqa: ANN401
        """Inputs and targets out of what ``collate`` made; by default it is already that pair."""
        if not isinstance(collated, Sequence) or len(collated) != 2:
            raise ValueError(
                "a sample of the dataset must be a pair of input and target; "
                f"its batch is a {type(collated).__name__}: override unpack(collated)"
            )
        inputs, targets = collated
        return inputs, targets

    def count(self, inputs: Value, targets: Any) -> int:  # noqa: ANN401
        """Terms of the loss in a micro-batch; by default one for each sample."""
        return self._batch_size

    def fingerprint(self) -> dict[str, str]:
        """The sizes of both datasets; override it to add hashes of their files."""
        return {f"{split.value}_samples": str(o.size) for split, o in self._orders.items()}


def _length(dataset: object, split: Split) -> int:
    """Its number of samples; ``ValueError`` if it cannot be read by index or has none."""
    what = f"the {split.value} data is a {type(dataset).__name__}"
    if isinstance(dataset, DataLoader):
        raise ValueError(
            f"{what}, which keeps its own place, so that no other worker could take over one of "
            "its batches; give the dataset inside it (loader.dataset), if that is read by index"
        )
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__getitem__"):
        raise ValueError(
            f"{what}, which can only be read in order, so that no other worker could take over "
            "one of its batches; give a dataset with __getitem__ and __len__, such as one that "
            "maps its file and finds sample i by an index"
        )
    if not isinstance(dataset, Sized):
        raise ValueError(f"{what} without __len__; an epoch needs a known number of samples")
    if not len(dataset):
        raise ValueError(f"{what} without a sample")
    return len(dataset)


@contextmanager
def _seeded(key: str) -> Iterator[None]:
    """The global CPU generators seeded by ``key`` inside, and as before behind it."""
    seed = int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "little")
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
