"""Some graphs as every model needs them: types of vertices and edges, and where graphs begin."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ithaca.workloads.csgnn.dataset import GraphDataset
from ithaca.workloads.csgnn.graphs import Graphs, spans
from ithaca.workloads.csgnn.segments import Incidence, segment_sum


@dataclass(frozen=True, eq=False)
class FlatBatch:
    """Graphs behind each other.

    Attributes:
        graphs: these, renumbered.
        types: int64 [vertices].
        source: int64 [2 * edges], where each direction of each edge begins.
        target: int64 [2 * edges], where it ends.
        kinds: int64 [2 * edges], types of edges.
        owner: int64 [vertices], the graph of each vertex.
        wanted: fp32 [graphs], what is to be predicted.
    """

    graphs: Graphs
    types: Tensor
    source: Tensor
    target: Tensor
    kinds: Tensor
    owner: Tensor
    wanted: Tensor


def flat_batch(data: GraphDataset, chosen: Tensor) -> FlatBatch:
    """The graphs with these numbers, int64 [n]."""
    graphs = data.graphs.take(chosen)
    kinds = graphs.types
    if kinds is None:
        kinds = torch.zeros(graphs.edges.shape[1], dtype=torch.int64)
    return FlatBatch(
        graphs,
        data.vertex_types[spans(data.graphs.starts, chosen)],
        torch.cat([graphs.edges[0], graphs.edges[1]]),
        torch.cat([graphs.edges[1], graphs.edges[0]]),
        torch.cat([kinds, kinds]),
        graphs.owners(),
        data.targets[chosen, 0],
    )


def gathered(values: Tensor, places: Tensor, count: int) -> Tensor:
    """The sums of ``values`` [n, dim] by place, [count, dim]."""
    return values.new_zeros(count, values.shape[1]).index_add(0, places, values)


def summed(values: Tensor, incidence: Incidence) -> Tensor:
    """The sum of the members of each segment, [segments, dim]; nothing of their size is kept."""
    return segment_sum(values.new_ones(1, values.shape[1]), values, incidence)


def incidence_of(first: Tensor, other: Tensor, values: int) -> Incidence:
    """Members that all have row 0, for :func:`summed`."""
    return Incidence.of(first, other.int(), torch.zeros_like(other, dtype=torch.int32), values)
