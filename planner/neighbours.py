"""Small changes to a layout, for a search to try."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ithaca.planner.estimate import Draft, Group, drafted
from ithaca.planner.layout import Split
from ithaca.planner.span import Span


def moved_borders(split: Split) -> list[Split]:
    """``split`` with one border between two stages moved by one layer."""
    found = []
    for index in range(len(split) - 1):
        lower, upper = split[index], split[index + 1]
        for border in (lower.last - 1, lower.last + 1):
            if lower.first < border < upper.last:
                changed = (Span(lower.first, border), Span(border, upper.last))
                found.append((*split[:index], *changed, *split[index + 2 :]))
    return found


def moved_shares(draft: Draft) -> Iterator[Draft]:
    """``draft`` with one micro-batch given by each of some pipelines to as many of another group.

    By one pipeline, or by as many as there are in the smaller group.
    """
    for giver, group in enumerate(draft):
        for taker, other in enumerate(draft):
            if (giver == taker and group.count < 2) or group.share < 2:
                continue
            most = group.count // 2 if giver == taker else min(group.count, other.count)
            for count in sorted({1, most}):
                rest = [g for place, g in enumerate(draft) if place not in (giver, taker)]
                if giver == taker:
                    rest.append(replace(group, count=group.count - 2 * count))
                else:
                    rest.append(replace(group, count=group.count - count))
                    rest.append(replace(other, count=other.count - count))
                rest.append(Group(group.split, group.share - 1, count))
                rest.append(Group(other.split, other.share + 1, count))
                yield drafted(rest)


def moved_workers(
    draft: Draft, workers: int, longest: int, fixed: frozenset[Split]
) -> Iterator[list[tuple[int, int, Split | None]]]:
    """Rows of ``draft`` in which one pipeline has a stage more, and another one less or none has.

    The changed pipelines have no split; those in ``fixed`` are not changed.
    """
    idle = workers - sum(len(group.split) * group.count for group in draft)
    free = [place for place, group in enumerate(draft) if group.split not in fixed]
    for taker in free:
        grown = len(draft[taker].split) + 1
        if grown > longest:
            continue
        if idle:
            yield _rows(draft, {taker: 1}, [grown])
        for giver in free:
            less = len(draft[giver].split) - 1
            taken = {taker: 1, giver: 2 if giver == taker else 1}
            if less and all(draft[place].count >= count for place, count in taken.items()):
                yield _rows(draft, taken, [grown, less])


def _rows(
    draft: Draft, taken: dict[int, int], lengths: list[int]
) -> list[tuple[int, int, Split | None]]:
    kept: list[tuple[int, int, Split | None]] = [
        (len(group.split), group.count - taken.get(place, 0), group.split)
        for place, group in enumerate(draft)
    ]
    return [row for row in kept if row[1]] + [(length, 1, None) for length in lengths]
