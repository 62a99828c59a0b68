"""An audit sees every sample that is not used once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from pydantic import BaseModel
from torch import Tensor, nn

from ithaca.runtime.audit import audit
from ithaca.runtime.workload import Batch, BatchId, LayerSpec, Value, Workload
from ithaca.workloads.lm.workload import LM
from ithaca.workloads.order import Order, sample_numbers


class Counted(Workload):
    """Three samples a micro-batch, in order, with some ids exchanged for others."""

    Config = BaseModel

    def __init__(self, config: Any, *, seed: int, micro_batches: int) -> None:  # noqa: ANN401
        self.size: int = config["size"]
        self.exchanged: dict[int, int] = config.get("exchanged", {})
        self.micro_batches = micro_batches

    def layers(self) -> Sequence[LayerSpec]:
        return [LayerSpec("only", nn.Identity)]

    def loss(self, output: Value, batch: Batch) -> Tensor:
        return torch.zeros(())

    def batch(self, which: BatchId) -> Batch:
        first = 3 * (which.step * self.micro_batches + which.index)
        ids = [self.exchanged.get(n, n % self.size) for n in range(first, first + 3)]
        return Batch(torch.zeros(3), None, 3, tuple(ids))


def _counted(size: int, exchanged: dict[int, int] | None = None) -> Counted:
    return Counted({"size": size, "exchanged": exchanged or {}}, seed=0, micro_batches=2)


def test_every_sample_once_per_epoch_is_exact() -> None:
    # 15 samples and 6 a step: epochs end inside steps and inside micro-batches.
    for size in (15, 7, 18, 6, 1):
        report = audit(_counted(size), range(10), 2, size)
        assert report.exact
        assert (report.samples, report.epochs) == (60, 60 // size)
        assert report.examples == []


def test_a_repeated_sample_is_named() -> None:
    report = audit(_counted(15, {4: 2}), range(5), 2, 15)
    assert not report.exact
    assert (report.duplicates, report.missing, report.foreign) == (1, 1, 0)
    assert report.examples == [
        "sample 2 in step 0, micro-batch 1 was used in step 0, micro-batch 0",
        "sample 4 was not used in epoch 0",
    ]


def test_a_sample_from_nowhere_is_named() -> None:
    report = audit(_counted(15, {4: 15, 20: -1}), range(5), 2, 15)
    assert (report.duplicates, report.missing, report.foreign) == (0, 2, 2)
    assert report.examples[0] == "sample 15 in step 0, micro-batch 1 does not exist"


def test_a_lost_or_repeated_step_is_seen() -> None:
    lost = audit(_counted(60), [0, 1, 2, 4, 5, 6, 7, 8, 9, 10], 2, 60)
    assert (lost.duplicates, lost.missing) == (6, 6)
    twice = audit(_counted(60), [0, 1, 2, 3, 3, 4, 5, 6, 7, 8], 2, 60)
    assert (twice.duplicates, twice.missing) == (6, 6)
    assert len(twice.examples) <= 10


class Shuffled(Counted):
    """Five samples a micro-batch, in the pseudo-random order that the workloads share."""

    def batch(self, which: BatchId) -> Batch:
        numbers = sample_numbers(which, 5, self.micro_batches)
        ids = Order(self.size, "key").positions(numbers)
        return Batch(torch.zeros(5), None, 5, tuple(ids.tolist()))


def test_a_shuffled_order_uses_each_sample_once_per_epoch() -> None:
    for size in (1, 37, 97):
        workload = Shuffled({"size": size}, seed=0, micro_batches=4)
        report = audit(workload, range(12), 4, size)
        assert report.exact
        assert report.epochs == 240 // size


def test_the_language_model_numbers_its_samples_over_the_whole_run() -> None:
    config = {"context": 64, "batch_size": 5, "data": {"max_bytes": 30_000}}
    workload = LM(LM.Config.model_validate(config), seed=3, micro_batches=4)
    report = audit(workload, range(5), 4)
    assert report.exact
    assert report.samples == 100
    lost = audit(workload, [0, 1, 3, 4], 4)
    assert (lost.duplicates, lost.missing) == (0, 20)
    assert lost.examples == ["sample 40 was not used in epoch 0"]
    twice = audit(workload, [0, 1, 1, 2], 4)
    assert (twice.duplicates, twice.missing) == (20, 0)


def test_what_cannot_be_audited_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 sample"):
        audit(_counted(5), range(1), 2, 0)

    class Silent(Counted):
        def batch(self, which: BatchId) -> Batch:
            return Batch(torch.zeros(3), None, 3)

    silent = Silent({"size": 5}, seed=0, micro_batches=2)
    with pytest.raises(ValueError, match="gives no sample ids in step 0, micro-batch 0"):
        audit(silent, range(1), 2, 5)
