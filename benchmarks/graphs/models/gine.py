"""GINE: messages between neighbours with types of edges (Hu et al., "Strategies for Pre-training
Graph Neural Networks", 2020), with residual connections and batch normalisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.graphs.models.batch import FlatBatch, gathered
from benchmarks.graphs.models.parts import SumHead, perceptron


class GINELayer(nn.Module):
    """h_v' = MLP((1 + eps) h_v + sum over neighbours u of ReLU(h_u + E[type of the edge]))."""

    def __init__(self, width: int, edge_types: int) -> None:
        super().__init__()
        self.eps = nn.Parameter(torch.zeros(1))
        self.kinds = nn.Embedding(edge_types, width)
        self.network = perceptron(width, width)

    def forward(self, vertices: Tensor, batch: FlatBatch) -> Tensor:
        """[vertices, width] to the same shape."""
        said = torch.relu(vertices[batch.source] + self.kinds(batch.kinds))
        heard = gathered(said, batch.target, len(vertices))
        result: Tensor = self.network((1 + self.eps) * vertices + heard)
        return result


class GINE(nn.Module):
    """Blocks of GINE, and numbers of each vertex beside its type if there are any.

    Args:
        width: of a vertex.
        vertex_types, edge_types: of the data.
        depth: blocks.
        numbers: numbers given for each vertex.
    """

    def __init__(
        self, width: int, vertex_types: int, edge_types: int, depth: int = 5, numbers: int = 0
    ) -> None:
        super().__init__()
        self.types = nn.Embedding(vertex_types, width)
        self.numbers = nn.Linear(numbers, width) if numbers else None
        self.layers = nn.ModuleList([GINELayer(width, edge_types) for _ in range(depth)])
        self.head = SumHead(width, width)

    def forward(self, given: FlatBatch | tuple[FlatBatch, Tensor]) -> Tensor:
        """The graphs, alone or with fp32 [vertices, numbers], to predictions [graphs]."""
        batch, numbers = given if isinstance(given, tuple) else (given, None)
        vertices = self.types(batch.types)
        if self.numbers is not None:
            vertices = vertices + self.numbers(numbers)
        for layer in self.layers:
            vertices = vertices + layer(vertices, batch)
        predicted: Tensor = self.head(vertices, batch)
        return predicted
