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
from dataclasses import dataclass, replace

from ithaca.planner.deal import ALL_PARTITIONS_UP_TO
from ithaca.planner.estimate import (
    MOST_PATTERNS,
    Draft,
    Estimator,
    Figures,
    Group,
    drafted,
)
from ithaca.planner.layout import Cuts, Layout, NoLayoutError, Split, cuts_of
from ithaca.planner.neighbours import moved_layers, moved_shares, moved_workers
from ithaca.planner.plan import Schedule
from ithaca.planner.profile import Profile
from ithaca.planner.rough import Rough
from ithaca.planner.shapes import EVERY_NUMBER_UP_TO, Row, Shape, around, lean, lengths_for, timed

FINALISTS = 8
"""Layouts that are returned if nobody asks for the way there."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is looked at.

    Attributes:
        timed: shapes, at most, as soon as one that fits is known.
        slack: shapes whose rough estimate is worse than the best known step by this factor are not.
        climbs: layouts from which improvement starts.
        climbed: layouts in all improvements together, at most.
        asked: layouts for which the way there is asked for, at most.
    """

    timed: int
    slack: float
    climbs: int
    climbed: int
    asked: int


FEW = Effort(timed=64, slack=math.inf, climbs=3, climbed=400, asked=32)
"""For a dozen workers: each layout takes little, and a rough estimate is rougher."""

MANY = Effort(timed=16, slack=1.1, climbs=2, climbed=60, asked=24)
"""For more."""

VERY_MANY = Effort(timed=16, slack=1.1, climbs=2, climbed=60, asked=12)
"""For more than ``planner.shapes.EVERY_NUMBER_UP_TO``, whose pipelines are longer."""

MOVES = 6
"""Of the layers that could be moved in a long pipeline so many are, those that end it soonest."""

NEARLY = 1.25
"""A layout that needs so much more than the limit is not looked at any further."""

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
        transition: seconds to get from where the workers stand to a layout. It is called for a
            dozen or two, half of which keep what stands.

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
    search = _Front(profile, estimator, workers, micro_batches, schedule, known, exact=exact)
    found = search.run([cuts_of(split) for split in standing])
    if not found:
        raise search.nothing_fits()
    if transition is None:
        return tuple(map(estimator.layout, found[:FINALISTS]))
    half = search.effort.asked // 2
    asked = dict.fromkeys([*found[:half], *search.quick[:half]])
    layouts = map(estimator.layout, asked)
    return pareto(replace(x, transition_s=transition(x)) for x in layouts)


def pareto(layouts: Iterable[Layout]) -> tuple[Layout, ...]:
    """Those that no other one beats or equals in both times, the fastest step first."""
    kept: list[Layout] = []
    for layout in sorted(layouts, key=lambda x: (x.step_s, x.transition_s, x.peak_bytes)):
        if not kept or layout.transition_s < kept[-1].transition_s:
            kept.append(layout)
    return tuple(kept)


