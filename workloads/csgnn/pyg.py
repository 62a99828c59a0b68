"""Faces for PyTorch Geometric, which has to be installed to use them: a transform that adds
profiles and cells to ``Data``, a layer over them, and PyG's data sets as data of the workload.

``ChordlessTransform``, ``ChordlessData`` and ``ChordlessConv`` are made when they are first asked
for, so that this module can be imported without PyG.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ithaca.workloads.csgnn.batch import features
from ithaca.workloads.csgnn.dataset import GraphDataset, Task, checked
from ithaca.workloads.csgnn.graphs import Graphs, begins
from ithaca.workloads.csgnn.model import Output
from ithaca.workloads.csgnn.structure import ProfileShape, cycles, profile

_MADE = ("ChordlessConv", "ChordlessData", "ChordlessTransform")


def once(edge_index: Tensor, edge_attr: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """The edges of a PyG graph, each once, and their types.

    Args:
        edge_index: int64 [2, edges], both directions of every edge.
        edge_attr: integer types [edges] or [edges, 1], the same in both directions, or None.

    Raises:
        ValueError: there is a loop, an edge without its other direction, or with another type.
    """
    size = int(edge_index.max()) + 1 if edge_index.numel() else 1
    order = torch.argsort(edge_index[0] * size + edge_index[1])
    there = edge_index[:, order]
    if (there[0] == there[1]).any():
        raise ValueError("a vertex has an edge to itself; take loops out, with RemoveSelfLoops")
    up, down = there[0] < there[1], there[0] > there[1]
    forth = there[:, up]
    back = there[:, down].flip(0)
    turned = torch.argsort(back[0] * size + back[1])
    if forth.shape != back.shape or not torch.equal(forth, back[:, turned]):
        raise ValueError(
            "an edge is there in one direction only; make the graph undirected, with ToUndirected"
        )
    if edge_attr is None:
        return forth.contiguous(), None
    types = edge_attr.reshape(len(edge_attr), -1)[:, 0].long()[order]
    if not torch.equal(types[up], types[down][turned]):
        raise ValueError("an edge has two types, one in each direction")
    return forth.contiguous(), types[up].contiguous()


def from_pyg(
    graphs: Sequence[Any],
    *,
    task: Task,
    output: Output,
    train: Sequence[int],
    validation: Sequence[int],
    test: Sequence[int] = (),
) -> GraphDataset:
    """A data set of PyG (an ``InMemoryDataset``, a list of ``Data``) as data of the workload.

    Integer ``x`` of one column are types of vertices, other ``x`` their features; integer
    ``edge_attr`` are types of edges; ``y`` are the targets, of vertices and edges in the order of
    ``x`` and of the edges with the smaller vertex first.

    Raises:
        ValueError: a graph is not simple and undirected, or something is not finite.
    """
    sizes = torch.tensor([int(graph.num_nodes) for graph in graphs])
    starts = begins(sizes)
    typed = all(_integers(graph.get("edge_attr")) for graph in graphs)
    parts = [once(g.edge_index, g.edge_attr if typed else None) for g in graphs]
    edges = [part + start for (part, _), start in zip(parts, starts.tolist(), strict=False)]
    types = [kinds for _, kinds in parts if kinds is not None]
    xs = [graph.get("x") for graph in graphs]
    whole = [x for x in xs if x is not None]
    integers = len(whole) == len(xs) and all(
        _integers(x) and x.reshape(len(x), -1).shape[1] == 1 for x in whole
    )
    y = torch.cat([torch.atleast_1d(graph.y) for graph in graphs])
    data = GraphDataset(
        Graphs(starts, torch.cat(edges, dim=1), torch.cat(types) if typed else None),
        torch.cat(whole).flatten().long() if integers else torch.zeros(int(starts[-1])).long(),
        None if integers or len(whole) != len(xs) else torch.cat(whole).float(),
        y.long().flatten() if task is Task.CLASSES else y.float().reshape(len(y), -1),
        task,
        output,
        *(torch.tensor(list(part), dtype=torch.int64) for part in (train, validation, test)),
    )
    return checked(data, "the graphs of PyG")


def _integers(values: Tensor | None) -> bool:
    return values is not None and not values.is_floating_point()


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name not in _MADE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    for made in _classes():
        made.__module__, made.__qualname__ = __name__, made.__name__
        globals()[made.__name__] = made
    return globals()[name]


def _classes() -> tuple[type, ...]:
    """The three classes over those of PyG; ``ImportError`` if it is not installed."""
    data = importlib.import_module("torch_geometric.data").Data
    transform = importlib.import_module("torch_geometric.transforms").BaseTransform
    passing = importlib.import_module("torch_geometric.nn").MessagePassing

    class ChordlessData(data):  # type: ignore[misc, valid-type]
        """``Data`` with ``pair_index`` [2, pairs], ``pair_row`` [pairs], ``profile`` [rows,
        columns], ``cell_index`` [2, members] (vertex, cell) and ``cell_length`` [cells]."""

        def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            """Batches shift rows by the rows before, and cells by the cells before."""
            if key == "pair_row":
                return len(self.profile)
            if key == "cell_index":
                return torch.tensor([[self.num_nodes], [len(self.cell_length)]])
            return super().__inc__(key, value, *args, **kwargs)

    class ChordlessTransform(transform):  # type: ignore[misc, valid-type]
        """Adds the profile of all pairs and the chordless cycles; see ``ProfileShape``."""

        def __init__(self, shape: ProfileShape) -> None:
            self.shape = shape

        def forward(self, data: Any) -> Any:  # noqa: ANN401
            """The graph with what was found in it, a :class:`ChordlessData`."""
            edges, types = once(
                data.edge_index, data.edge_attr if self.shape.edge_types > 1 else None
            )
            graph = Graphs(torch.tensor([0, int(data.num_nodes)]), edges, types)
            found = profile(graph, self.shape).whole()
            cells = cycles(graph, self.shape.cycle, self.shape.budget)
            owner = torch.arange(len(cells.first) - 1).repeat_interleave(cells.first.diff())
            added = ChordlessData.from_dict(data.to_dict())
            added.num_nodes = int(data.num_nodes)
            added.pair_index = torch.stack([found.other.long(), found.first_vertices()])
            added.pair_row = found.row.long()
            added.profile = found.table
            added.cell_index = torch.stack([cells.vertex.long(), owner])
            added.cell_length = cells.first.diff()
            return added

    class ChordlessConv(passing):  # type: ignore[misc, valid-type]
        """x'_v = the sum over pairs (v, u) of phi(profile of (v, u)) * x_u."""

        def __init__(self, phi: nn.Module) -> None:
            super().__init__(aggr="add")
            self.phi = phi

        def forward(self, x: Tensor, data: Any) -> Tensor:  # noqa: ANN401
            """[vertices, dim] to the same shape."""
            scale = self.phi(features(data.profile).to(x.dtype))[data.pair_row]
            summed: Tensor = self.propagate(data.pair_index, x=x, scale=scale)
            return summed

        def message(self, x_j: Tensor, scale: Tensor) -> Tensor:
            """One pair's part."""
            return scale * x_j

    return ChordlessData, ChordlessTransform, ChordlessConv
