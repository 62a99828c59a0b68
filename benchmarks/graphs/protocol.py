"""BREC's test of a pair: does a trained model tell relabelled copies of two graphs apart, and does
it leave copies of one graph alone.

The figures are those of the published evaluation: 32 relabellings, 16 outputs, a cosine loss,
Hotelling's T-square against 72.34, and the same test within one graph.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.graphs.brec import Pair
from benchmarks.graphs.copies import copies, permutations
from ithaca.runtime.workload import Batch
from ithaca.workloads.csgnn.batch import GraphBatch, batch_of
from ithaca.workloads.csgnn.graphs import Graphs, together
from ithaca.workloads.csgnn.model import Block, Embed, GraphHead, Widths
from ithaca.workloads.csgnn.structure import Profile, ProfileShape, profile

RELABELLINGS = 32
OUTPUTS = 16
THRESHOLD = 72.34
SAME = 1e-6
COPIES_SEED = 2022
"""Of the relabellings, which are the same for every seed of training."""


@dataclass(frozen=True)
class Setting:
    """How a pair is trained; one setting for all pairs, chosen on ``development.py``'s.

    Attributes:
        dim, num_layers: of the model.
        path, cycle: of the profile.
        epochs: at most; fewer once the loss is below ``enough``.
        batch: graphs in a step, half of each of the two.
        lr, decay: of Adam.
        double: whether to compute in fp64.
    """

    dim: int = 32
    num_layers: int = 3
    path: int = 6
    cycle: int = 10
    epochs: int = 4
    batch: int = 16
    lr: float = 1e-4
    decay: float = 1e-4
    enough: float = 0.2
    double: bool = True

    @property
    def shape(self) -> ProfileShape:
        """The profile."""
        return ProfileShape(self.path, self.cycle)


@dataclass(frozen=True)
class Outcome:
    """What became of one pair under one seed.

    Attributes:
        seed: of the model.
        pair: its id.
        category: its category.
        apart: T-square between the two graphs.
        alike: T-square between copies of one graph.
        loss: of the last epoch.
        epochs: trained.
        error: largest relative difference between the embeddings of copies of one graph.
        seconds: of CPU time.
    """

    seed: int
    pair: int
    category: str
    apart: float
    alike: float
    loss: float
    epochs: int
    error: float
    seconds: float

    @property
    def told_apart(self) -> bool:
        """Whether the two graphs count as different."""
        same = abs(self.apart - self.alike) <= SAME + 1e-5 * abs(self.alike)
        return self.apart > THRESHOLD and not same

    @property
    def reliable(self) -> bool:
        """Whether copies of one graph count as equal."""
        return self.alike < THRESHOLD

    @property
    def passed(self) -> bool:
        """Both."""
        return self.told_apart and self.reliable

    @staticmethod
    def columns() -> tuple[str, ...]:
        """Names of the fields."""
        return tuple(field.name for field in fields(Outcome))


class Embedding(nn.Module):
    """The layers of the workload, one after the other, with 16 outputs for each graph."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        widths = Widths(
            dim=setting.dim,
            vertex_types=1,
            vertex_features=0,
            edge_types=1,
            counts=2 * len(setting.shape.names()),
            longest_cell=0,
            outputs=OUTPUTS,
        )
        self.embed = Embed(widths)
        self.blocks = nn.ModuleList(Block(widths) for _ in range(setting.num_layers))
        self.head = GraphHead(widths)

    def forward(self, structure: GraphBatch) -> Tensor:
        """[graphs, 16]."""
        batch = Batch(structure.starts, structure, len(structure.starts) - 1)
        value = self.embed(torch.zeros(int(structure.starts[-1]), dtype=torch.int64))
        for block in self.blocks:
            value = block(value, batch)
        embedded: Tensor = self.head(value, batch)
        return embedded


def t_square(one: Tensor, other: Tensor) -> float:
    """Hotelling's T-square of paired embeddings [copies, outputs], as the published test has it:
    without the factor of the number of copies."""
    apart = (one - other).t()
    mean = apart.mean(1, keepdim=True)
    return (mean.t() @ torch.linalg.pinv(torch.cov(apart)) @ mean).item()


