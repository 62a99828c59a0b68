"""The layers of the graph network: an embedding of vertices, message passing blocks, and a head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ithaca.runtime.workload import Batch
from ithaca.workloads.csgnn.batch import GraphBatch
from ithaca.workloads.csgnn.segments import Incidence, segment_sum

Output = Literal["graph", "vertex", "edge"]


@dataclass(frozen=True)
class Widths:
    """The sizes that the layers have.

    Attributes:
        dim: width of a vertex.
        vertex_types: types of vertices.
        vertex_features: numbers beside the type of a vertex.
        edge_types: types of edges.
        counts: features of a distinct profile; 0 without the profile form.
        longest_cell: vertices of the longest cell; 0 without cells.
        outputs: numbers predicted for each graph, vertex or edge.
        dropout: on what a block adds.
    """

    dim: int
    vertex_types: int
    vertex_features: int
    edge_types: int
    counts: int
    longest_cell: int
    outputs: int
    dropout: float = 0.0


def structure_of(batch: Batch, like: Tensor) -> GraphBatch:
    """The structure of a micro-batch, where ``like`` is."""
    structure = batch.targets
    assert isinstance(structure, GraphBatch)
    return structure.to(like.device)


def _mean_scale(incidence: Incidence, like: Tensor) -> Tensor:
    """1 / sqrt(number of members) of each segment, [segments, 1]: sums keep their variance."""
    counts = incidence.forth.first.diff().clamp(min=1)
    return counts.to(like.dtype).rsqrt().unsqueeze(1)


def _network(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, outputs))


class Embed(nn.Module):
    """Types and features of vertices to vectors.

    Takes int64 [vertices], or that and [vertices, vertex_features].
    """

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        self.types = nn.Embedding(widths.vertex_types, widths.dim)
        self.features: nn.Linear | None = None
        if widths.vertex_features:
            self.features = nn.Linear(widths.vertex_features, widths.dim)

    def forward(self, value: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        """To [vertices, dim]."""
        if isinstance(value, Tensor):
            embedded: Tensor = self.types(value)
            return embedded
        types, features = value
        assert self.features is not None
        summed: Tensor = self.types(types) + self.features(features)
        return summed


class Block(nn.Module):
    """One round of messages, added to the vertices.

    A vertex v hears, behind a norm, from its neighbours u (E[type of the edge] * A h_u), from all
    pairs (phi(profile of (v, u)) * B h_u), and from the cycles that it lies on. phi is a network
    that runs once for each distinct profile.
    """

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        dim = widths.dim
        self.dropout = widths.dropout
        self.norm = nn.LayerNorm(dim)
        self.near_values = nn.Linear(dim, dim, bias=False)
        self.near_types = nn.Parameter(1 + 0.3 * torch.randn(widths.edge_types, dim))
        kinds = 2
        self.pair_values: nn.Linear | None = None
        self.phi: nn.Sequential | None = None
        if widths.counts:
            self.pair_values = nn.Linear(dim, dim, bias=False)
            self.phi = _network(widths.counts, dim, dim)
            kinds += 1
        self.lengths: nn.Parameter | None = None
        self.cell: nn.Sequential | None = None
        if widths.longest_cell:
            self.lengths = nn.Parameter(1 + 0.3 * torch.randn(widths.longest_cell + 1, dim))
            self.cell_norm = nn.LayerNorm(dim)
            self.cell = _network(dim, dim, dim)
            kinds += 1
        self.heard_norm = nn.LayerNorm(kinds * dim)
        self.update = _network(kinds * dim, 2 * dim, dim)

    def forward(self, vertices: Tensor, batch: Batch) -> Tensor:
        """[vertices, dim] to the same shape."""
        structure = structure_of(batch, vertices)
        own = self.norm(vertices)
        near = segment_sum(self.near_types, self.near_values(own), structure.near)
        heard = [own, near * _mean_scale(structure.near, own)]
        if self.phi is not None and self.pair_values is not None:
            assert structure.pairs is not None
            phi = self.phi(structure.counts.to(own.dtype))
            pairs = segment_sum(phi, self.pair_values(own), structure.pairs)
            heard.append(pairs * _mean_scale(structure.pairs, own))
        if self.cell is not None and self.lengths is not None:
            heard.append(self._from_cells(own, structure))
        added = self.update(self.heard_norm(torch.cat(heard, dim=1)))
        if self.dropout and self.training:
            added = F.dropout(added, self.dropout)
        result: Tensor = vertices + added
        return result

    def _from_cells(self, own: Tensor, structure: GraphBatch) -> Tensor:
        """What the cycles of each vertex say, [vertices, dim]."""
        assert structure.gather is not None
        assert structure.answer is not None
        assert self.cell is not None
        assert self.lengths is not None
        gathered = segment_sum(self.lengths, own, structure.gather)
        said = self.cell(self.cell_norm(gathered))
        summed = segment_sum(said.new_ones(1, said.shape[1]), said, structure.answer)
        return summed * _mean_scale(structure.answer, own)


def _pooled(vertices: Tensor, structure: GraphBatch) -> Tensor:
    """The mean and the damped sum over the vertices of each graph, [graphs, 2 * dim]."""
    sizes = structure.sizes()
    summed = torch.segment_reduce(vertices, "sum", lengths=sizes, unsafe=True)
    counts = sizes.clamp(min=1).to(vertices.dtype).unsqueeze(1)
    return torch.cat([summed / counts, summed * counts.rsqrt()], dim=1)


class GraphHead(nn.Module):
    """The graphs' vertices together, to [graphs, outputs]."""

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(widths.dim)
        self.vertex = nn.Linear(widths.dim, widths.dim)
        self.graph = _network(2 * widths.dim, widths.dim, widths.outputs)

    def forward(self, vertices: Tensor, batch: Batch) -> Tensor:
        """[vertices, dim] to [graphs, outputs]."""
        structure = structure_of(batch, vertices)
        pooled = _pooled(F.silu(self.vertex(self.norm(vertices))), structure)
        predicted: Tensor = self.graph(pooled)
        return predicted


class VertexHead(nn.Module):
    """Each vertex by itself, to [vertices, outputs]."""

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(widths.dim)
        self.vertex = _network(widths.dim, widths.dim, widths.outputs)

    def forward(self, vertices: Tensor) -> Tensor:
        """[vertices, dim] to [vertices, outputs]."""
        predicted: Tensor = self.vertex(self.norm(vertices))
        return predicted


class EdgeHead(nn.Module):
    """Both ends of each edge, in no order, and its type, to [edges, outputs]."""

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(widths.dim)
        self.types = nn.Embedding(widths.edge_types, widths.dim)
        self.edge = _network(3 * widths.dim, widths.dim, widths.outputs)

    def forward(self, vertices: Tensor, batch: Batch) -> Tensor:
        """[vertices, dim] to [edges, outputs]."""
        structure = structure_of(batch, vertices)
        own = self.norm(vertices)
        one, other = own[structure.ends[0]], own[structure.ends[1]]
        both = torch.cat([one + other, one * other, self.types(structure.edge_types)], dim=1)
        predicted: Tensor = self.edge(both)
        return predicted
