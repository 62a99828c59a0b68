"""What is predicted for a layout, from its distinct pipelines alone; everything is kept."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from ithaca.planner.balance import Balancer, Duty, Matrix
from ithaca.planner.deal import blocks
from ithaca.planner.footprint import Footprint, Gathering, Sums, sums_of
from ithaca.planner.layout import Layout, Split
from ithaca.planner.order import finish_of, order_of
from ithaca.planner.pace import Floats, Pace
from ithaca.planner.plan import Schedule
from ithaca.planner.profile import Profile
from ithaca.planner.tail import Brought, Kind, Tail, reductions

MOST_PATTERNS = 4
"""So many patterns of partial sums of otherwise equal pipelines are timed; more are alike."""


@dataclass(frozen=True, slots=True)
class Group:
    """``count`` pipelines of the same ``split``, with ``share`` micro-batches each."""

    split: Split
    share: int
    count: int


Draft = tuple[Group, ...]
"""A layout as groups of identical pipelines, the longest first."""


def drafted(groups: Iterable[Group]) -> Draft:
    """``groups`` in a fixed order, equal ones put together, empty ones left out."""
    counts: Counter[tuple[Split, int]] = Counter()
    for group in groups:
        counts[group.split, group.share] += group.count
    found = [Group(*key, count) for key, count in counts.items() if count]
    return tuple(sorted(found, key=lambda group: (-len(group.split), -group.share, group.split)))


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
        self._ends: dict[tuple[Split, Sums], Floats] = {}
        self._layouts: dict[Draft, Layout] = {}
        self.dealt = cache(self._deal)
        self.fastest = cache(self._fastest)
        self._bytes_of = cache(self._matrices)

    def layout(self, draft: Draft) -> Layout:
        """The layout of ``draft`` with its step time and peak memory."""
        found = self._layouts.get(draft)
        if found is None:
            found = self._layouts[draft] = self._estimate(draft)
        return found

    def within(self, length: int, place: int, dealt: Dealt, limit: float) -> list[Split]:
        """Splits of the pipelines of group ``place`` into ``length`` stages that should fit.

        Without a limit it is the fastest one. With one there are the fastest if the stages keep
        room for a reduction of all their layers at once, and the fastest if they keep none for
        what the others bring. Only the first is sure to fit, the layout as a whole decides.
        """
        if limit == math.inf:
            return [self.fastest(length)]
        found = []
        for gathering in self._gatherings(dealt):
            peaks = self._bytes_of(length, dealt.sums[place], gathering)
            split = self._balancer.within(peaks, limit)
            if split is not None and split[1] not in found:
                found.append(split[1])
        return found

    def leanest(self, length: int, place: int, dealt: Dealt) -> Split:
        """The split of the pipelines of group ``place`` whose largest stage is smallest."""
        peaks = self._bytes_of(length, dealt.sums[place], self._gatherings(dealt)[0])
        return self._balancer.least(peaks)[1]

    def least_bytes(self, length: int) -> float:
        """No pipeline of ``length`` stages can do with less per worker."""
        return self._balancer.least([self._footprint.least()] * length)[0]

    def slowest(self, most_stages: int) -> list[float]:
        """See :meth:`Balancer.slowest`."""
        return self._balancer.slowest(most_stages)

    def _estimate(self, draft: Draft) -> Layout:
        dealt = self.dealt(tuple((group.share, group.count) for group in draft))
        self._time(draft, dealt)
        kinds, spans = [], []
        for group, sums in zip(draft, dealt.sums, strict=True):
            flags = self._pace.flags(group.split)
            finish = finish_of(flags, group.share, self._schedule)
            spans.append((group.split, finish))
            rest = group.count
            for pattern, count in sums[:MOST_PATTERNS]:
                rest -= count
                kinds.append(Kind(group.split, self._ends[group.split, pattern], count))
            if rest:
                kinds.append(Kind(group.split, kinds[-1].ends, rest))
        pieces = reductions(spans)
        gathering = self._gatherings(dealt)[0]
        peak = 0
        for group, sums in zip(draft, dealt.sums, strict=True):
            order = self._pace.order(group.split, group.share)
            for pattern, _ in sums:
                peaks = self._footprint.peaks(group.split, order, pattern, gathering, pieces)
                peak = max(peak, *peaks)
        step_s = self._tail.step_s(kinds, pieces, dealt.brought)
        splits = tuple(group.split for group in draft for _ in range(group.count))
        shares = tuple(group.share for group in draft for _ in range(group.count))
        return Layout(splits, shares, self._schedule, step_s, 0.0, peak)

    def _time(self, draft: Draft, dealt: Dealt) -> None:
        for group, sums in zip(draft, dealt.sums, strict=True):
            for pattern, _ in sums[:MOST_PATTERNS]:
                self.time([group.split], pattern)

    def time(self, splits: Sequence[Split], sums: Sums) -> None:
        """Time pipelines of these ``splits``, equally long, in one go: they will be asked for."""
        new: dict[tuple[bool, ...], list[Split]] = {}
        for split in splits:
            if (split, sums) not in self._ends:
                new.setdefault(self._pace.flags(split), []).append(split)
        for alike in new.values():
            for split, ends in zip(alike, self._pace.ends(alike, sums.additions), strict=True):
                self._ends[split, sums] = ends

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

    def _fastest(self, length: int) -> Split:
        found = self._balancer.fastest(Duty(length, 1, (1,), 1, 1, 1), math.inf)
        assert found is not None, "without a limit everything fits"
        return found[1]
