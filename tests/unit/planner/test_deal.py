"""How workers and micro-batches are dealt to pipelines."""

from __future__ import annotations

from itertools import permutations, product

import pytest

from ithaca.planner.deal import aligned, blocks, counts, lengths, nodes
from ithaca.planner.tree import cover


@pytest.mark.parametrize("total", [1, 2, 5, 6, 8, 10, 11, 13, 20])
def test_nodes_is_the_size_of_the_cover(total: int) -> None:
    for low in range(total):
        for high in range(low + 1, total + 1):
            assert nodes(low, high, total) == len(cover(range(low, high), total))


@pytest.mark.parametrize("sizes", [(3,), (3, 3, 2), (2, 3, 3), (4, 1, 3), (5, 4, 4, 3), (1, 2, 1)])
def test_blocks_have_the_fewest_nodes_of_all_orders(sizes: tuple[int, ...]) -> None:
    found = blocks(sizes)
    assert [len(block) for block in found] == list(sizes)
    assert sorted(mb for block in found for mb in block) == list(range(sum(sizes)))
    best = min(_nodes_in_order(order) for order in permutations(sizes))
    assert sum(nodes(b.start, b.stop, sum(sizes)) for b in found) == best


def _nodes_in_order(sizes: tuple[int, ...]) -> int:
    low = total = 0
    for size in sizes:
        total += nodes(low, low + size, sum(sizes))
        low += size
    return total


@pytest.mark.parametrize(("pipelines", "micro_batches"), [(1, 1), (3, 8), (4, 4), (5, 13), (2, 6)])
def test_aligned_blocks_are_single_nodes(pipelines: int, micro_batches: int) -> None:
    found = aligned(pipelines, micro_batches)
    assert len(found) == pipelines
    assert sorted(mb for block in found for mb in block) == list(range(micro_batches))
    assert all(nodes(block.start, block.stop, micro_batches) == 1 for block in found)
    sizes = [len(block) for block in found]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("stages", [(1,), (2, 1), (3, 2), (2, 2, 1)])
def test_counts_end_together_as_well_as_possible(stages: tuple[int, ...]) -> None:
    def seconds(length: int, micro_batches: int) -> float:
        return 10.0 + micro_batches * 12 / length

    total = 7
    found = counts(stages, total, seconds)
    options = [
        split for split in product(range(1, total + 1), repeat=len(stages)) if sum(split) == total
    ]
    best = min(max(map(seconds, stages, split)) for split in options)
    assert max(map(seconds, stages, found)) == best
    assert sum(found) == total


def test_lengths_use_all_workers_first() -> None:
    found = list(lengths(5, 4, 9))
    assert found[:2] == [(4, 1), (3, 2)]
    assert (1, 1, 1, 1, 1) in found
    assert all(max(lengths_) <= 4 for lengths_ in found)
    assert (8, 8, 8, 8) in list(lengths(32, 50, 64))
    assert next(lengths(9, 2, 1)) == (2,)
