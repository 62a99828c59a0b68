"""KP-GIN+ (Feng et al., "How Powerful are K-hop Message Passing Graph Neural Networks", 2022), with
the published description of peripheral subgraphs: their edges by type and their configuration."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.graphs.models.batch import FlatBatch, gathered, summed
from benchmarks.graphs.models.hops import MOST, WAYS, WITHIN, Hops
from benchmarks.graphs.models.parts import SumHead, perceptron
from ithaca.workloads.csgnn.segments import Incidence, Members

HOPS = 8


class Peripheral(nn.Module):
    """The peripheral subgraph of every vertex at every hop as a vector.

    Type and number of its edges are embedded, joined and projected, and so is its configuration. As
    both are linear behind the embeddings, the few distinct ones are computed once and gathered.
    """

    def __init__(self, width: int, edge_types: int) -> None:
        super().__init__()
        self.kinds = nn.Parameter(torch.randn(edge_types, width))
        self.counts = nn.Parameter(torch.randn(MOST + 1, width))
        self.edges = nn.Linear(2 * width, width)
        self.numbers = nn.Parameter(torch.randn(WITHIN + 1, MOST + 1, width))
        self.configuration = nn.Linear((WITHIN + 1) * width, width)
        self.scales = nn.Parameter(torch.randn(2))

    def forward(self, hops: Hops) -> Tensor:
        """To [vertices, hops, width]."""
        shape = *hops.edges.shape[:2], -1
        kinds = self.kinds.repeat_interleave(MOST + 1, dim=0)
        counts = self.counts.repeat(len(self.kinds), 1)
        each = self.edges(torch.cat([kinds, counts], dim=1))
        weights = torch.stack(self.configuration.weight.chunk(WITHIN + 1, dim=1))
        numbers = (self.numbers @ weights.transpose(1, 2)).flatten(0, 1)
        edges = self._bag(each, hops.edges).view(shape)
        configuration = self._bag(numbers, hops.configuration).view(shape)
        scales = torch.tanh(self.scales)
        described: Tensor = scales[0] * edges + scales[1] * (
            configuration + self.configuration.bias
        )
        return described

    @staticmethod
    def _bag(table: Tensor, counts: Tensor) -> Tensor:
        """The rows of ``table`` [columns * (MOST + 1), width] that the counts name, summed over
        the columns; [vertices * hops, width]."""
        rows = counts.long() + torch.arange(counts.shape[2]) * (MOST + 1)
        return F.embedding_bag(rows.flatten(0, 1), table, mode="sum")


class KPLayer(nn.Module):
    """One round: hop k is heard as it was k rounds ago.

    h_v' = MLP(sum over k of (1 + eps_k) (ReLU(sum over u at hop k of (h_u + E_k)) + f_k(v))).
    """

    def __init__(self, width: int, edge_types: int, reach: int) -> None:
        super().__init__()
        self.reach = reach
        self.eps = nn.Parameter(torch.zeros(reach))
        self.kinds = nn.Embedding(edge_types, width)
        self.ways = nn.Embedding(WAYS, width) if reach > 1 else None
        self.network = perceptron(width, width)
        self.norm = nn.BatchNorm1d(width)

    def forward(
        self, history: list[Tensor], batch: FlatBatch, near: list[Incidence], hops: Hops, f: Tensor
    ) -> Tensor:
        """The vertices of all rounds so far to the next ones, [vertices, width]."""
        total = torch.zeros_like(history[0])
        for k in range(self.reach):
            heard = summed(history[-1 - k], near[k])
            if k == 0:
                heard = heard + gathered(self.kinds(batch.kinds), batch.target, len(heard))
            elif self.ways is not None:
                heard = heard + hops.ways[:, k] @ self.ways.weight
            total = total + (1 + self.eps[k]) * (torch.relu(heard) + f[:, k])
        result: Tensor = self.norm(self.network(total))
        return result


class KPGNN(nn.Module):
    """KP-GIN+ with residual connections; all rounds together are read out.

    Args:
        width: of a vertex.
        vertex_types, edge_types: of the data.
        depth: rounds.
    """

    def __init__(self, width: int, vertex_types: int, edge_types: int, depth: int = 8) -> None:
        super().__init__()
        self.types = nn.Embedding(vertex_types, width)
        self.peripheral = Peripheral(width, edge_types)
        self.layers = nn.ModuleList(
            [KPLayer(width, edge_types, min(i + 1, HOPS)) for i in range(depth)]
        )
        self.joined = nn.Sequential(nn.Linear((depth + 1) * width, width), nn.ReLU())
        self.head = SumHead(width, width)

    def forward(self, given: tuple[FlatBatch, Hops]) -> Tensor:
        """The graphs and their hops to predictions [graphs]."""
        batch, hops = given
        near = []
        for k, (begin, end) in enumerate(zip(hops.begin[:-1], hops.begin[1:], strict=True)):
            other = hops.other[begin:end].int()
            members = Members(hops.first[k], other, torch.zeros_like(other))
            near.append(Incidence(members, members))  # distances are symmetric
        f = self.peripheral(hops)
        history = [self.types(batch.types)]
        for layer in self.layers:
            history.append(history[-1] + layer(history, batch, near, hops, f))
        predicted: Tensor = self.head(self.joined(torch.cat(history, dim=1)), batch)
        return predicted
