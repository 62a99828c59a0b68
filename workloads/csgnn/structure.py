"""Chordless cycles and induced paths of graphs, as cells and as profiles of pairs of vertices.

The searches are in C++ (``torch.ops.ithaca``) and pure functions of the graphs: isomorphic graphs
get the same counts, whatever their labels. The profile is the generalised distance of a
Weisfeiler-Leman test (Zhang et al., "Rethinking the Expressive Power of GNNs via Graph
Biconnectivity", 2023); chordless cycles as cells are those of CIN (Bodnar et al., 2021); to put
both together over chordless structures is proposed by "Chordless Structure: A Pathway to Simple
and Expressive GNNs" (2025).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from ithaca.workloads.csgnn.graphs import Graphs, begins, spans
from ithaca.workloads.csgnn.operators import operators

__all__ = ["ALL_HOPS", "Cells", "Profile", "ProfileShape", "cycles", "paths", "profile"]

ALL_HOPS = 2**30
"""As ``hops``: distances however long."""
LONGEST = 63
BUDGET = 2**28


@dataclass(frozen=True)
class ProfileShape:
    """What is counted for each ordered pair (v, u) of vertices of a graph.

    Attributes:
        path: the longest induced paths, in edges.
        cycle: the longest chordless cycles; below 3 for none.
        hops: the longest distance; pairs further apart have the distance ``hops + 1``, if they
            have any other count.
        edge_types: types of edges, told apart among neighbours.
        budget: searches of a graph that would follow more induced paths than this are made
            shorter; the reach tells. Depends on the graph alone, not on its labels.
    """

    path: int = 6
    cycle: int = 10
    hops: int = ALL_HOPS
    edge_types: int = 1
    budget: int = BUDGET

    def names(self) -> tuple[str, ...]:
        """The columns: ``distance``, ``path<l>``, ``cycle<l>/<apart>``, ``beside<t>``,
        ``before<t>``."""
        return (
            "distance",
            *(f"path{length}" for length in range(1, self.path + 1)),
            *(
                f"cycle{length}/{apart}"
                for length in range(3, self.cycle + 1)
                for apart in range(length // 2 + 1)
            ),
            *(f"beside{t}" for t in range(self.edge_types)),
            *(f"before{t}" for t in range(self.edge_types)),
        )


@dataclass(frozen=True, eq=False)
class Profile:
    """The profiles of all pairs of vertices of some graphs, sorted by first and second vertex.

    (u, v) is there whenever (v, u) is.

    Attributes:
        shape: what was counted.
        first: int64 [vertices + 1], where the pairs of each first vertex begin.
        other: int32 [pairs], the second vertex.
        row: int32 [pairs], the pair's row of the table.
        table: int32 [rows, columns], each distinct row once, ascending.
        reach: int32 [graphs, 2], the longest paths and cycles that were looked for.
    """

    shape: ProfileShape
    first: Tensor
    other: Tensor
    row: Tensor
    table: Tensor
    reach: Tensor

    def shortened(self) -> Tensor:
        """The numbers of graphs too dense for the budget, int64 [n]."""
        wanted = torch.tensor([self.shape.path, self.shape.cycle if self.shape.cycle >= 3 else 0])
        return (self.reach < wanted).any(1).nonzero().flatten()

    def whole(self) -> Self:
        """This, if no graph was too dense.

        Raises:
            ValueError: names the first graphs that were.
        """
        short = self.shortened()
        if len(short):
            one = int(short[0])
            path, cycle = self.reach[one].tolist()
            raise ValueError(
                f"{len(short)} of {len(self.reach)} graphs are too dense for the budget of "
                f"{self.shape.budget} induced paths, the first is number {one}: it allows paths up "
                f"to {path} and cycles up to {cycle}, wanted are {self.shape.path} and "
                f"{self.shape.cycle}; lower these, raise the budget, or accept shorter ones with "
                "`dense: shorten`"
            )
        return self

    def first_vertices(self) -> Tensor:
        """The first vertex of each pair, int64 [pairs]."""
        return torch.arange(len(self.first) - 1).repeat_interleave(self.first.diff())

    def columns(self, chosen: list[int]) -> Profile:
        """The profile with these columns only; the pairs stay."""
        table, number = self.table[:, chosen].unique(dim=0, return_inverse=True)
        return replace(self, row=number.int()[self.row.long()], table=table)

    def take(self, starts: Tensor, chosen: Tensor) -> Profile:
        """The profiles of the graphs with these numbers, int64 [n], renumbered like the graphs.

        Args:
            starts: of the graphs that this is the profile of, int64 [graphs + 1].
            chosen: the graphs.
        """
        pair_starts = self.first[starts]
        places = spans(pair_starts, chosen)
        counts = pair_starts.diff()[chosen]
        new_starts = begins(starts.diff()[chosen])
        shifts = (new_starts[:-1] - starts[chosen]).repeat_interleave(counts)
        rows, row = self.row[places].unique(return_inverse=True)
        return Profile(
            self.shape,
            begins(self.first.diff()[spans(starts, chosen)]),
            (self.other[places] + shifts).int(),
            row.int(),
            self.table[rows.long()],
            self.reach[chosen],
        )


@dataclass(frozen=True, eq=False)
class Cells:
    """Lists of vertices.

    Attributes:
        first: int64 [cells + 1], where each cell begins.
        vertex: int32 [members], numbered through all graphs.
        owner: int64 [graphs + 1], the first cell of each graph.
        reach: int32 [graphs], how long cells were looked for.
    """

    first: Tensor
    vertex: Tensor
    owner: Tensor
    reach: Tensor

    def take(self, starts: Tensor, chosen: Tensor) -> Cells:
        """The cells of the graphs with these numbers, int64 [n], renumbered like the graphs."""
        cells = spans(self.owner, chosen)
        members = spans(self.first, cells)
        new_starts = begins(starts.diff()[chosen])
        sizes = self.first.diff()[cells]
        per_cell = (new_starts[:-1] - starts[chosen]).repeat_interleave(self.owner.diff()[chosen])
        return Cells(
            begins(sizes),
            (self.vertex[members] + per_cell.repeat_interleave(sizes)).int(),
            begins(self.owner.diff()[chosen]),
            self.reach[chosen],
        )


def profile(graphs: Graphs, shape: ProfileShape, threads: int = 1) -> Profile:
    """The profiles of all graphs.

    Raises:
        ValueError: a graph has a loop, an edge twice or an edge that leaves it, or the shape is
            out of bounds.
    """
    found = operators().chordless_profile(
        graphs.starts,
        graphs.edges,
        graphs.types,
        shape.edge_types,
        shape.path,
        shape.cycle,
        shape.hops,
        shape.budget,
        threads,
    )
    return Profile(shape, *found)


def cycles(graphs: Graphs, longest: int, budget: int = BUDGET, threads: int = 1) -> Cells:
    """Every chordless cycle of at most ``longest`` vertices once, in order around the cycle.

    Raises:
        ValueError: as :func:`profile`.
    """
    found = operators().chordless_cycles(graphs.starts, graphs.edges, longest, budget, threads)
    return Cells(*found)


def paths(graphs: Graphs, longest: int, budget: int = BUDGET, threads: int = 1) -> Cells:
    """Every induced path of at most ``longest`` edges once, from its smaller end.

    Raises:
        ValueError: as :func:`profile`.
    """
    found = operators().induced_paths(graphs.starts, graphs.edges, longest, budget, threads)
    return Cells(*found)
