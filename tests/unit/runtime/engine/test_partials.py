"""Sums of gradients in the tree: its shape, its memory, and that any order gives the same bits."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ithaca.planner.tree import cover
from ithaca.runtime.engine.partials import Partials, evaluate

Sum = str
"""A sum in words: shows which halves were added, and in which order."""


def join(left: Sum, right: Sum) -> Sum:
    """left + right."""
    return f"({left} {right})"


def counted(order: list[int], num_micro_batches: int) -> Partials[Sum]:
    """The sums after the micro-batches in ``order``."""
    partials = Partials(num_micro_batches, join)
    for micro_batch in order:
        partials.put(micro_batch, str(micro_batch))
    return partials


def test_the_shape_of_the_tree() -> None:
    trees = {
        1: "0",
        2: "(0 1)",
        3: "((0 1) 2)",
        5: "(((0 1) (2 3)) 4)",
        6: "(((0 1) (2 3)) (4 5))",
        7: "(((0 1) (2 3)) ((4 5) 6))",
        8: "(((0 1) (2 3)) ((4 5) (6 7)))",
    }
    for size, tree in trees.items():
        assert dict(counted(list(range(size)), size).nodes()) == {(0, size): tree}


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(0, 2**32))
def test_any_order_and_any_owners_give_the_same_sum(size: int, seed: int) -> None:
    rng = Random(seed)
    order = list(range(size))
    rng.shuffle(order)
    expected = counted(list(range(size)), size).nodes()[0, size]
    assert counted(order, size).nodes() == {(0, size): expected}
    split = rng.randint(0, size)
    mine, theirs = counted(order[:split], size).nodes(), counted(order[split:], size).nodes()
    assert tuple(mine) == cover(order[:split], size)
    assert evaluate({**mine, **theirs}, size, join) == expected


@pytest.mark.parametrize("size", [1, 2, 7, 8, 31, 64, 100])
def test_in_order_few_sums_are_held(size: int) -> None:
    partials = Partials(size, join)
    most = 0
    for micro_batch in range(size):
        partials.put(micro_batch, str(micro_batch))
        most = max(most, len(partials.nodes()))
    assert most <= math.log2(size) + 2


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.data())
def test_a_micro_batch_counts_once(size: int, data: st.DataObject) -> None:
    done = data.draw(st.lists(st.integers(0, size - 1), min_size=1, unique=True))
    partials = counted(done, size)
    before = partials.nodes()
    again = data.draw(st.sampled_from(done))
    with pytest.raises(ValueError, match=f"micro-batch {again} was summed already"):
        partials.put(again, "again")
    assert partials.nodes() == before


def test_a_missing_micro_batch_is_named() -> None:
    with pytest.raises(KeyError, match="gradient of micro-batch 2"):
        evaluate(counted([0, 1, 3], 4).nodes(), 4, join)


def test_nodes_come_in_order_and_can_be_forgotten() -> None:
    partials = counted([5, 0, 3], 6)
    assert list(partials.nodes()) == [(0, 1), (3, 4), (5, 6)]
    partials.clear()
    assert partials.nodes() == {}
