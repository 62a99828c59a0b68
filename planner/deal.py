"""How workers and micro-batches are dealt to pipelines, before anybody looks at layers."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache
from math import floor, prod

import numpy as np

from ithaca.planner.tree import children

ALL_PARTITIONS_UP_TO = 12
"""Up to so many workers every set of pipeline lengths is tried; above only nearly equal ones."""

MOST_ORDERS = 300
"""Up to so many states of the dynamic programming, blocks are put into the best order."""


def lengths(num_workers: int, max_stages: int, max_pipelines: int) -> Iterator[tuple[int, ...]]:
    """Pipeline lengths, longest first, that use all of ``num_workers`` or up to a quarter fewer.

    If so many cannot be used at all, the quarter counts from the most that can.
    """
    most = min(num_workers, max_stages * max_pipelines)
    for used in range(most, most - max(3, most // 4) - 1, -1):
        if used < 1:
            return
        if num_workers <= ALL_PARTITIONS_UP_TO:
            yield from _partitions(used, min(used, max_stages), max_pipelines)
            continue
        for pipelines in range(1, min(used, max_pipelines) + 1):
            size, extra = divmod(used, pipelines)
            if size + (extra > 0) <= max_stages:
                yield (size + 1,) * extra + (size,) * (pipelines - extra)


def _partitions(total: int, largest: int, parts: int) -> Iterator[tuple[int, ...]]:
    if total == 0:
        yield ()
    if parts == 0:
        return
    for first in range(min(total, largest), 0, -1):
        for rest in _partitions(total - first, first, parts - 1):
            yield (first, *rest)


def counts(
    stages: Sequence[int], num_micro_batches: int, seconds: Callable[[int, int], float]
) -> tuple[int, ...]:
    """Micro-batches per pipeline so that the slowest is as fast as possible; at least 1 each.

    ``seconds(stages, micro_batches)`` must grow with the micro-batches: then giving each next
    one to the pipeline that ends earliest with it is optimal.
    """
    dealt = [1] * len(stages)
    heap = [(seconds(length, 2), place) for place, length in enumerate(stages)]
    heapq.heapify(heap)
    for _ in range(num_micro_batches - len(stages)):
        _, place = heap[0]
        dealt[place] += 1
        heapq.heapreplace(heap, (seconds(stages[place], dealt[place] + 1), place))
    return tuple(dealt)


def shared(
    counts_: Sequence[int],
    num_micro_batches: int,
    seconds: Callable[[int, int], float],
) -> tuple[dict[int, int], ...]:
    """Micro-batches for groups of identical pipelines: per group, how many get which number.

    As :func:`counts`, but in time that depends on the number of groups, not of pipelines:
    ``seconds(group, micro_batches)`` must grow linearly beyond the first micro-batch.

    Args:
        counts_: pipelines of each group; together at most ``num_micro_batches``.
        num_micro_batches: of a step.
        seconds: of a pipeline of the group.
    """
    groups = range(len(counts_))
    if len(counts_) == 1:
        each_, more = divmod(num_micro_batches, counts_[0])
        return (+Counter({each_ + 1: more, each_: counts_[0] - more}),)
    base = [seconds(group, 1) for group in groups]
    slope = [max(1e-12, seconds(group, 2) - base[group]) for group in groups]

    def most(end_s: float) -> list[int]:
        """Micro-batches that a pipeline of each group ends with until ``end_s``."""
        return [max(1, floor((end_s - base[g]) / slope[g] + 1e-9) + 1) for g in groups]

    def dealt(end_s: float) -> int:
        return sum(count * each for count, each in zip(counts_, most(end_s), strict=True))

    # In fractions of micro-batches the end is known; whole ones end less than one of them later.
    spare = num_micro_batches - sum(counts_[g] * (1 - base[g] / slope[g]) for g in groups)
    low = spare / sum(counts_[g] / slope[g] for g in groups)
    if dealt(low) > num_micro_batches:  # some get their one although that ends later
        low = min(base) - max(slope)
    high = max(low, max(base)) + max(slope) * 2
    while dealt(high) < num_micro_batches:
        high += max(slope) * num_micro_batches
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if dealt(middle) >= num_micro_batches else (middle, high)
    each = most(high)
    spare = dealt(high) - num_micro_batches
    found = [Counter({each[g]: counts_[g]}) for g in groups]
    while spare > 0:  # the latest pipelines give back what is too much
        ends = [
            (base[g] + slope[g] * (top - 1), g, top)
            for g in groups
            for top in [max(found[g])]
            if top > 1
        ]
        _, g, top = max(ends)
        moved = min(spare, found[g][top])
        found[g][top] -= moved
        found[g][top - 1] += moved
        found[g] = +found[g]
        spare -= moved
    return tuple(dict(group) for group in found)


def blocks(sizes: Sequence[int]) -> tuple[range, ...]:
    """Contiguous blocks of ``sizes``, in the order that leaves the fewest partial sums in all.

    Block k of the result has ``sizes[k]`` micro-batches. With very many blocks of several sizes,
    those of a size stay together, and only ascending and descending sizes are compared.
    """
    kinds = tuple(sorted(Counter(sizes).items()))
    firsts = {size: list(reversed(starts)) for size, starts in _placed(kinds).items()}
    return tuple(range(low := firsts[size].pop(), low + size) for size in sizes)


@lru_cache(maxsize=256)
def _placed(kinds: tuple[tuple[int, int], ...]) -> dict[int, list[int]]:
    """Where blocks of each size begin; ``kinds`` are (size, count) pairs, ascending."""
    if len(kinds) == 1 or prod(count + 1 for _, count in kinds) > MOST_ORDERS:
        return min((_runs(order) for order in (kinds[::-1], kinds)), key=_all_nodes)
    return _best_placed(kinds)


def _runs(kinds: Sequence[tuple[int, int]]) -> dict[int, list[int]]:
    placed, low = {}, 0
    for size, count in kinds:
        placed[size] = [low + size * place for place in range(count)]
        low += size * count
    return placed


def _all_nodes(placed: dict[int, list[int]]) -> int:
    total = sum(size * len(starts) for size, starts in placed.items())
    return sum(nodes(low, low + size, total) for size, starts in placed.items() for low in starts)


def _best_placed(kinds: tuple[tuple[int, int], ...]) -> dict[int, list[int]]:
    """Dynamic programming over how many blocks of each size lie to the left."""
    total = sum(size * count for size, count in kinds)

    @cache
    def fewest(used: tuple[int, ...]) -> tuple[int, int]:
        """Fewest nodes for the rest, and the kind of block that comes next."""
        low = sum(size * count for (size, _), count in zip(kinds, used, strict=True))
        if low == total:
            return 0, -1
        options = []
        for kind, (size, count) in enumerate(kinds):
            if used[kind] < count:
                rest = fewest((*used[:kind], used[kind] + 1, *used[kind + 1 :]))[0]
                options.append((nodes(low, low + size, total) + rest, -kind))
        count, kind = min(options)  # of equal ones the largest block first: it lies better
        return count, -kind

    used = (0,) * len(kinds)
    placed: dict[int, list[int]] = {}
    low = 0
    while low < total:
        kind = fewest(used)[1]
        size = kinds[kind][0]
        placed.setdefault(size, []).append(low)
        low += size
        used = (*used[:kind], used[kind] + 1, *used[kind + 1 :])
    return placed


def aligned(num_pipelines: int, num_micro_batches: int) -> tuple[range, ...]:
    """Blocks that are one node of the tree each, largest first: as even as such blocks can be.

    They need the least memory for partial sums, but pipelines may end at different times.
    """
    # A heap: the largest node is halved next, of equal ones the first.
    found = [(-num_micro_batches, 0, num_micro_batches)]
    while len(found) < num_pipelines:
        _, *node = heapq.heappop(found)
        for low, high in children((node[0], node[1])):
            heapq.heappush(found, (low - high, low, high))
    return tuple(range(low, high) for _, low, high in sorted(found))


def all_nodes(groups: Sequence[tuple[int, int]], num_micro_batches: int) -> tuple[int, int]:
    """Most and all partial sums of (size, count) blocks that lie one behind the other.

    As :func:`nodes`, for all blocks at once.
    """
    sizes = np.repeat([size for size, _ in groups], [count for _, count in groups])
    high = np.cumsum(sizes)
    low = high - sizes
    high[-1] = 1 << (num_micro_batches - 1).bit_length()
    found = np.zeros_like(low)
    end = num_micro_batches  # in units of the tree's level
    while (inside := low < high).any():
        found += inside * ((low & 1) * (low < end) + (high & 1))
        low, high, end = (low + 1) >> 1, high >> 1, (end + 1) >> 1
    return int(found.max()), int(found.sum())


def nodes(low: int, high: int, num_micro_batches: int) -> int:
    """Partial sums that micro-batches ``low`` to ``high`` - 1 end up as: the size of their cover.

    The tree's nodes are aligned powers of two, the last ones cut short at the number of
    micro-batches; so the cover is counted bit by bit, unlike in :func:`tree.cover`.
    """
    if high == num_micro_batches:
        high = 1 << (num_micro_batches - 1).bit_length()
    found, end = 0, num_micro_batches
    while low < min(high, end):
        found += (low & 1) + (high & 1)
        low, high, end = (low + 1) >> 1, high >> 1, (end + 1) >> 1
    return found
