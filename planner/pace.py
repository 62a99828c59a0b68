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
from ithaca.planner.layout import Cuts
from ithaca.planner.order import Order, order_of
from ithaca.planner.plan import Schedule
from ithaca.planner.profile import Profile

Floats = NDArray[np.float64]

ALL_TIMED = 1 << 8
"""Stages x micro-batches that are always timed one by one; of longer pipelines the middle is not,
as soon as they have some rounds in it."""


class Pace:
    """Times of single pipelines on ``profile``."""

    def __init__(self, profile: Profile, schedule: Schedule) -> None:
        layers = profile.layers
        self._profile = profile
        self._schedule = schedule
        split = schedule is Schedule.ONE_F_ONE_B_SPLIT
        self._unsplit = _sums([float(not (layer.split and split)) for layer in layers])
        pairs = [halves(layer) for layer in layers]
        forward, backward = zip(*((x.forward_s, x.backward_s) for x in layers), strict=True)
        self._seconds = np.stack(list(map(_sums, (forward, backward, *zip(*pairs, strict=True)))))
        self._bytes = _sums([float(layer.grad_bytes) for layer in layers])
        self._link_s = np.array([0.0, *(profile.link.seconds(x.output_bytes) for x in layers)])

    def flags(self, cuts: Cuts) -> tuple[bool, ...]:
        """Per stage, whether its backward is I and W: only if all its layers can be split."""
        return tuple((np.diff(self._unsplit[list(cuts)]) == 0).tolist())

    def order(self, cuts: Cuts, micro_batches: int) -> Order:
        """The order in which a pipeline of these stages computes."""
        return order_of(self.flags(cuts), micro_batches, self._schedule)

    def ends(self, every: Sequence[Cuts], additions: Sequence[Sequence[int]]) -> Floats:
        """Seconds until each stage has done its computes and messages: [pipelines, stages].

        Args:
            every: pipelines with equally many stages and the same flags.
            additions: of each pipeline, of gradients behind each of its micro-batches.
        """
        adds = np.array(additions, dtype=float)
        count, stages = adds.shape[1], len(every[0]) - 1
        fewest = 3 * stages + 4
        if stages * count <= ALL_TIMED or count <= fewest + stages:
            return self._timed(every, adds)
        # In the middle every S micro-batches take as long as the S before them did.
        long = fewest + stages
        begin, end = self._timed(every, adds[:, :fewest]), self._timed(every, adds[:, :long])
        result: Floats = end + (end - begin) / stages * (count - long)
        return result

    def _timed(self, every: Sequence[Cuts], additions: Floats) -> Floats:
        order = self.order(every[0], additions.shape[1])
        borders = np.array(every).T  # pipelines lie in columns, rows are picked fast
        action_s = self._profile.action_s
        seconds = np.diff(self._seconds[:, borders], axis=1) + action_s  # [op, stage, pipeline]
        adding = np.diff(self._bytes[borders], axis=0) / self._profile.add_bytes_per_s
        up, down = self._link_s[borders[1:]], self._link_s[borders[:-1]]
        links = np.stack([up, down, down, down])
        adds = np.pad(additions.T, ((0, 1), (0, 0)))  # turn -1: none
        now = np.zeros(adding.shape)
        free = np.zeros(adding.shape)
        come = np.zeros((order.num_messages + 1, len(every)))
        for level in order.levels:
            k, sends = level.stages, level.sends
            end = now[k] + (action_s * level.transfers)[:, None]
            np.maximum(end, come[level.sources], out=end)
            end += seconds[level.ops, k]
            end += adding[k] * adds[level.turns]
            now[k] = end
            if len(sends):
                k = k[sends]
                leaves = np.maximum(end[sends] + action_s, free[k])
                leaves += links[level.ops[sends], k]
                free[k] = come[level.messages] = leaves
        result: Floats = (now + (action_s * order.trailing)[:, None]).T
        return result


def _sums(values: Sequence[float]) -> Floats:
    return np.concatenate([[0.0], np.cumsum(np.array(values, dtype=float))])
