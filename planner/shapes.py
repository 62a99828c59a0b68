"""Which pipelines there can be: how long, how many, and with how many micro-batches each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby, islice, pairwise
from math import comb

from ithaca.planner.deal import aligned, lengths, shared
from ithaca.planner.layout import Split

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
    """``count`` pipelines of ``length`` stages with ``share`` micro-batches each.

    ``kept`` is their split if they stay as they are.
    """

    length: int
    share: int
    count: int
    kept: Split | None = None


Shape = tuple[Row, ...]


def lengths_for(
    num_workers: int, max_stages: int, num_micro_batches: int
) -> Iterator[tuple[tuple[int, int], ...]]:
    """Pipelines as (length, count) pairs, longest first; some leave workers out."""
    if num_workers <= EVERY_NUMBER_UP_TO:
        for found in lengths(num_workers, max_stages, num_micro_batches):
            yield tuple((length, len(list(group))) for length, group in groupby(found))
        return
    most = min(num_workers, num_micro_batches)
    numbers = {-(-num_micro_batches // share) for share in range(1, num_micro_batches + 1)}
    for length in range(1, max_stages + 1):
        numbers |= {num_workers // length, -(-num_workers // length)}
    for pipelines in sorted(number for number in numbers if 1 <= number <= most):
        size, extra = divmod(min(num_workers, pipelines * max_stages), pipelines)
        if size and extra:
            yield ((size + 1, extra), (size, pipelines - extra))
        if size:
            yield ((size, pipelines),)
        if (
            size < max_stages
            and extra
            and (short := num_workers - (size + 1) * (pipelines - 1)) > 0
        ):
            yield ((size + 1, pipelines - 1), (short, 1))


def around(
    standing: Sequence[Split], num_workers: int, max_stages: int, num_micro_batches: int
) -> Iterator[tuple[tuple[int, int, Split | None], ...]]:
    """Pipelines of which some stay as they are, as (length, count, split); None is free.

    All of ``standing`` stay, or all but one or two; the other workers make a few pipelines of
    nearly equal length, or are left out.
    """
    for left_out in range(min(3, len(standing))):
        kept = Counter(standing[: len(standing) - left_out])
        rest = num_workers - sum(len(split) * count for split, count in kept.items())
        stay = tuple((len(split), count, split) for split, count in kept.items())
        room = num_micro_batches - sum(kept.values())
        if rest < 0 or room < 0:
            continue
        yield stay
        fewest = -(-rest // max_stages)
        for further in range(max(1, fewest), min(rest, room, fewest + FURTHER) + 1):
            size, extra = divmod(rest, further)
            yield (
                *stay,
                *((n, c, None) for n, c in ((size + 1, extra), (size, further - extra)) if c),
            )


def shapes(
    rows: Iterable[tuple[int, int, Split | None]],
    num_micro_batches: int,
    seconds: Callable[[int, int], float],
    *,
    lean: bool,
) -> Iterator[Shape]:
    """Ways to deal micro-batches to pipelines of these (length, count, split).

    So that they end together by ``seconds(length, micro_batches)``; and, if the layout is to be
    ``lean``, in equal parts and in blocks that are nodes of the tree.
    """
    known = tuple(rows)
    counts = [count for _, count, _ in known]
    if sum(counts) > num_micro_batches or not known:
        return
    timed = shared(counts, num_micro_batches, lambda g, share: seconds(known[g][0], share))
    options = [timed]
    if lean:
        options.append(shared(counts, num_micro_batches, lambda _, share: float(share)))
        options.append(_aligned(counts, num_micro_batches))
        options += _others(counts, num_micro_batches)
    seen = set()
    for option in options:
        shape = tuple(
            Row(length, share, number, kept)
            for (length, _, kept), dealt in zip(known, option, strict=True)
            for share, number in sorted(dealt.items(), reverse=True)
        )
        if shape not in seen:
            seen.add(shape)
            yield shape


def _others(counts: Sequence[int], num_micro_batches: int) -> Iterator[tuple[dict[int, int], ...]]:
    """Further ways to deal: all if there are few, else those that favour one of two groups."""
    pipelines = sum(counts)
    if comb(num_micro_batches - 1, pipelines - 1) <= EVERY_DEAL_UP_TO:
        for cuts in combinations(range(1, num_micro_batches), pipelines - 1):
            sizes = iter([b - a for a, b in pairwise([0, *cuts, num_micro_batches])])
            yield tuple(dict(Counter(islice(sizes, count))) for count in counts)
    elif len(counts) == 2:
        first, second = counts
        most = (num_micro_batches - first) // second
        for share in sorted({max(1, most * part // SWEEP) for part in range(SWEEP)}):
            size, extra = divmod(num_micro_batches - share * second, first)
            dealt = {size + 1: extra, size: first - extra} if extra else {size: first}
            yield dealt, {share: second}


def _aligned(counts: Sequence[int], num_micro_batches: int) -> tuple[dict[int, int], ...]:
    sizes = iter(len(block) for block in aligned(sum(counts), num_micro_batches))
    return tuple(dict(Counter(next(sizes) for _ in range(count))) for count in counts)
