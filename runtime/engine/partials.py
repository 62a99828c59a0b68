"""Gradients of micro-batches on their way to the sum: a binary counter over the fixed tree.

A leaf is one micro-batch's gradient. As soon as both halves of a node are here they are added,
left + right, and the node replaces them. So a worker holds about log2(M) + 1 copies at a time,
and in the end exactly :func:`ithaca.planner.tree.cover` of the micro-batches that it computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic, Protocol, TypeVar

from ithaca.planner.tree import Node, children, parent
from ithaca.runtime.engine.channel import CorruptState

V = TypeVar("V")


class Adder(Protocol[V]):
    """How two partial sums become one."""

    def __call__(self, left: V, right: V) -> V:
        """left + right, in this order; may reuse the memory of ``left``."""


class Partials(Generic[V]):
    """The partial sums of one layer in one step.

    Args:
        num_micro_batches: of the step.
        add: left + right.
        seal: makes a hash of a sum, to tell whether memory changed since; None to trust it.
    """

    def __init__(
        self, num_micro_batches: int, add: Adder[V], seal: Callable[[V], object] | None = None
    ) -> None:
        self._num_micro_batches = num_micro_batches
        self._add = add
        self._seal = seal
        self._nodes: dict[Node, V] = {}
        self._seals: dict[Node, object] = {}

    def put(self, micro_batch: int, gradient: V) -> None:
        """Add one micro-batch's gradient; ``ValueError`` if it is in a sum already."""
        node: Node = (micro_batch, micro_batch + 1)
        if any(lo <= micro_batch < hi for lo, hi in self._nodes):
            raise ValueError(f"the gradient of micro-batch {micro_batch} was summed already")
        value = gradient
        above = parent(node, self._num_micro_batches)
        while above is not None:
            left, right = children(above)
            sibling = right if node == left else left
            if sibling not in self._nodes:
                break
            other = self._open(sibling)
            value = self._add(value, other) if node == left else self._add(other, value)
            node, above = above, parent(above, self._num_micro_batches)
        self._nodes[node] = value
        if self._seal is not None:
            self._seals[node] = self._seal(value)

    def _open(self, node: Node) -> V:
        """Take a sum out; it must be what was put there."""
        self._check(node)
        self._seals.pop(node, None)
        return self._nodes.pop(node)

    def _check(self, node: Node) -> None:
        if self._seal is not None and self._seal(self._nodes[node]) != self._seals[node]:
            raise CorruptState(
                f"the summed gradient of micro-batches {node[0]} to {node[1] - 1} has changed"
            )

    def nodes(self) -> Mapping[Node, V]:
        """The maximal sums so far, by node, in order of their micro-batches.

        Raises:
            CorruptState: one is not what it was when it was made.
        """
        for node in self._nodes:
            self._check(node)
        return dict(sorted(self._nodes.items()))

    def micro_batches(self) -> frozenset[int]:
        """Those whose gradients are in a sum."""
        return frozenset(mb for low, high in self._nodes for mb in range(low, high))

    def clear(self) -> None:
        """Forget everything: the step is over."""
        self._nodes.clear()
        self._seals.clear()


def evaluate(nodes: Mapping[Node, V], num_micro_batches: int, add: Adder[V]) -> V:
    """The sum of all micro-batches from the partial sums in ``nodes``, in tree order.

    ``KeyError`` names a micro-batch that no node covers.
    """

    def visit(node: Node) -> V:
        if node in nodes:
            return nodes[node]
        if node[1] - node[0] == 1:
            raise KeyError(f"nobody brought the gradient of micro-batch {node[0]}")
        left, right = children(node)
        return add(visit(left), visit(right))

    return visit((0, num_micro_batches))
