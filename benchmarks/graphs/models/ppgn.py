"""PPGN: matrices over all pairs of vertices, multiplied (Maron et al., "Provably Powerful Graph
Networks", 2019), with batch normalisation over pairs and sums as the read-out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.graphs.models.batch import FlatBatch
from ithaca.workloads.csgnn.graphs import begins


@dataclass(frozen=True, eq=False)
class PairBatch:
    """All ordered pairs of vertices of some graphs, without padding: graphs of one size lie
    together.

    Attributes:
        kinds: int64 [pairs], types: of the vertex on the diagonal, of the edge beside it.
        groups: (size, graphs) for each size, ascending.
        order: int64 [graphs], the graphs as they lie.
    """

    kinds: Tensor
    groups: tuple[tuple[int, int], ...]
    order: Tensor


def pair_batch(batch: FlatBatch, vertex_types: int, edge_types: int) -> PairBatch:
    """The pairs of these graphs: kinds are vertex types, then edge types, then `no edge`."""
    graphs = batch.graphs
    sizes = graphs.sizes
    order = torch.argsort(sizes, stable=True)
    begin = torch.empty_like(sizes)
    begin[order] = begins(sizes[order].square())[:-1]
    kinds = torch.full((int(sizes.square().sum()),), vertex_types + edge_types)
    within = torch.arange(graphs.vertices) - graphs.starts[batch.owner]
    start, size = begin[batch.owner], sizes[batch.owner]
    kinds[start + within * (size + 1)] = batch.types
    row = start[batch.source] + within[batch.source] * size[batch.source]
    kinds[row + within[batch.target]] = vertex_types + batch.kinds
    distinct, counts = sizes[order].unique_consecutive(return_counts=True)
    groups = tuple(zip(distinct.tolist(), counts.tolist(), strict=True))
    return PairBatch(kinds, groups, order)


def matrices(pairs: Tensor, groups: tuple[tuple[int, int], ...]) -> list[Tensor]:
    """[width, pairs] as [width, graphs, size, size] for each size."""
    parts = pairs.split([count * size * size for size, count in groups], dim=1)
    return [
        part.unflatten(1, (count, size, size))
        for part, (size, count) in zip(parts, groups, strict=True)
    ]


def products(one: Tensor, other: Tensor, groups: tuple[tuple[int, int], ...]) -> Tensor:
    """The matrix product in each graph and each row of [width, pairs]."""
    both = zip(matrices(one, groups), matrices(other, groups), strict=True)
    return torch.cat([(left @ right).flatten(1) for left, right in both], dim=1)


class Pointwise(nn.Linear):
    """A linear layer of [inputs, pairs]; columns are pairs, so that products need no copies."""

    def forward(self, pairs: Tensor) -> Tensor:
        """[inputs, pairs] to [outputs, pairs]."""
        return torch.addmm(self.bias.unsqueeze(1), self.weight, pairs)


def _perceptron(width: int) -> nn.Sequential:
    return nn.Sequential(Pointwise(width, width), nn.ReLU(), Pointwise(width, width), nn.ReLU())


class PPGNBlock(nn.Module):
    """X' = norm(W [X, MLP1(X) MLP2(X)]), the product in each row."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.one, self.other = _perceptron(width), _perceptron(width)
        self.own = Pointwise(width, width)
        self.product = Pointwise(width, width, bias=False)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, pairs: Tensor, batch: PairBatch) -> Tensor:
        """[width, pairs] to the same shape."""
        product = products(self.one(pairs), self.other(pairs), batch.groups)
        joined = torch.addmm(self.own(pairs), self.product.weight, product)
        result: Tensor = self.norm(joined.unsqueeze(0)).squeeze(0)
        return result


class PPGN(nn.Module):
    """Blocks of PPGN; each is read out, on the diagonal and beside it.

    Args:
        width: of a pair.
        vertex_types, edge_types: of the data.
        depth: blocks.
    """

    def __init__(self, width: int, vertex_types: int, edge_types: int, depth: int = 3) -> None:
        super().__init__()
        self.kinds = nn.Embedding(vertex_types + edge_types + 1, width)
        self.blocks = nn.ModuleList([PPGNBlock(width) for _ in range(depth)])
        self.read = nn.ModuleList([nn.Linear(2 * width, width) for _ in range(depth)])
        self.head = nn.Sequential(
            nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)
        )

    def forward(self, batch: PairBatch) -> Tensor:
        """The pairs to predictions [graphs]."""
        pairs = self.kinds(batch.kinds).t().contiguous()
        total: Tensor | int = 0
        for block, read in zip(self.blocks, self.read, strict=True):
            pairs = block(pairs, batch)
            total = total + read(_sums(pairs, batch.groups))
        predicted: Tensor = self.head(total).squeeze(1)
        return torch.empty_like(predicted).index_copy(0, batch.order, predicted)


def _sums(pairs: Tensor, groups: tuple[tuple[int, int], ...]) -> Tensor:
    """Sums on and beside the diagonal, [graphs as they lie, 2 * width]."""
    found = []
    for part in matrices(pairs, groups):
        inside = part.diagonal(dim1=2, dim2=3).sum(2)
        found.append(torch.cat([inside, part.sum((2, 3)) - inside]))
    return torch.cat(found, dim=1).t()
