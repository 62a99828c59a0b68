"""One micro-batch of graphs as the layers need it: structure, never values that travel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ithaca.workloads.csgnn.graphs import Graphs
from ithaca.workloads.csgnn.segments import Incidence, Members
from ithaca.workloads.csgnn.structure import Cells, Profile


@dataclass(frozen=True, eq=False)
class GraphBatch:
    """What a layer and the loss know about the graphs of a micro-batch.

    Attributes:
        starts: int64 [graphs + 1], the first vertex of each graph.
        ends: int64 [2, edges], both ends of each edge.
        edge_types: int64 [edges].
        near: vertices by neighbours; the row is the type of the edge.
        pairs: vertices by vertices; the row is one of ``counts``. None without the profile form.
        counts: fp32 [rows, features] of the distinct profiles.
        gather: cells by their vertices; the row is the length of the cell. None without cells.
        answer: vertices by their cells; the row is 0.
        targets: what is to be predicted, [graphs | vertices | edges, ...].
    """

    starts: Tensor
    ends: Tensor
    edge_types: Tensor
    near: Incidence
    pairs: Incidence | None
    counts: Tensor
    gather: Incidence | None
    answer: Incidence | None
    targets: Tensor

    def sizes(self) -> Tensor:
        """The number of vertices of each graph, int64 [graphs]."""
        return self.starts.diff()

    def to(self, device: torch.device) -> GraphBatch:
        """All of it on ``device``; itself if it is there."""
        if self.starts.device == device:
            return self
        return GraphBatch(
            self.starts.to(device),
            self.ends.to(device),
            self.edge_types.to(device),
            _moved(self.near, device),
            self.pairs and _moved(self.pairs, device),
            self.counts.to(device),
            self.gather and _moved(self.gather, device),
            self.answer and _moved(self.answer, device),
            self.targets.to(device),
        )


def _moved(incidence: Incidence, device: torch.device) -> Incidence:
    forth, back = (
        Members(part.first.to(device), part.other.to(device), part.row.to(device))
        for part in (incidence.forth, incidence.back)
    )
    return Incidence(forth, back)


def features(table: Tensor) -> Tensor:
    """Rows of counts, int32 [rows, columns], as fp32 [rows, 2 * columns]: log(1 + count), and
    whether there is any."""
    counts = table.float()
    return torch.cat([counts.log1p(), (counts > 0).float()], dim=1)


def near(graphs: Graphs) -> Incidence:
    """Vertices by their neighbours, with the types of the edges as rows."""
    types = graphs.types
    if types is None:
        types = torch.zeros(graphs.edges.shape[1], dtype=torch.int64)
    source = torch.cat([graphs.edges[0], graphs.edges[1]])
    other = torch.cat([graphs.edges[1], graphs.edges[0]])
    order = torch.argsort(source * max(graphs.vertices, 1) + other)
    counts = torch.bincount(source, minlength=graphs.vertices)
    first = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    rows = torch.cat([types, types])[order]
    return Incidence.of(first, other[order].int(), rows.int(), graphs.vertices)


def pairs(profile: Profile) -> Incidence:
    """Vertices by vertices, with the rows of the profile's table.

    (u, v) is a pair whenever (v, u) is, so both directions have the same lists and other rows.
    """
    turned = torch.argsort(profile.other, stable=True)
    return Incidence(
        Members(profile.first, profile.other, profile.row),
        Members(profile.first, profile.other, profile.row[turned]),
    )


def cell_members(cells: Cells, vertices: int) -> tuple[Incidence, Incidence]:
    """Cells by their vertices with lengths as rows, and vertices by their cells with row 0."""
    sizes = cells.first.diff()
    lengths = sizes.repeat_interleave(sizes).int()
    gather = Incidence.of(cells.first, cells.vertex, lengths, vertices)
    back = gather.back
    answer = Incidence(
        Members(back.first, back.other, torch.zeros_like(back.row)),
        Members(cells.first, cells.vertex, torch.zeros_like(cells.vertex)),
    )
    return gather, answer


def batch_of(
    graphs: Graphs, profile: Profile | None, cells: Cells | None, targets: Tensor
) -> GraphBatch:
    """The batch of these graphs, their profile and their cells."""
    gather, answer = (None, None) if cells is None else cell_members(cells, graphs.vertices)
    types = graphs.types
    if types is None:
        types = torch.zeros(graphs.edges.shape[1], dtype=torch.int64)
    return GraphBatch(
        graphs.starts,
        graphs.edges,
        types,
        near(graphs),
        None if profile is None else pairs(profile),
        torch.zeros(0, 0) if profile is None else features(profile.table),
        gather,
        answer,
        targets,
    )
