"""Where to cut a pipeline: the layer split with the fastest slowest stage that fits into memory.

Dynamic programming over (stage, first layer) as in PipeDream (arXiv 1806.03377), with an upper
bound of each stage's memory as a constraint. Exact for its own objective: no other split of the
pipeline has a faster slowest stage within the bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from ithaca.planner.plan import Schedule
from ithaca.planner.profile import Profile
from ithaca.planner.span import Span

Matrix = NDArray[np.float64]
Moment = tuple[int, int, int, int]

MOMENTS = 16
"""Moments of a step at which a stage's memory is bounded; more are merged."""


@dataclass(frozen=True, slots=True)
class Duty:
    """What one pipeline has to do, as far as time and memory of its stages depend on it.

    Attributes:
        stages: of this pipeline.
        micro_batches: that it computes.
        copies: gradient copies alive while the i-th of them is added (``memory.copies``).
        nodes: partial sums left at the end.
        pipelines: in the plan.
        all_nodes: partial sums left at the end in all pipelines together.
    """

    stages: int
    micro_batches: int
    copies: tuple[int, ...]
    nodes: int
    pipelines: int
    all_nodes: int


class Balancer:
    """Splits of the layers of ``profile``; entry [i, j] of a matrix is about layers i to j - 1."""

    def __init__(self, profile: Profile, schedule: Schedule, *, exact: bool = True) -> None:
        layers = profile.layers
        self._count = len(layers)
        self._schedule = schedule
        self._exact = exact
        seconds = [
            layer.forward_s + layer.backward_s + layer.grad_bytes / profile.add_bytes_per_s
            for layer in layers
        ]
        self.seconds = _between(seconds) + 2 * profile.action_s
        ways = [layer.forward_s for layer in layers]
        if schedule is not Schedule.ONE_F_ONE_B_SPLIT:  # else W fills the way back
            ways = [layer.forward_s + layer.backward_s for layer in layers]
        self._way = np.concatenate([[0.0], np.cumsum(ways)])
        self._rest = self._way[-1] - self._way
        self._static = _between([layer.param_bytes + layer.state_bytes for layer in layers])
        self._saved = _between([layer.activation_bytes for layer in layers])
        self._gradient = _between([layer.grad_bytes for layer in layers])
        crossing = np.array([0, *(layer.output_bytes for layer in layers[:-1]), 0], dtype=float)
        self._below, self._above = crossing[:, None], crossing[None, :]
        link = [profile.link.seconds(layer.output_bytes) for layer in layers[:-1]]
        self._cut_s = np.array([0.0, *link, 0.0])
        self._even = cache(self._fastest_of_all)
        self._splits = all(layer.split for layer in layers)
        empty = ~np.triu(np.ones((self._count + 1, self._count + 1), dtype=bool), k=1)
        self._empty = empty

    def bytes_of(self, duty: Duty, stage: int) -> Matrix:
        """An upper bound of the peak memory of stage ``stage``, for every span of layers."""
        nodes, all_nodes = duty.nodes + 1, duty.all_nodes
        if not self._exact:
            nodes, all_nodes = 1, duty.pipelines
        chunk = np.ceil(self._gradient / duty.pipelines) if duty.pipelines > 1 else 0.0
        most = nodes * self._gradient + all_nodes * chunk
        most = most + 2 * duty.micro_batches * (self._below + self._above)
        for held, copies, below, above in self._moments(duty, stage):
            now = held * self._saved + copies * self._gradient
            most = np.maximum(most, now + below * self._below + above * self._above)
        total: Matrix = self._static + most
        return total

    def _moments(self, duty: Duty, stage: int) -> list[Moment]:
        """What is in memory when the i-th gradient is added, for every i that could be the peak.

        Each moment has the micro-batches whose activations are held, the gradient copies, and the
        tensors that have crossed the cut below and the one above the stage. A stage cannot be
        further ahead than its schedule's limit, nor can its neighbours be of it.
        """
        count, window = duty.micro_batches, duty.stages - stage
        slack = 1  # the stage below may be one micro-batch further
        if self._schedule is Schedule.ONE_F_ONE_B_SPLIT:
            window = slack = duty.stages
        elif self._schedule is Schedule.GPIPE:
            window = count
        found: list[Moment] = []
        for i in reversed(range(count)):
            copies = duty.copies[i] if self._exact else min(i + 1, 2)
            ahead = min(count, i + window)
            came = min(count, ahead + slack)
            back = ahead if self._schedule is Schedule.ONE_F_ONE_B_SPLIT else i + 1
            held = min(window, count - i)
            # What has crossed only grows: of equal moments the last one is the worst.
            if not found or (held, copies) > (found[-1][0], found[-1][1]):
                found.append((held, copies, came + back, 2 * ahead))
        while len(found) > MOMENTS:
            pairs = zip_longest(found[::2], found[1::2], fillvalue=(0, 0, 0, 0))
            found = [_most(one, other) for one, other in pairs]
        return found

    def fastest(self, duty: Duty, limit: float) -> tuple[float, tuple[Span, ...]] | None:
        """Seconds per micro-batch of the slowest stage, and the split; None if nothing fits.

        Among the splits with the same slowest stage one with the cheapest cuts is taken.
        """
        costs = [
            np.where(self._empty | (self.bytes_of(duty, k) > limit), np.inf, self.seconds)
            for k in range(duty.stages)
        ]
        return self._fastest(costs)

    def splits(
        self,
        stages: int,
        micro_batches: int,
        peaks: Sequence[Matrix] = (),
        limit: float = np.inf,
    ) -> list[tuple[Span, ...]]:
        """Splits that may be the fastest: one or two, or none if nothing fits.

        The first has the fastest slowest stage, as :meth:`fastest`. The second minimises a bound
        of the whole pipeline: no stage can be done before its first micro-batch has come to it,
        all have been computed, and the last one has gone the way back; and with 1F1B it waits for
        the whole way of every S-th micro-batch, for S the stages from it to the end. So there
        what is slow comes first. Where messages are slow, the first can be better still.

        Args:
            stages: of the pipeline.
            micro_batches: that it computes.
            peaks: ``peaks[k][i, j]`` are bytes if stage k has layers i to j - 1.
            limit: on these.
        """
        forbidden = [self._empty] * stages
        if peaks:
            forbidden = [self._empty | (peak > limit) for peak in peaks]
            slowest = self._fastest([np.where(no, np.inf, self.seconds) for no in forbidden])
        else:
            slowest = self._even(stages)
        if slowest is None:
            return []
        whole = self._way[:, None] + micro_batches * self.seconds
        costs = []
        for stage, no in enumerate(forbidden):
            cost = whole
            if self._schedule is Schedule.ONE_F_ONE_B:
                rounds = 1 + (micro_batches - 1) // (stages - stage)
                cost = np.maximum(whole, (self._way + rounds * self._rest)[:, None])
            costs.append(np.where(no, np.inf, cost))
        bound = self._fastest(costs)
        assert bound is not None, "what fits for one of them fits for both"
        return list(dict.fromkeys((slowest[1], bound[1])))

    def least(self, peaks: Sequence[Matrix]) -> tuple[float, tuple[Span, ...]]:
        """Bytes of the largest stage of the split that makes it smallest, and that split."""
        smallest = _bottleneck([np.where(self._empty, np.inf, peak) for peak in peaks])
        found = self.splits(len(peaks), 1, peaks, smallest)
        return smallest, found[0]

    def slowest(self, most_stages: int) -> list[float]:
        """Seconds per micro-batch of the slowest stage with 1, 2, ... stages, memory aside."""
        cost = np.where(self._empty, np.inf, self.seconds)
        best = np.full(self._count + 1, np.inf)
        best[-1] = 0.0
        found = []
        for _ in range(most_stages):
            best = np.min(np.maximum(cost, best[None, :]), axis=1)
            found.append(float(best[0]))
        return found

    def _fastest(self, costs: list[Matrix]) -> tuple[float, tuple[Span, ...]] | None:
        slowest = _bottleneck(costs)
        if slowest == np.inf:
            return None
        return slowest, self._cheapest_cuts(costs, slowest)

    def _fastest_of_all(self, stages: int) -> tuple[float, tuple[Span, ...]] | None:
        return self._fastest([np.where(self._empty, np.inf, self.seconds)] * stages)

    def leanest(self, duty: Duty) -> float:
        """Bytes of the largest stage (by the bound) of the split that makes it smallest."""
        costs = [np.where(self._empty, np.inf, self.bytes_of(duty, k)) for k in range(duty.stages)]
        return _bottleneck(costs)

    def _cheapest_cuts(self, costs: list[Matrix], slowest: float) -> tuple[Span, ...]:
        """The split with the least time on links among those without a slower stage."""
        last = self._count
        best = np.full(last + 1, np.inf)
        best[last] = 0.0
        choices = []
        for cost in reversed(costs):
            allowed = cost <= slowest * (1 + 1e-12)
            # Evenness breaks ties: the sum of squares is least when stages are alike.
            uneven = np.where(allowed, (self.seconds / slowest) ** 2 * 1e-9, np.inf)
            total = best[None, :] + self._cut_s[None, :] + uneven
            choice = np.argmin(total, axis=1)
            best = total[np.arange(last + 1), choice]
            choices.append(choice)
        spans, first = [], 0
        for choice in reversed(choices):
            spans.append(Span(first, int(choice[first])))
            first = int(choice[first])
        return tuple(spans)


def _most(one: Moment, other: Moment) -> Moment:
    """At least as much of everything as in either."""
    held, copies, below, above = map(max, one, other)
    return held, copies, below, above


def _bottleneck(costs: list[Matrix]) -> float:
    """The least possible maximum over stages; ``costs[k][i, j]`` is stage k on layers i to j."""
    best = np.full(costs[0].shape[0], np.inf)
    best[-1] = 0.0
    for cost in reversed(costs):
        best = np.min(np.maximum(cost, best[None, :]), axis=1)
    return float(best[0])


def _between(values: list[float] | list[int]) -> Matrix:
    sums = np.concatenate([[0.0], np.cumsum(np.array(values, dtype=float))])
    return np.asarray(sums[None, :] - sums[:, None])
