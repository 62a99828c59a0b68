"""The layouts worth choosing from for a Profile and N workers: by step time and time to get there.

Every set of pipelines of :mod:`ithaca.planner.shapes` is ranked by a rough estimate; the best ones
get splits by :mod:`ithaca.planner.balance` and are timed by recurrence over their distinct
pipelines (:mod:`ithaca.planner.estimate`); the best of those are improved by moving layers,
micro-batches and workers. What fits into memory is decided exactly.

Pipelines may differ in length, split and micro-batches. Blocks of micro-batches are contiguous, and
routes are not used. On small cases the tests compare with all layouts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate

from ithaca.planner.costs import VOTE_BYTES
from ithaca.planner.estimate import Draft, Estimator, Group, drafted
from ithaca.planner.layout import Layout, NoLayoutError, Split
from ithaca.planner.neighbours import moved_borders, moved_shares, moved_workers
from ithaca.planner.plan import Schedule
from ithaca.planner.profile import Profile
from ithaca.planner.shapes import Shape, around, lengths_for, shapes

FINALISTS = 8
"""Layouts that are returned if nobody asks for the way there."""

TIMED = 48
"""Shapes that are timed, at most, for each origin."""

CLIMBS = 3
"""Layouts from which improvement starts."""

CLIMBED = 400
"""Layouts that are timed, at most, in all improvements together."""

ASKED = 32
"""Layouts for which the transition is asked for, at most."""

SLACK = 1.1
"""A shape is timed if its rough estimate is not worse than the best known step by this factor."""

Transition = Callable[[Layout], float]


def front(
    profile: Profile,
    workers: int,
    micro_batches: int,
    *,
    limit: int | None = None,
    schedule: Schedule = Schedule.ONE_F_ONE_B,
    exact: bool = True,
    ties: Iterable[tuple[int, int]] = (),
    standing: Sequence[Split] = (),
    transition: Transition | None = None,
) -> tuple[Layout, ...]:
    """The layouts that no other one beats in both step and transition time, fastest step first.

    Without ``transition`` the fastest few, fastest first. Fewer than ``workers`` are used only
    where that is predicted to be faster, or where there is not enough work for all.

    Args:
        profile: of the workload.
        workers: available.
        micro_batches: of one step, dealt as contiguous blocks, at least one per pipeline.
        limit: bytes per worker, as ``planner.memory`` counts them; None for no limit.
        schedule: of all pipelines.
        exact: sums in the fixed tree, or plain all-reduce.
        ties: pairs of layers that share a weight.
        standing: splits of pipelines that are complete now. Layouts that keep them are looked at
            too: they are seldom the fastest, but the quickest to reach.
        transition: seconds to get from where the workers stand to a layout. It is called for at
            most ``ASKED`` layouts.

    Raises:
        NoLayoutError: nothing fits; the message has the smallest limit that would.
        ValueError: there are no layers, workers or micro-batches.
    """
    if min(workers, micro_batches, len(profile.layers)) < 1:
        raise ValueError(
            f"a layout needs layers, workers and micro-batches, not {len(profile.layers)}, "
            f"{workers} and {micro_batches}"
        )
    estimator = Estimator(profile, micro_batches, schedule, exact=exact, ties=tuple(ties))
    known = math.inf if limit is None else limit
    search = _Front(profile, estimator, workers, micro_batches, schedule, known)
    found = search.run(standing)
    if not found:
        raise search.nothing_fits()
    if transition is None:
        return tuple(found[:FINALISTS])
    asked = [*found[: ASKED // 2], *search.quick[: ASKED // 2]]
    return pareto(replace(x, transition_s=transition(x)) for x in dict.fromkeys(asked))


def pareto(layouts: Iterable[Layout]) -> tuple[Layout, ...]:
    """Those that no other one beats or equals in both times, the fastest step first."""
    kept: list[Layout] = []
    for layout in sorted(layouts, key=lambda x: (x.step_s, x.transition_s, x.peak_bytes)):
        if not kept or layout.transition_s < kept[-1].transition_s:
            kept.append(layout)
    return tuple(kept)


def rank(layout: Layout) -> tuple[float, int, int]:
    """Faster first; then more workers, then less memory."""
    return layout.step_s, -layout.num_workers, layout.peak_bytes


class _Front:
    """One search.

    Attributes:
        quick: layouts that keep what stands, fastest first.
    """

    def __init__(
        self,
        profile: Profile,
        estimator: Estimator,
        workers: int,
        micro_batches: int,
        schedule: Schedule,
        limit: float,
    ) -> None:
        self.quick: list[Layout] = []
        self._profile = profile
        self._estimator = estimator
        self._workers = workers
        self._total = micro_batches
        self._limit = limit
        self._longest = min(workers, len(profile.layers))
        self._rough = _Rough(profile, schedule, estimator.slowest(self._longest))
        self._budget = CLIMBED
        self._seen: set[Draft] = set()
        self._climbed: set[Draft] = set()
        self._missed: dict[Draft, Layout] = {}  # do not fit

    def run(self, standing: Sequence[Split]) -> list[Layout]:
        """Layouts that fit, fastest first; none if no shape has a split that fits."""
        self._budget = CLIMBED
        self._seen, self._climbed, self._missed = set(), set(), {}
        free = lengths_for(self._workers, self._longest, self._total)
        found = self._timed([(n, c, None) for n, c in rows] for rows in free)
        kept = self._timed(around(standing, self._workers, self._longest, self._total))
        best = sorted(found, key=rank)[:CLIMBS]
        fastest_s = best[0].step_s if best else math.inf
        tempting = [x for x in self._missed.values() if x.step_s < fastest_s]
        best += sorted(tempting, key=lambda layout: layout.peak_bytes)[:CLIMBS]
        for layout in best:
            found += self._climb(layout, frozenset())
        for layout in sorted(kept, key=rank)[:CLIMBS]:
            kept += self._climb(layout, frozenset(standing))
        self.quick = sorted(kept, key=rank)
        return sorted({*found, *kept}, key=rank)

    def nothing_fits(self) -> NoLayoutError:
        """The error that names the smallest limit under which there is a layout."""
        shortage, self._limit = self._limit, math.inf
        leanest = min(self._lean(), key=lambda layout: layout.peak_bytes)
        while True:  # with a little less there may be a layout that is not the leanest of a shape
            self._limit = leanest.peak_bytes - 1
            found = self.run(())
            if not found:
                break
            leanest = min(found, key=lambda layout: layout.peak_bytes)
        self._limit = shortage
        lengths = " + ".join(map(str, leanest.lengths[:12])) + " + ..." * (
            len(leanest.lengths) > 12
        )
        return NoLayoutError(
            f"no layout of {len(self._profile.layers)} layers on {self._workers} workers fits into "
            f"{shortage} bytes per worker; the leanest one, pipelines of {lengths} stages, needs "
            f"{leanest.peak_bytes}; allow that much, or use more workers or smaller micro-batches",
            leanest.peak_bytes,
        )

    def _lean(self) -> Iterator[Layout]:
        """For every shape the layout with the smallest largest stage."""
        for rows in lengths_for(self._workers, self._longest, self._total):
            free = [(length, count, None) for length, count in rows]
            for shape in shapes(free, self._total, self._rough.pipeline_s, lean=True):
                dealt = self._estimator.dealt(tuple((row.share, row.count) for row in shape))
                splits = [
                    self._estimator.leanest(row.length, place, dealt)
                    for place, row in enumerate(shape)
                ]
                yield self._estimator.layout(_draft(shape, splits))

    def _timed(self, origins: Iterable[Sequence[tuple[int, int, Split | None]]]) -> list[Layout]:
        """The best shapes, with splits, that fit."""
        lean = self._limit < math.inf
        hopeful = [
            (self._rough.step_s(shape), place, shape)
            for place, rows in enumerate(origins)
            if self._may_fit(rows)
            for shape in shapes(rows, self._total, self._rough.pipeline_s, lean=lean)
        ]
        found: list[Layout] = []
        best = math.inf
        for rough_s, _, shape in sorted(hopeful, key=lambda entry: entry[:2]):
            if len(found) >= FINALISTS and (rough_s > SLACK * best or len(found) >= TIMED):
                break
            for draft in self._drafts(shape):
                found += self._fitting(draft)
            best = min((layout.step_s for layout in found), default=math.inf)
        return found

    def _may_fit(self, rows: Sequence[tuple[int, int, Split | None]]) -> bool:
        return self._limit == math.inf or all(
            self._estimator.least_bytes(length) <= self._limit for length, _, _ in rows
        )

    def _drafts(self, shape: Shape) -> Iterator[Draft]:
        """``shape`` with the splits that should fit."""
        dealt = self._estimator.dealt(tuple((row.share, row.count) for row in shape))
        options = [
            [row.kept]
            if row.kept
            else self._estimator.within(row.length, place, dealt, self._limit)
            for place, row in enumerate(shape)
        ]
        if all(options):
            for choice in range(max(map(len, options))):
                yield _draft(shape, [option[min(choice, len(option) - 1)] for option in options])

    def _fitting(self, draft: Draft) -> list[Layout]:
        """The layout of ``draft``, if it is a new one and fits."""
        if draft in self._seen:
            return []
        self._seen.add(draft)
        layout = self._estimator.layout(draft)
        if layout.peak_bytes <= self._limit:
            return [layout]
        self._missed[draft] = layout
        return []

    def _climb(self, layout: Layout, fixed: frozenset[Split]) -> list[Layout]:
        """Ever better neighbours of ``layout`` that fit; splits in ``fixed`` stay.

        If ``layout`` does not fit itself, better is first of all what fits better.
        """
        found: list[Layout] = []
        best, draft = layout, _draft_of(layout)
        while self._budget > 0:
            near = []
            for option in self._neighbours(draft, fixed):
                if option in self._climbed:
                    continue
                self._climbed.add(option)
                self._budget -= 1
                next_ = self._estimator.layout(option)
                near.append((self._fit(next_), option, next_))
            first = min(near, key=lambda entry: entry[0], default=None)
            if first is None or first[0] >= self._fit(best):
                break
            _, draft, best = first
            if best.peak_bytes <= self._limit:
                found.append(best)
        return found

    def _fit(self, layout: Layout) -> tuple[float, float, int, int]:
        return max(0.0, layout.peak_bytes - self._limit), *rank(layout)

    def _neighbours(self, draft: Draft, fixed: frozenset[Split]) -> list[Draft]:
        estimator = self._estimator
        found = []
        dealt = estimator.dealt(tuple((group.share, group.count) for group in draft))
        for place, group in enumerate(draft):
            if group.split not in fixed:
                moved = moved_borders(group.split)
                for sums, _ in dealt.sums[place]:
                    estimator.time(moved, sums)
                for split in moved:
                    found += [
                        drafted([*draft[:place], *changed, *draft[place + 1 :]])
                        for changed in _replaced(group, split)
                    ]
        found += moved_shares(draft)
        for rows in moved_workers(draft, self._workers, self._longest, fixed):
            for shape in shapes(rows, self._total, self._rough.pipeline_s, lean=False):
                found += self._drafts(shape)
        return found


class _Rough:
    """Estimates of shapes that know no split: what a good one could reach."""

    def __init__(self, profile: Profile, schedule: Schedule, slowest: Sequence[float]) -> None:
        layers = profile.layers
        self._profile = profile
        self._schedule = schedule
        self._slowest = slowest
        self._forward_s = sum(layer.forward_s for layer in layers)
        self._all_s = self._forward_s + sum(layer.backward_s for layer in layers)
        links = sorted(profile.link.seconds(layer.output_bytes) for layer in layers[:-1])
        self._links = [0.0, *accumulate(links)]
        self._bytes = sum(layer.grad_bytes for layer in layers)

    def pipeline_s(self, length: int, share: int) -> float:
        """Seconds until a pipeline's last compute ends; linear in ``share``."""
        slowest, crossing = self._slowest[length - 1], 2 * self._links[length - 1]
        fill = self._all_s + crossing
        if self._schedule is Schedule.ONE_F_ONE_B_SPLIT:
            # Zero Bubble H1: filling and draining cost a forward per further stage.
            fill = slowest + (length - 1) * self._forward_s / length + crossing
        elif self._schedule is Schedule.ONE_F_ONE_B and share > length:
            # No more micro-batches than stages are between their forward and their backward.
            slowest = max(slowest, fill / length)
        return fill + (share - 1) * slowest

    def step_s(self, shape: Shape) -> float:
        """Seconds of a step: the slowest pipeline, one reduction, the vote."""
        link = self._profile.link
        workers = sum(row.length * row.count for row in shape)
        pipelines = sum(row.count for row in shape)
        longest = max(row.length for row in shape)
        chunk = self._bytes / longest / pipelines
        reduce_s = 2 * (pipelines - 1) * (link.latency_s + chunk / link.bytes_per_s)
        vote_s = (workers - 1) * link.seconds(VOTE_BYTES)
        return max(self.pipeline_s(row.length, row.share) for row in shape) + reduce_s + vote_s


def _draft(shape: Shape, splits: Sequence[Split]) -> Draft:
    return drafted(
        Group(split, row.share, row.count) for row, split in zip(shape, splits, strict=True)
    )


def _draft_of(layout: Layout) -> Draft:
    return drafted(
        Group(split, share, 1) for split, share in zip(layout.splits, layout.shares, strict=True)
    )


def _replaced(group: Group, split: Split) -> Iterator[list[Group]]:
    """``group`` with another split in all of its pipelines, or in one of them."""
    yield [replace(group, split=split)]
    if group.count > 1:
        yield [replace(group, count=group.count - 1), Group(split, group.share, 1)]
