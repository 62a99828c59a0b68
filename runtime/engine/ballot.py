"""The commit: what every worker tells every other before anything is stepped.

A ballot carries a vote, the losses that its worker computed and the gradient norms of the layers
that it holds. From the same ballots every worker computes the same tally: loss and norm are sums
in micro-batch and layer order, whoever brought the terms.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ithaca.planner.span import Span
from ithaca.recovery.tally import Tally

Floats = NDArray[np.float64]
_HEAD = 4  # vote, drain, step, pause


class ReplicasDiffer(RuntimeError):
    """Two workers hold different gradients of the same layer: memory or wire was corrupted."""


@dataclass(slots=True)
class Ballot:
    """One worker's part of a step, collected while its Program runs.

    Attributes:
        num_layers: of the workload.
        num_micro_batches: of the step.
        step: that is voted on; ballots of different steps do not mix.
        vote: whether this worker's gradients are complete.
        drain: whether this worker was asked to stop.
        pause: whether this worker was asked to stand still behind the step.
        losses: micro-batch -> (sum of the loss, terms, samples).
        auxiliaries: (layer, micro-batch) -> (the layer's own loss, terms).
        squares: layer -> sum of squares of its reduced gradient.
        prints: layer -> 62 bits of a hash of its reduced gradient, if hashes are made.
    """

    num_layers: int
    num_micro_batches: int
    step: int
    vote: bool = True
    drain: bool = False
    pause: bool = False
    losses: dict[int, tuple[float, int, int]] = field(default_factory=dict)
    auxiliaries: dict[tuple[int, int], tuple[float, int]] = field(default_factory=dict)
    squares: dict[int, float] = field(default_factory=dict)
    prints: dict[int, int] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Numbers in the packed form."""
        micro_batches, layers = self.num_micro_batches, self.num_layers
        return _HEAD + 3 * layers + 4 * micro_batches + 3 * layers * micro_batches

    def pack(self) -> Floats:
        """The ballot as float64: a head, then (present, values...) for every possible entry."""
        packed = np.zeros(self.size)
        packed[:_HEAD] = self.vote, self.drain, self.step, self.pause
        squares, losses, auxiliaries = self._views(packed)
        for layer, square in self.squares.items():
            squares[layer, :2] = 1.0, square
            squares[layer, 2:].view(np.int64)[0] = self.prints.get(layer, 0)
        for micro_batch, brought in self.losses.items():
            losses[micro_batch] = 1.0, *brought
        for (layer, micro_batch), (value, count) in self.auxiliaries.items():
            auxiliaries[layer, micro_batch] = 1.0, value, count
        return packed

    def facts(self, layers: Span) -> Floats:
        """What is known of the losses that end in ``layers``: (present, values...) as packed.

        Told with the gradients of these layers, so that whoever holds a reduced gradient also knows
        the losses that belong to it.
        """
        losses = np.zeros((self.num_micro_batches if self._ends_in(layers) else 0, 4))
        auxiliaries = np.zeros((len(layers), self.num_micro_batches, 3))
        for micro_batch, brought in self.losses.items() if len(losses) else ():
            losses[micro_batch] = 1.0, *brought
        for (layer, micro_batch), (value, count) in self.auxiliaries.items():
            if layer in layers:
                auxiliaries[layer - layers.first, micro_batch] = 1.0, value, count
        return np.concatenate([losses.ravel(), auxiliaries.ravel()])

    def learn(self, layers: Span, facts: Floats) -> None:
        """Take in what another worker's :meth:`facts` say of ``layers``."""
        size = 4 * self.num_micro_batches if self._ends_in(layers) else 0
        for micro_batch, (present, loss, terms, samples) in enumerate(facts[:size].reshape(-1, 4)):
            if present:
                self.losses[micro_batch] = float(loss), int(terms), int(samples)
        rows = facts[size:].reshape(len(layers), self.num_micro_batches, 3)
        for row, micro_batch in np.argwhere(rows[..., 0]).tolist():
            _, value, count = rows[row, micro_batch].tolist()
            self.auxiliaries[layers.first + row, micro_batch] = value, int(count)

    def _ends_in(self, layers: Span) -> bool:
        return layers.last == self.num_layers

    def _views(self, packed: Floats) -> tuple[Floats, Floats, Floats]:
        layers, micro_batches = self.num_layers, self.num_micro_batches
        a = _HEAD + 3 * layers
        b = a + 4 * micro_batches
        return (
            packed[_HEAD:a].reshape(layers, 3),
            packed[a:b].reshape(micro_batches, 4),
            packed[b:].reshape(layers, micro_batches, 3),
        )

    def tally(self, packed: Iterable[Floats]) -> Tally:
        """The result of everybody's packed ballots, this worker's included, in any order.

        Raises:
            ReplicasDiffer: two holders of a layer report different sums of squares.
            ValueError: ballots of another step, a loss that nobody brought, or no terms at all.
        """
        merged = np.zeros(self.size)
        squares, losses, auxiliaries = self._views(merged)
        committed, drain, pause = True, False, False
        for ballot in packed:
            if int(ballot[2]) != self.step:
                raise ValueError(f"a ballot of step {int(ballot[2])} came in step {self.step}")
            committed &= bool(ballot[0])
            drain |= bool(ballot[1])
            pause |= bool(ballot[3])
            theirs = self._views(ballot)
            _merge_replicas(squares, theirs[0])
            for ours, other in zip((losses, auxiliaries), theirs[1:], strict=True):
                present = other[..., 0] > 0
                ours[present] = other[present]
        tally = self._result(committed, squares, losses, auxiliaries)
        return replace(tally, drain=drain, pause=pause)

    def _result(
        self, committed: bool, squares: Floats, losses: Floats, auxiliaries: Floats
    ) -> Tally:
        if not committed:
            # Somebody stopped half-way: terms may be missing, and nothing will be done with them.
            return Tally(False, False, 0, 0, 0.0, 0.0, 0.0, True, "")
        if squares[:, 0].any() and not squares[:, 0].all():
            missing = np.flatnonzero(squares[:, 0] == 0).tolist()
            raise ValueError(f"nobody reduced the gradients of layers {missing}")
        if not losses[:, 0].all():
            missing = np.flatnonzero(losses[:, 0] == 0).tolist()
            raise ValueError(f"nobody computed the loss of micro-batches {missing}")
        count = int(sum(losses[:, 2].tolist()))
        if count == 0:
            raise ValueError(f"no micro-batch of step {self.step} has a term of the loss")
        samples = int(sum(losses[:, 3].tolist()))
        loss = sum(losses[:, 1].tolist()) / count
        rows = auxiliaries.reshape(-1, 3).tolist() if auxiliaries[..., 0].any() else []
        auxiliary = sum(value * terms for _, value, terms in rows) / count
        norm = math.sqrt(sum(squares[:, 1].tolist())) / count
        culprit = _first_not_finite(squares, losses, auxiliaries)
        finite = not culprit
        return Tally(
            committed,
            False,
            count,
            samples,
            loss,
            auxiliary,
            norm,
            finite,
            culprit,
            micro_batches=int(losses[:, 0].sum()),
        )


def _merge_replicas(ours: Floats, theirs: Floats) -> None:
    present = theirs[:, 0] > 0
    both = present & (ours[:, 0] > 0)
    same = (_bits(ours)[:, 1:] == _bits(theirs)[:, 1:]).all(1)
    if (both & ~same).any():
        layer = int(np.flatnonzero(both & ~same)[0])
        raise ReplicasDiffer(
            f"the replicas of layer {layer} hold different gradients (sums of squares "
            f"{ours[layer, 1]!r} and {theirs[layer, 1]!r}, hashes "
            f"{_bits(ours)[layer, 2]:x} and {_bits(theirs)[layer, 2]:x})"
        )
    ours[present] = theirs[present]


def _bits(squares: Floats) -> NDArray[np.int64]:
    return np.ascontiguousarray(squares).view(np.int64)


def _first_not_finite(squares: Floats, losses: Floats, auxiliaries: Floats) -> str:
    bad = np.flatnonzero(~np.isfinite(losses[:, 1]))
    if bad.size:
        return f"the loss of micro-batch {bad[0]} is {losses[bad[0], 1]}"
    for layer, micro_batch in np.argwhere(~np.isfinite(auxiliaries[..., 1])):
        return f"the own loss of layer {layer} in micro-batch {micro_batch} is not finite"
    bad = np.flatnonzero(~np.isfinite(squares[:, 1]))
    if bad.size:
        return f"the gradient of layer {bad[0]} is not finite"
    return ""
