"""GPS with random walk encodings: GINE and attention side by side (Rampasek et al., "Recipe for a
General, Powerful, Scalable Graph Transformer", 2022)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.graphs.models.batch import FlatBatch
from benchmarks.graphs.models.gine import GINELayer
from benchmarks.graphs.models.parts import SumHead
from ithaca.workloads.csgnn.graphs import Graphs

WALKS = 20
HEADS = 4
ENCODED = 0.4
"""The share of a vertex's first vector that is its encoding; published: 28 of 64."""


def return_probabilities(graphs: Graphs, steps: int = WALKS) -> Tensor:
    """How likely a random walk is back at its vertex after 1 .. steps steps, fp32 [vertices,
    steps]; 0 for an isolated vertex."""
    found = torch.zeros(graphs.vertices, steps)
    starts = graphs.starts.tolist()
    edge_starts = graphs.edge_starts().tolist()
    for begin, end, low, high in zip(
        starts[:-1], starts[1:], edge_starts[:-1], edge_starts[1:], strict=True
    ):
        walk = torch.zeros(end - begin, end - begin, dtype=torch.float64)
        one, other = (graphs.edges[:, low:high] - begin).unbind()
        walk[one, other] = walk[other, one] = 1
        walk = walk / walk.sum(1, keepdim=True).clamp(min=1)
        power = walk
        for step in range(steps):
            found[begin:end, step] = power.diagonal().float()
            power = power @ walk
    return found


class Places:
    """Where each vertex of a batch lies among vertices padded to the largest graph."""

    def __init__(self, batch: FlatBatch) -> None:
        sizes = batch.graphs.sizes
        self.graphs, self.most = len(sizes), int(sizes.max())
        within = torch.arange(batch.graphs.vertices) - batch.graphs.starts[batch.owner]
        self.flat = batch.owner * self.most + within
        self.mask = (torch.arange(self.most) < sizes.unsqueeze(1))[:, None, None, :]

    def padded(self, values: Tensor) -> Tensor:
        """[vertices, n] to [graphs, heads, most, n / heads]."""
        padded = values.new_zeros(self.graphs * self.most, values.shape[1])
        padded = padded.index_copy(0, self.flat, values)
        return padded.view(self.graphs, self.most, HEADS, -1).transpose(1, 2)

    def flattened(self, padded: Tensor) -> Tensor:
        """Back again."""
        return padded.transpose(1, 2).reshape(self.graphs * self.most, -1)[self.flat]


class GPSLayer(nn.Module):
    """GINE and attention between all vertices of a graph, each added and normalised, their sum,
    and a network of twice the width."""

    def __init__(self, width: int, edge_types: int) -> None:
        super().__init__()
        self.near = GINELayer(width, edge_types)
        self.near.network = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)
        )
        self.asked = nn.Linear(width, 3 * width)
        self.answered = nn.Linear(width, width)
        self.network = nn.Sequential(
            nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)
        )
        self.norms = nn.ModuleList([nn.BatchNorm1d(width) for _ in range(3)])

    def forward(self, vertices: Tensor, batch: FlatBatch, places: Places) -> Tensor:
        """[vertices, width] to the same shape."""
        near = self.norms[0](vertices + self.near(vertices, batch))
        query, key, value = map(places.padded, self.asked(vertices).chunk(3, dim=1))
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=places.mask)
        far = self.norms[1](vertices + self.answered(places.flattened(seen)))
        both = near + far
        result: Tensor = self.norms[2](both + self.network(both))
        return result


class GPS(nn.Module):
    """Blocks of GPS.

    Args:
        width: of a vertex; a multiple of ``HEADS``.
        vertex_types, edge_types: of the data.
        depth: blocks.
    """

    def __init__(self, width: int, vertex_types: int, edge_types: int, depth: int = 4) -> None:
        super().__init__()
        encoded = round(ENCODED * width)
        self.types = nn.Embedding(vertex_types, width - encoded)
        self.encoding = nn.Sequential(nn.BatchNorm1d(WALKS), nn.Linear(WALKS, encoded))
        self.layers = nn.ModuleList([GPSLayer(width, edge_types) for _ in range(depth)])
        self.head = SumHead(width, width)

    def forward(self, given: tuple[FlatBatch, Tensor]) -> Tensor:
        """The graphs and their return probabilities to predictions [graphs]."""
        batch, walks = given
        vertices = torch.cat([self.types(batch.types), self.encoding(walks)], dim=1)
        places = Places(batch)
        for layer in self.layers:
            vertices = layer(vertices, batch, places)
        predicted: Tensor = self.head(vertices, batch)
        return predicted
