"""Micro-batches of graphs, by id."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from functools import cached_property, partial
from hashlib import sha256

import numpy as np
import torch
from torch import Tensor

from ithaca.runtime.workload import Batch, BatchId, Split
from ithaca.workloads.csgnn.archive import read_archive
from ithaca.workloads.csgnn.batch import batch_of
from ithaca.workloads.csgnn.config import CSGNNConfig
from ithaca.workloads.csgnn.dataset import GraphDataset, Task, checked
from ithaca.workloads.csgnn.generated import csl, walks
from ithaca.workloads.csgnn.graphs import spans
from ithaca.workloads.csgnn.store import Structure, blocks, ensure, structure_of
from ithaca.workloads.order import Order, sample_numbers


def balanced(weights: list[int], bins: int) -> list[list[int]]:
    """Deals items into ``bins`` of about the same weight, heaviest first, each to the lightest.

    No bin stays empty if there are enough items. Items of a bin are ascending.
    """
    loads = [(0, 0, b) for b in range(bins)]  # weight, items, bin
    dealt: list[list[int]] = [[] for _ in range(bins)]
    for item in sorted(range(len(weights)), key=lambda i: (-weights[i], i)):
        weight, items, b = heapq.heappop(loads)
        dealt[b].append(item)
        heapq.heappush(loads, (weight + max(weights[item], 1), items + 1, b))
    return [sorted(items) for items in dealt]


class GraphData:
    """The graphs of a configuration, made or read when the first batch is asked for.

    Args:
        config: where they come from and what is looked for in them.
        micro_batches: micro-batches in a step.
        seed: of the order of training; the order of validation is always the same.
    """

    def __init__(self, config: CSGNNConfig, micro_batches: int, seed: int) -> None:
        self._config = config
        self._micro_batches = micro_batches
        self._seed = seed

    @cached_property
    def dataset(self) -> GraphDataset:
        """The graphs and their targets; ``ValueError`` if they cannot be used."""
        data = self._config.data
        if data.file is not None:
            found = read_archive(data.file)
        elif data.source == "csl":
            found = csl(data.fold)
        else:
            found = walks(data.graphs, data.vertices, data.output)
        return checked(_one_target(found, data.target), f"the data `{data.source}`")

    @cached_property
    def structure(self) -> Structure:
        """Profiles and cells of all graphs; ``ValueError`` if one is too dense."""
        config, graphs = self._config, self.dataset.graphs
        shape = config.structure.shape(self.dataset.edge_types)
        found = structure_of(graphs, shape, config.data.cache)
        if config.structure.dense == "refuse":
            found.profile.whole()
        return found

    @cached_property
    def orders(self) -> dict[Split, Order]:
        """The order of both parts."""
        return {
            Split.TRAIN: Order(len(self.dataset.train), f"train/{self._seed}"),
            Split.VALIDATION: Order(len(self.dataset.validation), "validation"),
        }

    @cached_property
    def weights(self) -> Tensor:
        """What each graph costs: vertices, pairs and members of cells; int64 [graphs]."""
        config, starts = self._config, self.dataset.graphs.starts
        weights = starts.diff()
        if config.has_profile:
            weights = weights + self.structure.profile.first[starts].diff()
        if config.has_cells:
            cells = self.structure.cells
            weights = weights + cells.first[cells.owner].diff()
        return weights

    def numbers(self, which: BatchId) -> tuple[Tensor, tuple[int, ...]]:
        """The graphs of micro-batch ``which``, and their sample numbers.

        The samples of a step are consecutive; which micro-batch of the step gets which of them
        depends on what they cost, so that all cost about the same.
        """
        size, count = self._config.batch_size, self._micro_batches
        if which.split is Split.VALIDATION and which.index >= count:
            numbers = sample_numbers(which, size, count)
        else:
            ids = [BatchId(which.step, index, which.split) for index in range(count)]
            numbers = np.concatenate([sample_numbers(one, size, count) for one in ids])
        chosen = self.dataset.part(which.split)[
            torch.from_numpy(self.orders[which.split].positions(numbers))
        ]
        if len(numbers) > size:
            mine = balanced(self.weights[chosen].tolist(), count)[which.index]
            chosen, numbers = chosen[mine], numbers[mine]
        return chosen, tuple(numbers.tolist())

    def batch(self, which: BatchId) -> Batch:
        """Micro-batch ``which``."""
        chosen, samples = self.numbers(which)
        data, config = self.dataset, self._config
        graphs = data.graphs.take(chosen)
        starts = data.graphs.starts
        places = spans(starts, chosen)
        targets = data.targets[spans(data.target_starts(), chosen)]
        structure = batch_of(
            graphs,
            self.structure.profile.take(starts, chosen) if config.has_profile else None,
            self.structure.cells.take(starts, chosen) if config.has_cells else None,
            targets,
        )
        types = data.vertex_types[places]
        features = data.vertex_features
        inputs = types if features is None else (types, features[places])
        count = len(targets) if data.task is Task.CLASSES else targets.numel()
        return Batch(inputs, structure, count, samples)

    def preparation(self) -> list[Callable[[], object]]:
        """The search of each block of graphs that is to be kept."""
        config, cache = self._config, self._config.data.cache
        if cache is None:
            return []
        shape = config.structure.shape(self.dataset.edge_types)
        return [partial(ensure, block, cache) for block in blocks(self.dataset.graphs, shape)]

    def fingerprint(self) -> dict[str, str]:
        """Hashes of the graphs and of what is to be learned."""
        data = self.dataset
        found = sha256()
        for part in (
            data.graphs.starts,
            data.graphs.edges,
            data.graphs.types,
            data.vertex_types,
            data.vertex_features,
            data.targets,
            data.train,
            data.validation,
        ):
            found.update(b"none" if part is None else part.contiguous().numpy().tobytes())
        return {
            "graphs_sha256": found.hexdigest(),
            "graphs": str(data.graphs.count),
            "vertices": str(data.graphs.vertices),
            "pairs": str(len(self.structure.profile.other)),
            "profiles": str(len(self.structure.profile.table)),
            "cells": str(len(self.structure.cells.first) - 1),
            "shortened": str(len(self.structure.profile.shortened())),
        }


def _one_target(data: GraphDataset, target: int | None) -> GraphDataset:
    """``data`` with one column of its targets only."""
    if target is None:
        return data
    columns = 0 if data.task is Task.CLASSES else data.targets.shape[1]
    if target >= columns:
        raise ValueError(
            f"there is no target {target}: the data has {columns} columns of numbers, from 0"
        )
    return GraphDataset(
        **{**vars(data), "targets": data.targets[:, target : target + 1].contiguous()}
    )
