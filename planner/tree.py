"""The fixed binary tree in which gradients of micro-batches are summed, whoever computed them.

The shape depends on the number of micro-batches M alone: a node covers ids ``lo`` to ``hi - 1``
and splits behind the largest power of two below its size. So the sum has the same bits on every
layout, and an aligned block of micro-batches is one node.
"""

from __future__ import annotations

from collections.abc import Iterable

Node = tuple[int, int]
"""Micro-batches ``lo`` (included) to ``hi`` (excluded) of the tree."""


def children(node: Node) -> tuple[Node, Node]:
    """The two halves of an inner node; ``ValueError`` for a leaf."""
    lo, hi = node
    size = hi - lo
    if size < 2:
        raise ValueError(f"node {node} is a leaf: it has no children")
    middle = lo + (1 << (size - 1).bit_length() - 1)
    return (lo, middle), (middle, hi)


def parent(node: Node, num_micro_batches: int) -> Node | None:
    """The node above ``node`` in the tree of ``num_micro_batches`` leaves; None for the root."""
    above: Node | None = None
    here: Node = (0, num_micro_batches)
    while here != node:
        above = here
        left, right = children(here)
        here = left if node[0] < left[1] else right
    return above


def cover(ids: Iterable[int], num_micro_batches: int) -> tuple[Node, ...]:
    """The fewest nodes that cover exactly ``ids``: the partial sums a worker ends up with."""
    owned = frozenset(ids)

    def visit(node: Node) -> list[Node]:
        inside = sum(mb in owned for mb in range(*node))
        if inside == 0:
            return []
        if inside == node[1] - node[0]:
            return [node]
        left, right = children(node)
        return visit(left) + visit(right)

    return tuple(visit((0, num_micro_batches)))
