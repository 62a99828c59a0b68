"""What lies behind the computes of a step: REDUCE, TIE, COMMIT and STEP, for a whole layout.

Pipelines of one kind are looked at once. A worker's reductions stand in one global order, so going
through them once with a clock for each stage of each kind gives the times of the simulator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np

from ithaca.planner.costs import VOTE_BYTES, reduce_s
from ithaca.planner.layout import Cuts
from ithaca.planner.pace import Floats
from ithaca.planner.profile import Profile
from ithaca.planner.rounds import Piece, rounds


@dataclass(frozen=True, slots=True)
class Kind:
    """Pipelines that are alike.

    Attributes:
        cuts: where their stages begin.
        ends: seconds until each stage has done its computes.
        count: of such pipelines.
    """

    cuts: Cuts
    ends: Floats
    count: int


@dataclass(frozen=True, slots=True)
class Brought:
    """Partial sums that are brought to every REDUCE.

    Attributes:
        workers: that hold a layer: the number of pipelines.
        most: partial sums of the worker that has most.
        total: of all workers.
    """

    workers: int
    most: int
    total: int


class Tail:
    """Seconds and order of what follows the computes."""

    def __init__(
        self, profile: Profile, ties: Sequence[tuple[int, int]] = (), *, exact: bool = True
    ) -> None:
        layers = profile.layers
        self._profile = profile
        self._exact = exact
        self._ties = sorted((min(pair), max(pair)) for pair in ties)
        self._step_s = [0.0, *accumulate(layer.step_s for layer in layers)]
        self._bytes = [0, *accumulate(layer.grad_bytes for layer in layers)]

    def step_s(
        self, kinds: Sequence[Kind], pieces: Sequence[tuple[int, int]], brought: Brought
    ) -> float:
        """Seconds of the step in which the computes end as ``kinds`` say.

        Args:
            kinds: all pipelines.
            pieces: spans that are reduced, in order; see :func:`reductions`.
            brought: to each of these.
        """
        clocks = [kind.ends.tolist() for kind in kinds]
        places = [_places(kind.cuts) for kind in kinds]
        for first, last in pieces:
            seconds = self._reduce_s(self._bytes[last] - self._bytes[first], brought)
            here = [place[first] for place in places]
            end = max(clock[k] for clock, k in zip(clocks, here, strict=True)) + seconds
            for clock, k in zip(clocks, here, strict=True):
                clock[k] = end
        for lower, upper in self._ties:
            self._tie(lower, upper, kinds, places, clocks)
        link, action_s = self._profile.link, self._profile.action_s
        workers = sum(kind.count * (len(kind.cuts) - 1) for kind in kinds)
        last_s: float = max(max(clock) for clock in clocks)
        committed = last_s + action_s + (workers - 1) * link.seconds(VOTE_BYTES)
        slowest: float = max(
            self._step_s[last] - self._step_s[first]
            for kind in kinds
            for first, last in pairwise(kind.cuts)
        )
        step_s: float = committed + action_s + slowest
        return step_s

    def _reduce_s(self, size: int, brought: Brought) -> float:
        most, total = (brought.most, brought.total) if self._exact else (1, brought.workers)
        seconds = reduce_s(self._profile, size, brought.workers, most, total)
        return self._profile.action_s + seconds

    def _tie(
        self,
        lower: int,
        upper: int,
        kinds: Sequence[Kind],
        places: Sequence[Sequence[int]],
        clocks: list[list[float]],
    ) -> None:
        size = self._profile.layers[lower].grad_bytes
        apart = [place[lower] != place[upper] for place in places]
        seconds = self._profile.action_s + size / self._profile.add_bytes_per_s
        if any(apart):  # each end of a pipeline gets the other one's gradient, all at once
            larger = max(size, self._profile.layers[upper].grad_bytes)
            seconds += self._profile.link.seconds(larger)
        ends = ((clock, place) for clock, place in zip(clocks, places, strict=True))
        pairs = [(clock, place[layer]) for clock, place in ends for layer in (lower, upper)]
        end = max(clock[k] for clock, k in pairs) + seconds
        for clock, k in pairs:
            clock[k] = end


def reductions(kinds: Sequence[tuple[Cuts, Sequence[int]]]) -> list[tuple[int, int]]:
    """The spans that are reduced one by one, in the order of ``planner.schedule``.

    Between two borders of any pipeline's stages nothing changes.

    Args:
        kinds: cuts of pipelines, and when their stages are done on the scheduler's clock.
    """
    borders = sorted({border for cuts, _ in kinds for border in cuts})
    ready = np.zeros(len(borders) - 1)
    stages = []
    for cuts, finish in kinds:
        widths = np.diff(np.searchsorted(borders, cuts))
        ready = np.maximum(ready, np.repeat(np.asarray(finish), widths))
        stages.append(np.repeat(np.arange(len(finish)), widths).tolist())
    members = [tuple(enumerate(column)) for column in zip(*stages, strict=True)]
    waiting = zip(pairwise(borders), ready.tolist(), members, strict=True)
    order = rounds(Piece(*piece, moment, who) for piece, moment, who in waiting)
    return [(piece.first, piece.last) for piece in order]


def _places(cuts: Cuts) -> list[int]:
    """For each layer the stage that holds it."""
    return [stage for stage, (low, high) in enumerate(pairwise(cuts)) for _ in range(low, high)]
