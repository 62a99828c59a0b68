"""Graphs made here: circulants that no message passing tells apart, and random ones."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ithaca.workloads.csgnn.dataset import GraphDataset, Task
from ithaca.workloads.csgnn.graphs import Graphs, relabelled
from ithaca.workloads.csgnn.model import Output

CSL_VERTICES = 41
CSL_SKIPS = (2, 3, 4, 5, 6, 9, 11, 12, 13, 16)
CSL_COPIES = 15
WALKS = {"graph": (3, 4, 5), "vertex": (3, 4, 5), "edge": (2, 3, 4)}
"""Lengths of the walks that are counted; closed ones, or from one end of an edge to the other."""

Pairs = list[tuple[int, int]]


def circulant(size: int, skip: int) -> tuple[int, Pairs]:
    """The ring of ``size`` vertices, each joined to the one ``skip`` further on too."""
    edges = {tuple(sorted((v, (v + step) % size))) for v in range(size) for step in (1, skip)}
    return size, [(u, v) for u, v in sorted(edges)]


def csl(fold: int) -> GraphDataset:
    """15 relabelled copies of each of the 10 circulants with skip links of Murphy et al. (2019).

    Of each class, 9 copies train, 3 validate and 3 are kept for the test, which ones tells
    ``fold``, 0..4.

    Raises:
        ValueError: there is no such fold.
    """
    folds = 5
    if not 0 <= fold < folds:
        raise ValueError(f"the data `csl` has the folds 0..{folds - 1}, not {fold}")
    plain = Graphs.of([circulant(CSL_VERTICES, s) for s in CSL_SKIPS for _ in range(CSL_COPIES)])
    graphs = relabelled(plain, torch.Generator().manual_seed(0))
    copies = torch.arange(CSL_COPIES).repeat(len(CSL_SKIPS)) % folds
    numbers = torch.arange(graphs.count)
    test, validation = copies == fold, copies == (fold + 1) % folds
    return GraphDataset(
        graphs,
        torch.zeros(graphs.vertices, dtype=torch.int64),
        None,
        numbers // CSL_COPIES,
        Task.CLASSES,
        "graph",
        numbers[~(test | validation)],
        numbers[validation],
        numbers[test],
    )


def random_graph(number: int, most: int) -> tuple[int, Pairs]:
    """A random graph of at most ``most`` vertices: sparse, a tree with some edges more, or a ring
    with chords. Depends on the arguments alone."""
    generator = np.random.Generator(np.random.PCG64(number))
    size = int(generator.integers(max(4, most // 2), most + 1))
    if number % 3 == 0:
        there = np.triu(generator.random((size, size)) < 3.0 / size, 1)
    else:
        there = np.zeros((size, size), dtype=bool)
        if number % 3 == 1:
            parents = [int(generator.integers(0, v)) for v in range(1, size)]
            there[parents, range(1, size)] = True
        else:
            there[range(size - 1), range(1, size)] = True
            there[0, size - 1] = True
        extra = generator.integers(0, size, (size // 3, 2))
        extra = np.sort(extra[extra[:, 0] != extra[:, 1]], axis=1)
        there[extra[:, 0], extra[:, 1]] = True
    return size, [(int(u), int(v)) for u, v in np.argwhere(there)]


def _walk_counts(size: int, edges: Pairs, output: Output) -> NDArray[np.float64]:
    """Numbers of walks by length, of each graph, vertex or edge."""
    matrix = np.zeros((size, size))
    for u, v in edges:
        matrix[u, v] = matrix[v, u] = 1
    powers = [np.linalg.matrix_power(matrix, length) for length in WALKS[output]]
    if output == "graph":
        return np.array([[np.trace(power) for power in powers]])
    if output == "vertex":
        return np.stack([np.diag(power) for power in powers], axis=1)
    ends = np.array(edges, dtype=np.int64).reshape(-1, 2)
    return np.stack([power[ends[:, 0], ends[:, 1]] for power in powers], axis=1)


def walks(count: int, most: int, output: Output) -> GraphDataset:
    """Random graphs and their numbers of walks: log(1 + number), brought to mean 0 and variance 1.

    Every fifth graph validates.
    """
    made = [random_graph(number, most) for number in range(count)]
    raw = [_walk_counts(size, edges, output) for size, edges in made]
    targets: Tensor = torch.from_numpy(np.concatenate(raw)).log1p()
    targets = (targets - targets.mean(0)) / targets.std(0).clamp(min=1e-6)
    graphs = Graphs.of(made)
    numbers = torch.arange(count)
    validates = numbers % 5 == 4
    return GraphDataset(
        graphs,
        torch.zeros(graphs.vertices, dtype=torch.int64),
        None,
        targets.float(),
        Task.SQUARES,
        output,
        numbers[~validates],
        numbers[validates],
        numbers[:0],
    )
