"""Which pipelines there can be: how long, how many, and with how many micro-batches each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby, islice, pairwise
from math import comb
from typing import NamedTuple

from ithaca.planner.deal import ALL_PARTITIONS_UP_TO, aligned, lengths, shared
from ithaca.planner.layout import Cuts

EVERY_NUMBER_UP_TO = 64
"""Up to so many workers every number of pipelines is tried; above those that divide well."""

EVERY_DEAL_UP_TO = 64
"""If memory is short and there are only so many ways to deal micro-batches, all are tried."""

SWEEP = 8
"""Ways to deal that favour one group of pipelines, if there are more."""

FURTHER = 4
"""Pipelines, at most, that are made of the workers beside those that stay as they are."""


@dataclass(frozen=True, slots=True)
class Row:
    """``count`` pipelines of ``length`` stages.

    ``kept`` are their cuts if they stay as they are.
    """

    length: int
    count: int
    kept: Cuts | None = None


class Part(NamedTuple):
    """``pipelines`` of ``length`` stages with ``share`` micro-batches each; see ``Row``."""

    length: int
    share: int
    pipelines: int
    kept: Cuts | None


Shape = tuple[Part, ...]


def lengths_for(
    num_workers: int, max_stages: int, num_micro_batches: int
) -> Iterator[tuple[Row, ...]]:
    """Sets of pipelines, longest first; some leave workers out."""
    if num_workers <= ALL_PARTITIONS_UP_TO:
        for found in lengths(num_workers, max_stages, num_micro_batches):
            yield tuple(Row(length, len(list(group))) for length, group in groupby(found))
        return
    most = min(num_workers, num_micro_batches)
    for pipelines in _numbers(num_workers, max_stages, num_micro_batches):
        if pipelines > most:
            continue
        size, extra = divmod(min(num_workers, pipelines * max_stages), pipelines)
        if size:
            yield (Row(size, pipelines),)
        if size and extra:
            yield Row(size + 1, extra), Row(size, pipelines - extra)
        short = num_workers - (size + 1) * (pipelines - 1)
        if extra and 0 < short < size:
            yield Row(size + 1, pipelines - 1), Row(short, 1)


def _numbers(num_workers: int, max_stages: int, num_micro_batches: int) -> list[int]:
    """How many pipelines there may be, ascending."""
    if num_workers <= EVERY_NUMBER_UP_TO:
        return list(range(1, num_workers + 1))
    numbers = {-(-num_micro_batches // share) for share in range(1, num_micro_batches + 1)}
    for length in range(1, max_stages + 1):
        numbers |= {num_workers // length, -(-num_workers // length)}
    return sorted(numbers - {0})


def around(
    standing: Sequence[Cuts], num_workers: int, max_stages: int, num_micro_batches: int
) -> Iterator[tuple[Row, ...]]:
    """Sets of pipelines some of which stay as they are.

    All of ``standing`` stay, or all but one or two; the other workers make a few pipelines of
    nearly equal length, or are left out.
    """
    for left_out in range(min(3, len(standing))):
        kept = Counter(standing[: len(standing) - left_out])
        stay = tuple(Row(len(cuts) - 1, count, cuts) for cuts, count in kept.items())
        rest = num_workers - sum(row.length * row.count for row in stay)
        room = num_micro_batches - sum(kept.values())
        if rest < 0 or room < 0:
            continue
        yield stay
        fewest = max(1, -(-rest // max_stages))
        for further in range(fewest, min(rest, room, fewest + FURTHER) + 1):
            size, extra = divmod(rest, further)
            free = (Row(size + 1, extra), Row(size, further - extra))
            yield (*stay, *(row for row in free if row.count))


def timed(
    rows: Sequence[Row], num_micro_batches: int, seconds: Callable[[int, int], float]
) -> Shape | None:
    """Deal micro-batches so that the pipelines end together by ``seconds(length, share)``.

    None if there are more pipelines than micro-batches.
    """
    counts = [row.count for row in rows]
    if not 0 < sum(counts) <= num_micro_batches:
        return None
    lengths_ = [row.length for row in rows]
    dealt = shared(counts, num_micro_batches, lambda g, share: seconds(lengths_[g], share))
    return _shape(rows, dealt)


def lean(rows: Sequence[Row], num_micro_batches: int) -> Iterator[Shape]:
    """Other ways to deal, which may need less memory; some may be the same.

    In equal parts; in blocks that are nodes of the tree; every way, if there are few; else some
    that favour one of two groups.
    """
    counts = [row.count for row in rows]
    pipelines = sum(counts)
    equal = shared(counts, num_micro_batches, lambda _, share: float(share))
    options = [equal, _aligned(counts, num_micro_batches)]
    if comb(num_micro_batches - 1, pipelines - 1) <= EVERY_DEAL_UP_TO:
        options += _every(counts, num_micro_batches)
    elif len(counts) == 2:
        options += _favouring(counts, num_micro_batches)
    for dealt in options:
        yield _shape(rows, dealt)


def _shape(rows: Sequence[Row], dealt: Sequence[dict[int, int]]) -> Shape:
    return tuple(
        Part(row.length, share, number, row.kept)
        for row, group in zip(rows, dealt, strict=True)
        for share, number in sorted(group.items(), reverse=True)
    )


def _every(counts: Sequence[int], num_micro_batches: int) -> Iterator[tuple[dict[int, int], ...]]:
    for cuts in combinations(range(1, num_micro_batches), sum(counts) - 1):
        sizes = iter([b - a for a, b in pairwise([0, *cuts, num_micro_batches])])
        yield tuple(dict(Counter(islice(sizes, count))) for count in counts)


def _favouring(
    counts: Sequence[int], num_micro_batches: int
) -> Iterator[tuple[dict[int, int], ...]]:
    first, second = counts
    most = (num_micro_batches - first) // second
    for share in sorted({max(1, most * part // SWEEP) for part in range(SWEEP)}):
        size, extra = divmod(num_micro_batches - share * second, first)
        dealt = {size + 1: extra, size: first - extra} if extra else {size: first}
        yield dealt, {share: second}


def _aligned(counts: Sequence[int], num_micro_batches: int) -> tuple[dict[int, int], ...]:
    sizes = iter([len(block) for block in aligned(sum(counts), num_micro_batches)])
    return tuple(dict(Counter(islice(sizes, count))) for count in counts)
