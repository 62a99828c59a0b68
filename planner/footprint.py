"""The peak memory of stages, exactly as ``planner.memory`` counts it, without their Programs.

What a stage holds at any moment is a sum of four things, each times a number that depends on the
order alone: saved activations, gradient copies, and the tensors that crossed the cuts below and
above. So the moments that can be a peak are found once for an order and serve every split.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from ithaca.planner.deal import nodes
from ithaca.planner.layout import Cuts
from ithaca.planner.order import B, F, Indices, Order, W
from ithaca.planner.profile import Profile

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sums:
    """Partial sums of a block of micro-batches, completed in order.

    Attributes:
        after: how many there are behind each micro-batch.
    """

    after: tuple[int, ...]

    @property
    def left(self) -> int:
        """Partial sums at the end."""
        return self.after[-1]

    @property
    def additions(self) -> tuple[int, ...]:
        """Additions behind each micro-batch."""
        before = (0, *self.after)
        return tuple(a + 1 - b for a, b in zip(before, self.after, strict=False))


@lru_cache(maxsize=1 << 14)
def sums_of(low: int, high: int, num_micro_batches: int, *, exact: bool = True) -> Sums:
    """The partial sums of micro-batches ``low`` to ``high`` - 1; one running sum if not exact."""
    if not exact:
        return Sums((1,) * (high - low))
    return Sums(tuple(nodes(low, last + 1, num_micro_batches) for last in range(low, high)))


@dataclass(frozen=True, slots=True)
class Gathering:
    """What a REDUCE gathers: ``total`` partial sums of all ``workers`` that hold the layers."""

    workers: int
    total: int

    def arriving(self, size: int) -> int:
        """Bytes of the chunks that come for ``size`` bytes of gradients."""
        return 0 if self.workers == 1 else self.total * -(-size // self.workers)


class Footprint:
    """Peak bytes on ``profile``."""

    def __init__(self, profile: Profile, *, exact: bool = True) -> None:
        layers = profile.layers
        self._exact = exact
        self._static = _sums([layer.param_bytes + layer.state_bytes for layer in layers])
        self._saved = _sums([layer.activation_bytes for layer in layers])
        self._gradient = _sums([layer.grad_bytes for layer in layers])
        self._crossing = [0, *(layer.output_bytes for layer in layers[:-1]), 0]
        crossing = np.array(self._crossing, dtype=float)
        self._all_static = _between(self._static)
        self._between = (
            _between(self._saved),
            _between(self._gradient),
            crossing[:, None],
            crossing[None, :],
        )

    def peak(
        self,
        cuts: Cuts,
        order: Order,
        sums: Sums,
        gathering: Gathering,
        pieces: Sequence[tuple[int, int]],
    ) -> int:
        """Peak bytes of the largest stage; ``pieces`` are reduced in this order."""
        reduced: list[list[tuple[int, int]]] = [[] for _ in cuts]
        for first, last in pieces:
            size = self.gradient_bytes(first, last)
            reduced[bisect_right(cuts, first) - 1].append((size, gathering.arriving(size)))
        return max(
            self.stage_peak(cuts, stage, order, sums, parts)
            for stage, parts in enumerate(reduced[:-1])
        )

    def stage_peak(
        self,
        cuts: Cuts,
        stage: int,
        order: Order,
        sums: Sums,
        reduced: Sequence[tuple[int, int]],
    ) -> int:
        """Peak bytes of one stage; per reduction the bytes of a gradient and of what arrives."""
        first, last = cuts[stage], cuts[stage + 1]
        saved, gradient = self._saved[last] - self._saved[first], self.gradient_bytes(first, last)
        below, above = self._crossing[first], self._crossing[last]
        sizes = np.array([saved, gradient, below, above], dtype=np.int64)
        most = int((moments(order, stage, sums) @ sizes).max())
        crossed = 2 * order.micro_batches * (below + above)
        most = max(most, self.reduction_peak(sums.left * gradient + crossed, reduced))
        return self.static_bytes(first, last) + most

    def reduction_peak(self, before: int, reduced: Sequence[tuple[int, int]]) -> int:
        """The most that there is while reducing, on top of ``before``; see :meth:`stage_peak`."""
        now = most = before
        for size, arriving in reduced:
            now += size * self._exact  # otherwise in place
            most = max(most, now + arriving)
        return most

    def static_bytes(self, first: int, last: int) -> int:
        """Parameters and optimizer state of layers ``first`` to ``last`` - 1."""
        return self._static[last] - self._static[first]

    def gradient_bytes(self, first: int, last: int) -> int:
        """One gradient of layers ``first`` to ``last`` - 1."""
        return self._gradient[last] - self._gradient[first]

    def matrix(self, order: Order, stage: int, sums: Sums, gathering: Gathering) -> Matrix:
        """Peak bytes of ``stage`` for every span of layers [first, last].

        It is as if the stage was reduced in one piece.
        """
        saved, gradient, below, above = self._between
        left = sums.left if self._exact else 0
        most = (left + 1) * gradient + 2 * order.micro_batches * (below + above)
        if gathering.workers > 1:
            most = most + gathering.total * np.ceil(gradient / gathering.workers)
        for held, copies, low, high in moments(order, stage, sums).tolist():
            now = held * saved + copies * gradient + low * below + high * above
            most = np.maximum(most, now)
        total: Matrix = self._all_static + most
        return total


@lru_cache(maxsize=1 << 14)
def moments(order: Order, stage: int, sums: Sums) -> Indices:
    """The moments of ``stage`` of which none has less of everything than another: [moments, 4].

    Columns are micro-batches saved, gradient copies, tensors over the cut below and the one above.
    They are starts of computes: what is there at another moment is there at the next start too.
    """
    own = slice(order.begins[stage], order.begins[stage + 1])
    ops = order.ops[own]
    forward, adds = ops == F, (ops == B) | (ops == W)
    added = np.cumsum(adds) - adds
    held = np.cumsum(forward) - added
    copies = np.array((0, *sums.after))[added] + adds
    # What has crossed only grows: of moments that are alike in the rest the last is the worst.
    alike = {
        pair: place for place, pair in enumerate(zip(held.tolist(), copies.tolist(), strict=True))
    }
    kept: list[tuple[int, int, int, int]] = []
    most = [0] * (order.micro_batches + 1)  # by micro-batches saved: copies with as many or more
    for (saved, alive), place in sorted(alike.items(), key=itemgetter(1), reverse=True):
        if alive > most[saved]:
            low, high = order.below[own][place], order.above[own][place]
            kept.append((saved, alive, int(low), int(high)))
            most[: saved + 1] = [max(alive, copies) for copies in most[: saved + 1]]
    return np.array(kept, dtype=np.int64)


def worst_of(patterns: Iterable[Sums]) -> Sums:
    """At least as many partial sums as in any of ``patterns``, which are equally long."""
    return Sums(tuple(map(max, zip(*(sums.after for sums in patterns), strict=True))))


def _sums(values: Sequence[int]) -> list[int]:
    return [0, *accumulate(values)]


def _between(sums: Sequence[int]) -> Matrix:
    array = np.array(sums, dtype=np.float64)
    differences: Matrix = array[None, :] - array[:, None]
    return differences
