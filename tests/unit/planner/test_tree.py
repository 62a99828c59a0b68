"""The reduction tree: its shape, and that covers are exact and smallest."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ithaca.planner.tree import Node, children, cover, parent


def all_nodes(num_micro_batches: int) -> list[Node]:
    """Every node of the tree, root first."""
    found, todo = [], [(0, num_micro_batches)]
    while todo:
        node = todo.pop()
        found.append(node)
        if node[1] - node[0] > 1:
            todo += children(node)
    return found


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 12, 33])
def test_tree_is_binary_over_all_leaves(count: int) -> None:
    nodes = all_nodes(count)
    assert len(nodes) == len(set(nodes)) == 2 * count - 1
    assert sorted(n for n in nodes if n[1] - n[0] == 1) == [(i, i + 1) for i in range(count)]
    for node in nodes:
        above = parent(node, count)
        assert (above is None) == (node == (0, count))
        assert above is None or node in children(above)


def test_left_half_is_the_largest_power_of_two() -> None:
    assert children((0, 8)) == ((0, 4), (4, 8))
    assert children((0, 7)) == ((0, 4), (4, 7))
    assert children((0, 5)) == ((0, 4), (4, 5))
    assert children((4, 7)) == ((4, 6), (6, 7))
    with pytest.raises(ValueError, match="leaf"):
        children((3, 4))


@given(st.integers(1, 40), st.data())
@settings(deadline=None)
def test_cover_is_exact_and_disjoint(count: int, data: st.DataObject) -> None:
    ids = data.draw(st.sets(st.integers(0, count - 1)))
    covered = [mb for node in cover(ids, count) for mb in range(*node)]
    assert covered == sorted(ids)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6])
def test_cover_is_the_smallest(count: int) -> None:
    nodes = all_nodes(count)
    for bits in range(1 << count):
        ids = [mb for mb in range(count) if bits >> mb & 1]
        size = len(cover(ids, count))
        for fewer in range(size):
            for choice in combinations(nodes, fewer):
                assert sorted(mb for node in choice for mb in range(*node)) != ids
