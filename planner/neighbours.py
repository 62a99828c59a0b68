"""Small changes to a layout, for a search to try."""

from __future__ import annotations

from collections.abc import Iterator

from ithaca.planner.estimate import Draft, Group, drafted
from ithaca.planner.layout import Cuts
from ithaca.planner.shapes import Row

EVERY_PAIR_UP_TO = 18
"""In pipelines of so many stages a layer may go from any stage to any other."""


def moved_layers(cuts: Cuts) -> list[Cuts]:
    """``cuts`` with one stage a layer shorter and another one longer; those between just move.

    In long pipelines only neighbouring stages are changed.
    """
    stages = len(cuts) - 1
    reach = stages if stages <= EVERY_PAIR_UP_TO else 2
    found = []
    for low in range(stages):
        for high in range(low + 1, min(stages, low + reach)):
            for by, shorter in ((-1, low), (1, high)):
                if cuts[shorter + 1] - cuts[shorter] > 1:
                    middle = (cut + by for cut in cuts[low + 1 : high + 1])
                    found.append((*cuts[: low + 1], *middle, *cuts[high + 1 :]))
    return found


def moved_shares(draft: Draft) -> Iterator[Draft]:
    """``draft`` with one micro-batch given by each of some pipelines to as many of another group.

    By one pipeline, or by as many as there are in the smaller group.
    """
    for giver, group in enumerate(draft):
        for taker, other in enumerate(draft):
            if (giver == taker and group.pipelines < 2) or group.share < 2:
                continue
            most = group.pipelines // 2 if giver == taker else min(group.pipelines, other.pipelines)
            for count in sorted({1, most}):
                rest = [g for place, g in enumerate(draft) if place not in (giver, taker)]
                if giver == taker:
                    rest.append(group._replace(pipelines=group.pipelines - 2 * count))
                else:
                    rest.append(group._replace(pipelines=group.pipelines - count))
                    rest.append(other._replace(pipelines=other.pipelines - count))
                rest.append(Group(group.cuts, group.share - 1, count))
                rest.append(Group(other.cuts, other.share + 1, count))
                yield drafted(rest)


def moved_workers(
    draft: Draft, workers: int, longest: int, fixed: frozenset[Cuts]
) -> Iterator[list[Row]]:
    """Rows of ``draft`` in which one pipeline has a stage more, and another one less or none has.

    The changed pipelines have no cuts; those in ``fixed`` are not changed.
    """
    idle = workers - sum(group.length * group.pipelines for group in draft)
    free = [place for place, group in enumerate(draft) if group.cuts not in fixed]
    for taker in free:
        grown = draft[taker].length + 1
        if grown > longest:
            continue
        if idle:
            yield _rows(draft, {taker: 1}, [grown])
        for giver in free:
            less = draft[giver].length - 1
            taken = {taker: 1, giver: 2 if giver == taker else 1}
            if less and all(draft[place].pipelines >= count for place, count in taken.items()):
                yield _rows(draft, taken, [grown, less])


def _rows(draft: Draft, taken: dict[int, int], lengths: list[int]) -> list[Row]:
    counts: dict[Cuts, int] = {}
    for place, group in enumerate(draft):
        counts[group.cuts] = counts.get(group.cuts, 0) + group.pipelines - taken.get(place, 0)
    kept = [Row(len(cuts) - 1, count, cuts) for cuts, count in counts.items() if count]
    return kept + [Row(length, 1) for length in lengths]
