"""What is predicted for a layout, from its distinct pipelines alone; everything is kept."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import NamedTuple

from ithaca.planner.balance import Balancer, Duty, Matrix
from ithaca.planner.deal import blocks
from ithaca.planner.footprint import Footprint, Gathering, Sums, sums_of
from ithaca.planner.layout import Cuts, Layout, cuts_of, split_of
from ithaca.planner.order import finish_of, order_of
from ithaca.planner.pace import Floats, Pace
from ithaca.planner.plan import Schedule
from ithaca.planner.profile import Profile
from ithaca.planner.tail import Brought, Kind, Tail, reductions

MOST_PATTERNS = 4
"""So many patterns of partial sums of otherwise equal pipelines are timed; more are alike."""


class Group(NamedTuple):
    """``pipelines`` with stages between ``cuts``, and ``share`` micro-batches each."""

    cuts: Cuts
    share: int
    pipelines: int

    @property
    def length(self) -> int:
        """Stages of each pipeline."""
        return len(self.cuts) - 1


Draft = tuple[Group, ...]
"""A layout as groups of identical pipelines, the longest first."""


def drafted(groups: Iterable[Group]) -> Draft:
    """``groups`` in a fixed order, equal ones put together, empty ones left out."""
    counts: dict[tuple[Cuts, int], int] = {}
    for cuts, share, count in groups:
        counts[cuts, share] = counts.get((cuts, share), 0) + count
    found = [Group(*key, count) for key, count in counts.items() if count]
    return tuple(sorted(found, key=lambda group: (-len(group.cuts), -group.share, group.cuts)))


class Figures(NamedTuple):
    """What is predicted for ``draft``; smaller is better.

    Attributes:
        step_s: seconds of a step.
        idle: minus the workers that it uses.
        peak_bytes: the most memory any of them needs.
    """

    step_s: float
    idle: int
    peak_bytes: int
    draft: Draft


@dataclass(frozen=True, slots=True)
class Dealt:
    """What the blocks of micro-batches mean for the partial sums.

    Attributes:
        sums: per group, its pipelines' different partial sums and how many have them.
        brought: to every REDUCE.
    """

    sums: tuple[tuple[tuple[Sums, int], ...], ...]
    brought: Brought


class Estimator:
    """Step time and peak memory of layouts, by recurrence over their distinct pipelines.

    Args:
        profile: of the workload.
        num_micro_batches: of a step.
        schedule: of all pipelines.
        exact: sums in the fixed tree, or plain all-reduce.
        ties: pairs of layers that share a weight.
    """

    def __init__(
        self,
        profile: Profile,
        num_micro_batches: int,
        schedule: Schedule,
        *,
        exact: bool = True,
        ties: Sequence[tuple[int, int]] = (),
    ) -> None:
        self._total = num_micro_batches
        self._schedule = schedule
        self._exact = exact
        self._pace = Pace(profile, schedule)
        self._tail = Tail(profile, ties, exact=exact)
        self._footprint = Footprint(profile, exact=exact)
        self._balancer = Balancer(profile, schedule, exact=exact)
        self._all_split = schedule is Schedule.ONE_F_ONE_B_SPLIT and all(
            layer.split for layer in profile.layers
        )
        self._ends: dict[tuple[Cuts, Sums], Floats] = {}
        self._figures: dict[Draft, Figures] = {}
        self.dealt = cache(self._deal)
        self.fastest = cache(self._fastest)
        self._bytes_of = cache(self._matrices)

    def figures(self, draft: Draft) -> Figures:
        """Step time and peak memory of ``draft``."""
        found = self._figures.get(draft)
        if found is None:
            found = self._figures[draft] = self._estimate(draft)
        return found

    def layout(self, figures: Figures) -> Layout:
        """The same as a layout, pipeline by pipeline."""
        pipelines = [group for group in figures.draft for _ in range(group.pipelines)]
        splits = tuple(split_of(group.cuts) for group in pipelines)
        shares = tuple(group.share for group in pipelines)
        return Layout(splits, shares, self._schedule, figures.step_s, 0.0, figures.peak_bytes)

    def within(self, length: int, place: int, dealt: Dealt, limit: float) -> list[Cuts]:
        """Cuts of the pipelines of group ``place`` into ``length`` stages that should fit.

        The fastest ones, if they are sure to fit. Else the fastest if the stages keep room for a
        reduction of all their layers at once, which are sure to fit, and the fastest if they keep
        none for what the others bring, for which the layout as a whole decides.
        """
        fastest = self.fastest(length)
        if limit == math.inf or self._surely(fastest, place, dealt) <= limit:
            return [fastest]
        found = []
        for gathering in self._gatherings(dealt):
            peaks = self._bytes_of(length, dealt.sums[place], gathering)
            split = self._balancer.within(peaks, limit)
            if split is not None and cuts_of(split[1]) not in found:
                found.append(cuts_of(split[1]))
        return found

    def leanest(self, length: int, place: int, dealt: Dealt) -> Cuts:
        """The cuts of the pipelines of group ``place`` whose largest stage is smallest."""
        peaks = self._bytes_of(length, dealt.sums[place], self._gatherings(dealt)[0])
        return cuts_of(self._balancer.least(peaks)[1])

    def slowest(self, most_stages: int) -> list[float]:
        """See :meth:`Balancer.slowest`."""
        return self._balancer.slowest(most_stages)

    def time(self, every: Iterable[tuple[Cuts, Sums]]) -> None:
        """Time pipelines cut like these in one go: they will be asked for."""
        new: dict[tuple[tuple[bool, ...], int], dict[tuple[Cuts, Sums], None]] = {}
        for cuts, sums in every:
            if (cuts, sums) not in self._ends:
                key = self._pace.flags(cuts), len(sums.after)
                new.setdefault(key, {})[cuts, sums] = None
        for alike in new.values():
            ends = self._pace.ends([c for c, _ in alike], [s.additions for _, s in alike])
            self._ends.update(zip(alike, ends, strict=True))

    def _estimate(self, draft: Draft) -> Figures:
        dealt = self.dealt(tuple((group.share, group.pipelines) for group in draft))
        self.time(
            (group.cuts, pattern)
            for group, sums in zip(draft, dealt.sums, strict=True)
            for pattern, _ in sums[:MOST_PATTERNS]
        )
        kinds, known = [], []
        for group, sums in zip(draft, dealt.sums, strict=True):
            finish = finish_of(self._pace.flags(group.cuts), group.share, self._schedule)
            known.append((group.cuts, finish))
            rest = group.pipelines
            for pattern, count in sums[:MOST_PATTERNS]:
                rest -= count
                kinds.append(Kind(group.cuts, self._ends[group.cuts, pattern], count))
            if rest:
                kinds.append(Kind(group.cuts, kinds[-1].ends, rest))
        pieces = reductions(known)
        gathering = self._gatherings(dealt)[0]
        peak = 0
        for group, sums in zip(draft, dealt.sums, strict=True):
            order = self._pace.order(group.cuts, group.share)
            for pattern, _ in sums:
                one = self._footprint.peak(group.cuts, order, pattern, gathering, pieces)
                peak = max(peak, one)
        step_s = self._tail.step_s(kinds, pieces, dealt.brought)
        workers = sum(group.length * group.pipelines for group in draft)
        return Figures(step_s, -workers, peak, draft)

    def _surely(self, cuts: Cuts, place: int, dealt: Dealt) -> int:
        """Bytes that are enough for the largest stage, whatever the other pipelines look like."""
        gathering = self._gatherings(dealt)[0]
        order = self._pace.order(cuts, len(dealt.sums[place][0][0].after))
        whole = tuple(pairwise(cuts))
        return max(
            self._footprint.peak(cuts, order, sums, gathering, whole)
            for sums, _ in dealt.sums[place]
        )

    def _deal(self, shares: tuple[tuple[int, int], ...]) -> Dealt:
        """Deal blocks to groups of (micro-batches, pipelines)."""
        every = [share for share, count in shares for _ in range(count)]
        placed = iter(blocks(every))
        most = total = 0
        found = []
        for share, count in shares:
            patterns: Counter[Sums] = Counter()
            for _ in range(count):
                block = next(placed)
                patterns[self._sums(block.start, share)] += 1
            most = max(most, *(sums.left for sums in patterns))
            total += sum(sums.left * each for sums, each in patterns.items())
            found.append(tuple(patterns.items()))
        return Dealt(tuple(found), Brought(len(every), most, total))

    def _sums(self, low: int, share: int) -> Sums:
        """Partial sums of a block; those that lie alike on the tree are the same."""
        high = low + share
        if high < self._total:
            low %= 1 << share.bit_length()
            whole = 1 << (low + share).bit_length()
            return sums_of(low, low + share, whole, exact=self._exact)
        return sums_of(low, high, self._total, exact=self._exact)

    def _gatherings(self, dealt: Dealt) -> tuple[Gathering, Gathering]:
        """What a reduction takes in, and as if it took in nothing."""
        workers = dealt.brought.workers
        total = dealt.brought.total if self._exact else workers
        return Gathering(workers, total), Gathering(1, 1)

    def _matrices(
        self, length: int, sums: tuple[tuple[Sums, int], ...], gathering: Gathering
    ) -> list[Matrix]:
        share = len(sums[0][0].after)
        order = order_of((self._all_split,) * length, share, self._schedule)
        return [
            self._footprint.matrix(order, stage, [pattern for pattern, _ in sums], gathering)
            for stage in range(length)
        ]

    def _fastest(self, length: int) -> Cuts:
        found = self._balancer.fastest(Duty(length, 1, (1,), 1, 1, 1), math.inf)
        assert found is not None, "without a limit everything fits"
        return cuts_of(found[1])
