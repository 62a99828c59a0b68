"""The order of the samples: a keyed bijection for each epoch, computed for one sample at a time."""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from ithaca.runtime.workload import BatchId, Split

_ROUNDS = 8


@lru_cache(maxsize=64)
def _round_keys(key: str, epoch: int) -> tuple[int, ...]:
    """Eight 64-bit keys that depend on ``key`` and ``epoch`` alone."""
    digest = blake2b(f"{key}/{epoch}".encode(), digest_size=8 * _ROUNDS).digest()
    return tuple(int.from_bytes(digest[8 * i : 8 * i + 8], "little") for i in range(_ROUNDS))


def _mix(values: NDArray[np.uint64], key: int) -> NDArray[np.uint64]:
    """A 64-bit hash of each value: the finaliser of splitmix64 (Steele, Lea, Flood, 2014)."""
    mixed = values + np.uint64(key)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


class Order:
    """Puts the samples 0..size-1 into another pseudo-random order in every epoch.

    Sample number ``n``, counted over the whole run, is in epoch ``n // size``. Within an epoch the
    order is a bijection, so each sample is used exactly once, yet nothing of its length is ever
    stored: it is a Feistel cipher over a product of two ranges that just covers ``size``, walked
    until it falls inside (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002).

    Args:
        size: number of samples; at least 1, else ``ValueError``.
        key: what the order depends on, such as the seed of the run.
    """

    def __init__(self, size: int, key: str) -> None:
        if size < 1:
            raise ValueError(f"an order needs at least one sample, not {size}")
        self.size = size
        self._key = key
        self._rows = isqrt(size - 1) + 1
        self._columns = -(-size // self._rows)

    def positions(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which sample each of the sample numbers (>= 0, [n]) is: [n] values in 0..size-1."""
        epochs = numbers // self.size
        result = np.empty_like(numbers)
        for epoch in np.unique(epochs).tolist():
            chosen = epochs == epoch
            result[chosen] = self._permuted(numbers[chosen] % self.size, epoch)
        return result

    def _permuted(self, places: NDArray[np.int64], epoch: int) -> NDArray[np.int64]:
        """Where the places of ``epoch`` lie; walks on from what falls outside 0..size-1."""
        keys = _round_keys(self._key, epoch)
        result = self._encrypted(places.astype(np.uint64), keys)
        while (outside := result >= np.uint64(self.size)).any():
            result[outside] = self._encrypted(result[outside], keys)
        return result.astype(np.int64)

    def _encrypted(self, values: NDArray[np.uint64], keys: tuple[int, ...]) -> NDArray[np.uint64]:
        """One pass over rows x columns; each round adds to one half a hash of the other."""
        rows, columns = np.uint64(self._rows), np.uint64(self._columns)
        high, low = values // columns, values % columns
        for even, odd in zip(keys[0::2], keys[1::2], strict=True):
            high = (high + _mix(low, even) % rows) % rows
            low = (low + _mix(high, odd) % columns) % columns
        return high * columns + low


def sample_numbers(which: BatchId, batch_size: int, micro_batches: int) -> NDArray[np.int64]:
    """The numbers, counted over the whole run, of the samples in micro-batch ``which``.

    Shape [batch_size]. Micro-batches of one step and steps follow each other without a gap, so
    that the numbers of a run are 0, 1, 2, ... each once. For validation every step counts from 0.
    """
    step = which.step if which.split is Split.TRAIN else 0
    first = (step * micro_batches + which.index) * batch_size
    return np.arange(first, first + batch_size, dtype=np.int64)
