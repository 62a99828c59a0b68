"""Every sample exactly once per epoch, in an order of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ithaca.runtime.workload import BatchId, Split
from ithaca.workloads import order
from ithaca.workloads.order import Order, sample_numbers


def is_permutation(size: int, key: str, epoch: int) -> bool:
    """Whether ``epoch`` has each of 0..size-1 exactly once."""
    numbers = np.arange(epoch * size, (epoch + 1) * size, dtype=np.int64)
    return bool((np.sort(Order(size, key).positions(numbers)) == np.arange(size)).all())


@given(st.integers(1, 2000), st.text(max_size=5), st.integers(0, 10**9))
@settings(max_examples=150, deadline=None)
def test_each_epoch_is_a_permutation(size: int, key: str, epoch: int) -> None:
    assert is_permutation(size, key, epoch)


def test_an_order_that_does_not_walk_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_walk(self: Order, places: Any, epoch: int) -> Any:  # noqa: ANN401
        keys = order._round_keys(self._key, epoch)
        return (self._encrypted(places.astype(np.uint64), keys) % np.uint64(self.size)).astype(int)

    assert is_permutation(1000, "a", 0)
    monkeypatch.setattr(Order, "_permuted", without_walk)
    assert not is_permutation(1000, "a", 0)


def test_a_sample_is_the_same_alone_and_in_any_company() -> None:
    order = Order(10, "key")
    numbers = np.arange(35, dtype=np.int64)  # over three epochs and a half
    together = order.positions(numbers)
    alone = [int(order.positions(numbers[i : i + 1])[0]) for i in range(35)]
    assert together.tolist() == alone


def test_epochs_and_keys_have_orders_of_their_own() -> None:
    numbers = np.arange(100, dtype=np.int64)
    orders = [
        Order(100, "a").positions(numbers),
        Order(100, "a").positions(numbers + 100),
        Order(100, "b").positions(numbers),
    ]
    assert len({tuple(o.tolist()) for o in orders}) == 3
    assert tuple(np.arange(100)) not in {tuple(o.tolist()) for o in orders}


def test_the_order_looks_random() -> None:
    """No correlation of places and positions, or of neighbours, beyond 4 sigma."""
    size = 10_000
    positions = Order(size, "seed").positions(np.arange(size, dtype=np.int64)).astype(float)
    bound = 4 / size**0.5
    assert abs(np.corrcoef(np.arange(size), positions)[0, 1]) < bound
    assert abs(np.corrcoef(positions[1:], positions[:-1])[0, 1]) < bound


def test_the_order_stays_what_it_was() -> None:
    """Recorded values: a change would make old checkpoints go on with other samples."""
    positions = Order(1000, "train/0").positions(np.arange(5, dtype=np.int64))
    assert positions.tolist() == RECORDED


RECORDED = [229, 435, 50, 783, 600]


def test_no_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one sample, not 0"):
        Order(0, "key")


def test_large_sizes_stay_in_range() -> None:
    size = 10**12 + 7
    positions = Order(size, "key").positions(np.arange(1000, dtype=np.int64))
    assert len(set(positions.tolist())) == 1000
    assert positions.min() >= 0
    assert positions.max() < size


def test_sample_numbers_follow_each_other_without_a_gap() -> None:
    numbers = [
        n
        for step in range(3)
        for index in range(4)
        for n in sample_numbers(BatchId(step, index), batch_size=5, micro_batches=4).tolist()
    ]
    assert numbers == list(range(60))


def test_validation_has_the_same_numbers_in_each_step() -> None:
    first, later = (
        sample_numbers(BatchId(step, 2, Split.VALIDATION), 5, 4).tolist() for step in (0, 9)
    )
    assert first == later == [10, 11, 12, 13, 14]
