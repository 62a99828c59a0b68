"""Many simple graphs behind each other, as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def spans(first: Tensor, chosen: Tensor) -> Tensor:
    """The places of all members of the ``chosen`` segments, one segment behind the other.

    Args:
        first: int64 [segments + 1], where each segment begins.
        chosen: int64 [n], numbers of segments.
    """
    sizes = first[chosen + 1] - first[chosen]
    offsets = first[chosen] - (sizes.cumsum(0) - sizes)
    return torch.arange(int(sizes.sum())) + offsets.repeat_interleave(sizes)


def begins(sizes: Tensor) -> Tensor:
    """Where segments of these sizes begin, and the end of the last: int64 [n + 1]."""
    return torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])


@dataclass(frozen=True, eq=False)
class Graphs:
    """Simple undirected graphs; vertices are numbered through all of them.

    Attributes:
        starts: int64 [count + 1], the first vertex of each graph and the number of all.
        edges: int64 [2, edges], each edge once, in either direction, graph by graph.
        types: int64 [edges] of at least 0, or None where all edges are alike.
    """

    starts: Tensor
    edges: Tensor
    types: Tensor | None = None

    @staticmethod
    def of(
        graphs: Sequence[tuple[int, Sequence[tuple[int, int]]]],
        types: Sequence[int] | None = None,
    ) -> Graphs:
        """Graphs given as (number of vertices, edges between local ids), and all edges' types."""
        starts = begins(torch.tensor([size for size, _ in graphs], dtype=torch.int64))
        pairs = [
            (u + start, v + start)
            for (_, edges), start in zip(graphs, starts.tolist(), strict=False)
            for u, v in edges
        ]
        edges = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).t().contiguous()
        return Graphs(starts, edges, None if types is None else torch.tensor(types))

    @property
    def count(self) -> int:
        """The number of graphs."""
        return len(self.starts) - 1

    @property
    def vertices(self) -> int:
        """The number of vertices of all graphs."""
        return int(self.starts[-1])

    @property
    def sizes(self) -> Tensor:
        """The number of vertices of each graph, int64 [count]."""
        return self.starts.diff()

    def edge_starts(self) -> Tensor:
        """Where the edges of each graph begin, int64 [count + 1].

        Raises:
            ValueError: the edges of a graph do not lie together.
        """
        owner = torch.searchsorted(self.starts, self.edges[0], right=True) - 1
        if (owner.diff() < 0).any():
            raise ValueError("the edges are not sorted by graph; give them graph by graph")
        return begins(torch.bincount(owner, minlength=self.count))

    def take(self, chosen: Tensor) -> Graphs:
        """The graphs with these numbers, int64 [n], in this order, renumbered."""
        sizes = self.sizes[chosen]
        starts = begins(sizes)
        edge_starts = self.edge_starts()
        places = spans(edge_starts, chosen)
        shifts = (starts[:-1] - self.starts[chosen]).repeat_interleave(edge_starts.diff()[chosen])
        types = None if self.types is None else self.types[places]
        return Graphs(starts, self.edges[:, places] + shifts, types)

    def owners(self) -> Tensor:
        """The graph of each vertex, int64 [vertices]."""
        return torch.arange(self.count).repeat_interleave(self.sizes)


def relabelled(graphs: Graphs, generator: torch.Generator) -> Graphs:
    """The same graphs with the vertices of each in a random order, and the edges too."""
    new = torch.empty(graphs.vertices, dtype=torch.int64)
    for start, size in zip(graphs.starts.tolist(), graphs.sizes.tolist(), strict=False):
        new[start : start + size] = start + torch.randperm(size, generator=generator)
    owner = torch.searchsorted(graphs.starts, graphs.edges[0], right=True) - 1
    shuffled = torch.randperm(graphs.edges.shape[1], generator=generator)
    order = shuffled[torch.argsort(owner[shuffled], stable=True)]
    types = None if graphs.types is None else graphs.types[order]
    return Graphs(graphs.starts, new[graphs.edges[:, order]].contiguous(), types)


def together(parts: Sequence[Graphs]) -> Graphs:
    """All graphs of the parts behind each other; the parts must agree whether edges have types."""
    starts = begins(torch.cat([part.sizes for part in parts]))
    shifts = begins(torch.tensor([part.vertices for part in parts])).tolist()
    edges = [part.edges + shift for part, shift in zip(parts, shifts, strict=False)]
    typed = [part.types for part in parts if part.types is not None]
    if typed and len(typed) != len(parts):
        raise ValueError("some of the graphs have edge types and others none; give all or none")
    return Graphs(starts, torch.cat(edges, dim=1), torch.cat(typed) if typed else None)
