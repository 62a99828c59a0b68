"""Batches by id out of map-style datasets; what cannot be read by index is refused."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from ithaca.runtime.workload import Batch, BatchId, LayerSpec, Split, Value
from ithaca.workloads.dataset import FromDataset


class Squares(Dataset[tuple[Tensor, Tensor]]):
    """Sample i is (i, i * i)."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return torch.tensor([float(index)]), torch.tensor([float(index * index)])


class Noisy(Squares):
    """Squares with random transforms from all three generators."""

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        noise = torch.rand(1) + np.random.rand() + random.random()
        return torch.tensor([float(index)]) + noise, torch.zeros(1)


class Stream(IterableDataset[int]):
    """Can only be read in order."""

    def __iter__(self) -> Iterator[int]:
        return iter(range(10))


class Regression(FromDataset):
    """A workload of the tests: one linear layer."""

    def layers(self) -> Sequence[LayerSpec]:
        """One layer."""
        return [LayerSpec("linear", lambda: nn.Linear(1, 1))]

    def loss(self, output: Value, batch: Batch) -> Tensor:
        """Summed squared error."""
        assert isinstance(output, Tensor)
        errors: Tensor = output - batch.targets
        return errors.square().sum()


def regression(train: Any, validation: Any = None, **options: Any) -> Regression:  # noqa: ANN401
    """Micro-batches of 3, four in a step."""
    options = {"batch_size": 3, "seed": 0, "micro_batches": 4, **options}
    return Regression(train, Squares(7) if validation is None else validation, **options)


def epoch(workload: Regression) -> list[int]:
    """The inputs of the first two steps, 24 samples."""
    batches = [workload.batch(BatchId(step, i)) for step in range(2) for i in range(4)]
    return [int(x) for batch in batches for x in batch.inputs]


def tensor(value: Value) -> Tensor:
    """A value that is one tensor."""
    assert isinstance(value, Tensor)
    return value


def test_each_sample_once_per_epoch() -> None:
    inputs = epoch(regression(Squares(12)))
    assert sorted(inputs[:12]) == sorted(inputs[12:]) == list(range(12))
    assert inputs[:12] != inputs[12:]


def test_targets_belong_to_their_inputs() -> None:
    batch = regression(Squares(12)).batch(BatchId(5, 1))
    assert isinstance(batch.inputs, Tensor)
    assert torch.equal(batch.targets, batch.inputs.square())
    assert batch.inputs.shape == (3, 1)
    assert batch.count == 3
    assert batch.samples == (63, 64, 65)


def test_a_batch_depends_on_its_id_alone() -> None:
    first, second = regression(Noisy(12)), regression(Noisy(12))
    second.batch(BatchId(3, 3))
    for which in (BatchId(0, 2), BatchId(7, 1), BatchId(7, 1, Split.VALIDATION)):
        a, b = first.batch(which), second.batch(which)
        assert isinstance(a.inputs, Tensor)
        assert isinstance(b.inputs, Tensor)
        assert torch.equal(a.inputs, b.inputs)
    one, other = (tensor(first.batch(BatchId(step, 0)).inputs) for step in range(2))
    assert not torch.equal(one % 1, other % 1)


def test_generators_stay_as_they_were() -> None:
    numbers = np.random.get_state()[1].copy()  # type: ignore[index]
    before = torch.get_rng_state(), random.getstate(), numbers
    regression(Noisy(12)).batch(BatchId(0, 0))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    assert (before[2] == np.random.get_state()[1]).all()  # type: ignore[index]


def test_the_seed_changes_training_and_not_validation() -> None:
    a, b = regression(Squares(50)), regression(Squares(50), seed=1)
    assert epoch(a) != epoch(b)
    which = BatchId(0, 0, Split.VALIDATION)
    later = BatchId(9, 0, Split.VALIDATION)
    for same in (b.batch(which), a.batch(later)):
        assert torch.equal(tensor(a.batch(which).inputs), tensor(same.inputs))


def test_tensor_datasets_and_own_collation_work() -> None:
    data = TensorDataset(torch.arange(9), torch.arange(9) * 2)
    batch = regression(data).batch(BatchId(0, 0))
    assert torch.equal(batch.targets, tensor(batch.inputs) * 2)
    tripled = regression(data, collate=lambda items: (len(items), "target"))
    assert tripled.batch(BatchId(0, 0)).inputs == 3


def test_the_fingerprint_has_the_sizes() -> None:
    assert regression(Squares(12)).fingerprint() == {
        "train_samples": "12",
        "validation_samples": "7",
    }


class WithoutLength:
    def __getitem__(self, index: int) -> int:
        return index


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Stream(), "a Stream, which can only be read in order"),
        (iter([1, 2]), "a list_iterator, which can only be read in order"),
        (DataLoader(Squares(4)), r"a DataLoader, which keeps its own place.*loader\.dataset"),
        (DataLoader(Stream()), "a DataLoader, which keeps its own place"),
        (WithoutLength(), "a WithoutLength without __len__"),
        (Squares(0), "a Squares without a sample"),
    ],
)
def test_what_cannot_be_read_by_index_is_refused(data: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"the train data is {message}"):
        regression(data)
    with pytest.raises(ValueError, match=f"the validation data is {message}"):
        regression(Squares(4), data)


def test_a_sample_that_is_no_pair_is_named() -> None:
    data = TensorDataset(torch.arange(9))
    with pytest.raises(ValueError, match=r"must be a pair of input and target.*override unpack"):
        regression(data).batch(BatchId(0, 0))


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_size must be at least 1, not 0"):
        regression(Squares(4), batch_size=0)
