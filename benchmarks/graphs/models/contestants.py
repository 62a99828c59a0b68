"""The models that are compared: what each has to know of the graphs, and how it is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from benchmarks.graphs.models.batch import flat_batch
from benchmarks.graphs.models.cin import CIN, LONGEST, cell_batch
from benchmarks.graphs.models.gine import GINE
from benchmarks.graphs.models.gps import GPS, HEADS, WALKS, return_probabilities
from benchmarks.graphs.models.hops import hops_of
from benchmarks.graphs.models.kpgnn import HOPS, KPGNN
from benchmarks.graphs.models.ours import SHAPE, CSGNNModel
from benchmarks.graphs.models.parts import parameters
from benchmarks.graphs.models.ppgn import PPGN, pair_batch
from ithaca.workloads.csgnn.batch import batch_of
from ithaca.workloads.csgnn.dataset import GraphDataset
from ithaca.workloads.csgnn.graphs import spans
from ithaca.workloads.csgnn.structure import Cells, cycles, profile

Batches = Callable[[Tensor], object]
"""From numbers of graphs, int64 [n], to what the model takes."""


@dataclass(frozen=True)
class Contestant:
    """One of the models.

    Attributes:
        batches: searches a data set once, and then makes batches of it.
        build: width, types of vertices and types of edges to a model.
        step: widths are multiples of it.
    """

    batches: Callable[[GraphDataset], Batches]
    build: Callable[[int, int, int], nn.Module]
    step: int = 1


def types_of(data: GraphDataset) -> tuple[int, int]:
    """Types of vertices and of edges."""
    return int(data.vertex_types.max()) + 1, data.edge_types


def fitted(contestant: Contestant, data: GraphDataset, wanted: int) -> nn.Module:
    """The model whose number of parameters is nearest to ``wanted``."""
    step, types = contestant.step, types_of(data)
    low, high = step, 2 * step
    while parameters(contestant.build(high, *types)) < wanted:
        low, high = high, 2 * high
    while high - low > step:
        middle = (low + high) // 2 // step * step
        if parameters(contestant.build(middle, *types)) < wanted:
            low = middle
        else:
            high = middle
    return min(
        (contestant.build(width, *types) for width in (low, high)),
        key=lambda model: abs(parameters(model) - wanted),
    )


def _plain(data: GraphDataset) -> Batches:
    return lambda chosen: flat_batch(data, chosen)


def _counts(data: GraphDataset) -> Batches:
    """With log(1 + chordless cycles of each length) of every vertex."""
    counts = _cycle_counts(cycles(data.graphs, LONGEST), data.graphs.vertices).log1p()
    return lambda chosen: (
        flat_batch(data, chosen),
        counts[spans(data.graphs.starts, chosen)],
    )


def _cycle_counts(cells: Cells, vertices: int) -> Tensor:
    """Cycles of each length 3 .. LONGEST through each vertex, fp32 [vertices, lengths]."""
    sizes = cells.first.diff()
    lengths = sizes.repeat_interleave(sizes) - 3
    places = cells.vertex.long() * (LONGEST - 2) + lengths
    return torch.bincount(places, minlength=vertices * (LONGEST - 2)).view(vertices, -1).float()


def _walks(data: GraphDataset) -> Batches:
    walks = return_probabilities(data.graphs, WALKS)
    return lambda chosen: (flat_batch(data, chosen), walks[spans(data.graphs.starts, chosen)])


def _hops(data: GraphDataset) -> Batches:
    hops = hops_of(data.graphs, data.edge_types, HOPS)
    return lambda chosen: (flat_batch(data, chosen), hops.take(data.graphs, chosen))


def _pairs(data: GraphDataset) -> Batches:
    types = types_of(data)
    return lambda chosen: pair_batch(flat_batch(data, chosen), *types)


def _cells(data: GraphDataset) -> Batches:
    cells = cycles(data.graphs, LONGEST)
    starts = data.graphs.starts
    return lambda chosen: cell_batch(flat_batch(data, chosen), cells.take(starts, chosen))


def _structure(data: GraphDataset) -> Batches:
    graphs, shape = data.graphs, replace(SHAPE, edge_types=data.edge_types)
    found, cells = profile(graphs, shape).whole(), cycles(graphs, shape.cycle)

    def batch(chosen: Tensor) -> object:
        structure = batch_of(
            graphs.take(chosen),
            found.take(graphs.starts, chosen),
            cells.take(graphs.starts, chosen),
            data.targets[chosen],
        )
        return data.vertex_types[spans(graphs.starts, chosen)], structure

    return batch


CONTESTANTS = {
    "csgnn": Contestant(
        _structure,
        lambda width, vertices, edges: CSGNNModel(
            width, vertices, edges, replace(SHAPE, edge_types=edges)
        ),
    ),
    "gine": Contestant(_plain, GINE),
    "gine+counts": Contestant(
        _counts,
        lambda width, vertices, edges: GINE(width, vertices, edges, numbers=LONGEST - 2),
    ),
    "cin": Contestant(_cells, CIN),
    "gps": Contestant(_walks, GPS, step=HEADS),
    "kpgnn": Contestant(_hops, KPGNN),
    "ppgn": Contestant(_pairs, PPGN),
}
