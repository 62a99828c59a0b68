"""How workers and micro-batches are dealt to pipelines, before anybody looks at layers."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache

from ithaca.planner.tree import Node, children

ALL_PARTITIONS_UP_TO = 12
"""Up to so many workers every set of pipeline lengths is tried; above only nearly equal ones."""


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


def blocks(sizes: Sequence[int]) -> tuple[range, ...]:
    """Contiguous blocks of ``sizes``, in the order that leaves the fewest partial sums in all.

    Dynamic programming over how many blocks of each size lie to the left; block k of the result
    has ``sizes[k]`` micro-batches.
    """
    total = sum(sizes)
    kinds = sorted(Counter(sizes).items())

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
                options.append((nodes(low, low + size, total) + rest, kind))
        return min(options)

    used = (0,) * len(kinds)
    placed: dict[int, list[range]] = {}
    low = 0
    while low < total:
        kind = fewest(used)[1]
        size = kinds[kind][0]
        placed.setdefault(size, []).append(range(low, low + size))
        low += size
        used = (*used[:kind], used[kind] + 1, *used[kind + 1 :])
    return tuple(placed[size].pop(0) for size in sizes)


def aligned(num_pipelines: int, num_micro_batches: int) -> tuple[range, ...]:
    """Blocks that are one node of the tree each, largest first: as even as such blocks can be.

    They need the least memory for partial sums, but pipelines may end at different times.
    """
    found: list[Node] = [(0, num_micro_batches)]
    while len(found) < num_pipelines:
        found.sort(key=lambda node: (node[1] - node[0], -node[0]))
        found += children(found.pop())
    found.sort(key=lambda node: (node[0] - node[1], node[0]))
    return tuple(range(low, high) for low, high in found)


@lru_cache(maxsize=1 << 14)
def nodes(low: int, high: int, num_micro_batches: int) -> int:
    """Partial sums that micro-batches ``low`` to ``high`` - 1 end up as: the size of their cover.

    Only nodes on the borders of the block are visited, unlike in :func:`tree.cover`.
    """

    def visit(node: Node) -> int:
        if high <= node[0] or node[1] <= low:
            return 0
        if low <= node[0] and node[1] <= high:
            return 1
        left, right = children(node)
        return visit(left) + visit(right)

    return visit((0, num_micro_batches))