def batches(parts: Sequence[tuple[Graphs, Profile]], size: int) -> list[GraphBatch]:
    """Batches of ``size`` copies, as many of each part: part by part within a batch."""
    each = size // len(parts)
    count = parts[0][0].count
    return [
        _joined([_taken(part, begin, min(begin + each, count)) for part in parts])
        for begin in range(0, count, each)
    ]


def _taken(part: tuple[Graphs, Profile], begin: int, end: int) -> tuple[Graphs, Profile]:
    graphs, found = part
    chosen = torch.arange(begin, end)
    return graphs.take(chosen), found.take(graphs.starts, chosen)


def _joined(parts: Sequence[tuple[Graphs, Profile]]) -> GraphBatch:
    graphs = together([graphs for graphs, _ in parts])
    table, number = torch.cat([p.table for _, p in parts]).unique(dim=0, return_inverse=True)
    rows = number.split([len(p.table) for _, p in parts])
    found = Profile(
        parts[0][1].shape,
        torch.cat([torch.zeros(1, dtype=torch.int64)] + [p.first.diff() for _, p in parts]).cumsum(
            0
        ),
        torch.cat([p.other + shift for (_, p), shift in zip(parts, _shifts(parts), strict=True)]),
        torch.cat([known[p.row.long()].int() for (_, p), known in zip(parts, rows, strict=True)]),
        table,
        torch.cat([p.reach for _, p in parts]),
    )
    return batch_of(graphs, found, None, torch.zeros(graphs.count))


def _shifts(parts: Sequence[tuple[Graphs, Profile]]) -> list[int]:
    sizes = [graphs.vertices for graphs, _ in parts]
    return [sum(sizes[:i]) for i in range(len(sizes))]


def prepared(pair: Pair, setting: Setting) -> tuple[list[GraphBatch], list[GraphBatch]]:
    """Batches of 32 copies of each graph of the pair, and of 64 copies of one of the two."""
    generator = torch.Generator().manual_seed(1000 * COPIES_SEED + pair.number)
    found = profile(pair.graphs, setting.shape).whole()
    ones = [
        (pair.graphs.take(one), found.take(pair.graphs.starts, one))
        for one in (torch.tensor([0]), torch.tensor([1]))
    ]
    both = [copies(g, p, permutations(g, RELABELLINGS, generator)) for g, p in ones]
    graph, own = ones[int(torch.randint(2, (1,), generator=generator))]
    news = permutations(graph, 2 * RELABELLINGS, generator)
    alike = [copies(graph, own, news[0::2]), copies(graph, own, news[1::2])]
    return batches(both, setting.batch), batches(alike, setting.batch)


def embedded(model: nn.Module, parts: Sequence[GraphBatch]) -> tuple[Tensor, Tensor]:
    """Embeddings of the copies on either side, [32, 16] each."""
    with torch.no_grad():
        halves = [model(part).chunk(2) for part in parts]
    return torch.cat([one for one, _ in halves]), torch.cat([other for _, other in halves])


def _epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, parts: Sequence[GraphBatch]
) -> float:
    """The mean loss of one pass over the copies."""
    total, count = 0.0, 0
    for part in parts:
        one, other = model(part).chunk(2)
        loss = F.cosine_embedding_loss(one, other, -one.new_ones(len(one)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total, count = total + len(one) * loss.item(), count + len(one)
    return total / count


def run_pair(pair: Pair, setting: Setting, seed: int) -> Outcome:
    """Trains a model on the pair and tests it. Depends on the arguments alone."""
    began = time.process_time()
    apart, alike = prepared(pair, setting)
    torch.manual_seed(seed)
    model = Embedding(setting)
    if setting.double:
        model.double()
    optimizer = torch.optim.Adam(model.parameters(), lr=setting.lr, weight_decay=setting.decay)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    loss, epochs = float("nan"), 0
    for _ in range(setting.epochs):
        loss = _epoch(model, optimizer, apart)
        epochs += 1
        if loss < setting.enough:
            break
        scheduler.step(loss)
    model.eval()
    one, other = embedded(model, alike)
    every = torch.cat([one, other])
    spread = (every - every.mean(0)).norm(dim=1).max() / every.mean(0).norm()
    return Outcome(
        seed,
        pair.number,
        pair.category,
        t_square(*embedded(model, apart)),
        t_square(one, other),
        loss,
        epochs,
        spread.item(),
        round(time.process_time() - began, 2),
    )
