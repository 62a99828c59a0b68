"""CIN: vertices, edges and chordless cycles as cells (Bodnar et al., "Weisfeiler and Lehman Go
Cellular", 2021): every cell hears its boundary, and cells of its dimension over a common one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.graphs.models.batch import FlatBatch, gathered
from benchmarks.graphs.models.parts import perceptron
from ithaca.workloads.csgnn.graphs import spans
from ithaca.workloads.csgnn.structure import Cells

LONGEST = 18


@dataclass(frozen=True, eq=False)
class CellBatch:
    """The cells of some graphs.

    Attributes:
        flat: the graphs; edge e has the directions e and edges + e.
        side: int64 [sides], the edges around each cycle, one cycle behind the other.
        cycle: int64 [sides], the cycle of each side.
        heard: int64 [n], an edge; ``said``: one beside it on a cycle; ``over``: that cycle.
        edge_owner, cycle_owner: int64, the graph of each.
    """

    flat: FlatBatch
    side: Tensor
    cycle: Tensor
    heard: Tensor
    said: Tensor
    over: Tensor
    edge_owner: Tensor
    cycle_owner: Tensor


def cell_batch(batch: FlatBatch, cells: Cells) -> CellBatch:
    """The cells of these graphs with these cycles."""
    graphs, sizes = batch.graphs, cells.first.diff()
    vertex = cells.vertex.long()
    after = torch.arange(len(vertex)) + 1
    after[cells.first[1:] - 1] = cells.first[:-1]
    low, high = torch.minimum(vertex, vertex[after]), torch.maximum(vertex, vertex[after])
    ends = graphs.edges.sort(dim=0).values
    keys, order = (ends[0] * graphs.vertices + ends[1]).sort()
    side = order[torch.searchsorted(keys, low * graphs.vertices + high)]
    cycle = torch.arange(len(sizes)).repeat_interleave(sizes)
    one = torch.arange(len(side)).repeat_interleave(sizes[cycle])
    other = spans(cells.first, cycle)
    apart = one != other
    return CellBatch(
        batch,
        side,
        cycle,
        side[one[apart]],
        side[other[apart]],
        cycle[one[apart]],
        batch.owner[graphs.edges[0]],
        torch.arange(graphs.count).repeat_interleave(cells.owner.diff()),
    )


class Message(nn.Module):
    """ReLU(W [h of the cell that speaks, h of the cell over both]), summed where it is heard."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * width, width)

    def forward(
        self, cells: Tensor, over: Tensor, said: Tensor, through: Tensor, heard: Tensor
    ) -> Tensor:
        """[cells, width] to the same shape."""
        said_there = self.linear(torch.cat([cells[said], over[through]], dim=1))
        return gathered(torch.relu(said_there), heard, len(cells))


class CINLayer(nn.Module):
    """One round for cells of all three dimensions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.to_vertex, self.to_edge = Message(width), Message(width)
        self.vertex, self.edge_beside = perceptron(width, width), perceptron(width, width)
        self.edge_below, self.cycle = perceptron(width, width), perceptron(width, width)
        self.edge = nn.Sequential(nn.Linear(2 * width, width), nn.BatchNorm1d(width), nn.ReLU())
        self.eps = nn.Parameter(torch.zeros(4))

    def forward(
        self, vertices: Tensor, edges: Tensor, cycles: Tensor, batch: CellBatch
    ) -> tuple[Tensor, Tensor, Tensor]:
        """[cells, width] of each dimension to the same shapes."""
        flat, own = batch.flat, 1 + self.eps
        edge = torch.arange(len(edges)).repeat(2)
        near = self.to_vertex(vertices, edges, flat.source, edge, flat.target)
        beside = self.to_edge(edges, cycles, batch.said, batch.over, batch.heard)
        ends = flat.graphs.edges
        below = vertices[ends[0]] + vertices[ends[1]]
        around = gathered(edges[batch.side], batch.cycle, len(cycles))
        both = [
            self.edge_beside(own[1] * edges + beside),
            self.edge_below(own[2] * edges + below),
        ]
        return (
            vertices + self.vertex(own[0] * vertices + near),
            edges + self.edge(torch.cat(both, dim=1)),
            cycles + self.cycle(own[3] * cycles + around),
        )


class CIN(nn.Module):
    """Rounds of CIN with residual connections; each dimension is summed and read out.

    Args:
        width: of a cell.
        vertex_types, edge_types: of the data.
        depth: rounds.
    """

    def __init__(self, width: int, vertex_types: int, edge_types: int, depth: int = 3) -> None:
        super().__init__()
        self.types = nn.Embedding(vertex_types, width)
        self.kinds = nn.Embedding(edge_types, width)
        self.layers = nn.ModuleList([CINLayer(width) for _ in range(depth)])
        self.read = nn.ModuleList([nn.Linear(width, 2 * width) for _ in range(3)])
        self.head = nn.Linear(2 * width, 1)

    def forward(self, batch: CellBatch) -> Tensor:
        """The cells to predictions [graphs]."""
        flat = batch.flat
        count = flat.graphs.count
        vertices = self.types(flat.types)
        edges = self.kinds(flat.kinds[: len(batch.edge_owner)])
        sides = (
            vertices[flat.graphs.edges[0][batch.side]] + vertices[flat.graphs.edges[1][batch.side]]
        )
        cycles = gathered(sides / 2, batch.cycle, len(batch.cycle_owner))  # each vertex once
        for layer in self.layers:
            vertices, edges, cycles = layer(vertices, edges, cycles, batch)
        owners = flat.owner, batch.edge_owner, batch.cycle_owner
        total: Tensor | int = 0
        for read, cells, owner in zip(self.read, (vertices, edges, cycles), owners, strict=True):
            total = total + torch.relu(read(gathered(cells, owner, count)))
        predicted: Tensor = self.head(total)
        return predicted.squeeze(1)
