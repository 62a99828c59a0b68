"""Our graph network over chordless structures, as ``configs/csgnn_zinc.yaml`` has it."""

from __future__ import annotations

from torch import Tensor, nn

from ithaca.runtime.workload import Batch
from ithaca.workloads.csgnn.batch import GraphBatch
from ithaca.workloads.csgnn.model import Block, Embed, GraphHead, Widths
from ithaca.workloads.csgnn.structure import ProfileShape

SHAPE = ProfileShape(path=3, cycle=12, hops=3)


class CSGNNModel(nn.Module):
    """The workload's layers behind each other, with profiles and cells.

    Args:
        width: of a vertex.
        vertex_types, edge_types: of the data.
        shape: what is counted.
        depth: blocks.
    """

    def __init__(
        self, width: int, vertex_types: int, edge_types: int, shape: ProfileShape, depth: int = 4
    ) -> None:
        super().__init__()
        counts, longest = 2 * len(shape.names()), shape.cycle
        widths = Widths(width, vertex_types, 0, edge_types, counts, longest, outputs=1)
        self.embed = Embed(widths)
        self.blocks = nn.ModuleList([Block(widths) for _ in range(depth)])
        self.head = GraphHead(widths)

    def forward(self, given: tuple[Tensor, GraphBatch]) -> Tensor:
        """Types of vertices and the structure to predictions [graphs]."""
        types, structure = given
        batch = Batch(types, structure, 1, ())
        vertices = self.embed(types)
        for block in self.blocks:
            vertices = block(vertices, batch)
        predicted: Tensor = self.head(vertices, batch)
        return predicted.squeeze(1)
