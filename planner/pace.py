"""When each stage of a pipeline is done: Eq. 11 of Chameleon (arXiv 2508.21613), with messages.

An action starts when the one before it on its worker has ended and its input has come. All splits
of a pipeline with the same stages and micro-batches are timed in one pass over its levels. Beyond
the equation: actions and messages have overhead, a worker's messages leave one after the other,
and gradients are added where the reduction tree allows. Not modelled are receives that are posted
too late for a message that could have left earlier.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ithaca.planner.costs import halves
from ithaca.planner.layout import Split
from ithaca.planner.order import Order, order_of
from ithaca.planner.plan import Schedule
from ithaca.planner.profile import Profile

Floats = NDArray[np.float64]

MOST_TIMED = 1 << 12
"""Stages x micro-batches that are timed one by one; of longer pipelines the middle is skipped."""


class Pace:
    """Times of single pipelines on ``profile``."""

    def __init__(self, profile: Profile, schedule: Schedule) -> None:
        layers = profile.layers
        self._profile = profile
        self._schedule = schedule
        split = schedule is Schedule.ONE_F_ONE_B_SPLIT
        self._split = np.array([layer.split and split for layer in layers])
        self._unsplit = _sums([float(not flag) for flag in self._split])
        pairs = [halves(layer) for layer in layers]
        self._seconds = [
            _sums([layer.forward_s for layer in layers]),
            _sums([layer.backward_s for layer in layers]),
            _sums([one for one, _ in pairs]),
            _sums([other for _, other in pairs]),
        ]
        self._bytes = _sums([float(layer.grad_bytes) for layer in layers])
        self._link_s = np.array([0.0, *(profile.link.seconds(x.output_bytes) for x in layers)])

    def flags(self, split: Split) -> tuple[bool, ...]:
        """Per stage, whether its backward is I and W: only if all its layers can be split."""
        return tuple(bool(self._split[span.first : span.last].all()) for span in split)

    def order(self, split: Split, micro_batches: int) -> Order:
        """The order in which a pipeline of this split computes."""
        return order_of(self.flags(split), micro_batches, self._schedule)

    def ends(self, splits: Sequence[Split], additions: Sequence[int]) -> Floats:
        """Seconds until each stage has done its computes and messages: [splits, stages].

        Args:
            splits: of equally many stages, with the same flags.
            additions: of gradients, behind each micro-batch of the pipeline.
        """
        count, stages = len(additions), len(splits[0])
        fewest = 4 * stages + 8
        if stages * count <= MOST_TIMED or count <= fewest + stages:
            return self._timed(splits, additions)
        # In the middle every micro-batch takes as long as S micro-batches before it did.
        short, long = additions[:fewest], additions[: fewest + stages]
        begin, end = self._timed(splits, short), self._timed(splits, long)
        result: Floats = end + (end - begin) / stages * (count - len(long))
        return result

    def _timed(self, splits: Sequence[Split], additions: Sequence[int]) -> Floats:
        order = self.order(splits[0], len(additions))
        borders = np.array([[s.first for s in split] + [split[-1].last] for split in splits])
        seconds = np.stack([np.diff(sums[borders], axis=1) for sums in self._seconds], axis=2)
        seconds += self._profile.action_s
        adding = np.diff(self._bytes[borders], axis=1) / self._profile.add_bytes_per_s
        up, down = self._link_s[borders[:, 1:]], self._link_s[borders[:, :-1]]
        links = np.stack([up, down, down, down], axis=2)
        adds = np.array([*additions, 0], dtype=float)  # turn -1: none
        now = np.zeros(adding.shape)
        free = np.zeros(adding.shape)
        come = np.zeros((len(splits), order.num_messages + 1))
        action_s = self._profile.action_s
        for level in order.levels:
            k, code = level.stages, level.codes
            start = np.maximum(now[:, k] + action_s * level.transfers, come[:, level.sources])
            end = start + seconds[:, k, code] + adding[:, k] * adds[level.turns]
            now[:, k] = end
            sends = level.messages >= 0
            if sends.any():
                k, code = k[sends], code[sends]
                leaves = np.maximum(end[:, sends] + action_s, free[:, k])
                free[:, k] = arrives = leaves + links[:, k, code]
                come[:, level.messages[sends]] = arrives
        result: Floats = now + action_s * order.trailing
        return result


def _sums(values: Sequence[float]) -> Floats:
    return np.concatenate([[0.0], np.cumsum(np.array(values, dtype=float))])
