"""What is predicted for a layout, from its distinct pipelines alone; everything is kept."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import NamedTuple

from ithaca.planner.balance import Balancer, Matrix
from ithaca.planner.deal import blocks
from ithaca.planner.footprint import Footprint, Gathering, Sums, sums_of, worst_of
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
        memory: per group, those that memory is counted for: if there are very many, one that is
            at least as much as any.
        brought: to every REDUCE.
    """

    sums: tuple[tuple[tuple[Sums, int], ...], ...]
    memory: tuple[tuple[Sums, ...], ...]
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
        self._pieces = cache(self._reductions)
        self._peak_of = cache(self._find_peak)

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

        The fastest ones, if they are sure to fit. Else the fastest for which the stages keep room
        for a reduction of all their layers at once; and if there are none, the fastest that keep
        no room for what the others bring, for which the layout as a whole decides.
        """
        share = len(dealt.sums[place][0][0].after)
        fastest = self.fastest(length, share)
        if limit == math.inf or all(self._surely(c, place, dealt) <= limit for c in fastest):
            return fastest
        for gathering in self._gatherings(dealt):
            peaks = self._bytes_of(length, worst_of(dealt.memory[place]), gathering)
            found = self._balancer.splits(length, share, peaks, limit)
            if found:
                return list(map(cuts_of, found))
        return []

    def leanest(self, length: int, place: int, dealt: Dealt) -> Cuts:
        """The cuts of the pipelines of group ``place`` whose largest stage is smallest."""
        peaks = self._bytes_of(length, worst_of(dealt.memory[place]), self._gatherings(dealt)[0])
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

    def peak(self, draft: Draft) -> int:
        """The most bytes that any worker of ``draft`` needs.

        Exact, but an upper bound where blocks lie on the tree in more than a few ways.
        """
        return self._peak_of(draft)

    def end_s(self, cuts: Cuts, sums: Sums) -> float:
        """Seconds until a pipeline that has been timed has done its computes."""
        return float(self._ends[cuts, sums].max())

    def _estimate(self, draft: Draft) -> Figures:
        dealt = self._dealt_to(draft)
        self.time(
            (group.cuts, pattern)
            for group, sums in zip(draft, dealt.sums, strict=True)
            for pattern, _ in sums[:MOST_PATTERNS]
        )
        kinds = []
        for group, sums in zip(draft, dealt.sums, strict=True):
            rest = group.pipelines
            for pattern, count in sums[:MOST_PATTERNS]:
                rest -= count
                kinds.append(Kind(group.cuts, self._ends[group.cuts, pattern], count))
            if rest:
                kinds.append(Kind(group.cuts, kinds[-1].ends, rest))
        step_s = self._tail.step_s(kinds, self._pieces(draft), dealt.brought)
        workers = sum(group.length * group.pipelines for group in draft)
        return Figures(step_s, -workers, self.peak(draft), draft)

    def _find_peak(self, draft: Draft) -> int:
        dealt, pieces = self._dealt_to(draft), self._pieces(draft)
        gathering = self._gatherings(dealt)[0]
        return max(
            self._footprint.peak(
                group.cuts, self._pace.order(group.cuts, group.share), sums, gathering, pieces
            )
            for group, memory in zip(draft, dealt.memory, strict=True)
            for sums in memory
        )

    def _reductions(self, draft: Draft) -> list[tuple[int, int]]:
        """The spans that are reduced, in order."""
        return reductions(
            [(g.cuts, finish_of(self._pace.flags(g.cuts), g.share, self._schedule)) for g in draft]
        )

    def _dealt_to(self, draft: Draft) -> Dealt:
        return self.dealt(tuple((group.share, group.pipelines) for group in draft))

    def _surely(self, cuts: Cuts, place: int, dealt: Dealt) -> int:
        """Bytes that are enough for the largest stage, whatever the other pipelines look like."""
        gathering = self._gatherings(dealt)[0]
        sums = worst_of(dealt.memory[place])
        order = self._pace.order(cuts, len(sums.after))
        return self._footprint.peak(cuts, order, sums, gathering, tuple(pairwise(cuts)))

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
        memory = []
        for known in found:
            alike = tuple(sums for sums, _ in known)
            memory.append(alike if len(alike) <= MOST_PATTERNS else (worst_of(alike),))
        return Dealt(tuple(found), tuple(memory), Brought(len(every), most, total))

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

    def _matrices(self, length: int, sums: Sums, gathering: Gathering) -> list[Matrix]:
        order = order_of((self._all_split,) * length, len(sums.after), self._schedule)
        return [self._footprint.matrix(order, stage, sums, gathering) for stage in range(length)]

    def _fastest(self, length: int, share: int) -> list[Cuts]:
        return list(map(cuts_of, self._balancer.splits(length, share)))
