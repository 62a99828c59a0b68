"""What KP-GNN knows of every vertex: who is how far away, and the graph among those.

Distances are those of shortest paths. The peripheral subgraph of v at hop k is the graph that the
vertices at distance k of v induce.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ithaca.workloads.csgnn.graphs import Graphs, begins, spans

MOST = 15
"""Counts above it are told as it."""
WAYS = 3
"""The same for the number of shortest paths to a vertex."""
WITHIN = 3
"""Distances within a peripheral subgraph that are counted."""


@dataclass(frozen=True, eq=False)
class Hops:
    """All hops of some graphs.

    Attributes:
        first: int64 [hops, vertices + 1], where the vertices at distance k of each one begin.
        other: int64 [pairs], these, hop by hop; numbered through all graphs.
        begin: int64 [hops + 1], where the pairs of each hop begin.
        ways: fp32 [vertices, hops, WAYS], how many vertices are reached in 1, 2, .. ways.
        edges: uint8 [vertices, hops, edge types], edges of the peripheral subgraph.
        configuration: uint8 [vertices, hops, WITHIN + 1], edges between vertices as far from a
            third one, all inside of the peripheral subgraph, and ordered pairs at each distance.
    """

    first: Tensor
    other: Tensor
    begin: Tensor
    ways: Tensor
    edges: Tensor
    configuration: Tensor

    def take(self, graphs: Graphs, chosen: Tensor) -> Hops:
        """Those of the ``chosen`` of the ``graphs``, renumbered."""
        places = spans(graphs.starts, chosen)
        sizes = graphs.sizes[chosen]
        shifts = (begins(sizes)[:-1] - graphs.starts[chosen]).repeat_interleave(sizes)
        first, other = [], []
        for hop, begin in enumerate(self.begin[:-1].tolist()):
            counts = self.first[hop].diff()[places]
            found = self.other[spans(self.first[hop], places) + begin]
            first.append(begins(counts))
            other.append(found + shifts.repeat_interleave(counts))
        return Hops(
            torch.stack(first),
            torch.cat(other),
            begins(torch.tensor([len(part) for part in other])),
            *(getattr(self, field.name)[places] for field in fields(self)[3:]),
        )


def distances(near: NDArray[np.int64], most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Distances up to ``most`` and numbers of shortest paths, [n, n] each; 0 if further."""
    far = np.zeros_like(near)
    ways = np.zeros_like(near)
    power = near
    known = np.eye(len(near), dtype=bool)
    for distance in range(1, most + 1):
        new = (power > 0) & ~known
        far[new], ways[new] = distance, power[new]
        known |= new
        power = power @ near
    return far, ways


def _configuration(near: NDArray[np.int64]) -> NDArray[np.int64]:
    """What is counted in one peripheral subgraph, [WITHIN + 1]."""
    far, _ = distances(near, WITHIN)
    one, other = np.nonzero(np.triu(near))
    alike = (far[:, one] == far[:, other]) & (far[:, one] > 0)
    return np.array([alike.sum(), *((far == d).sum() for d in range(1, WITHIN + 1))])


def hops_of(graphs: Graphs, edge_types: int, most: int) -> Hops:
    """The hops 1 .. ``most`` of all graphs."""
    kinds = graphs.types
    types = np.zeros(graphs.edges.shape[1], int) if kinds is None else kinds.numpy()
    ends, starts = graphs.edges.numpy(), graphs.starts.tolist()
    edge_starts = graphs.edge_starts().tolist()
    shape = (graphs.vertices, most)
    ways = np.zeros((*shape, WAYS), np.float32)
    inner = np.zeros((*shape, edge_types), np.int64)
    configuration = np.zeros((*shape, WITHIN + 1), np.int64)
    pairs: list[list[NDArray[np.int64]]] = [[] for _ in range(most)]
    for graph, begin in enumerate(starts[:-1]):
        size = starts[graph + 1] - begin
        span = slice(edge_starts[graph], edge_starts[graph + 1])
        one, other = ends[:, span] - begin
        near = np.zeros((size, size), np.int64)
        near[one, other] = near[other, one] = 1
        far, paths = distances(near, most)
        v, u = np.nonzero(far)
        np.add.at(ways, (begin + v, far[v, u] - 1, np.minimum(paths[v, u], WAYS) - 1), 1)
        for hop in range(most):
            pairs[hop].append(np.argwhere(far == hop + 1) + begin)
        v, edge = np.nonzero((far[:, one] == far[:, other]) & (far[:, one] > 0))
        hop = far[v, one[edge]] - 1
        np.add.at(inner, (begin + v, hop, types[span][edge]), 1)
        for vertex, k in set(zip(v.tolist(), hop.tolist(), strict=True)):
            there = np.flatnonzero(far[vertex] == k + 1)
            configuration[begin + vertex, k] = _configuration(near[np.ix_(there, there)])
    joined = [torch.from_numpy(np.concatenate(part)) for part in pairs]
    counts = [torch.bincount(part[:, 0], minlength=graphs.vertices) for part in joined]
    return Hops(
        torch.stack([begins(count) for count in counts]),
        torch.cat([part[:, 1] for part in joined]),
        begins(torch.tensor([len(part) for part in joined])),
        torch.from_numpy(ways),
        torch.from_numpy(np.minimum(inner, MOST).astype(np.uint8)),
        torch.from_numpy(np.minimum(configuration, MOST).astype(np.uint8)),
    )
