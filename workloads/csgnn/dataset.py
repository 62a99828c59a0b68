"""Graphs with what is known of their vertices and what is to be predicted."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from ithaca.runtime.workload import Split
from ithaca.workloads.csgnn.graphs import Graphs
from ithaca.workloads.csgnn.model import Output


class Task(Enum):
    """What the targets are, and with it the loss."""

    CLASSES = "classes"
    SQUARES = "squares"
    ABSOLUTE = "absolute"


@dataclass(frozen=True, eq=False)
class GraphDataset:
    """A set of graphs to learn.

    Attributes:
        graphs: all of them.
        vertex_types: int64 [vertices].
        vertex_features: fp32 [vertices, features], or None.
        targets: int64 [n] of classes, or fp32 [n, numbers]; n graphs, vertices or edges.
        task: how the targets are compared.
        output: what the targets are of.
        train: int64, numbers of the graphs to train on.
        validation: int64, numbers of those to validate on.
        test: int64, numbers of those kept for the end; may be empty.
    """

    graphs: Graphs
    vertex_types: Tensor
    vertex_features: Tensor | None
    targets: Tensor
    task: Task
    output: Output
    train: Tensor
    validation: Tensor
    test: Tensor

    def part(self, split: Split) -> Tensor:
        """The numbers of the graphs of ``split``."""
        return self.train if split is Split.TRAIN else self.validation

    @property
    def outputs(self) -> int:
        """Numbers to predict for each graph, vertex or edge."""
        if self.task is Task.CLASSES:
            return int(self.targets.max()) + 1 if len(self.targets) else 1
        return self.targets.shape[1]

    @property
    def edge_types(self) -> int:
        """Types of edges, at least 1."""
        types = self.graphs.types
        return 1 if types is None or not len(types) else int(types.max()) + 1

    def target_starts(self) -> Tensor:
        """Where the targets of each graph begin, int64 [graphs + 1]."""
        if self.output == "graph":
            return torch.arange(self.graphs.count + 1)
        return self.graphs.starts if self.output == "vertex" else self.graphs.edge_starts()


def checked(data: GraphDataset, what: str) -> GraphDataset:
    """``data``, if it can be used.

    Raises:
        ValueError: names what is wrong and where; ``what`` tells which data it is.
    """
    graphs = data.graphs
    wanted = {"graph": graphs.count, "vertex": graphs.vertices, "edge": graphs.edges.shape[1]}
    if len(data.targets) != wanted[data.output]:
        raise ValueError(
            f"{what}: there are {len(data.targets)} targets for {wanted[data.output]} "
            f"{_PLURAL[data.output]}; give one for each"
        )
    if len(data.vertex_types) != graphs.vertices:
        raise ValueError(
            f"{what}: there are {len(data.vertex_types)} types for {graphs.vertices} vertices"
        )
    if len(data.vertex_types) and int(data.vertex_types.min()) < 0:
        raise ValueError(f"{what}: types of vertices are numbers from 0")
    _finite(data.vertex_features, "the features of vertex", what)
    _finite(data.targets, f"the targets of {data.output}", what)
    for split in Split:
        numbers = data.part(split)
        if not len(numbers):
            raise ValueError(f"{what}: there is no graph for {split.value}")
        if int(numbers.min()) < 0 or int(numbers.max()) >= graphs.count:
            raise ValueError(
                f"{what}: the {split.value} part names graph {int(numbers.max())}; there are "
                f"{graphs.count}, numbered from 0"
            )
    return data


_PLURAL = {"graph": "graphs", "vertex": "vertices", "edge": "edges"}


def _finite(values: Tensor | None, name: str, what: str) -> None:
    if values is None or not values.is_floating_point():
        return
    bad = (~values.isfinite()).flatten(1).any(1).nonzero()
    if len(bad):
        raise ValueError(
            f"{what}: {name} {int(bad[0])} are not finite ({len(bad)} such); "
            "replace NaN and infinity before training"
        )