class _Front:
    """One search.

    Attributes:
        quick: layouts that keep what stands, fastest first.
        effort: how much is looked at.
    """

    def __init__(
        self,
        profile: Profile,
        estimator: Estimator,
        workers: int,
        micro_batches: int,
        schedule: Schedule,
        limit: float,
        *,
        exact: bool,
    ) -> None:
        self.quick: list[Figures] = []
        self.effort = VERY_MANY if workers > EVERY_NUMBER_UP_TO else MANY
        if workers <= ALL_PARTITIONS_UP_TO:
            self.effort = FEW
        self._num_layers = len(profile.layers)
        self._estimator = estimator
        self._workers = workers
        self._total = micro_batches
        self._limit = limit
        self._longest = min(workers, self._num_layers)
        slowest = estimator.slowest(self._longest)
        self._rough = Rough(profile, schedule, slowest, exact=exact)

    def run(self, standing: Sequence[Cuts]) -> list[Figures]:
        """Layouts that fit, fastest first; none if no shape has a split that fits."""
        self._budget = self.effort.climbed
        self._seen: set[Draft] = set()
        self._climbed: set[Draft] = set()
        self._missed: list[Figures] = []
        size = self._workers, self._longest, self._total
        thorough = self.effort is not VERY_MANY
        found = self._timed(lengths_for(*size), also_lean=thorough)
        kept = self._timed(around(standing, *size), also_lean=thorough)
        if not found and not thorough:
            found = self._timed(lengths_for(*size), also_lean=True)
        for start in self._starts(found):
            found += self._climb(start, frozenset())
        for start in sorted(kept)[:1]:
            kept += self._climb(start, frozenset(standing))
        self.quick = sorted(kept)
        return sorted({*found, *kept})

    def nothing_fits(self) -> NoLayoutError:
        """The error that names the smallest limit under which there is a layout."""
        shortage, self._limit = self._limit, math.inf
        leanest = min(self._lean(), key=_size)
        while True:  # with a little less there may be a layout that is not the leanest of a shape
            self._limit = leanest.peak_bytes - 1
            found = self.run(())
            if not found:
                break
            leanest = min(found, key=_size)
        self._limit = shortage
        lengths = [group.length for group in leanest.draft for _ in range(group.pipelines)]
        told = " + ".join(map(str, lengths[:12])) + " + ..." * (len(lengths) > 12)
        return NoLayoutError(
            f"no layout of {self._num_layers} layers on {self._workers} workers fits into "
            f"{shortage} bytes per worker; the leanest one, pipelines of {told} stages, needs "
            f"{leanest.peak_bytes}; allow that much, or use more workers or smaller micro-batches",
            leanest.peak_bytes,
        )

    def _lean(self) -> Iterator[Figures]:
        """For every shape the layout with the smallest largest stage."""
        for rows in lengths_for(self._workers, self._longest, self._total):
            shape = timed(rows, self._total, self._rough.pipeline_s)
            for option in [shape, *lean(rows, self._total)] if shape else []:
                dealt = self._estimator.dealt(tuple((row.share, row.pipelines) for row in option))
                leanest = [
                    self._estimator.leanest(row.length, place, dealt)
                    for place, row in enumerate(option)
                ]
                yield self._estimator.figures(_draft(option, leanest))

    def _timed(self, every: Iterable[Sequence[Row]], *, also_lean: bool) -> list[Figures]:
        """The best shapes, with cuts, that fit; also with lean deals where others do not fit."""
        hopeful = []
        for place, rows in enumerate(every):
            shape = timed(rows, self._total, self._rough.pipeline_s)
            if shape is not None:
                hopeful.append((self._rough.step_s(shape), place, rows, shape))
        found: list[Figures] = []
        best_s = math.inf
        tried = 0
        for rough_s, _, rows, shape in sorted(hopeful, key=lambda entry: entry[:2]):
            if rough_s > self.effort.slack * best_s or tried >= self.effort.timed:
                break
            fitting = self._fitting(shape)
            tried += 1 if fitting or found else 0
            if also_lean and (not fitting or (self.effort is FEW and not self._is_free(shape))):
                for option in lean(rows, self._total):
                    if self._rough.step_s(option) <= self.effort.slack * best_s:
                        fitting += self._fitting(option)
            found += fitting
            best_s = min([best_s, *(figures.step_s for figures in fitting)])
        return found

    def _is_free(self, shape: Shape) -> bool:
        """Whether the fastest cuts of ``shape`` fit: then memory is no reason to deal otherwise."""
        return self._limit == math.inf or [
            [row.kept] if row.kept else self._estimator.fastest(row.length, row.share)
            for row in shape
        ] == self._options(shape)

    def _options(self, shape: Shape) -> list[list[Cuts]]:
        """For each part of ``shape`` the cuts that should fit."""
        dealt = self._estimator.dealt(tuple((row.share, row.pipelines) for row in shape))
        return [
            [row.kept]
            if row.kept
            else self._estimator.within(row.length, place, dealt, self._limit)
            for place, row in enumerate(shape)
        ]

    def _drafts(self, shape: Shape) -> Iterator[Draft]:
        """``shape`` with the cuts that should fit."""
        options = self._options(shape)
        if all(options):
            for choice in range(max(map(len, options))):
                yield _draft(shape, [option[min(choice, len(option) - 1)] for option in options])

    def _fitting(self, shape: Shape) -> list[Figures]:
        """Layouts of ``shape`` that are new and fit."""
        found: list[Figures] = []
        for draft in self._drafts(shape):
            if draft not in self._seen:
                self._seen.add(draft)
                if self._estimator.peak(draft) <= NEARLY * self._limit:
                    figures = self._estimator.figures(draft)
                    fits = figures.peak_bytes <= self._limit
                    (found if fits else self._missed).append(figures)
        return found

    def _starts(self, found: list[Figures]) -> list[Figures]:
        """Where improvement starts: from the best, and from what is faster but does not fit."""
        best = sorted(found)[: self.effort.climbs]
        fastest_s = best[0].step_s if best else math.inf
        tempting = [figures for figures in self._missed if figures.step_s < fastest_s]
        return best + sorted(tempting, key=_size)[: self.effort.climbs]

    def _climb(self, start: Figures, fixed: frozenset[Cuts]) -> list[Figures]:
        """Ever better neighbours of ``start`` that fit; pipelines cut as in ``fixed`` stay.

        If ``start`` does not fit itself, better is first of all what fits better.
        """
        found: list[Figures] = []
        best = start
        while self._budget > 0:
            near = []
            for draft in self._neighbours(best.draft, fixed):
                if draft not in self._climbed:
                    self._climbed.add(draft)
                    self._budget -= 1
                    near.append(self._estimator.figures(draft))
            first = min(near, key=self._fit, default=best)
            if self._fit(first) >= self._fit(best):
                break
            best = first
            if best.peak_bytes <= self._limit:
                found.append(best)
        return found

    def _fit(self, figures: Figures) -> tuple[float, Figures]:
        return max(0.0, figures.peak_bytes - self._limit), figures

    def _neighbours(self, draft: Draft, fixed: frozenset[Cuts]) -> list[Draft]:
        estimator = self._estimator
        found: list[Draft] = []
        dealt = estimator.dealt(tuple((group.share, group.pipelines) for group in draft))
        for place, group in enumerate(draft):
            if group.cuts not in fixed:
                moved = moved_layers(group.cuts)
                patterns = [sums for sums, _ in dealt.sums[place][:MOST_PATTERNS]]
                if self.effort is not FEW:
                    estimator.time((cuts, patterns[0]) for cuts in moved)
                    moved.sort(key=lambda cuts: estimator.end_s(cuts, patterns[0]))
                    moved = moved[:MOVES]
                estimator.time((cuts, sums) for cuts in moved for sums in patterns)
                for cuts in moved:
                    found += [
                        drafted([*draft[:place], *changed, *draft[place + 1 :]])
                        for changed in _replaced(group, cuts)
                    ]
        found += moved_shares(draft)
        for rows in moved_workers(draft, self._workers, self._longest, fixed):
            shape = timed(rows, self._total, self._rough.pipeline_s)
            found += self._drafts(shape) if shape else []
        return found


def _draft(shape: Shape, every: Sequence[Cuts]) -> Draft:
    return drafted(
        Group(cuts, row.share, row.pipelines) for row, cuts in zip(shape, every, strict=True)
    )


def _replaced(group: Group, cuts: Cuts) -> Iterator[list[Group]]:
    """``group`` cut otherwise in all of its pipelines, or in one of them."""
    yield [group._replace(cuts=cuts)]
    if group.pipelines > 1:
        yield [group._replace(pipelines=group.pipelines - 1), Group(cuts, group.share, 1)]


def _size(figures: Figures) -> int:
    return figures.peak_bytes
